"""Running a converted network over a chunk of steps: time is folded into the batch.

Between two layers of neurons a chunk of K steps of N samples is one batch of K * N, so each
layer runs once a chunk. What does not depend on any neuron is constant over time: it is computed
once, on N samples. Chunk 1 is step-by-step simulation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor, fx

from rheobase.coding import ConstantCurrent, Encoder
from rheobase.kernels import Arithmetic, Events, KnownInput, chained, count_by_sample
from rheobase.kernels.chained import Waiting
from rheobase.kernels.layout import added, hooked
from rheobase.neurons import Neuron, Temporal
from rheobase.operations import SAMPLES, evaluate
from rheobase.ownership import Ownership
from rheobase.precision import float32_products
from rheobase.program import Program

__all__ = ["Emit", "Execution"]

Emit: TypeAlias = Callable[[fx.Node, Temporal, Tensor], Tensor]
"""What a layer with a memory sends for its currents. Shape: (K, N, ...) -> (K, N, ...)."""


_Layer: TypeAlias = Callable[
    [Tensor, Events, Arithmetic, KnownInput, Tensor | None, list[Waiting] | None], Tensor
]  # see `EventLayer`


class Execution:
    """One batch while its steps go by. The neurons must have been reset.

    Args:
        program: the network.
        x: the input. Shape (N, ...).
        encoder: how the input is coded.
        generator: for an encoder that is random.
        ownership: of the neurons; they are those of this batch from here on, until another one claims them.

    `advance`, `walk` and `keep` raise a ConversionError where another one has.
    """

    def __init__(
        self,
        program: Program,
        x: Tensor,
        encoder: Encoder | None = None,
        generator: torch.Generator | None = None,
        ownership: Ownership | None = None,
    ) -> None:
        self._ownership = ownership or Ownership()
        self._run = self._ownership.claim()
        self.program = program
        self.samples = x.shape[0]
        self.encoder = encoder or ConstantCurrent()
        x = self.encoder.encode(x, 1)[0] if self.encoder.constant else x
        self.values: dict[fx.Node, Any] = {}
        self._biased = True
        self._coded = False
        self._counts: dict[fx.Node, Tensor] = {}  # of this chunk's spikes
        self._layers: Mapping[fx.Node, _Layer] = {}
        self._input, self._generator = x, generator
        self._rows: Tensor | slice = slice(None)  # of the input's samples, those that are left
        self._folded: dict[fx.Node, Any] = {}
        self._steps = 0
        self._done = 0
        with float32_products(x.device, rounded=False):
            for node in program.constant:
                self.values[node] = x if node.op == "placeholder" else self._call(node, self.values.__getitem__)
        self._rest: dict[fx.Node | None, Tensor] = {}
        if self.encoder.changes:
            silent = Execution(program, x[:1] if program.same_rest else x)
            self._rest = self._rests(silent)
            silent._biased = False  # where biases are all that is added, nothing is left without them
            self._biased = any(bool(value.count_nonzero()) for value in self._rests(silent).values())

    def advance(
        self,
        steps: int,
        on_spikes: Callable[[str, Tensor, Tensor], None] | None = None,
        on_inputs: Callable[[fx.Node, Tensor], None] | None = None,
    ) -> Tensor:
        """Go on by a chunk of K steps.

        Args:
            steps: K, at least 1.
            on_spikes: called with each site, what its neurons emit, shape (K, N, ...), and how many spikes
                each step and sample has, shape (K, N).
            on_inputs: called with each weighted layer of `Program.synapses` and its input, shape (K, N, ...).

        Returns:
            The analog output at each step, or with an encoder of changes its change. Shape (K, N, ...).
        """

        def emit(node: fx.Node, layer: Temporal, current: Tensor) -> Tensor:
            overwrite = self.program.may_overwrite(node.args[0]) and not hooked(layer)
            if not isinstance(layer, Neuron) or (on_spikes is None and not layer.counting):
                return layer(current, overwrite=overwrite)  # type: ignore[no-any-return]
            if hooked(layer):  # which may give other values
                values: Tensor = layer(current)
                counts = count_by_sample(values, backend=layer.backend)
            else:
                counts = torch.empty(current.shape[:2], dtype=torch.int64, device=current.device)
                values = layer(current, overwrite=overwrite, counts=counts)
            self._counts[node] = counts
            if on_spikes is not None:
                on_spikes(str(node.target), values, counts)
            return values

        return self.walk(steps, emit, on_inputs, coded=True)

    def walk(
        self,
        steps: int,
        emit: Emit,
        on_inputs: Callable[[fx.Node, Tensor], None] | None = None,
        coded: bool = False,
    ) -> Tensor:
        """As `advance`, with a function that says what each layer with a memory sends.

        Layers are visited in the order of execution, each with the currents of all K steps. ``coded`` says that
        the function returns what the neurons send, so that `Neuron.code` is true of it.
        """
        self._coded, self._counts = coded, {}
        if steps != self._steps:
            self._folded, self._steps = {}, steps
        self._layers = self.program.event_layers if self._biased else self.program.bare_layers()
        moving: dict[fx.Node, Any] = {}
        done: dict[fx.Node, fx.Node] = {}  # the sums that a layer has done, and that layer
        waiting: dict[fx.Node, Waiting] = {}  # neurons, and the layer that they are computed with

        def value_of(node: fx.Node) -> Any:
            return moving[node] if node in moving else self._fold(node)

        turn, device = self._ownership.going_on(self._run), self._input.device
        with turn, float32_products(device, self.program.arithmetic == "rounded"):
            for node in self.program.moving:
                layer = self.program.layers.get(node)
                if layer is not None:
                    with chained.before(waiting.pop(node, None)):
                        moving[node] = emit(node, layer, self._received(node, moving)).flatten(0, 1)  # -> (K*N, ...)
                        assert chained.waiting() is None, node
                elif node is self.program.input:
                    sent = self.encoder.encode(self._input, steps, self._generator)  # draws for all, also who has left
                    moving[node] = sent[:, self._rows].flatten(0, 1)
                elif node in done:
                    moving[node] = moving[done[node]]
                elif self._is_deferred(node):
                    continue
                else:
                    if on_inputs is not None and node in self.program.synapses:
                        source = self.program.inputs[node][0]
                        on_inputs(node, _unfold(value_of(source).movedim(source.meta["samples"], 0), steps))
                    plus = self._summand(node, moving)
                    if plus is not None:
                        done[self.program.joined[node][0]] = node
                    together: list[Waiting] | None = [] if self._goes_with_neurons(node, plus) else None
                    moving[node] = self._call(node, value_of, plus, together)
                    if together:
                        waiting[self.program.fed[node]] = together[0]
                for source in self.program.released[node]:
                    moving.pop(source, None)
        analog = self.program.analog
        output = self._change(None, analog, _unfold(value_of(analog), steps))
        self._done += steps
        return output

    def keep(self, rows: Tensor) -> None:
        """Go on with some of the samples only: their constant values, and the state of all layers with a memory.

        Args:
            rows: the places of those that stay, among the present ones, in increasing order. Shape (n,).
        """
        with self._ownership.going_on(self._run):
            for layer in self.program.layers.values():
                layer.keep(rows, self.samples)
        places = torch.arange(len(self._input), device=rows.device)[self._rows]
        self._rows, self.samples, self._folded = places[rows], len(rows), {}
        for node, value in self.values.items():
            along = node.meta["samples"]
            if isinstance(value, Tensor) and isinstance(along, int):
                self.values[node] = value.index_select(along, rows)
            elif along == "size":
                self.values[node] = self._call(node, self._present_shape)
        if not self.program.same_rest:
            self._rest = {node: rest.index_select(0, rows) for node, rest in self._rest.items()}

    def _present_shape(self, node: fx.Node) -> Any:
        """A constant value, or of a tensor its shape alone, for sizes taken from the input."""
        return self.values[node] if node.meta["shape"] is None else _only_shape(node, self.samples)

    def _rests(self, silent: Execution) -> dict[fx.Node | None, Tensor]:
        """What each layer with a memory receives, and what comes out (None), where no neuron sends anything."""
        rest: dict[fx.Node | None, Tensor] = {}

        def emit(node: fx.Node, layer: Temporal, current: Tensor) -> Tensor:
            if node.args[0] not in self.values:
                rest[node] = current[0]
            sent = current[:1] if isinstance(layer, Neuron) else layer.scan(current, layer.initial_state(current[0]))[0]
            return torch.zeros_like(sent)

        rest[None] = silent.walk(1, emit)[0]
        return rest

    def _change(self, node: fx.Node | None, source: fx.Node, current: Tensor) -> Tensor:
        """What a layer (or the read-out) receives: with an encoder of changes, those alone. (K, N, ...)."""
        if not self.encoder.changes:
            return current
        if node not in self._rest:  # a constant current changes once, when it comes
            change = torch.zeros_like(current[:1]).expand_as(current)
            return change if self._done else torch.stack([current[0], *change[1:].unbind(0)])
        rest = self._rest[node]
        if self._biased:
            current = current - rest
        if self._done:
            return current
        if self.program.may_overwrite(source):
            current[0] += rest
            return current
        return torch.stack([current[0] + rest, *current[1:].unbind(0)])

    def answer(self, readout: Tensor) -> Tensor:
        """What the network's functions after its last layer make of a read-out. Shape (N, ...)."""
        values = {**self.values, self.program.analog: readout}
        for node in self.program.readout:
            values[node] = self._call(node, partial(self._read, values))
        return values[self.program.output]  # type: ignore[no-any-return]

    def _read(self, values: dict[fx.Node, Any], node: fx.Node) -> Any:
        """What a function after the last layer takes; no closure, which would keep the network until a collection."""
        if node not in values:  # a size that was taken from a moving value
            values[node] = self._call(node, partial(self._read_shape, values))
        return values[node]

    def _read_shape(self, values: dict[fx.Node, Any], node: fx.Node) -> Any:
        return self._read(values, node) if node.meta["shape"] is None else _only_shape(node, self.samples)

    def _summand(self, node: fx.Node, moving: dict[fx.Node, Any]) -> Tensor | None:
        """What a weighted layer may add to its output: the other summand of its sum, where it is there already."""
        joined = self.program.joined.get(node) if node in self._layers else None
        if joined is None or joined[1] not in moving or not self.program.may_overwrite(node):
            return None
        other: Tensor = moving[joined[1]]
        return other

    def _goes_with_neurons(self, node: fx.Node, plus: Tensor | None) -> bool:
        """Whether a weighted layer may be computed together with the neurons that alone read what it gives."""
        fed = self.program.fed.get(node) if self._coded and node in self._layers else None
        if fed is None or self.encoder.changes or (plus is None) == (node in self.program.joined):
            return False
        layer, program = self.program.layers[fed], self.program
        assert isinstance(layer, Neuron)
        enough = self.samples >= 2 * torch.get_num_threads()  # a thread takes a sample at a time
        replaced = not layer.__dict__.keys().isdisjoint(("scan", "forward")) or layer._compiled_call_impl is not None
        return enough and layer.chains and program.may_overwrite(node) and not hooked(layer) and not replaced

    def _call(
        self,
        node: fx.Node,
        value_of: Callable[[fx.Node], Any],
        plus: Tensor | None = None,
        waits: list[Waiting] | None = None,
    ) -> Any:
        """The value of a node; ``plus`` is for a weighted layer to add, ``waits`` for one that is computed later."""
        if node in self._layers:
            program, source = self.program, self.program.inputs[node][0]
            counts = self._counts.get(source)
            known = KnownInput(
                program.code(node) if self._coded else None, None if counts is None else counts.flatten()
            )
            return self._layers[node](value_of(source), program.events, program.arithmetic, known, plus, waits)
        if node in self.program.sums:
            return self._sum(node, value_of)
        return evaluate(self.program.module, node, value_of)

    def _is_deferred(self, node: fx.Node) -> bool:
        """Whether a padded summand is not computed: its sum adds what is padded to a part of the other summand."""
        total = self.program.paddings.get(node)
        return total is not None and any(self.program.may_overwrite(n) for n in total.all_input_nodes)

    def _sum(self, node: fx.Node, value_of: Callable[[fx.Node], Any]) -> Any:
        """The sum of two values, in the memory of one of them where that may be."""
        other, own = sorted(node.all_input_nodes, key=self.program.may_overwrite)
        if not self.program.may_overwrite(own):
            return evaluate(self.program.module, node, value_of)
        total = value_of(own)
        if self._is_deferred(other):
            inner = value_of(other.all_input_nodes[0])
            if total.dtype == inner.dtype and not total.requires_grad:
                _unpadded(total, other).add_(inner)
                return total
            summand = evaluate(self.program.module, other, value_of)
        else:
            summand = value_of(other)
        return added(total, summand)

    def _received(self, node: fx.Node, moving: dict[fx.Node, Any]) -> Tensor:
        """What a layer with memory receives. Shape (K, N, ...)."""
        source: Any = node.args[0]
        return self._change(node, source, self._current(source, moving))

    def _current(self, node: Any, moving: dict[fx.Node, Any]) -> Tensor:
        """The input of a layer with memory. Shape (K, N, ...)."""
        if node in moving:
            return _unfold(moving[node], self._steps)
        constant: Tensor = self.values[node]
        return constant.expand(self._steps, *constant.shape)

    def _fold(self, node: fx.Node) -> Any:
        """A constant value as the moving part needs it: for K * N samples."""
        samples = node.meta["samples"]
        if node not in self.program.signals or samples == "same":
            return self.values[node]
        if node not in self._folded:
            value = self.values[node]
            if isinstance(value, Tensor):  # (..., N, ...) -> (..., K*N, ...)
                repeated = value.unsqueeze(samples).expand(*value.shape[:samples], self._steps, *value.shape[samples:])
                value = repeated.flatten(samples, samples + 1)
            elif samples == "size":
                value = self._call(node, self._folded_shape)
            self._folded[node] = value
        return self._folded[node]

    def _folded_shape(self, node: fx.Node) -> Any:
        """As `_fold`, with tensors that have a size and no content, for sizes taken from the input."""
        folded = self._steps * self.samples
        return self._fold(node) if node.meta["shape"] is None else _only_shape(node, folded)


def _unpadded(values: Tensor, padding: fx.Node) -> Tensor:
    """The part of a tensor that lies inside the zeros of a padding. Shape: that of what is padded."""
    widths: Any = padding.args[1]  # before and after, from the last dimension on
    for i, (before, after) in enumerate(zip(widths[::2], widths[1::2], strict=True)):
        values = values.narrow(-1 - i, before, values.shape[-1 - i] - before - after)
    return values


def _unfold(values: Tensor, steps: int) -> Tensor:
    """(K*N, ...) -> (K, N, ...)."""
    return values.view(steps, len(values) // steps, *values.shape[1:])


def _only_shape(node: fx.Node, samples: int) -> Tensor:
    """A tensor without content, of the shape that the node's value has for so many samples."""
    shape = [int(size) for size in node.meta["shape"]]
    along = node.meta["samples"]
    if isinstance(along, int):
        shape[along] = shape[along] * samples // SAMPLES
    return torch.empty(shape, device="meta")
