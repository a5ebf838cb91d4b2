"""Spike confidence is measured as the paper defines it, on calibration data, at the sites that were named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from networks import MLP_INPUT, MLP_SITES, RESIDUAL_INPUT, RESIDUAL_SITES, inputs, mlp, pre_activations, residual
from references import spike_confidence
from torch import Tensor, nn

import rheobase as rb
from rheobase.batches import as_batches
from rheobase.calibration import measure_confidence
from rheobase.errors import SettingError
from rheobase.methods import MSAT, ConstantThreshold
from rheobase.neurons import IF, SpikeConfidence
from rheobase.plan import Plan
from rheobase.simulation import simulate
from rheobase.spiking import SpikingModel

NETWORKS = {"mlp": (mlp, MLP_INPUT, MLP_SITES), "residual": (residual, RESIDUAL_INPUT, RESIDUAL_SITES)}


def wrong_start(name: str, seed: int = 0) -> tuple[nn.Module, Tensor]:
    """A network and data with many spikes of inactivated neurons: inputs of both signs, few steps."""
    build, shape, _ = NETWORKS[name]
    return build(seed).double(), inputs(shape, 41, seed=seed + 1)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("steps", [1, 3, 16])
@pytest.mark.parametrize("method", [MSAT(), ConstantThreshold(0.3)], ids=repr)
def test_the_confidence_equals_its_reference(name: str, steps: int, method: MSAT) -> None:
    net, x = wrong_start(name)
    sites = NETWORKS[name][2]
    snn = rb.convert(net, x, method)
    batches = list(x.split(12))  # the last is smaller
    measured = measure_confidence(snn, snn.graph, as_batches(batches), sites, steps)
    for site in sites:
        counts, zs = [], []
        for batch in batches:
            run = simulate(snn, batch, steps, record=[site])
            counts.append(run.values[site].count_nonzero(0).numpy())
            zs.append(pre_activations(net, batch)[site])
        assert measured[site] == pytest.approx(spike_confidence(np.concatenate(counts), np.concatenate(zs)), abs=1e-12)
    if steps == 16:
        assert measured[sites[1]] < 1


def test_only_the_named_sites_are_measured() -> None:
    net, x = wrong_start("mlp")
    snn = rb.convert(net, x, MSAT())
    assert list(measure_confidence(snn, snn.graph, as_batches(x), ["3"])) == ["3"]


def test_where_nothing_fires_every_spike_would_be_trusted() -> None:
    net, x = wrong_start("mlp")
    snn = rb.convert(net, x, ConstantThreshold(fraction=1e6))
    assert measure_confidence(snn, snn.graph, as_batches(x), MLP_SITES, 4) == {"1": 1.0, "3": 1.0}


def test_a_pre_activation_of_zero_counts_as_active() -> None:
    """0.5 - 2 * 0.25 = 0, and its neuron fires at t = 2, before the inhibition arrives."""
    net = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1), nn.ReLU(), nn.Linear(1, 1))
    for layer, weight in ((net[0], [[0.5], [0.25]]), (net[2], [[1.0, -2.0]])):
        layer.weight.data = torch.tensor(weight)
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    snn = SpikingModel(rb.trace(net, torch.ones(2, 1)), Plan("by hand", {"1": IF(1.0), "3": IF(1.0)}))
    x = torch.ones(1, 1)
    assert int(simulate(snn, x, 4).spikes["3"].sum()) > 0
    assert measure_confidence(snn, snn.graph, as_batches(x), ["3"], 4) == {"3": 1.0}


def test_the_chunk_of_the_data_does_not_change_it() -> None:
    net, x = wrong_start("residual")
    snn = rb.convert(net, x, MSAT())
    whole = measure_confidence(snn, snn.graph, as_batches(x), RESIDUAL_SITES)
    for size in (1, 7, 40):
        assert measure_confidence(snn, snn.graph, as_batches(list(x.split(size))), RESIDUAL_SITES) == whole


def test_measuring_leaves_no_hooks_and_no_filter() -> None:
    net, x = wrong_start("mlp")
    snn = rb.convert(net, x, MSAT())
    measure_confidence(snn, snn.graph, as_batches(x), MLP_SITES)
    assert not any(module._forward_pre_hooks for module in snn.graph.module.modules())
    assert not snn.random


# ------------------------------------------------------------------------------ as part of MSAT


def filters(snn: SpikingModel) -> dict[str, SpikeConfidence]:
    return {site: neuron for site, neuron in snn.neurons().items() if isinstance(neuron, SpikeConfidence)}


@pytest.mark.parametrize(
    ("sites", "expected"),
    [
        ("last", ["relu_1"]),
        ("all", ["relu", "relu_1"]),
        ("relu", ["relu"]),
        (("relu_1", "relu"), ["relu", "relu_1"]),
        (["relu"], ["relu"]),
        ((), []),
    ],
)
def test_the_filter_acts_where_it_was_asked_to(sites: str, expected: list[str]) -> None:
    net, x = wrong_start("residual")
    assert list(filters(rb.convert(net, x, MSAT(confidence=True, confidence_sites=sites)))) == expected


def test_by_default_there_is_no_filter_and_then_one_at_the_last_site() -> None:
    net, x = wrong_start("residual")
    assert filters(rb.convert(net, x, MSAT())) == {}
    assert list(filters(rb.convert(net, x, MSAT(confidence=True)))) == ["relu_1"]


@pytest.mark.parametrize("steps", [2, 16])
@pytest.mark.parametrize("method", [MSAT(), MSAT.release()], ids=repr)
def test_the_filter_gets_the_confidence_of_the_calibration_data(method: MSAT, steps: int) -> None:
    net, x = wrong_start("residual", 3)
    options = {"confidence": True, "confidence_steps": steps, "confidence_sites": "all"}
    with_filter = type(method)(**{**vars(method), **options})
    plain = rb.convert(net, x, method)
    expected = measure_confidence(plain, plain.graph, as_batches(x), RESIDUAL_SITES, steps)
    found = filters(rb.convert(net, x, with_filter))
    assert {site: neuron.probability for site, neuron in found.items()} == expected
    assert all(neuron.steps == steps for neuron in found.values())
    assert all(neuron.keep_charge is method.keep_charge for neuron in found.values())
    assert all(same_msat(neuron, plain, site) for site, neuron in found.items())


def same_msat(neuron: SpikeConfidence, plain: SpikingModel, site: str) -> bool:
    return repr(neuron.neuron) == repr(plain.neurons()[site])


def test_other_calibration_data_give_another_confidence() -> None:
    net, x = wrong_start("residual")
    method = MSAT(confidence=True)
    (one,) = filters(rb.convert(net, x, method)).values()
    (other,) = filters(rb.convert(net, 2 * x.flip(0) - 0.5, method)).values()
    assert one.probability != other.probability


def test_unknown_sites_are_an_error() -> None:
    net, x = wrong_start("residual")
    with pytest.raises(
        SettingError, match=r"\['conv1', 'fc'\]; accepted are \"last\", \"all\" and \['relu', 'relu_1'\]"
    ):
        rb.convert(net, x, MSAT(confidence=True, confidence_sites=("conv1", "relu", "fc")))
    with pytest.raises(SettingError, match=r"\['lst'\]"):
        rb.convert(net, x, MSAT(confidence=True, confidence_sites="lst"))


@pytest.mark.parametrize("steps", [0, -1])
def test_no_early_steps_are_an_error(steps: int) -> None:
    with pytest.raises(SettingError, match="confidence_steps"):
        MSAT(confidence_steps=steps)


def test_filtering_delays_spikes_and_loses_none_if_their_charge_is_kept() -> None:
    """After the early steps the filtered site has sent what it received, less a potential that stays bounded."""
    net, x = wrong_start("residual")
    kept = rb.convert(net, x, MSAT(confidence=True))
    lost = rb.convert(net, x, MSAT(confidence=True, keep_charge=False))
    plain = rb.convert(net, x, MSAT())
    totals = []
    for snn in (plain, kept, lost):
        plan = snn.plan
        if snn.random:
            settings = {**plan.neurons["relu_1"].settings(), "probability": 0.3}
            plan = plan.with_neuron("relu_1", SpikeConfidence(**settings))
        run = simulate(SpikingModel(snn.graph, plan), x, 200, record=["relu_1"])
        totals.append(float(run.values["relu_1"].sum()))
    assert totals[1] == pytest.approx(totals[0], rel=0.02)
    assert totals[2] < 0.97 * totals[0]


def test_the_calibration_is_all_that_is_read() -> None:
    """Each sample that the network sees during a conversion is one of those given."""
    seen: list[Tensor] = []

    class Watched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = mlp()

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x)  # type: ignore[no-any-return]

    x = inputs(MLP_INPUT, 9).float()
    net = Watched()
    snn = rb.convert(net, x, MSAT(confidence=True))
    snn.graph.module.get_submodule("net.0").register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    measure_confidence(snn, snn.graph, as_batches(list(x.split(4))), ["net.3"])
    assert torch.equal(torch.cat(seen), x)


@pytest.mark.parametrize(
    ("sites", "steps", "words"), [(("nope",), 4, "there is no site 'nope'; there are 1, 3"), (("1",), 0, "steps is 0")]
)
def test_confidence_of_unknown_sites_or_no_steps_is_a_clear_error(sites: Any, steps: int, words: str) -> None:
    net, x = mlp(), inputs(MLP_INPUT, 8).float()
    snn = rb.convert(net, x, rb.MSAT())
    with pytest.raises(SettingError, match=f"measure_confidence: {words}"):
        measure_confidence(snn, snn.graph, x, sites, steps)
