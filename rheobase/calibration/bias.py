"""Bias, initial potential and temporal bias: layer by layer, without gradients.

References:
    Li et al. 2021, arXiv 2106.06984, "A free lunch from ANN: towards efficient, accurate spiking neural networks
    calibration" (bias: light pipeline; initial potential: advanced pipeline).
    Wu et al. 2024, arXiv 2403.18388, "FTBC: forward temporal bias correction for optimizing ANN-SNN conversion".
"""

from __future__ import annotations

import math

import torch

from rheobase.calibration.layerwise import Layer, channel_mean, layerwise
from rheobase.errors import SettingError, miscounted, mismeasured
from rheobase.graph import Graph
from rheobase.neurons import Biased, Neuron
from rheobase.spiking import SpikingModel

__all__ = [
    "calibrate_bias",
    "calibrate_potential",
    "calibrate_temporal_bias",
    "fit_bias",
    "fit_potential",
    "fit_temporal_bias",
]


def calibrate_bias(
    snn: SpikingModel, graph: Graph, batches: object, steps: int, *, passes: int = 1, images: int = 256
) -> SpikingModel:
    r"""Give each channel a constant current that closes the gap between its mean rate and its mean activation.

    .. code-block:: text

        bias_c += mean over samples and space of (a - r(T)),  r(T) = (1/T) sum_t y(t)

    Args:
        snn: the converted network, rate-coded; it is left as it is.
        graph: the ANN in normal form.
        batches: calibration data, what `rheobase.batches.as_batches` accepts.
        steps: T.
        passes: how often, at least 1.
        images: how many samples are used.

    Raises:
        SettingError: a value is outside its range, or the network sends changes.
    """
    _check_rates(snn, "calibrate_bias", passes)

    return layerwise(snn, graph, batches, steps, lambda layer: fit_bias(layer, passes), images=images)


def calibrate_potential(
    snn: SpikingModel, graph: Graph, batches: object, steps: int, *, passes: int = 1, images: int = 256
) -> SpikingModel:
    r"""Give each neuron an initial potential that closes the gap between its rate and its activation.

    .. code-block:: text

        v(0) += T mean over samples of (a - r(T))

    Arguments and errors are those of `calibrate_bias`; the potential has the shape of one sample at the site.
    """
    _check_rates(snn, "calibrate_potential", passes)

    return layerwise(snn, graph, batches, steps, lambda layer: fit_potential(layer, passes), images=images)


def calibrate_temporal_bias(
    snn: SpikingModel,
    graph: Graph,
    batches: object,
    steps: int,
    *,
    rate: float = 0.5,
    passes: int = 10,
    images: int = 256,
) -> SpikingModel:
    r"""Give each channel a current of its own at each step, so that it sends its mean activation at every step.

    .. code-block:: text

        bias(t)_c += rate (mean over samples and space of (a - y(t)))      (FTBC: B = -bias)

    Where the network sends changes, y(t) is the sum of what was sent until t, so that this is right after every step,
    and the bias of a step is the change of what is so found. Ours: the paper has rates alone.

    Arguments and errors are those of `calibrate_bias`.

    Args:
        snn: the converted network; it is left as it is.
        graph: the ANN in normal form.
        batches: calibration data, what `rheobase.batches.as_batches` accepts.
        steps: T; later steps get the mean of the biases, or with changes none.
        rate: how much of the gap one pass closes, from above 0 to 1.
        passes: how often, at least 1.
        images: how many samples are used.
    """
    changes = snn.plan.encoder.changes
    _check_passes("calibrate_temporal_bias", passes)
    problems = mismeasured("rate", rate, "above 0 and at most 1", math.ulp(0.0), 1)
    if problems:
        raise SettingError(f"calibrate_temporal_bias: {problems[0]}.")

    def adjust(layer: Layer) -> Neuron:
        return fit_temporal_bias(layer, passes, rate, changes)

    return layerwise(snn, graph, batches, steps, adjust, images=images)


def fit_bias(layer: Layer, passes: int) -> Neuron:
    """The neuron of a layer with a constant current of each channel; see `calibrate_bias`."""
    wanted = channel_mean(layer.activation)
    bias = torch.zeros_like(wanted)
    for _ in range(passes):
        bias = bias + wanted - channel_mean(layer.emit(Biased(layer.neuron, bias)).mean(0))
    return Biased(layer.neuron, bias)


def fit_potential(layer: Layer, passes: int) -> Neuron:
    """The neuron of a layer with an initial potential of each neuron; see `calibrate_potential`."""
    wanted = layer.activation.mean(0)
    potential = torch.zeros_like(wanted)
    for _ in range(passes):
        sent = layer.emit(Biased(layer.neuron, potential=potential)).mean((0, 1))
        potential = potential + len(layer.currents) * (wanted - sent)
    return Biased(layer.neuron, potential=potential)


def fit_temporal_bias(layer: Layer, passes: int, rate: float = 0.5, changes: bool = False) -> Neuron:
    """The neuron of a layer with a current of each channel and step; see `calibrate_temporal_bias`."""
    wanted = channel_mean(layer.activation)
    found = torch.zeros(len(layer.currents), len(wanted), dtype=wanted.dtype, device=wanted.device)

    def biased() -> Biased:
        if not changes:
            return Biased(layer.neuron, found)
        return Biased(layer.neuron, found.diff(dim=0, prepend=torch.zeros_like(found[:1])), lasting=False)

    for _ in range(passes):
        sent = layer.emit(biased())
        found = found + rate * (wanted - channel_mean(sent.cumsum(0) if changes else sent, keep=1))
    return biased()


def _check_rates(snn: SpikingModel, name: str, passes: int) -> None:
    _check_passes(name, passes)
    if snn.plan.encoder.changes:
        raise SettingError(
            f"{name}: the network sends changes, and what it sends in one step is no rate; use tune, or "
            "calibrate_temporal_bias."
        )


def _check_passes(name: str, passes: int) -> None:
    problems = miscounted("passes", passes)
    if problems:
        raise SettingError(f"{name}: {problems[0]}.")
