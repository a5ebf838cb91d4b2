"""What every layer with a memory shares: it owns its state here, and nowhere else.

A concrete layer is a pure function ``step(current, state) -> (values, state)``. `Temporal` carries
the state from one call to the next and scans a chunk of steps; `Neuron` adds what is true of a
spiking neuron: what its spikes may carry, and the closed form it must agree with.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from rheobase.errors import ConversionError, SettingError
from rheobase.kernels import Backend, Code, count_by_sample
from rheobase.neurons.alphabet import Alphabet

__all__ = ["Neuron", "Temporal", "Wrapper", "along_channels", "filled", "select"]

_SCAN = frozenset({"scan"})
_FLAGS = {
    "overwrites": _SCAN, "counting": _SCAN, "biases": _SCAN, "rounding": _SCAN,
    "chains": _SCAN | {"initial_state", "forward"},
}  # fmt: skip
"""What a class says of itself, and the methods of which it is true: a class with others must say it anew."""


class Temporal(nn.Module, ABC):
    """A layer with a memory: what it emits depends on what it has received since `reset`.

    Subclasses are final and pure: `initial_state` and `step` read their parameters and never
    assign to ``self``. This class alone holds the state between calls.

    Every constructor argument of a subclass is kept as an attribute of the same name
    (a tensor as a buffer), so that `settings` can give it back.

    Attributes:
        random: whether what it emits depends on the key given to `reset`.
        overwrites: whether `scan` takes ``overwrite=True``, the permission to put the values where the
            current was.
        counting: whether `scan` takes ``counts``, (K, N) int64, and fills it with the number of values of each step
            and sample that are not zero.
        biases: whether `scan` takes ``bias``, (K or 1, C or 1), which is added to its current.
        chains: whether nothing reads the numbers of a current but a scan of `rheobase.kernels`: neither `scan`, nor
            `initial_state`, nor `forward`. The layer before may then be computed in the same pass (see
            `rheobase.kernels.chained`), and until then its output is memory that nobody has written.
        rounding: whether `scan` takes ``payload``, how many powers of two of ``threshold`` there are to send.
        backend: what computes the scan, where there are fused kernels for it.
    """

    _declared: ClassVar[dict[str, bool]] = {}
    random: bool = False
    overwrites: bool = False
    counting: bool = False
    biases: bool = False
    chains: bool = False
    rounding: bool = False
    backend: Backend = "auto"

    def __init_subclass__(cls, **options: Any) -> None:
        """A class that has another scan does not inherit what is true of the one it replaces.

        Raises:
            TypeError: it has another step, and the scan of a class that does not use it.
        """
        super().__init_subclass__(**options)
        if "step" in cls.__dict__ and "scan" not in cls.__dict__ and cls.scan is not Temporal.scan:
            raise TypeError(
                f"{cls.__name__} has its own step, which the scan that it inherits would not use. Give it a scan too: "
                "`scan = Temporal.scan` goes step by step."
            )
        cls._declared = {flag: cls.__dict__[flag] for flag in _FLAGS if flag in cls.__dict__}
        for flag, methods in _FLAGS.items():
            setattr(cls, flag, cls._holds_of_class(flag, methods))

    @classmethod
    def _holds_of_class(cls, flag: str, methods: frozenset[str]) -> bool:
        """Whether the class that has the first of these methods says so, or one before it."""
        for owner in cls.__mro__:
            declared: dict[str, bool] = owner.__dict__.get("_declared", {})
            if flag in declared:
                return declared[flag]
            if methods & owner.__dict__.keys():
                return False
        return False

    def __init__(self) -> None:
        super().__init__()
        self._state: Any = None
        self._shape: torch.Size | None = None
        self._kept: tuple[int, Tensor] | None = None  # how many samples there were at first, and which are left
        self.key: int = 0

    @abstractmethod
    def initial_state(self, current: Tensor) -> Any:
        """The state before the first step, a NamedTuple; every tensor in it has the samples first, (N, ...).

        Args:
            current: the input of one step, for its shape, dtype and device. Shape (N, ...).
        """

    @abstractmethod
    def step(self, current: Tensor, state: Any) -> tuple[Tensor, Any]:
        """One step: the input current and the state, to the emitted value and the next state.

        Shape: current (N, ...) -> values (N, ...).
        """

    def scan(self, current: Tensor, state: Any) -> tuple[Tensor, Any]:
        """A chunk of K steps. Shape: current (K, N, ...) -> values (K, N, ...)."""
        values = []
        for x in current.unbind(0):
            value, state = self.step(x, state)
            values.append(value)
        return torch.stack(values), state

    def forward(self, current: Tensor, overwrite: bool = False, counts: Tensor | None = None) -> Tensor:
        """Advance by the K steps of ``current``, carrying the state over from the last call.

        With ``overwrite`` the values may take the memory of the current, which nobody then needs any more.
        ``counts``, (K, N) int64, is filled with the number of values of each step and sample that are not zero.

        Shape: (K, N, ...) -> (K, N, ...).

        Raises:
            ConversionError: the shape of one step differs from the last call's, with no `reset`.
        """
        if self._state is None:
            self._state, self._shape = self.initial_state(current[0]), current.shape[1:]
        elif current.shape[1:] != self._shape:
            raise ConversionError(
                f"{type(self).__name__} received a current of shape {tuple(current.shape[1:])} a step, "
                f"but its state is for {tuple(self._shape or ())}. Call reset() before another batch."
            )
        options: dict[str, Any] = {"overwrite": True} if overwrite and self.overwrites else {}
        if counts is not None and self.counting:
            options["counts"] = counts
        values, self._state = self.scan(current, self._state, **options)
        if counts is not None and not self.counting:
            counts.copy_(count_by_sample(values, backend=self.backend))
        return values

    def reset(self, key: int = 0) -> None:
        """Forget everything received so far; ``key`` seeds whatever is random from here on."""
        self._state, self._shape, self._kept, self.key = None, None, None, key

    def keep(self, rows: Tensor, samples: int) -> None:
        """Go on with some of the samples only; the others leave, with their state.

        Args:
            rows: the places of those that stay, among the present ones. Shape (n,).
            samples: how many are present.
        """
        self._state = select(self._state, rows)
        self._shape = None if self._shape is None else torch.Size([len(rows), *self._shape[1:]])
        before, places = self._kept or (samples, torch.arange(samples, device=rows.device))
        self._kept = before, places[rows]

    def uniform(self, t: int, like: Tensor) -> Tensor:
        """Random numbers from 0 to below 1 that depend on the key and the step alone, on the CPU.

        A sample's are the same, whichever others have left (`keep`). Shape of ``like``, (N, ...).
        """
        generator = torch.Generator().manual_seed(self.key + t)
        if self._kept is None:
            return torch.rand(like.shape, generator=generator, dtype=torch.float32, device="cpu")
        samples, places = self._kept
        drawn = torch.rand((samples, *like.shape[1:]), generator=generator, dtype=torch.float32, device="cpu")
        return drawn[places.cpu()]

    def plain_settings(self) -> dict[str, Any]:
        """Of `settings`, what is neither a tensor nor a layer."""
        return {name: value for name, value in self.settings().items() if not isinstance(value, Tensor | nn.Module)}

    def settings(self) -> dict[str, Any]:
        """The constructor's arguments: ``type(layer)(**layer.settings())`` is an equal layer."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}


class Neuron(Temporal):
    """A spiking neuron, one for each element of its input.

    What it emits is the value that the next layer multiplies (spike times threshold), never a
    bare 0 or 1.

    Attributes:
        alphabet: what one spike may carry.
        causal: False where the layer must see all its input before it fires, so that a
            network of L layers needs L * T steps.
        tunable: the buffers that calibration may tune by gradient, where the scan is differentiable: "log" for
            positive ones, by their logarithm; "current" for those in units of the activation, which are moved in
            units of the neuron's buffer ``threshold``; "linear" for those without a unit.
    """

    alphabet: Alphabet
    causal: bool = True
    tunable: Mapping[str, Literal["log", "linear", "current"]] = MappingProxyType({})

    @property
    def code(self) -> Code | None:
        """What is sent in whole numbers of a unit that stays the same for all steps, or None where it is not so.

        Layers that receive it may then multiply in whole numbers. It holds for the class that defines it; a subclass
        that sends something else must say what, see `holds`.
        """
        return None

    @property
    def differentiable(self) -> bool:
        """Whether its scan has the slopes that calibration by gradient needs."""
        return bool(self.tunable)

    @classmethod
    def holds(cls, name: str) -> bool:
        """Whether `code` or `averaged` is true of what this class sends.

        That is so where no class derived from the one that defines it has another step or scan.
        """
        for kind in cls.__mro__:
            if name in kind.__dict__:
                return True
            if not {"step", "scan", "respond"}.isdisjoint(kind.__dict__):
                return False
        return False

    @abstractmethod
    def expected_rate(self, current: Tensor, steps: int) -> Tensor:
        """The closed form: the mean value emitted per step, r(T) = (1/T) sum_t y(t).

        Args:
            current: a constant input current, the same at each step. Shape (N, ...).
            steps: T, at least 1.

        Returns:
            r(T), exact up to `rate_bound`. Shape (N, ...).
        """

    def rate_bound(self, steps: int) -> float:
        """How far `expected_rate` may be from the simulation, in thresholds a step; 0 where it is exact."""
        return 0.0

    def averaged(self, steps: int) -> Neuron | None:
        """A neuron of one step that sends the mean of what this one sends in T steps, for the mean of its currents.

        None where that mean depends on when a current comes. Its tunable buffers are those of this neuron, and
        gradient calibration, which needs no more than means, then takes a T-th of the work. It holds for the class that
        defines it, see `holds`.

        Args:
            steps: T, at least 1.
        """
        return None

    def levels_after(self, steps: int) -> int | None:
        """How many values above 0 the sum of what it sends in T steps can have, at most; None for real numbers.

        As many levels has the quantised twin of a network of such neurons (`rheobase.twin`).

        Args:
            steps: T, at least 1.
        """
        return self.alphabet.levels_after(steps)

    def layer_steps(self, steps: int) -> int:
        """How many steps a layer that is not causal takes from all its input to its last spike, for T steps of spikes.

        Args:
            steps: T, at least 1.
        """
        return steps

    def had_sent(self, state: Any, total: Tensor) -> Any:
        """The state, were ``total`` the sum of all that was sent; a neuron that remembers the sum must say how.

        A wrapper whose spikes count otherwise than those inside (`rheobase.neurons.Differential`) says so what a
        negative spike may take back.
        """
        return state

    @property
    def refunds(self) -> bool:
        """Whether `refund` can undo its reset."""
        return type(self).refund is not Neuron.refund

    def refund(self, state: Any, charge: Tensor) -> Any:
        """The state after this step, had spikes worth ``charge`` not been subtracted from it.

        Spike confidence (MSAT Eq. 15) needs it: a filtered spike keeps its charge.

        Raises:
            SettingError: this neuron's reset cannot be undone.
        """
        raise SettingError(f"{type(self).__name__} cannot take back a spike; use a neuron with soft reset.")


class Wrapper(Neuron):
    """A neuron around another one, which it drives through `Neuron.step` and `Neuron.scan`.

    Args:
        neuron: the neuron inside.
    """

    def __init__(self, neuron: Neuron) -> None:
        super().__init__()
        self.neuron = neuron
        self.causal, self.random = neuron.causal, neuron.random

    @property
    def threshold(self) -> Any:
        """The threshold of the neuron inside, or None."""
        return getattr(self.neuron, "threshold", None)

    @property
    def refunds(self) -> bool:
        return super().refunds and self.neuron.refunds

    def layer_steps(self, steps: int) -> int:
        return self.neuron.layer_steps(steps)

    def reset(self, key: int = 0) -> None:
        super().reset(key)
        self.neuron.reset(key)

    def had_sent(self, state: Any, total: Tensor) -> Any:
        """That of the neuron inside, whose state is the field ``inner``, or the whole."""
        if "inner" not in getattr(state, "_fields", ()):
            return self.neuron.had_sent(state, total)
        return state._replace(inner=self.neuron.had_sent(state.inner, total))

    def keep(self, rows: Tensor, samples: int) -> None:
        super().keep(rows, samples)
        self.neuron.keep(rows, samples)  # it has no state of its own, and may be random


def along_channels(parameter: Tensor, current: Tensor) -> Tensor:
    """View a per-layer () or per-channel (C,) parameter so that it broadcasts over (N, C, ...)."""
    return parameter.reshape(-1, *[1] * (current.ndim - 2)) if parameter.ndim == 1 else parameter


def filled(parameter: Tensor, current: Tensor) -> Tensor:
    """A new tensor in the shape and memory order of a current (N, C, ...), from a parameter () or (C,)."""
    parameter = along_channels(parameter, current)
    return torch.empty_like(current, dtype=torch.result_type(current, parameter)).copy_(parameter)


def select(state: Any, rows: Tensor) -> Any:
    """The state of some of the samples: every tensor in it has the shape (N, ...), and anything else is kept.

    Args:
        state: a tensor, a tuple of states, or a number that all samples share.
        rows: the places of the samples. Shape (n,).
    """
    if isinstance(state, Tensor):
        return state.index_select(0, rows)
    if isinstance(state, tuple):
        parts = [select(part, rows) for part in state]
        return type(state)(*parts) if hasattr(state, "_fields") else tuple(parts)
    return state
