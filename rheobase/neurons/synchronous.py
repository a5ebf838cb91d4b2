"""Layer-synchronous neurons: each sees the currents of all T steps before it sends its first spike.

References:
    Hao et al. 2025, "Parallel conversion" (ICML 2025): `Parallel`.
    Liu et al. 2022, "SpikeConverter: an efficient conversion framework zipping the gap between artificial neural
    networks and spiking neural networks" (AAAI 2022): `Radix`.
    Bojkovic, Wu & Gu 2025, arXiv 2502.14487, "Temporal misalignment in ANN-SNN conversion and its mitigation via
    probabilistic spiking neurons" (ICML 2025): `Probabilistic`.
"""

from __future__ import annotations

from abc import abstractmethod
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor

from rheobase.errors import ConversionError, SettingError
from rheobase.kernels import Code, Rule, count_by_sample, parallel_rule, radix_rule, synchronous_scan
from rheobase.neurons._base import Neuron, along_channels
from rheobase.neurons.alphabet import Alphabet, Payload
from rheobase.neurons.integrate_fire import positive, summary

__all__ = ["Parallel", "Probabilistic", "Radix", "Synchronous", "SynchronousState"]


class SynchronousState(NamedTuple):
    """How many steps have been done: 0 before the run and T after it."""

    steps: int


class Synchronous(Neuron):
    """A neuron that answers the currents of all T steps at once. Subclasses say how in `respond`.

    It has no state to go on from, so a second chunk of steps is an error.
    """

    causal = False
    overwrites = counting = True

    @abstractmethod
    def respond(self, current: Tensor) -> Tensor:
        """The values sent in T steps, for the currents of T steps. Shape: (T, N, ...) -> (T, N, ...)."""

    def rule(self, current: Tensor) -> Rule | None:
        """What `respond` does, for the fused kernel; None where there is none.

        It holds for the class that defines it, see `Neuron.holds`.

        Args:
            current: of T steps. Shape (T, N, ...).
        """
        return None

    def initial_state(self, current: Tensor) -> SynchronousState:
        return SynchronousState(0)

    def step(self, current: Tensor, state: SynchronousState) -> tuple[Tensor, SynchronousState]:
        """A run of T = 1."""
        values, new = self.scan(current.unsqueeze(0), state)
        return values.squeeze(0), new

    def scan(
        self, current: Tensor, state: SynchronousState, overwrite: bool = False, counts: Tensor | None = None
    ) -> tuple[Tensor, SynchronousState]:
        """All T steps. Shape: current (T, N, ...) -> values (T, N, ...).

        Raises:
            ConversionError: some steps have been done before.
        """
        if state.steps:
            raise ConversionError(
                f"{type(self).__name__} is layer-synchronous: it takes the currents of all T steps in one call, and "
                f"it has answered {state.steps} steps already. Call reset() first, and give all steps in one chunk."
            )
        rule = self.rule(current) if self.holds("rule") else None
        values = None
        if rule is not None:
            values = synchronous_scan(current, rule, overwrite=overwrite, counts=counts, backend=self.backend)
        if values is None:
            values = self.respond(current)
            if counts is not None:
                counts.copy_(count_by_sample(values, backend=self.backend))
        return values, SynchronousState(len(current))


class Parallel(Synchronous):
    r"""All spikes at once from the mean current, sent in the first steps (parallel conversion, DA-QCFS).

    .. code-block:: text

        m    = (1/T) sum_t x(t)
        k    = clip(floor((m + bias) T / threshold + 1/2), 0, T)
        y(t) = threshold + gain for t <= k, else 0

    With bias and gain 0 its rate is a quantiser with T levels above 0. The authors' matrix form fires in the last
    k steps and their code in the first k; the sum is the same.

    Args:
        threshold: greater than 0, in units of the activation. Shape () or (C,).
        bias: psi, added to the mean current, the same units and shapes.
        gain: phi, added to the value of a spike, the same units and shapes; greater than minus the threshold.

    Shape:
        (T, N, C, ...) -> (T, N, C, ...).

    Raises:
        SettingError: a threshold or the value of a spike is not positive, or something is not finite.

    Example:
        >>> import torch
        >>> neuron = Parallel(torch.tensor(1.0))
        >>> neuron(torch.tensor([[0.0], [0.0], [2.0], [0.2]])).flatten()
        tensor([1., 1., 0., 0.])
    """

    alphabet = Alphabet(Payload.BINARY)
    tunable = MappingProxyType({"threshold": "log", "bias": "current", "gain": "current"})
    threshold: Tensor
    bias: Tensor
    gain: Tensor

    def __init__(self, threshold: Tensor | float, bias: Tensor | float = 0.0, gain: Tensor | float = 0.0) -> None:
        super().__init__()
        self.register_buffer("threshold", positive(threshold, "Parallel"))
        dtype = self.threshold.dtype
        self.register_buffer("bias", torch.as_tensor(bias, dtype=dtype))
        self.register_buffer("gain", torch.as_tensor(gain, dtype=dtype))
        problems = [] if bool(torch.isfinite(self.bias).all()) else ["bias must be finite"]
        if not bool(((self.threshold + self.gain) > 0).all() & torch.isfinite(self.gain).all()):
            problems.append(f"gain is {summary(self.gain)}; it must be finite and above minus the threshold")
        if problems:
            raise SettingError("Parallel: " + "; ".join(problems) + ".")

    @property
    def code(self) -> Code:
        return Code(self.threshold + self.gain, 1, signed=False)

    def rule(self, current: Tensor) -> Rule:
        first = current[0]
        return parallel_rule(
            along_channels(self.threshold, first), along_channels(self.bias, first), self._value(first)
        )

    def respond(self, current: Tensor) -> Tensor:
        steps = len(current)
        count, ramp = self._counted(_mean(current), steps)
        t = torch.arange(1, steps + 1, device=current.device, dtype=count.dtype)
        value = self._value(count)
        sent = (t.view(-1, *[1] * count.ndim) <= count) * value
        return sent if ramp is None else sent + ramp * value.detach() / steps

    def averaged(self, steps: int) -> Neuron | None:
        return AveragedParallel(self.threshold, self.bias, self.gain, steps)

    def _counted(self, mean: Tensor, steps: int) -> tuple[Tensor, Tensor | None]:
        """k, and where there are gradients its slope, as if it were not rounded, with a value of 0."""
        exact = self._exact(mean, steps)
        ramp = exact.clamp(0, steps) if exact.requires_grad else None
        return torch.floor(exact + 0.5).clamp(0, steps), None if ramp is None else ramp - ramp.detach()

    def _exact(self, mean: Tensor, steps: int) -> Tensor:
        """(m + bias) T / threshold."""
        return (mean + along_channels(self.bias, mean)) * steps / along_channels(self.threshold, mean)

    def _value(self, like: Tensor) -> Tensor:
        """What one spike carries."""
        return along_channels(self.threshold, like) + along_channels(self.gain, like)

    def expected_rate(self, current: Tensor, steps: int) -> Tensor:
        """r(T) = k (threshold + gain) / T, exact."""
        return self._counted(current, steps)[0] * self._value(current) / steps

    def extra_repr(self) -> str:
        return f"threshold={summary(self.threshold)}, bias={summary(self.bias)}, gain={summary(self.gain)}"


class AveragedParallel(Parallel):
    """The mean over T steps of `Parallel`, as the value of one step: k (threshold + gain) / T.

    Args:
        threshold: as for `Parallel`.
        bias: as for `Parallel`.
        gain: as for `Parallel`.
        levels: T, at least 1.

    Shape:
        (1, N, C, ...) -> (1, N, C, ...), the mean current to the mean value.
    """

    def __init__(self, threshold: Tensor | float, bias: Tensor | float, gain: Tensor | float, levels: int) -> None:
        super().__init__(threshold, bias, gain)
        self.levels = levels
        self.alphabet = Alphabet(Payload.INTEGER, levels)

    @property
    def code(self) -> None:  # type: ignore[override]
        """A whole number of T-ths, which is not what is wanted here: it is there to be differentiated."""
        return None

    def respond(self, current: Tensor) -> Tensor:
        count, ramp = self._counted(current.mean(0), self.levels)
        return ((count if ramp is None else count + ramp) * self._value(count) / self.levels).unsqueeze(0)

    def averaged(self, steps: int) -> Neuron | None:
        return None

    def expected_rate(self, current: Tensor, steps: int) -> Tensor:
        return super().expected_rate(current, self.levels)


class Radix(Synchronous):
    r"""Accumulates T steps, then sends the digits of the mean in T steps (SpikeConverter's inverse-leaky neuron).

    .. code-block:: text

        v(0) = (1/T) sum_t x(t) + w(T) / 2
        s(t) = 1 if v(t-1) >= w(t) else 0
        v(t) = v(t-1) - w(t) s(t)
        y(t) = T w(t) s(t)

        w(t) = threshold radix^(1-t) / (radix^0 + radix^-1 + ... + radix^(1-T))

    With v scaled by radix^t this is the paper's v(t+1) = radix (v(t) - th s(t)), whose receivers weigh a spike by
    radix^-t. The weights add up to the threshold, so the mean over T steps of what is sent is the activation, rounded
    to w(T) and clipped at the threshold: T levels above 0 for radix 1 (rate coding), 2^T - 1 for radix 2 (binary
    digits). The paper cuts; w(T) / 2 rounds. It chooses threshold and radix by least conversion error; here the
    threshold is chosen for the radix, by the method.

    Args:
        threshold: the greatest rate, greater than 0, in units of the activation. Shape () or (C,).
        radix: how much less a spike is worth than the one before it, from 1 to 2. Above 2 there would be gaps.

    Shape:
        (T, N, C, ...) -> (T, N, C, ...).

    Raises:
        SettingError: a threshold is not positive and finite, or the radix is outside its range.

    Example:
        >>> import torch
        >>> neuron = Radix(torch.tensor(15.0))  # 10 is 1010
        >>> neuron(torch.full((4, 1), 10.0)).flatten()
        tensor([32.,  0.,  8.,  0.])
    """

    threshold: Tensor

    def __init__(self, threshold: Tensor | float, radix: float = 2.0) -> None:
        super().__init__()
        if not 1.0 <= radix <= 2.0:
            raise SettingError(f"Radix: radix is {radix}; it must be from 1 to 2.")
        self.register_buffer("threshold", positive(threshold, "Radix"))
        self.radix = radix

    @property
    def alphabet(self) -> Alphabet:  # type: ignore[override]
        """Binary; above radix 1 the value of a spike depends on its step."""
        return Alphabet(Payload.BINARY, step_weighted=self.radix > 1)

    def shares(self, steps: int) -> list[float]:
        """w(t) / threshold for t = 1 ... T; they add up to 1."""
        return radix_shares(self.radix, steps)

    def rule(self, current: Tensor) -> Rule:
        return radix_rule(along_channels(self.threshold, current[0]), self.shares(len(current)))

    def respond(self, current: Tensor) -> Tensor:
        steps = len(current)
        shares = self.shares(steps)
        v = _mean(current)
        threshold = along_channels(self.threshold, v)
        v = v + threshold * (shares[-1] / 2)
        values = []
        for share in shares:
            fired = v >= threshold * share
            v = v - threshold * share * fired
            values.append(threshold * (steps * share) * fired)
        return torch.stack(values)

    def expected_rate(self, current: Tensor, steps: int) -> Tensor:
        """floor(x / w(T) + 1/2) w(T), clipped at 0 and the threshold: exact for radix 1 and 2.

        Between them, digits are not unique and the rate is within `rate_bound` of the clipped current.
        """
        threshold = along_channels(self.threshold, current)
        if 1 < self.radix < 2:
            return current.clamp(min=0.0).minimum(threshold)
        last = threshold * self.shares(steps)[-1]
        return (torch.floor(current / last + 0.5).clamp(min=0.0) * last).minimum(threshold)

    def rate_bound(self, steps: int) -> float:
        return self.shares(steps)[-1] / 2 if 1 < self.radix < 2 else 0.0

    def extra_repr(self) -> str:
        return f"threshold={summary(self.threshold)}, radix={self.radix:.4g}"


def _mean(current: Tensor) -> Tensor:
    """The mean of all steps, in the memory order of one; a constant current (stride 0) is its own mean."""
    return current[0] if current.stride(0) == 0 else _as_step(current.mean(0), current)


def _as_step(total: Tensor, current: Tensor) -> Tensor:
    """A sum over steps in the memory order of one step, which `torch.sum` does not keep."""
    like = torch.empty_like(current[0])
    return total if total.stride() == like.stride() else like.copy_(total)


def radix_shares(radix: float, steps: int) -> list[float]:
    """radix^(1-t), divided by their sum, for t = 1 ... T."""
    weights = [radix**-t for t in range(steps)]
    return [w / sum(weights) for w in weights]


class Probabilistic(Synchronous):
    r"""Accumulates T steps, then sends spikes at random, as probable as what is left demands (two phases, TPP).

    .. code-block:: text

        v(0) = sum_t x(t)
        p(t) = clip(v(t-1) / (threshold (T - t + 1)), 0, 1)
        s(t) ~ Bernoulli(p(t))
        y(t) = threshold s(t),  v(t) = v(t-1) - y(t)

    The spikes of a neuron have no order in time, which is what the paper's permutations of spike trains showed to be
    of use. Where v(0) is no whole number of thresholds the number of spikes is one of its two neighbours, and the
    greater one is likelier than the fraction says. The draws depend on the key given to `reset` and on t alone.
    Written from the paper's text, not from the authors' code.

    Args:
        threshold: greater than 0, in units of the activation. Shape () or (C,).

    Shape:
        (T, N, C, ...) -> (T, N, C, ...).

    Raises:
        SettingError: a threshold is not positive and finite.
    """

    alphabet = Alphabet(Payload.BINARY)
    random = True
    threshold: Tensor

    def __init__(self, threshold: Tensor | float) -> None:
        super().__init__()
        self.register_buffer("threshold", positive(threshold, "Probabilistic"))

    def respond(self, current: Tensor) -> Tensor:
        steps = len(current)
        v = _as_step(current.sum(0), current)
        threshold = along_channels(self.threshold, v)
        values = []
        for t in range(1, steps + 1):
            fired = v / (threshold * (steps - t + 1)) > self.draw(t, v)
            values.append(threshold * fired)
            v = v - values[-1]
        return torch.stack(values)

    def draw(self, t: int, like: Tensor) -> Tensor:
        """The uniform random numbers of step t, from 0 to below 1. Shape of ``like``."""
        return self.uniform(t, like).to(like.device)

    def expected_rate(self, current: Tensor, steps: int) -> Tensor:
        """The current, clipped at 0 and the threshold: the number of spikes is off by less than one."""
        return current.clamp(min=0.0).minimum(along_channels(self.threshold, current))

    def rate_bound(self, steps: int) -> float:
        return 1.0 / steps

    def extra_repr(self) -> str:
        return f"threshold={summary(self.threshold)}"
