"""A network with neurons, divided into what is constant over time, what moves, and the read-out."""

from __future__ import annotations

import copy
import operator
from math import prod
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from rheobase.kernels import Arithmetic, Code, EventLayer, Events, KnownInput, events
from rheobase.kernels.chained import Waiting
from rheobase.kernels.layout import hooked
from rheobase.neurons import CumulativeMaxPool, MaxPoolGate, Neuron, Temporal
from rheobase.operations import SAMPLES, SYNAPSES, depends_on_input, reached
from rheobase.synapses import fan_out

__all__ = ["Bare", "Program"]

_ADDITIONS = frozenset({operator.add, torch.add})


class Program:
    """A graph module with neurons, divided into its constant part, its moving part and its read-out.

    Args:
        module: the normal form with a `Neuron` at each site and, where a max pooling reads neurons,
            a `CumulativeMaxPool`.
        constant_input: whether the input is the same at each step; otherwise there is no constant part.

    Attributes:
        events: when convolutions and linear layers touch only the spikes they receive.
        arithmetic: how the others multiply the spikes they receive.
        paddings: values that are padded with zeros only to be a summand, and the sums; the rest alone may be added.
        joined: the weighted layers whose output is a summand alone, with the sum and its other summand; the layer may
            do the addition.
        fed: the neurons that alone read the output of a weighted layer, or the sum that it does.
        inputs: what each moving node reads.
        largest: how many elements the largest moving value has for a sample.
        released: the values that nobody reads after a node of the moving part.
    """

    events: Events = "auto"
    arithmetic: Arithmetic = "auto"

    def __init__(self, module: fx.GraphModule, constant_input: bool = True) -> None:
        self.module = module
        self.input = next(node for node in module.graph.nodes if node.op == "placeholder")
        self.layers = {
            n: layer
            for n in module.graph.nodes
            if n.op == "call_module" and isinstance(layer := module.get_submodule(str(n.target)), Temporal)
        }
        self.signals = depends_on_input(module.graph)
        after_neurons = reached(module.graph, lambda n: n in self.layers or (n is self.input and not constant_input))
        self.constant: list[fx.Node] = []
        self.moving: list[fx.Node] = []
        self.readout: list[fx.Node] = []
        for node in module.graph.nodes:
            if node.op == "output":
                self.output: fx.Node = node.args[0]
            elif node.meta.get("readout"):
                self.readout.append(node)
            else:
                (self.moving if node in after_neurons else self.constant).append(node)
        inside = {n for n in self.moving if n.meta["shape"] is not None}
        sources = [n for node in self.readout for n in node.all_input_nodes if n in inside]
        self.analog = sources[0] if sources else self.output
        self.event_layers = _event_layers(module, self.moving)
        self.senders = {n: self._senders(n.all_input_nodes[0]) for n in self.event_layers}
        called = {n: module.get_submodule(str(n.target)) for n in self.moving if n.op == "call_module"}
        self.synapses = {n: layer for n, layer in called.items() if isinstance(layer, SYNAPSES)}
        self.scratch = _scratch(module, [n for n in self.moving if n is not self.analog])
        self.sums = {n for n in self.moving if _is_sum(n)}
        self.joined = {n: (sum_, *_others(sum_, n)) for n in self.event_layers if (sum_ := _only_sum(n)) is not None}
        self.fed = {n: fed for n in self.event_layers if (fed := self._fed(n)) is not None}
        self.paddings = {n: sum_ for n in self.moving if _is_padding(n) and (sum_ := _only_sum(n)) is not None}
        self.last_reader = {n: node for node in self.moving for n in [*node.all_input_nodes, *self._padded(node)]}
        self.inputs = {n: n.all_input_nodes for n in self.moving}
        self.released: dict[fx.Node, list[fx.Node]] = {n: [] for n in self.moving}
        for n, node in self.last_reader.items():
            if n is not self.analog:
                self.released[node].append(n)
        read = {n for node in self.moving if node not in self.layers for n in node.all_input_nodes}
        # whether the samples differ only by what the neurons send
        self.same_rest = not any(map(_by_sample, read - set(self.moving)))
        self.largest = max((prod(n.meta["shape"]) // SAMPLES for n in self.moving if _by_sample(n)), default=1)
        self._bare: dict[fx.Node, Bare] = {}
        self._fan_out: dict[fx.Node, Tensor] = {}

    def _padded(self, node: fx.Node) -> list[fx.Node]:
        """What is padded to be a summand of this sum, which may read it itself."""
        return [n for summand in node.all_input_nodes if summand in self.paddings for n in summand.all_input_nodes]

    def _senders(self, node: fx.Node) -> list[Temporal]:
        """The neurons whose spikes a value consists of, and the max poolings that it has passed; none for other values.

        The change of the largest of several sums is one of the whole numbers that each sum may change by.
        """
        layer = self.layers.get(node)
        if isinstance(layer, MaxPoolGate) or (isinstance(layer, CumulativeMaxPool) and not layer.edges):
            before = self._senders(node.all_input_nodes[0])
            return [*before, layer] if before else []
        return [layer] if isinstance(layer, Neuron) and layer.holds("code") else []

    def _fed(self, node: fx.Node) -> fx.Node | None:
        """The neurons that alone read the output of a weighted layer, or that of its sum."""
        last = self.joined[node][0] if node in self.joined else node
        readers = list(last.users)
        return readers[0] if len(readers) == 1 and isinstance(self.layers.get(readers[0]), Neuron) else None

    def code(self, node: fx.Node) -> Code | None:
        """What a weighted layer receives in whole numbers, where it is that."""
        senders = self.senders.get(node)
        if not senders or any(hooked(layer) for layer in senders):
            return None
        assert isinstance(senders[0], Neuron)
        return senders[0].code

    def fan_out(self, node: fx.Node) -> Tensor:
        """The multiply-accumulates that each non-zero input of a weighted layer causes. Shape of one sample."""
        known, weight = self._fan_out.get(node), self.synapses[node].weight
        if known is None or (isinstance(weight, Tensor) and known.device != weight.device):  # the network has moved
            meta = node.all_input_nodes[0].meta
            shape = tuple(size for along, size in enumerate(meta["shape"]) if along != meta["samples"])
            self._fan_out[node] = fan_out(self.synapses[node], shape)
        return self._fan_out[node]

    def bare_layers(self) -> dict[fx.Node, Bare]:
        """Convolutions and linear layers of the moving part without their biases, for changes to pass through."""
        found: dict[fx.Node, Bare] = {}
        for node in self.moving:
            layer = self.module.get_submodule(str(node.target)) if node.op == "call_module" else None
            if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
                known = self._bare.get(node)
                found[node] = known if known is not None and known.weight is layer.weight else Bare(layer)
        self._bare = found
        return found

    def may_overwrite(self, node: Any) -> bool:
        """Whether the one node that reads this value may take its memory."""
        if node not in self.scratch:
            return False
        layer = self.scratch[node]
        return layer is None or not hooked(layer)


class Bare:
    """A layer without its bias; the weights stay those of the layer."""

    def __init__(self, layer: nn.Module) -> None:
        self.weight = layer.weight
        self._layer = copy.copy(layer)
        self._layer._parameters = {**layer._parameters, "bias": None}
        self._events = EventLayer(self._layer) if events.supported(self._layer) else None

    def __call__(
        self,
        values: Tensor,
        when: Events,
        arithmetic: Arithmetic,
        known: KnownInput,
        plus: Tensor | None = None,
        waits: list[Waiting] | None = None,
    ) -> Tensor:
        if self._events is None:
            return self._layer(values)  # type: ignore[no-any-return]
        return self._events(values, when, arithmetic, known, plus, waits)


def _event_layers(module: fx.GraphModule, nodes: list[fx.Node]) -> dict[fx.Node, EventLayer]:
    """The layers among the nodes that have an event-driven form."""
    called = {n: module.get_submodule(str(n.target)) for n in nodes if n.op == "call_module"}
    return {n: EventLayer(layer) for n, layer in called.items() if events.supported(layer)}


def _scratch(module: fx.GraphModule, nodes: list[fx.Node]) -> dict[fx.Node, nn.Module | None]:
    """The nodes whose value is a new tensor that one node alone reads, and their layers."""
    called = {n: module.get_submodule(str(n.target)) if n.op == "call_module" else None for n in nodes}
    return {
        n: layer for n, layer in called.items() if len(n.users) == 1 and (isinstance(layer, SYNAPSES) or _is_sum(n))
    }


def _by_sample(node: fx.Node) -> bool:
    """Whether the node's value is a tensor with a part for each sample."""
    return isinstance(node.meta["samples"], int) and node.meta["shape"] is not None


def _only_sum(node: fx.Node) -> fx.Node | None:
    """The sum that alone reads a value, with another one of its shape, or None."""
    sums = [user for user in node.users if _is_sum(user)]
    alike = all(n.meta["shape"] == node.meta["shape"] for user in sums for n in user.all_input_nodes)
    return sums[0] if sums and len(node.users) == 1 and alike else None


def _others(total: fx.Node, node: fx.Node) -> list[fx.Node]:
    """The summands of a sum besides a node."""
    return [n for n in total.all_input_nodes if n is not node]


def _is_padding(node: fx.Node) -> bool:
    """Whether the node surrounds a tensor with zeros."""
    if node.target is not functional.pad or len(node.all_input_nodes) != 1 or len(node.args) != 2:
        return False
    settings: dict[str, Any] = {"mode": "constant", "value": None, **node.kwargs}
    widths = node.args[1]
    plain = isinstance(widths, tuple | list) and all(isinstance(width, int) and width >= 0 for width in widths)
    return plain and settings["mode"] == "constant" and settings["value"] in (None, 0) and len(settings) == 2


def _is_sum(node: fx.Node) -> bool:
    """Whether the node is the sum of two tensors."""
    inputs = node.all_input_nodes
    plain = node.target in _ADDITIONS and len(node.args) == 2 and not node.kwargs
    return plain and len(inputs) == 2 and all(n.meta["shape"] is not None for n in inputs)
