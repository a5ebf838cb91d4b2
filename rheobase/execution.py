"""Running a converted network over a chunk of steps: time is folded into the batch.

Between two layers of neurons a chunk of K steps of N samples is one batch of K * N, so each
layer runs once a chunk. What does not depend on any neuron is constant over time: it is computed
once, on N samples. Chunk 1 is step-by-step simulation.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

from rheobase.neurons import Neuron, Temporal
from rheobase.operations import depends_on_input

__all__ = ["Execution", "Program"]


class Program:
    """A graph module with neurons, divided into its constant part, its moving part and its read-out.

    Args:
        module: the normal form with a `Neuron` at each site and, where a max pooling reads neurons,
            a `CumulativeMaxPool`.
    """

    def __init__(self, module: fx.GraphModule) -> None:
        self.modules = {n: module.get_submodule(str(n.target)) for n in module.graph.nodes if n.op == "call_module"}
        self.module = module
        self.signals = depends_on_input(module.graph)
        self.constant: list[fx.Node] = []
        self.moving: list[fx.Node] = []
        self.readout: list[fx.Node] = []
        self.output: fx.Node
        for node in module.graph.nodes:
            if node.op == "output":
                self.output = node.args[0]
            elif node.meta.get("readout"):
                self.readout.append(node)
            elif isinstance(self.modules.get(node), Temporal) or any(n in self.moving for n in node.all_input_nodes):
                self.moving.append(node)
            else:
                self.constant.append(node)
        inside = {*self.moving, *self.constant}
        sources = [n for node in self.readout for n in node.all_input_nodes if n in inside and n in self.signals]
        self.analog: fx.Node = next((n for n in sources if n.meta.get("shape") is not None), self.output)
        self.last_reader = {n: node for node in self.moving for n in node.all_input_nodes}

    def call(self, node: fx.Node, value_of: Callable[[fx.Node], Any]) -> Any:
        """The value of one node."""
        if node.op == "get_attr":
            return operator.attrgetter(str(node.target))(self.module)
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), value_of)
        if node.op == "call_module":
            return self.modules[node](*args, **kwargs)
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        return node.target(*args, **kwargs)  # type: ignore[operator]


class Execution:
    """One batch while its steps go by. The neurons must have been reset.

    Args:
        program: the network.
        x: the constant input. Shape (N, ...).
    """

    def __init__(self, program: Program, x: Tensor) -> None:
        self.program = program
        self.samples = x.shape[0]
        self.values: dict[fx.Node, Any] = {}
        self._folded: dict[fx.Node, Any] = {}
        self._steps = 0
        for node in program.constant:
            if node.op == "placeholder":
                self.values[node] = x if not self.values else next(iter(node.args), None)
            else:
                self.values[node] = program.call(node, self.values.__getitem__)

    def advance(self, steps: int, on_spikes: Callable[[str, Tensor], None] | None = None) -> Tensor:
        """Go on by a chunk of K steps.

        Args:
            steps: K, at least 1.
            on_spikes: called with each site and what its neurons emit, shape (K, N, ...).

        Returns:
            The analog output at each step. Shape (K, N, ...).
        """
        if steps != self._steps:
            self._folded, self._steps = {}, steps
        moving: dict[fx.Node, Any] = {}

        def value_of(node: fx.Node) -> Any:
            return moving[node] if node in moving else self._fold(node)

        for node in self.program.moving:
            layer = self.program.modules.get(node)
            if isinstance(layer, Temporal):
                values = layer(self._current(node.args[0], moving))
                if on_spikes is not None and isinstance(layer, Neuron):
                    on_spikes(str(node.target), values)
                moving[node] = values.flatten(0, 1)  # (K, N, ...) -> (K*N, ...)
            else:
                moving[node] = self.program.call(node, value_of)
            for source in node.all_input_nodes:
                if self.program.last_reader[source] is node and source is not self.program.analog:
                    moving.pop(source, None)
        output: Tensor = value_of(self.program.analog)
        return output.unflatten(0, (steps, self.samples))

    def answer(self, readout: Tensor) -> Tensor:
        """What the network's functions after its last layer make of a read-out. Shape (N, ...)."""
        values = {**self.values, self.program.analog: readout}
        for node in self.program.readout:
            values[node] = self.program.call(node, values.__getitem__)
        return values[self.program.output]  # type: ignore[no-any-return]

    def _current(self, node: Any, moving: dict[fx.Node, Any]) -> Tensor:
        """The input of a layer with memory. Shape (K, N, ...)."""
        if node in moving:
            return moving[node].unflatten(0, (self._steps, self.samples))  # type: ignore[no-any-return]
        constant: Tensor = self.values[node]
        return constant.expand(self._steps, *constant.shape)

    def _fold(self, node: fx.Node) -> Any:
        """A constant value as the moving part needs it: for K * N samples."""
        if node not in self.program.signals:  # a parameter or buffer: the same for all samples
            return self.values[node]
        if node not in self._folded:
            value = self.values[node]
            if isinstance(value, Tensor):
                value = value.expand(self._steps, *value.shape).flatten(0, 1)  # (N, ...) -> (K*N, ...)
            else:
                value = self.program.call(node, self._shape_only)
            self._folded[node] = value
        return self._folded[node]

    def _shape_only(self, node: fx.Node) -> Any:
        """As `_fold`, with tensors that have a size and no content, for sizes taken from the input."""
        value = self.values[node]
        if isinstance(value, Tensor) and node in self.program.signals:
            return torch.empty((self._steps * value.shape[0], *value.shape[1:]), device="meta", dtype=value.dtype)
        return self._fold(node)
