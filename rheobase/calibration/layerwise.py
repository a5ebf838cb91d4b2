"""Going through a converted network layer by layer, each with all the currents of all steps.

A pass that adjusts one layer after the other then runs every layer once, however often it tries a setting: what
came before is not computed again.
"""

from __future__ import annotations

import copy
import dataclasses
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from rheobase.batches import Batch, as_batches, batches_for, is_finite
from rheobase.calibration.activations import site_by_site
from rheobase.calibration.session import current
from rheobase.errors import ConversionWarning, DataError, SettingError, miscounted
from rheobase.graph import Graph
from rheobase.neurons import Neuron, Temporal
from rheobase.precision import first_weight
from rheobase.reading import Reading
from rheobase.spiking import SpikingModel

__all__ = ["Layer", "channel_mean", "check_graph", "first_samples", "layerwise", "samples"]

_LARGEST = 2**30  # bytes of the currents of one layer


@dataclass(frozen=True, eq=False)
class Layer:
    """What is known about one site when its turn comes.

    Attributes:
        site: its name.
        neuron: its neuron in the plan.
        currents: what it receives from the layers before it, as they are by now; what the neuron sends may take their
            memory afterwards, so that a copy is to be kept and not they. Shape (T, N, ...).
        activation: what the ANN sends there. Shape (N, ...).
        pre_activation: what the ANN's activation function receives there. Shape (N, ...).
    """

    site: str
    neuron: Neuron
    currents: Tensor
    activation: Tensor
    pre_activation: Tensor

    def emit(self, neuron: Neuron, overwrite: bool = False) -> Tensor:
        """What a neuron sends for the currents, from its reset on; it may take their memory. Shape (T, N, ...)."""
        run = copy.deepcopy(neuron).to(self.currents)
        run.reset()
        values: Tensor = run(self.currents, overwrite=overwrite)
        return values


@torch.no_grad()
def layerwise(
    snn: SpikingModel,
    graph: Graph,
    batches: object,
    steps: int,
    adjust: Callable[[Layer], Neuron],
    *,
    images: int = 256,
) -> SpikingModel:
    """Replace the neurons of one site after the other.

    Args:
        snn: the converted network; it is left as it is.
        graph: the ANN in normal form.
        batches: calibration data, what `rheobase.batches.as_batches` accepts.
        steps: T, at least 1.
        adjust: gives the neuron of a site; see `Layer`.
        images: how many samples are used, the first ones; fewer, with a warning, where the currents of the largest
            layer would take more than 1 GiB. Some four tensors of that size are held at once, besides what
            ``adjust`` takes.

    Raises:
        SettingError: steps or images is below 1, or the graph is of another network.
    """
    check_graph(snn, graph)
    x = samples(graph, batches, steps, images)
    ann = site_by_site(snn.graph, x)  # which pools what neurons send where poolings are gates
    adjusted: dict[str, Neuron] = {}

    def emit(node: fx.Node, layer: Temporal, currents: Tensor) -> Tensor:
        if not isinstance(layer, Neuron):
            values: Tensor = layer(currents)
            return values
        site, received, sent = next(ann)
        assert site == node.target, (site, node.target)
        visited = Layer(site, snn.plan.neurons[site], currents, sent, received)
        adjusted[site] = neuron = copy.deepcopy(adjust(visited))
        current().tell("calibrating layers", len(adjusted), len(graph.sites))
        return visited.emit(neuron, overwrite=snn.program.may_overwrite(node.args[0]))

    snn.start(x).walk(steps, emit)
    snn.reset()
    return SpikingModel(graph, dataclasses.replace(snn.plan, neurons=adjusted))


def check_graph(snn: SpikingModel, graph: Graph) -> None:
    """See that a network was made of this graph.

    Raises:
        SettingError: it was made of one with other layers.
    """
    if not snn.is_of(graph):
        raise SettingError(
            f"Calibration: the graph (sites {', '.join(graph.sites)}) is not the one that the network was converted "
            f"from (sites {', '.join(snn.plan.neurons)}). Give rheobase.trace of the same model."
        )


def samples(graph: Graph, batches: object, steps: int, images: int) -> Tensor:
    """The samples that a calibration layer by layer uses; see `layerwise`. Shape (N, ...).

    Raises:
        SettingError: steps or images is below 1.
    """
    problems = miscounted("steps", steps) + miscounted("images", images)
    if problems:
        raise SettingError(f"Calibration: {'; '.join(problems)}.")
    x = first_samples(batches_for(batches, graph.module), min(images, _room(graph, steps)))
    if len(x) == _room(graph, steps) < images:
        largest = max(graph.sites, key=graph.neurons)
        warnings.warn(
            f"Calibration for {steps} steps uses the first {len(x)} samples, not {images}: the currents of the layer "
            f"{largest}, {graph.neurons(largest):,} neurons a sample, would take more than 1 GiB. Fewer steps leave "
            "room for more.",
            ConversionWarning,
            stacklevel=3,
        )
    return x


def _room(graph: Graph, steps: int) -> int:
    """How many samples fit; at least 1."""
    size = first_weight(graph.module, torch.zeros(())).element_size()
    return max(1, _LARGEST // (steps * max(map(graph.neurons, graph.sites)) * size))


def first_samples(batches: object, count: int | None = None) -> Tensor:
    """The first samples of the data, all if there are fewer or no count is given. Shape (count, ...).

    Args:
        batches: what `rheobase.batches.as_batches` accepts.
        count: how many.

    Raises:
        DataError: the samples have different shapes or are not finite, or under `torchrun` the processes read
            different ones.
    """
    read = Reading(as_batches(batches))
    return read.alike(lambda: _first(read, count))


def _first(batches: Iterable[Batch], count: int | None) -> Tensor:
    found: list[Tensor] = []
    for index, (x, _) in enumerate(batches):
        if found and x.shape[1:] != found[0].shape[1:]:
            raise DataError(
                f"Batch {index} has samples of shape {tuple(x.shape[1:])} and batch 0 of {tuple(found[0].shape[1:])}. "
                "This calibration holds them together; give samples of one shape."
            )
        if not is_finite(x):
            raise DataError(f"Batch {index} of the calibration data has NaN or infinite values. Give finite samples.")
        found.append(x if count is None else x[: count - sum(map(len, found))])
        if count is not None and sum(map(len, found)) >= count:
            break
    return torch.cat(found).detach()


def channel_mean(values: Tensor, keep: int = 0) -> Tensor:
    """The mean over all but the first ``keep`` dimensions and the channels. (..., N, C, ...) -> (..., C)."""
    values = values.unsqueeze(-1) if values.ndim == keep + 1 else values  # a sample has one number there
    return values.mean([d for d in range(values.ndim) if d >= keep and d != keep + 1])
