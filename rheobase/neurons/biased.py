"""A neuron with currents of its own, which calibration adds to what the network gives it.

References:
    Li et al. 2021, arXiv 2106.06984 (bias and initial potential).
    Wu et al. 2024, arXiv 2403.18388, "FTBC: forward temporal bias correction" (a bias for each step).
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rheobase import kernels
from rheobase.errors import SettingError
from rheobase.kernels import Code
from rheobase.kernels.layout import along_steps
from rheobase.neurons._base import Neuron, Wrapper, along_channels
from rheobase.neurons.alphabet import Alphabet
from rheobase.neurons.graded import at_steps

__all__ = ["Biased", "BiasedState"]


class BiasedState(NamedTuple):
    """The state of the neuron inside, and how many steps have been done."""

    inner: Any
    steps: int


class Biased(Wrapper):
    r"""A neuron that receives a calibrated current besides its own.

    .. code-block:: text

        x'(t) = x(t) + bias(t) + [t = 1] potential
        y(t)  = what the neuron inside sends for x'(t)

    For a neuron with soft reset, ``potential`` is an initial potential.

    Args:
        neuron: the neuron inside.
        bias: in units of the activation. Shape (), (C,) a channel, or (T, C): row t for step t, and their
            mean for all later steps.
        potential: the same units. Shape (), (C,), or that of one sample at the site.
        lasting: whether steps after the rows of a bias get their mean, or, as changes of a current do, nothing.

    Raises:
        SettingError: a value is not finite.
    """

    chains = True  # where the neuron inside does, and takes the bias too
    tunable = MappingProxyType({"bias": "current", "potential": "current"})
    bias: Tensor
    potential: Tensor

    def __init__(
        self, neuron: Neuron, bias: Tensor | float = 0.0, potential: Tensor | float = 0.0, lasting: bool = True
    ) -> None:
        super().__init__(neuron)
        self.lasting = lasting
        as_here = type(self).scan is Biased.scan and type(self)._add is Biased._add
        self.overwrites, self.counting = as_here and neuron.overwrites, as_here and neuron.counting
        self.chains = as_here and type(self).chains and neuron.chains and neuron.biases
        dtype = next((b.dtype for b in neuron.buffers() if b.is_floating_point()), torch.get_default_dtype())
        self.register_buffer("bias", torch.as_tensor(bias, dtype=dtype))
        self.register_buffer("potential", torch.as_tensor(potential, dtype=dtype))
        bad = [name for name in ("bias", "potential") if not bool(torch.isfinite(getattr(self, name)).all())]
        if bad:
            raise SettingError(f"Biased: {' and '.join(bad)} must be finite. Check the calibration data.")

    @property
    def alphabet(self) -> Alphabet:  # type: ignore[override]
        """What one spike of the neuron inside may carry."""
        return self.neuron.alphabet

    @property
    def code(self) -> Code | None:
        return self.neuron.code if self.neuron.holds("code") else None

    def levels_after(self, steps: int) -> int | None:
        return self.neuron.levels_after(steps)

    def initial_state(self, current: Tensor) -> BiasedState:
        return BiasedState(self.neuron.initial_state(current), 0)

    def step(self, current: Tensor, state: BiasedState) -> tuple[Tensor, BiasedState]:
        y, inner = self.neuron.step(self._add(current.unsqueeze(0), state.steps)[0], state.inner)
        return y, BiasedState(inner, state.steps + 1)

    def scan(self, current: Tensor, state: BiasedState, **options: Any) -> tuple[Tensor, BiasedState]:
        done = state.steps
        if self.neuron.biases and (done > 0 or not (self.potential.requires_grad or bool(self.potential.any()))):
            options["bias"] = self._rows(done, len(current))
        else:
            kernels.settle()
            current = self._add(current, done)  # a tensor of our own, which may be overwritten
            options |= {"overwrite": True} if self.neuron.overwrites else {}
        y, inner = self.neuron.scan(current, state.inner, **options)
        return y, BiasedState(inner, done + len(current))

    def _rows(self, done: int, k: int) -> Tensor:
        """The bias of K steps. Shape (K or 1, C or 1)."""
        rows = self.bias
        if rows.ndim == 2:
            mean = rows.mean(0, keepdim=True)
            rows = torch.cat([rows, mean if self.lasting else torch.zeros_like(mean)])
        return at_steps(rows, done, k)

    def _add(self, current: Tensor, done: int) -> Tensor:
        total = current + along_steps(self._rows(done, len(current)), current)
        if done == 0:
            total[0] += along_channels(self.potential, current[0])  # a tensor of our own, whose order stays
        return total

    def expected_rate(self, current: Tensor, steps: int) -> Tensor:
        """That of the neuron inside, for the mean current it receives."""
        mean = self.bias if self.bias.ndim < 2 else self.bias[:steps].sum(0) / steps
        if self.bias.ndim == 2 and self.lasting:
            mean = mean + self.bias.mean(0) * max(steps - len(self.bias), 0) / steps
        potential = along_channels(self.potential, current) / steps
        return self.neuron.expected_rate(current + along_channels(mean, current) + potential, steps)

    def rate_bound(self, steps: int) -> float:
        """That of the neuron inside, and 2 / T for when its currents arrive."""
        return self.neuron.rate_bound(steps) + 2.0 / steps

    def refund(self, state: BiasedState, charge: Tensor) -> BiasedState:
        return state._replace(inner=self.neuron.refund(state.inner, charge))

    def extra_repr(self) -> str:
        lasting = "" if self.lasting else ", lasting=False"
        return f"bias={tuple(self.bias.shape)}, potential={tuple(self.potential.shape)}{lasting}"
