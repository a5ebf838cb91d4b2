"""Spikes of any size, rounded to powers of two."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rheobase.errors import SettingError
from rheobase.kernels.surrogate import nearest_power
from rheobase.neurons._base import Neuron, Wrapper, along_channels
from rheobase.neurons.alphabet import Alphabet, Payload, mislevelled

__all__ = ["Rounded"]


class Rounded(Wrapper):
    r"""A neuron whose spikes carry powers of two of its scale, so that receivers shift instead of multiplying.

    .. code-block:: text

        u(t) = what the neuron inside sends
        k(t) = the whole number nearest to -log2(u(t) / threshold), from 0 to levels - 1
        y(t) = threshold 2^-k(t)  where u(t) > 0, else 0

    The difference u(t) - y(t) goes back to the potential, so no charge is lost.

    Args:
        neuron: the neuron inside, with soft reset, whose spikes are not negative.
        levels: how many powers, from 1 to 16.

    Raises:
        SettingError: levels is outside its range, or the neuron inside sends negative spikes too or resets hard.
    """

    def __init__(self, neuron: Neuron, levels: int = 4) -> None:
        super().__init__(neuron)
        problems = mislevelled("levels", levels, powers=True)
        if problems:
            raise SettingError(f"Rounded: {problems[0]}.")
        if not neuron.refunds:
            raise SettingError(
                f"Rounded: {type(neuron).__name__} cannot take back the part of a spike that rounding leaves; use a "
                "neuron with soft reset."
            )
        if neuron.alphabet.negative:
            raise SettingError(
                f"Rounded: {type(neuron).__name__} sends negative spikes ({neuron.alphabet}), which would be lost; "
                "use a neuron whose spikes are not negative."
            )
        self.levels = int(levels)
        if type(self).scan is Rounded.scan:
            self.overwrites, self.counting = (neuron.rounding and can for can in (neuron.overwrites, neuron.counting))
        self.alphabet = Alphabet(Payload.POWER_OF_TWO if levels > 1 else Payload.BINARY, levels)

    def initial_state(self, current: Tensor) -> Any:
        return self.neuron.initial_state(current)

    @property
    def differentiable(self) -> bool:
        """Where the neuron inside rounds what it sends itself, and then as much as that one."""
        return type(self).scan is Rounded.scan and self.neuron.rounding and self.neuron.differentiable

    def step(self, current: Tensor, state: Any) -> tuple[Tensor, Any]:
        u, inner = self.neuron.step(current, state)
        y = torch.where(u > 0, nearest_power(u, along_channels(self.threshold, current), self.levels), 0.0)
        return y, self.neuron.refund(inner, u - y)

    def scan(self, current: Tensor, state: Any, **options: Any) -> tuple[Tensor, Any]:
        """In one pass where the neuron inside rounds what it sends itself, as MSAT does."""
        if self.neuron.rounding:
            options["payload"] = self.levels
            return self.neuron.scan(current, state, **options)
        return super().scan(current, state, **options)

    def expected_rate(self, current: Tensor, steps: int) -> Tensor:
        """That of the neuron inside."""
        return self.neuron.expected_rate(current, steps)

    def rate_bound(self, steps: int) -> float:
        """That of the neuron inside, and 2 / T for what is rounded; for currents of at most half the threshold."""
        return self.neuron.rate_bound(steps) + 2.0 / steps

    def refund(self, state: Any, charge: Tensor) -> Any:
        return self.neuron.refund(state, charge)

    def extra_repr(self) -> str:
        return f"levels={self.levels}"
