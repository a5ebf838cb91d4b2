"""The graded integrate-and-fire neuron: signs, several levels, memory, and thresholds that may follow a schedule.

Most published neurons with soft reset are this one with certain settings, which the methods choose. References:
    Yu et al. 2022, double threshold (signed, no memory); Wang et al. 2022, "Signed neuron with memory" (IJCAI);
    Li & Zeng 2022, arXiv 2204.13271, burst spikes (levels); Huang et al. 2025, differential coding with
    multi-threshold neurons (powers of two; threshold falling as 1/t); Bu et al. 2022, arXiv 2202.01440
    (half a threshold at the start: fire = 1/2).
"""

from __future__ import annotations

from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor

from rheobase import kernels
from rheobase.errors import SettingError
from rheobase.neurons._base import Neuron
from rheobase.neurons.alphabet import Alphabet, Payload, mislevelled
from rheobase.neurons.integrate_fire import positive, summary
from rheobase.precision import type_of_sums

__all__ = ["GradedIF", "GradedState"]


_COUNTED = 1023  # levels of a twin
_SAME = 1e-6  # of the largest threshold: sums that are no farther apart are one value


class GradedState(NamedTuple):
    """The potential v and the sum r of what was sent, each of shape (N, ...), and the steps done.

    In half precision, r is in float32.
    """

    potential: Tensor
    sent: Tensor
    steps: int


class GradedIF(Neuron):
    r"""Integrate and fire with graded, signed spikes.

    .. code-block:: text

        v_pre(t) = v(t-1) + x(t)
        e(t)     = max(v_pre(t), -r(t-1)) with memory, else v_pre(t)
        q(t)     = e(t) / threshold(t) + offset(t)
        s(t)     = sign(q) level(|q|)                  (0 where q < 0 and not signed)
        y(t)     = threshold(t) s(t)
        v(t)     = v_pre(t) - y(t),  r(t) = r(t-1) + y(t)

        level(m) = min(floor(m + 1 - fire), levels), or with powers the largest of
                   1, 1/2, ..., 2^(1 - levels) that is at most m / fire, or 0

        with doubled, at t = 1: s(1) = min(floor(q + 1 - fire), 2 levels), 0 where q < 0

    With memory, max(v_pre, -r) = relu(C) - r, where C is the sum of all currents: negative spikes
    take back what was sent too much, so that the sum stays that of a ReLU, up to rounding: where steps differ in size
    (a schedule, or powers), a negative spike may be larger than what is left of the sum.

    At the first step there is nothing to take back, and without an offset no negative symbol is sent. With ``doubled``
    it stands for a larger spike there: a ternary neuron sends 0, threshold(1) or 2 threshold(1), and then 0 or a sign.

    Args:
        threshold: greater than 0, in units of the activation. Shape (), (C,) a channel, or (T, C) or
            (T, 1): a schedule, row t for step t, the last one for all later steps.
        levels: the number of magnitudes, at least 1.
        powers: whether they are powers of two (at most 16) instead of 1, 2, 3, ...
        signed: whether negative spikes are sent.
        memory: whether the emitted sum is kept from falling below 0. Of use with signed spikes.
        fire: the smallest |q| that fires, greater than 0; 0.5 rounds to the nearest level, 1 floors.
            Shapes as for the threshold.
        offset: added to q. Shapes as for the threshold.
        shifts: round the schedule, so that threshold(t) = threshold(1) 2^k(t) with a whole k(t), and a receiver
            whose weights are scaled for threshold(1) shifts what it gets. Of use with a schedule.
        doubled: whether the first step has twice as many positive magnitudes instead of negative ones. For signed
            spikes with memory, which are no powers.

    Raises:
        SettingError: a value is outside its range, or ``doubled`` is for other spikes.

    Example:
        >>> import torch
        >>> neuron = GradedIF(torch.tensor(1.0))
        >>> neuron(torch.tensor([[1.6], [0.6], [-1.4], [-9.0]])).flatten()
        tensor([ 1.,  1., -1., -1.])
    """

    overwrites = counting = chains = biases = True
    tunable = MappingProxyType({"threshold": "log", "fire": "log", "offset": "linear"})
    threshold: Tensor
    fire: Tensor
    offset: Tensor

    def __init__(
        self,
        threshold: Tensor | float,
        levels: int = 1,
        powers: bool = False,
        signed: bool = True,
        memory: bool = True,
        fire: Tensor | float = 0.5,
        offset: Tensor | float = 0.0,
        shifts: bool = False,
        doubled: bool = False,
    ) -> None:
        super().__init__()
        problems = mislevelled("levels", levels, powers)
        if problems:
            raise SettingError(f"GradedIF: {problems[0]}.")
        if doubled and (powers or not signed or not memory):
            found = "powers=True" if powers else "memory=False" if signed else "signed=False"
            raise SettingError(f"GradedIF: doubled is True; with {found} it must be False.")
        self.register_buffer("threshold", positive(threshold, "GradedIF"))
        dtype = self.threshold.dtype
        self.register_buffer("fire", positive(torch.as_tensor(fire, dtype=dtype), "GradedIF, fire"))
        self.register_buffer("offset", torch.as_tensor(offset, dtype=dtype))
        self.levels, self.powers, self.signed, self.memory, self.shifts = int(levels), powers, signed, memory, shifts
        self.doubled = doubled

    @property
    def alphabet(self) -> Alphabet:  # type: ignore[override]
        """What one spike may carry."""
        weighted = self.doubled or (self.threshold.ndim == 2 and len(self.threshold) > 1)
        if self.levels == 1:
            return Alphabet(Payload.TERNARY if self.signed else Payload.BINARY, 1, weighted)
        return Alphabet(Payload.POWER_OF_TWO if self.powers else Payload.INTEGER, self.levels, weighted, self.signed)

    @property
    def code(self) -> kernels.Code | None:
        if self.threshold.ndim == 2 and len(self.threshold) > 1:
            return None
        unit = self.threshold.reshape(-1)
        if self.powers:
            return kernels.Code(unit * 2.0 ** (1 - self.levels), 2 ** (self.levels - 1), self.signed)
        return kernels.Code(unit, 2 * self.levels if self.doubled else self.levels, self.signed)

    def levels_after(self, steps: int) -> int:
        """The distinct sums above 0 of the first channel's symbols, by its schedule; counted no further than 1,023."""
        rows, usual, first = self.units(steps)
        return distinct_sums(rows, usual, first)

    def units(self, steps: int) -> tuple[Tensor, Tensor, Tensor]:
        """What one unit of the first channel is worth in each of T steps, the symbols, and those of the first step."""
        usual = symbols(self.alphabet)
        first = torch.arange(2 * self.levels + 1).to(usual) if self.doubled else usual
        return at_steps(self.schedule(), 0, steps).expand(steps, -1)[:, 0], usual, first

    def initial_state(self, current: Tensor) -> GradedState:
        zero = torch.zeros_like(current)
        return GradedState(zero, zero.to(type_of_sums(zero.dtype)), 0)

    def step(self, current: Tensor, state: GradedState) -> tuple[Tensor, GradedState]:
        y, new = self.scan(current.unsqueeze(0), state)
        return y.squeeze(0), new

    def scan(
        self,
        current: Tensor,
        state: GradedState,
        overwrite: bool = False,
        counts: Tensor | None = None,
        bias: Tensor | None = None,
    ) -> tuple[Tensor, GradedState]:
        k = current.shape[0]
        y, v, r = kernels.graded_scan(
            current,
            state.potential,
            state.sent,
            *(at_steps(p, state.steps, k) for p in (self.schedule(), self.fire, self.offset)),
            levels=self.levels,
            powers=self.powers,
            signed=self.signed,
            memory=self.memory,
            first_levels=2 * self.levels if self.doubled and state.steps == 0 else 0,
            overwrite=overwrite,
            counts=counts,
            bias=bias,
            backend=self.backend,
        )
        return y, GradedState(v, r, state.steps + k)

    def schedule(self) -> Tensor:
        """The thresholds as they are used: rounded with ``shifts``, straight through for gradients."""
        if not self.shifts or self.threshold.ndim < 2:
            return self.threshold
        exponent = torch.log2(self.threshold / self.threshold[:1])
        whole = exponent + (exponent.round() - exponent).detach()
        return self.threshold[:1] * torch.exp2(whole)

    def expected_rate(self, current: Tensor, steps: int) -> Tensor:
        """The clip of the levels, rounded: r(T) = floor(x T / threshold + 1 - fire) threshold / T.

        Exact for 0 <= x <= levels * threshold with one threshold for all steps, a fire of at most 1 and no
        offset; above, the neuron sends its top level at every step after the first that fires, and at that one too
        unless it is the first of all and ``doubled``. Negative x gives 0 with memory or unsigned, and the mirrored
        rate else. With powers or a schedule the rate differs from the clipped current by at most `rate_bound`.
        """
        threshold = along(self.threshold, current)
        x = current if self.signed and not self.memory else current.clamp(min=0.0)
        fire = along(self.fire, current)
        if self.powers or self.threshold.ndim == 2:
            return torch.sign(x) * torch.minimum(x.abs(), threshold if self.powers else threshold * self.levels)
        size = x.abs().clamp(min=1e-30)
        first = torch.ceil(fire * threshold / size).clamp(min=1.0)
        count = torch.floor(size * steps / threshold + 1 - fire)
        most = (steps - first + 1) * self.levels
        if self.doubled:  # more at t = 1, for a neuron that fires then
            more = torch.floor(size / threshold + 1 - fire).clamp(self.levels, 2 * self.levels) - self.levels
            most = most + torch.where(first == 1, more, 0.0)
        count = torch.minimum(count, most)
        return torch.sign(x) * torch.where(first <= steps, count, 0.0) * threshold / steps

    def rate_bound(self, steps: int) -> float:
        """2 / T with powers of two: the residual stays below two thresholds. Exact without."""
        return 2.0 / steps if self.powers else 0.0

    def had_sent(self, state: GradedState, total: Tensor) -> GradedState:
        return state._replace(sent=total)

    def refund(self, state: GradedState, charge: Tensor) -> GradedState:
        return state._replace(potential=state.potential + charge, sent=state.sent - charge)

    def extra_repr(self) -> str:
        doubled = ", doubled=True" if self.doubled else ""
        return f"threshold={summary(self.threshold)}, {self.alphabet}, memory={self.memory}{doubled}"


def symbols(alphabet: Alphabet) -> Tensor:
    """What one spike may stand for beside silence, 0: in units of the largest with powers of two, else of the least."""
    sizes = torch.arange(1, alphabet.levels + 1, dtype=torch.float64)
    sizes = torch.exp2(1 - sizes) if alphabet.payload is Payload.POWER_OF_TWO else sizes
    return torch.cat([torch.zeros(1), sizes, -sizes if alphabet.negative else sizes[:0]])


def distinct_sums(rows: Tensor, usual: Tensor, first: Tensor) -> int:
    """How many values above 0 a sum has of a symbol a step, each times its row; counted no further than 1,023.

    Args:
        rows: what one unit is worth in each step. Shape (T,).
        usual: the symbols of a step.
        first: those of the first step.
    """
    rows = rows.detach().cpu().double()
    sums, unit = torch.zeros(1, dtype=torch.float64), float(rows.max()) * _SAME
    for t, row in enumerate(rows):
        grown = sums[:, None] + row * (usual if t else first)
        sums = torch.unique((grown / unit).round()) * unit
        if int((sums > 0).sum()) >= _COUNTED:
            return _COUNTED
    return int((sums > 0).sum())


def at_steps(parameter: Tensor, done: int, k: int) -> Tensor:
    """The rows of a parameter for the K steps after ``done``. (), (C,) -> (1, C or 1); (T, C) -> (K, C)."""
    if parameter.ndim < 2:
        return parameter.reshape(1, -1)
    if len(parameter) == 1:
        return parameter
    rows = parameter[done : done + k]
    missing = k - len(rows)
    return rows if missing == 0 else torch.cat([rows, parameter[-1:].expand(missing, -1)])


def along(parameter: Tensor, current: Tensor) -> Tensor:
    """The parameter's last row, so that it broadcasts over (N, C, ...)."""
    row = parameter[-1] if parameter.ndim == 2 else parameter.reshape(-1)
    return row.reshape(-1, *[1] * (current.ndim - 2))
