"""The integrate-and-fire neuron with a constant threshold.

References:
    Rueckauer et al. 2017, "Conversion of continuous-valued deep networks to efficient event-driven
    networks for image classification", eqs. 4 and 5 (reset to zero, reset by subtraction).
    Bu et al. 2022, arXiv 2202.01440 (initial potential of half the threshold).
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from rheobase import kernels
from rheobase.errors import SettingError
from rheobase.neurons._base import Neuron, along_channels, filled
from rheobase.neurons.alphabet import Alphabet, Payload

__all__ = ["IF", "IFState"]


class IFState(NamedTuple):
    """The potential after firing, v. Shape (N, ...)."""

    potential: Tensor


class IF(Neuron):
    r"""Integrate and fire: sums its input, and sends its threshold each time the sum reaches it.

    .. code-block:: text

        v_pre(t) = v(t-1) + x(t)
        s(t)     = 1 if v_pre(t) >= threshold else 0
        v(t)     = v_pre(t) - threshold * s(t)     (soft reset)
                   v_pre(t) * (1 - s(t))           (hard reset)
        y(t)     = threshold * s(t)

    Args:
        threshold: greater than 0, in units of the activation. Shape () for the layer or (C,) a channel.
        initial_potential: v(0), in the same units and shapes.
        reset: "soft" subtracts the threshold and loses nothing; "hard" sets the potential to zero.

    Raises:
        SettingError: a threshold is not a positive, finite number, or the reset is unknown.

    Example:
        >>> import torch
        >>> neuron = IF(torch.tensor(1.0))
        >>> neuron(torch.full((4, 1), 0.5)).flatten()
        tensor([0., 1., 0., 1.])
    """

    alphabet = Alphabet(Payload.BINARY)
    overwrites = counting = chains = True
    tunable = MappingProxyType({"threshold": "log", "initial_potential": "current"})
    threshold: Tensor
    initial_potential: Tensor

    def __init__(
        self,
        threshold: Tensor | float,
        initial_potential: Tensor | float = 0.0,
        reset: Literal["soft", "hard"] = "soft",
    ) -> None:
        super().__init__()
        if reset not in ("soft", "hard"):
            raise SettingError(f'IF: reset is {reset!r}; it must be "soft" or "hard".')
        self.register_buffer("threshold", positive(threshold, "IF"))
        self.register_buffer("initial_potential", torch.as_tensor(initial_potential, dtype=self.threshold.dtype))
        self.reset_mode = reset

    @property
    def code(self) -> kernels.Code:
        return kernels.Code(self.threshold, 1, signed=False)

    def settings(self) -> dict[str, Any]:
        return {
            "threshold": self.threshold,
            "initial_potential": self.initial_potential,
            "reset": self.reset_mode,
        }

    def initial_state(self, current: Tensor) -> IFState:
        return IFState(filled(self.initial_potential, current))

    def step(self, current: Tensor, state: IFState) -> tuple[Tensor, IFState]:
        threshold = along_channels(self.threshold, current)
        v_pre = state.potential + current
        fired = v_pre >= threshold
        y = threshold * fired
        v = v_pre - y if self.reset_mode == "soft" else v_pre.masked_fill(fired, 0.0)
        return y, IFState(v)

    def scan(
        self, current: Tensor, state: IFState, overwrite: bool = False, counts: Tensor | None = None
    ) -> tuple[Tensor, IFState]:
        y, v = kernels.if_scan(
            current,
            state.potential,
            along_channels(self.threshold, current[0]),
            hard_reset=self.reset_mode == "hard",
            overwrite=overwrite,
            counts=counts,
            backend=self.backend,
        )
        return y, IFState(v)

    def expected_rate(self, current: Tensor, steps: int) -> Tensor:
        """The floor-and-clip of Deng & Gu 2021 (arXiv 2103.00476), with the initial potential.

        A constant input x > 0 crosses the threshold first at step t1 = ceil((threshold - v(0)) / x).
        Soft reset: n = min(floor((v(0) + x T) / threshold), T - t1 + 1) spikes. Hard reset:
        n = 1 + floor((T - t1) / ceil(threshold / x)). None if t1 > T. r(T) = n threshold / T.
        Holds for v(0) below the threshold.
        """
        threshold = along_channels(self.threshold, current)
        v_0 = along_channels(self.initial_potential, current)
        x = torch.where(current > 0, current, 1.0)
        first = torch.ceil((threshold - v_0) / x).clamp(min=1.0)
        if self.reset_mode == "soft":
            count = torch.minimum(torch.floor((v_0 + x * steps) / threshold), steps - first + 1)
        else:
            count = 1 + torch.floor((steps - first) / torch.ceil(threshold / x))
        fires = (current > 0) & (first <= steps)
        return torch.where(fires, count, 0.0) * threshold / steps

    @property
    def refunds(self) -> bool:
        return self.reset_mode == "soft"

    def refund(self, state: IFState, charge: Tensor) -> IFState:
        if self.reset_mode == "hard":
            return super().refund(state, charge)  # type: ignore[no-any-return]
        return IFState(state.potential + charge)

    def extra_repr(self) -> str:
        return f"threshold={summary(self.threshold)}, reset={self.reset_mode}"


def positive(threshold: Tensor | float, owner: str) -> Tensor:
    """The threshold as a tensor of shape () or (C,), checked."""
    tensor = torch.as_tensor(threshold)
    tensor = tensor if tensor.is_floating_point() else tensor.float()
    if not bool((torch.isfinite(tensor) & (tensor > 0)).all()):
        raise SettingError(
            f"{owner}: the threshold must be positive and finite, found {summary(tensor)}. "
            "A threshold of 0 usually comes from a dead site; see Statistics.dead."
        )
    return tensor


def summary(values: Tensor) -> str:
    """One number, or the range of several."""
    if values.numel() == 1:
        return f"{values.item():.4g}"
    return f"{values.min().item():.4g}...{values.max().item():.4g} ({values.numel()} channels)"
