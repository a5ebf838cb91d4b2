"""Weights, layer by layer: each layer is fitted to the ANN for what the layers before it send.

References:
    Li et al. 2021, arXiv 2106.06984, "A free lunch from ANN: towards efficient, accurate spiking neural networks
    calibration" (advanced pipeline, third stage).
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from rheobase.batches import Batches
from rheobase.calibration.activations import site_by_site
from rheobase.calibration.descent import descend, descent, group, relative, root_mean_square
from rheobase.calibration.layerwise import Layer, check_graph, samples
from rheobase.calibration.session import current
from rheobase.calibration.widened import in_float32, is_half
from rheobase.errors import SettingError, miscounted, nonpositive
from rheobase.graph import Graph
from rheobase.neurons import CumulativeMaxPool, MaxPoolGate, Neuron
from rheobase.operations import evaluate
from rheobase.spiking import SpikingModel

__all__ = ["calibrate_weights"]

_BATCH = 32


def calibrate_weights(
    snn: SpikingModel,
    graph: Graph,
    batches: object,
    steps: int,
    *,
    iterations: int = 100,
    rate: float = 5e-4,
    images: int = 256,
    seed: int = 0,
    adjust: Callable[[Layer], Neuron] | None = None,
) -> SpikingModel:
    r"""Fit the weights and biases before each layer of neurons, one layer after the other.

    .. code-block:: text

        loss = |r(W m + b) - a|^2 / |a|^2

    with m the mean of what the neurons before send in T steps, as they are by now (max poolings take the largest mean),
    r the rate of the neurons for a constant current (`rheobase.neurons.Neuron.expected_rate`), through which gradients
    pass where it clips nothing, and a the activation of the ANN. Adam, batches of 32, one cycle of the learning rate.
    Weights after the last layer of neurons stay, and tensors of zeros; those that two layers of neurons read are fitted
    to the first. For neurons whose rate that is (integrate and fire, graded or not), before any calibration of biases.
    Departures: the paper takes 5,000 iterations of rate 1e-5 to 4e-5 with a falling cosine, whatever the size of the
    weights.

    Args:
        snn: the converted network, rate-coded; it is left as it is.
        graph: the ANN in normal form.
        batches: calibration data, what `rheobase.batches.as_batches` accepts.
        steps: T.
        iterations: for each layer, at least 1.
        rate: the peak learning rate, in units of the root mean square of each tensor; greater than 0.
        images: how many samples are used.
        seed: of their order.
        adjust: gives the neuron of a site once the weights before it are fitted, as in
            `rheobase.calibration.layerwise`; if not given, it stays. Layers after it are fitted to what that one sends.

    Raises:
        SettingError: a value is outside its range, the network sends changes, or the graph is of another one.
        DataError: a loss is not finite.
    """
    check_graph(snn, graph)
    problems = miscounted("iterations", iterations) + nonpositive("rate", rate)
    if snn.plan.encoder.changes or not snn.plan.encoder.constant:
        problems.append("the network is not given its input as a constant current; use tune")
    if problems:
        raise SettingError(f"calibrate_weights: {'; '.join(problems)}.")
    if is_half(snn):
        x = samples(graph, batches, steps, images)

        def widened(start: SpikingModel, wide: Graph, data: Batches) -> SpikingModel:
            return calibrate_weights(
                start, wide, data, steps, iterations=iterations, rate=rate, images=images, seed=seed, adjust=adjust
            )

        return in_float32(snn, graph, x, widened)
    with torch.inference_mode(False), torch.no_grad():  # tensors of inference mode cannot be differentiated
        x = samples(graph, batches, steps, images).clone()
        network = _Network(SpikingModel(graph, snn.plan), x, steps)
        generator = torch.Generator().manual_seed(seed)
        ann = site_by_site(network.model.graph, x)
        for place, (node, (site, received, sent)) in enumerate(zip(network.neurons, ann, strict=True), 1):
            assert site == node.target, (site, node.target)
            neuron = snn.plan.neurons[site]
            with torch.enable_grad():
                _fit(network, node, neuron, sent, iterations, rate, generator)
            current().tell("fitting weights", place, len(graph.sites))
            network.send(node, Layer(site, neuron, network.currents(node), sent, received), adjust)
    edits = {**snn.plan.edits, **{name: p.detach().clone() for name, p in network.fitted.items()}}
    return SpikingModel(graph, dataclasses.replace(snn.plan, neurons=network.adjusted, edits=edits))


class _Network:
    """A network whose weights change layer by layer, and what its neurons send as far as it is fitted."""

    def __init__(self, model: SpikingModel, x: Tensor, steps: int) -> None:
        self.model, self.x, self.steps = model, x, steps
        self.neurons = [node for node, layer in model.program.layers.items() if isinstance(layer, Neuron)]
        self.sent: dict[fx.Node, Tensor] = {}  # (T, N, ...)
        self.fitted: dict[str, nn.Parameter] = {}
        self.adjusted: dict[str, Neuron] = {}
        self._before = {node: _before(node, self.neurons) for node in self.neurons}
        self._reads = {node: [n for n in found if n in self.neurons] for node, found in self._before.items()}
        self._last = {source: node for node in self.neurons for source in self._reads[node]}

    def parameters(self, node: fx.Node) -> dict[str, nn.Parameter]:
        """The weights and biases between a site and the neurons before it that are not fitted yet."""
        return {
            name: p
            for at in self.model.module.graph.nodes
            if at in self._before[node] and at not in self.neurons and at.op == "call_module"
            for path, p in self.model.module.get_submodule(str(at.target)).named_parameters()
            if p.is_floating_point() and (name := f"{at.target}.{path}") not in self.fitted
        }

    def means(self, node: fx.Node) -> dict[fx.Node, Tensor]:
        """What the current of a site is computed from: the input, and the mean of what neurons send. (N, ...)."""
        return {self.model.program.input: self.x, **{n: self.sent[n].mean(0) for n in self._reads[node]}}

    def received(self, node: fx.Node, known: Mapping[fx.Node, Tensor]) -> Tensor:
        """The mean current of a site. Shape (N, ...)."""
        result: Tensor = self._value(node.args[0], dict(known))  # type: ignore[arg-type]
        return result

    def currents(self, node: fx.Node) -> Tensor:
        """What a site receives in each step, with the weights before it as they are now. Shape (T, N, ...)."""
        rows: list[dict[fx.Node, Any]] = [
            {self.model.program.input: self.x, **{n: self.sent[n][t] for n in self._reads[node]}}
            for t in range(self.steps)
        ]
        for pool, pooling in self.model.program.layers.items():
            if pool in self._before[node] and pool not in self.neurons:
                pooling.reset()
                currents = torch.stack([self._value(pool.args[0], row) for row in rows])
                for row, pooled in zip(rows, pooling(currents), strict=True):
                    row[pool] = pooled
        return torch.stack([self._value(node.args[0], row) for row in rows])  # type: ignore[arg-type]

    def send(self, node: fx.Node, layer: Layer, adjust: Callable[[Layer], Neuron] | None) -> Tensor:
        """What a site sends, once its neuron is adjusted; what nobody reads after it is forgotten. (T, N, ...)."""
        self.adjusted[layer.site] = neuron = copy.deepcopy(layer.neuron if adjust is None else adjust(layer))
        self.sent[node] = result = layer.emit(neuron)
        for source in self._reads[node]:
            if self._last[source] is node:
                del self.sent[source]
        return result

    def _value(self, node: fx.Node, values: dict[fx.Node, Any]) -> Any:
        """The value of a node, from those of some nodes before it, to which it adds what it computes."""
        waiting = [node]
        while waiting:
            at = waiting[-1]
            missing = [n for n in at.all_input_nodes if n not in values] if at not in values else []
            if not missing:
                waiting.pop()
                if at not in values:
                    values[at] = self._evaluate(at, values.__getitem__)
            waiting += missing
        return values[node]

    def _evaluate(self, node: fx.Node, value_of: Callable[[fx.Node], Any]) -> Any:
        layer = self.model.program.layers.get(node)
        if not isinstance(layer, CumulativeMaxPool | MaxPoolGate):
            return evaluate(self.model.module, node, value_of)
        pooled = layer.pool(value_of(node.args[0]))  # type: ignore[arg-type]
        return pooled[0] if isinstance(layer, MaxPoolGate) else pooled  # which asks for the places too


def _before(node: fx.Node, stops: Iterable[fx.Node]) -> set[fx.Node]:
    """All that a node is computed from, up to the stops, which are the last."""
    found: set[fx.Node] = set()
    waiting = list(node.all_input_nodes)
    while waiting:
        at = waiting.pop()
        if at not in found:
            found.add(at)
            waiting += [] if at in stops else at.all_input_nodes
    return found


def _fit(
    network: _Network,
    node: fx.Node,
    neuron: Neuron,
    activation: Tensor,
    iterations: int,
    rate: float,
    generator: torch.Generator,
) -> None:
    """Move the parameters before one site."""
    parameters, known = network.parameters(node), network.means(node)
    if not parameters:
        return
    for p in parameters.values():
        p.requires_grad_(True)
    groups = [group([p], rate, root_mean_square(p)) for p in parameters.values()]
    optimizer, schedule = descent(groups, iterations)
    for _ in range(iterations):
        rows = torch.randperm(len(activation), generator=generator)[:_BATCH]
        received = network.received(node, {n: v[rows] for n, v in known.items()})
        loss = relative(_rate(neuron, received, network.steps), activation[rows])
        descend(loss, optimizer, schedule, str(node.target))
    for p in parameters.values():
        p.requires_grad_(False)
    network.fitted.update(parameters)


def _rate(neuron: Neuron, received: Tensor, steps: int) -> Tensor:
    """The rate for a constant current, with the slope of one that is clipped and not rounded."""
    with torch.no_grad():
        exact = neuron.expected_rate(received, steps)
        top = neuron.expected_rate(torch.full_like(received[:1], 1e9), steps)
    clipped = received.clamp(min=0.0).minimum(top)
    return clipped + (exact - clipped).detach()
