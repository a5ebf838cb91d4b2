"""What the published methods decide, against the slowest obvious version of each rule."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from networks import MLP_INPUT, RESIDUAL_INPUT, inputs, maxima, mlp, mlp_trace, residual
from references import if_neuron
from torch import Tensor, nn

import rheobase as rb
from rheobase.coding import Poisson
from rheobase.errors import ConversionError, SettingError
from rheobase.methods import RMP, SNNC, Opt, PotentialInit, RobustNorm, SpikeNorm, ThresholdBalancing
from rheobase.neurons import IF, Biased, CumulativeMaxPool, GradedIF, MaxPoolGate
from rheobase.simulation import simulate
from rheobase.spiking import SpikingModel

MLP_X = inputs(MLP_INPUT, 40, seed=1)


def threshold(snn: SpikingModel, site: str) -> float:
    value = snn.plan.neurons[site].threshold
    assert isinstance(value, Tensor)
    return float(value)


# ------------------------------------------------------------------------- weights and thresholds


@pytest.mark.parametrize(("reset", "alpha"), [("hard", 1.0), ("soft", 0.8)])
def test_spike_norm_takes_the_largest_current_of_each_layer_in_turn(reset: Any, alpha: float) -> None:
    net, found, steps = mlp().double(), {"1": 0.0, "3": 0.0}, 20

    def fire(site: str, currents: Any) -> Any:
        found[site] = alpha * float(currents.max())  # the layer before runs with its final threshold
        return if_neuron(currents, found[site], reset=reset)[0]

    mlp_trace(net, MLP_X, steps, fire)
    snn = rb.convert(net, MLP_X, SpikeNorm(steps, alpha, reset, images=40))
    for site, expected in found.items():
        assert threshold(snn, site) == pytest.approx(expected, rel=1e-12)
    assert threshold(snn, "1") == pytest.approx(alpha * maxima(net, MLP_X)["1"], rel=1e-12)


def test_rmp_is_a_share_of_spike_norm_with_soft_reset() -> None:
    assert RMP(alpha=1.0, reset="hard") != SpikeNorm()
    a, b = (rb.convert(mlp(), MLP_X.float(), m) for m in (RMP(), SpikeNorm(alpha=0.8, reset="soft")))
    assert all(threshold(a, site) == threshold(b, site) for site in ("1", "3"))


@pytest.mark.parametrize("method", [ThresholdBalancing(poisson=True), SpikeNorm(poisson=True)])
def test_poisson_input_has_the_scale_of_the_largest_input(method: Any) -> None:
    snn = rb.convert(mlp(), list(MLP_X.float().split(7)), method)
    assert snn.plan.encoder == Poisson(float(MLP_X.float().abs().max()))
    assert snn.random


def test_spike_norm_with_poisson_input_sees_coinciding_spikes() -> None:
    constant, spiking = (rb.convert(mlp(), MLP_X.float(), SpikeNorm(poisson=p)) for p in (False, True))
    assert threshold(spiking, "1") > threshold(constant, "1")


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"steps": 0, "images": 0}, "steps is 0.*images is 0"),
        ({"alpha": 0.0, "reset": "x"}, "alpha is 0.*reset is 'x'"),
    ],
)
def test_wrong_settings_of_spike_norm_are_listed(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(SettingError, match=f"RMP: {text}"):
        RMP(**settings)


def test_the_gate_passes_what_the_leading_unit_sends() -> None:
    spikes = (torch.rand(9, 2, 3, 5, 5, generator=torch.Generator().manual_seed(3)) < 0.4).float() * 0.5
    spikes += torch.linspace(0, 1e-3, 25).view(5, 5) * spikes  # no ties
    found = MaxPoolGate(nn.MaxPool2d(2, stride=2))(spikes)
    assert found.shape == (9, 2, 3, 2, 2)
    for t, (n, c, i, j) in ((t, p) for t in range(9) for p in np.ndindex(2, 3, 2, 2)):
        window = spikes[:, n, c, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].flatten(1)
        leader = int(window[: t + 1].sum(0).argmax())
        assert float(found[t, n, c, i, j]) == float(window[t, leader])


def test_the_gate_is_used_where_a_pooling_reads_neurons_and_is_saved(tmp_path: Any) -> None:
    x = inputs(RESIDUAL_INPUT, 20, seed=1).float()
    for method, kind in ((RobustNorm(), CumulativeMaxPool), (RobustNorm(gate=True), MaxPoolGate)):
        snn = rb.convert(residual(), x, method)
        snn.save(tmp_path / "net")
        for found in (snn, rb.load(tmp_path / "net", residual())):
            assert [type(m) for m in found.modules() if isinstance(m, CumulativeMaxPool | MaxPoolGate)] == [kind]


def test_an_unknown_pooling_is_an_error() -> None:
    snn = rb.convert(mlp(), MLP_X.float(), RobustNorm())
    with pytest.raises(ConversionError, match=r"pooling is 'max'.*sum.*edges.*gate"):
        SpikingModel(snn.graph, dataclasses.replace(snn.plan, pooling="max"))


# --------------------------------------------------------------- half a threshold, and calibration


def test_opt_spreads_half_a_threshold_over_the_steps() -> None:
    net = mlp().double()
    neuron = rb.convert(net, MLP_X, Opt(steps=10)).plan.neurons["1"]
    assert isinstance(neuron, Biased)
    assert float(neuron.threshold) == pytest.approx(maxima(net, MLP_X)["1"])
    assert float(neuron.bias) == pytest.approx(maxima(net, MLP_X)["1"] / 20)


def test_potential_initialisation_starts_at_half_a_threshold() -> None:
    snn = rb.convert(mlp(), MLP_X.float(), PotentialInit())
    neuron = snn.plan.neurons["1"]
    assert isinstance(neuron, GradedIF)
    x = MLP_X[:3].float()
    same = rb.convert(mlp(), MLP_X.float(), rb.ConstantThreshold(percentile=99.9, initial_potential=0.5))
    assert isinstance(same.plan.neurons["1"], IF)
    a, b = (simulate(s, x, 16, record=["1"]).values["1"] for s in (snn, same))
    assert torch.equal(a, b)


def test_light_calibration_moves_biases_and_advanced_potentials() -> None:
    light, advanced = (rb.convert(mlp(), MLP_X.float(), m).plan.neurons["3"] for m in (SNNC.light(), SNNC.advanced()))
    assert isinstance(light, Biased)
    assert isinstance(advanced, Biased)
    assert (light.bias.shape, advanced.potential.shape) == ((8,), (8,))
    assert float(advanced.bias.abs().max()) == 0
