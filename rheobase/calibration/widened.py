"""Calibration of networks of half precision, whose steps of descent would be lost to rounding."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from rheobase.batches import Batches, as_batches
from rheobase.graph import Graph
from rheobase.precision import first_weight
from rheobase.spiking import SpikingModel

__all__ = ["in_float32", "is_half"]


def is_half(snn: SpikingModel) -> bool:
    """Whether the weights are of half precision."""
    return first_weight(snn, torch.zeros(())).dtype in (torch.float16, torch.bfloat16)


def in_float32(
    snn: SpikingModel, graph: Graph, x: Tensor, calibrate: Callable[[SpikingModel, Graph, Batches], SpikingModel]
) -> SpikingModel:
    """Calibrate a network of half precision in float32, and round what is found.

    Args:
        snn: the converted network; it is left as it is.
        graph: the ANN in normal form.
        x: the samples. Shape (N, ...).
        calibrate: takes the three in float32.
    """
    dtype, plan = first_weight(snn, x).dtype, snn.plan
    wide = dataclasses.replace(graph, module=copy.deepcopy(graph.module).float())
    neurons = {site: copy.deepcopy(neuron).float() for site, neuron in plan.neurons.items()}
    edits = {name: value.float() for name, value in plan.edits.items()}
    start = SpikingModel(wide, dataclasses.replace(plan, neurons=neurons, edits=edits))
    found = calibrate(start, wide, as_batches(x.float() if x.is_floating_point() else x)).plan
    narrow = {site: copy.deepcopy(neuron).to(dtype) for site, neuron in found.neurons.items()}
    edits = {name: value.to(dtype) for name, value in found.edits.items()}
    return SpikingModel(graph, dataclasses.replace(found, neurons=narrow, edits=edits))
