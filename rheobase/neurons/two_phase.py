"""Neurons that run a first phase to learn about their residual potential, and a second one with what they learnt.

References:
    Hao et al. 2023, arXiv 2302.10685, "Bridging the gap between ANNs and SNNs by calibrating offset spikes"
    (ICLR 2023): `OffsetIF`.
    Hao et al. 2023, arXiv 2302.02091, "Reducing ANN-SNN conversion error through residual membrane potential"
    (AAAI 2023): `ResidualIF`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rheobase import kernels
from rheobase.errors import SettingError, miscounted
from rheobase.neurons._base import Neuron, along_channels, filled
from rheobase.neurons.alphabet import Alphabet, Payload
from rheobase.neurons.integrate_fire import IF, positive, summary
from rheobase.neurons.synchronous import Synchronous

__all__ = ["OffsetIF", "ResidualIF", "ResidualState"]

_MARGIN = 1e-3  # of a threshold: how far beyond a bound a potential is moved, and what counts as above 0


class OffsetIF(Synchronous):
    r"""Integrate and fire whose initial potential is corrected after a trial run on the same currents (COS).

    .. code-block:: text

        v(0) = threshold / 2
        repeat ``iterations`` times:
            run ``pre_steps`` steps of integrate and fire from v(0); nothing is sent
            where v(end) < 0 and something fired:     one spike too many
                v(0) -= max(threshold, min over firing steps of v_pre - 0.999 threshold)
            where v(end) >= threshold and some step was silent:     one spike too few
                v(0) += max(threshold, threshold - max over silent steps of v_pre)
        run T steps of integrate and fire with soft reset from v(0), and send them

    Where pre_steps exceeds T, the currents are repeated. Departures: the paper writes one symbol for "a little less
    than the threshold", which is 0.999 thresholds here in the first case and the threshold in the second, where
    reaching it fires. The authors' code does one iteration. Several work as written here, and need not be better:
    a shift may move more than one spike.

    Args:
        threshold: greater than 0, in units of the activation. Shape () or (C,).
        pre_steps: rho, at least 1; None takes T.
        iterations: how often, at least 1.

    Shape:
        (T, N, C, ...) -> (T, N, C, ...).

    Raises:
        SettingError: a value is outside its range.

    Example:
        >>> import torch
        >>> early = torch.tensor([[2.0], [2.0], [-1.0], [-1.5]])  # the sum is 1.5: one spike fits
        >>> IF(torch.tensor(1.0), 0.5)(early).flatten(), OffsetIF(torch.tensor(1.0))(early).flatten()
        (tensor([1., 1., 1., 0.]), tensor([1., 1., 0., 0.]))
    """

    alphabet = Alphabet(Payload.BINARY)
    threshold: Tensor

    def __init__(self, threshold: Tensor | float, pre_steps: int | None = None, iterations: int = 1) -> None:
        super().__init__()
        problems = [] if pre_steps is None else miscounted("pre_steps", pre_steps)
        problems += miscounted("iterations", iterations)
        if problems:
            raise SettingError("OffsetIF: " + "; ".join(problems) + ".")
        self.register_buffer("threshold", positive(threshold, "OffsetIF"))
        self.pre_steps, self.iterations = pre_steps, iterations

    def rule(self, current: Tensor) -> kernels.Rule:
        trial = self.pre_steps or len(current)
        return kernels.offset_rule(along_channels(self.threshold, current[0]), trial, self.iterations, 1 - _MARGIN)

    def respond(self, current: Tensor) -> Tensor:
        steps = len(current)
        trial = self.pre_steps or steps
        first = current if trial == steps else current[torch.arange(trial, device=current.device) % steps]
        threshold = along_channels(self.threshold, current[0])
        v_0 = filled(threshold / 2, current[0])
        for _ in range(self.iterations):
            v_0 = _corrected(first, v_0, threshold)
        return kernels.if_scan(current, v_0, threshold, backend=self.backend)[0]

    def layer_steps(self, steps: int) -> int:
        return self.iterations * (self.pre_steps or steps) + steps

    def expected_rate(self, current: Tensor, steps: int) -> Tensor:
        """That of integrate and fire from half a threshold: a constant current needs no correction. Exact."""
        return IF(self.threshold, self.threshold / 2).expected_rate(current, steps)

    def extra_repr(self) -> str:
        trial = "T" if self.pre_steps is None else self.pre_steps
        return f"threshold={summary(self.threshold)}, pre_steps={trial}, iterations={self.iterations}"


def _corrected(current: Tensor, v_0: Tensor, threshold: Tensor) -> Tensor:
    """The initial potential after a trial run from ``v_0``. Shapes: (K, N, ...), (N, ...) -> (N, ...)."""
    v = v_0
    least, most = torch.full_like(v, torch.inf), torch.full_like(v, -torch.inf)  # v_pre of firing and of silent steps
    for x in current.unbind(0):
        v = v + x
        fired = v >= threshold
        least = torch.where(fired, torch.minimum(least, v), least)
        most = torch.where(fired, most, torch.maximum(most, v))
        v = torch.where(fired, v - threshold, v)
    down = torch.maximum(threshold, least - (1 - _MARGIN) * threshold)
    up = torch.maximum(threshold, threshold - most)
    v_0 = torch.where((v < 0) & least.isfinite(), v_0 - down, v_0)
    return torch.where((v >= threshold) & most.isfinite(), v_0 + up, v_0)


class ResidualState(NamedTuple):
    """The potential v, whether a neuron may send in the second phase, each (N, ...), and the steps done."""

    potential: Tensor
    alive: Tensor
    steps: int


class ResidualIF(Neuron):
    r"""Integrate and fire, silenced where the potential is not above 0 after a first phase of the network (SRP).

    .. code-block:: text

        v(0) = threshold / 2
        steps 1 ... first:      integrate and fire with soft reset; what is sent is not read at the output
        between:                m = 1 if v(first) > threshold / 1000 else 0;  v(first) = threshold / 2
        steps first + 1 ... :   integrate and fire with soft reset; y(t) = m threshold s(t)

    A negative residual says that the ANN's activation is 0. Each layer works in the same step as the one before it,
    so the neuron is causal, and a run of T steps that count takes ``first`` + T. The read-out must be
    ``Delayed(first)``. A silenced neuron goes on integrating, which nobody sees.

    Args:
        threshold: greater than 0, in units of the activation. Shape () or (C,).
        first: tau, the steps of the first phase, at least 1.

    Shape:
        (K, N, C, ...) -> (K, N, C, ...).

    Raises:
        SettingError: a value is outside its range.

    Example:
        >>> import torch
        >>> neuron = ResidualIF(torch.tensor(1.0), first=2)
        >>> neuron(torch.tensor([[1.0, 1.0], [-0.4, -2.0], [1.0, 1.0]])[:, None]).squeeze(1)
        tensor([[1., 1.],
                [0., 0.],
                [1., 0.]])
    """

    alphabet = Alphabet(Payload.BINARY)
    threshold: Tensor

    def __init__(self, threshold: Tensor | float, first: int = 4) -> None:
        super().__init__()
        if problems := miscounted("first", first):
            raise SettingError(f"ResidualIF: {problems[0]}.")
        self.register_buffer("threshold", positive(threshold, "ResidualIF"))
        self.first = first

    def initial_state(self, current: Tensor) -> ResidualState:
        half = filled(self.threshold / 2, current)
        return ResidualState(half, torch.ones_like(current, dtype=torch.bool), 0)

    def step(self, current: Tensor, state: ResidualState) -> tuple[Tensor, ResidualState]:
        y, new = self.scan(current.unsqueeze(0), state)
        return y.squeeze(0), new

    def scan(self, current: Tensor, state: ResidualState) -> tuple[Tensor, ResidualState]:
        early = min(max(self.first - state.steps, 0), len(current))
        threshold = along_channels(self.threshold, current[0])
        v, alive, parts = state.potential, state.alive, []
        if early:
            y, v = kernels.if_scan(current[:early], v, threshold, backend=self.backend)
            parts.append(y)
        if early < len(current):
            if state.steps + early == self.first:
                alive = v > _MARGIN * threshold
                v = filled(threshold / 2, v)
            y, v = kernels.if_scan(current[early:], v, threshold, backend=self.backend)
            parts.append(y * alive)
        return torch.cat(parts), ResidualState(v, alive, state.steps + len(current))

    def levels_after(self, steps: int) -> int:
        """Those of the steps that are read."""
        return steps - self.first if steps > self.first else steps

    def expected_rate(self, current: Tensor, steps: int) -> Tensor:
        """Of all steps, those of the first phase too: two runs of integrate and fire from half a threshold. Exact."""
        threshold = along_channels(self.threshold, current)
        inner = IF(self.threshold, self.threshold / 2)
        early = min(self.first, steps)
        sent = inner.expected_rate(current, early) * early
        if steps > self.first:
            late = steps - self.first
            alive = threshold / 2 + current * early - sent > _MARGIN * threshold
            sent = sent + inner.expected_rate(current, late) * late * alive
        return sent / steps

    def extra_repr(self) -> str:
        return f"threshold={summary(self.threshold)}, first={self.first}"
