"""Any neuron as one of differential coding: what it sends corrects a value that its receivers hold.

References:
    Huang et al. 2025, "Differential coding for training-free ANN-to-SNN conversion", ICML 2025 (DCGS; weights 1 / t).
    Gu et al. 2024, "Canonic signed spikes", arXiv 2408.17245 (weights that fall geometrically).
"""

from __future__ import annotations

import dataclasses
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rheobase.errors import SettingError
from rheobase.neurons._base import Neuron, Wrapper, along_channels
from rheobase.neurons.alphabet import Alphabet, Payload
from rheobase.neurons.graded import GradedIF, at_steps, distinct_sums, symbols
from rheobase.neurons.integrate_fire import positive
from rheobase.precision import type_of_sums

__all__ = ["Differential", "DifferentialState"]


class DifferentialState(NamedTuple):
    """The state of the neuron inside, the sums C and r, and the charge u that is left in it. Shapes (N, ...).

    In half precision, the sums are in float32.
    """

    inner: Any
    arrived: Tensor
    sent: Tensor
    charge: Tensor
    steps: int


class Differential(Wrapper):
    r"""A neuron whose spike of step t counts ``weights[t]``, driven by what its receivers do not know yet.

    .. code-block:: text

        C(t) = C(t-1) + x(t)                   x is the change of the current
        e(t) = (relu(C(t)) - r(t-1)) / w(t)    what is still to be said, in spikes of this step
        s(t) = what the neuron inside sends for the current e(t) - u(t-1)
        u(t) = e(t) - s(t)
        y(t) = w(t) s(t),  r(t) = r(t-1) + y(t)

    For soft reset u is the potential of the neuron inside, less the one it began with, so that before it fires
    its potential is e(t). With `rheobase.coding.SentOnce` and `rheobase.coding.RunningSum` around, the sum of
    what is sent is the activation. With w(t) = 1 / t this is differential coding; an integrate-and-fire neuron with
    constant weights sends what it would without.

    Args:
        neuron: the neuron inside, with soft reset. Without signed spikes, what was sent too early is never taken back;
            a memory of what was sent (`Neuron.had_sent`) holds r(t-1) / w(t).
        weights: w, greater than 0. Shape (T, 1), or (T, C) a channel: row t for step t, the last one for all
            later steps.

    Raises:
        SettingError: a weight is not positive, or they are no schedule.

    Example:
        >>> from rheobase.neurons import IF
        >>> neuron = Differential(IF(1.0, initial_potential=0.5), torch.tensor([[1.0], [0.5], [0.25]]))
        >>> neuron(torch.tensor([[1.8], [0.0], [0.0]])).flatten()
        tensor([1.0000, 0.5000, 0.2500])
    """

    tunable = MappingProxyType({"weights": "log"})
    weights: Tensor

    def __init__(self, neuron: Neuron, weights: Tensor) -> None:
        super().__init__(neuron)
        dtype = next((b.dtype for b in neuron.buffers() if b.is_floating_point()), torch.get_default_dtype())
        self.register_buffer("weights", positive(torch.as_tensor(weights, dtype=dtype), "Differential, weights"))
        if self.weights.ndim != 2:
            found = tuple(self.weights.shape)
            raise SettingError(f"Differential: weights have the shape {found}; give (T, 1), or (T, C) a channel.")

    @property
    def alphabet(self) -> Alphabet:  # type: ignore[override]
        """What one spike of the neuron inside may carry, weighed by its step."""
        return dataclasses.replace(self.neuron.alphabet, step_weighted=True)

    def levels_after(self, steps: int) -> int | None:
        """The distinct sums above 0 of its symbols with the first channel's weights; None for real numbers."""
        if self.alphabet.payload is Payload.REAL:
            return None
        weights = at_steps(self.weights, 0, steps).expand(steps, -1)[:, 0]
        graded = [part for part in self.neuron.modules() if isinstance(part, GradedIF)]
        known = symbols(self.alphabet)
        rows, usual, first = graded[-1].units(steps) if graded else (torch.ones(steps), known, known)
        if graded and graded[-1].alphabet != self.neuron.alphabet:  # a wrapper between them sends other symbols
            usual = first = known
        return distinct_sums(weights.cpu() * rows.cpu(), usual, first)

    def initial_state(self, current: Tensor) -> DifferentialState:
        zero = torch.zeros_like(current)
        wide = zero.to(type_of_sums(zero.dtype))
        return DifferentialState(self.neuron.initial_state(current), wide, wide, wide, 0)

    def step(self, current: Tensor, state: DifferentialState) -> tuple[Tensor, DifferentialState]:
        w = self._weight(state.steps, current)
        arrived = state.arrived + current
        e = (arrived.clamp(min=0.0) - state.sent) / w
        before = self.neuron.had_sent(state.inner, state.sent / w)
        sent, inner = self.neuron.scan((e - state.charge).to(current.dtype).unsqueeze(0), before)
        s = sent.squeeze(0)
        y = w * s
        return y, DifferentialState(inner, arrived, state.sent + y, e - s, state.steps + 1)

    def _weight(self, done: int, current: Tensor) -> Tensor:
        """That of the step after ``done``, so that it broadcasts over (N, C, ...)."""
        return along_channels(at_steps(self.weights, done, 1)[0], current)

    def expected_rate(self, current: Tensor, steps: int) -> Tensor:
        """0: a change in every step is none of a constant current. What is sent adds up to a value, not to a rate."""
        return torch.zeros_like(current)

    def rate_bound(self, steps: int) -> float:
        """The sum of the weights over T, times the levels of a spike."""
        rows = at_steps(self.weights, 0, steps).expand(steps, -1)
        return float(rows.sum(0).max()) * self.neuron.alphabet.levels / steps

    def refund(self, state: DifferentialState, charge: Tensor) -> DifferentialState:
        s = charge / self._weight(state.steps - 1, charge)
        return state._replace(
            inner=self.neuron.refund(state.inner, s), sent=state.sent - charge, charge=state.charge + s
        )

    def extra_repr(self) -> str:
        return f"weights={tuple(self.weights.shape)}"
