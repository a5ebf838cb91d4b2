"""The calibration passes: what each of them makes right, and that it leaves everything else alone."""

from __future__ import annotations

import dataclasses
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from networks import RESIDUAL_INPUT, inputs, residual
from torch import Tensor, nn

import rheobase as rb
from rheobase.batches import Batches, as_batches
from rheobase.calibration import (
    Layer,
    Progress,
    Tuning,
    calibrate_bias,
    calibrate_potential,
    calibrate_temporal_bias,
    calibrate_weights,
    gradient,
    layerwise,
    measure_confidence,
    session,
    tune,
    tune_layers,
)
from rheobase.calibration.activations import activations, site_by_site
from rheobase.calibration.descent import descend, relative, tunable
from rheobase.calibration.gradient import _draw, _model
from rheobase.calibration.layerwise import channel_mean, first_samples
from rheobase.coding import Delayed, Poisson
from rheobase.errors import DataError, SettingError
from rheobase.methods import (
    BDETT,
    AdaFire,
    CalibratedMSAT,
    DeltaCoding,
    LocalBalancing,
    ParallelConversion,
    RateCoding,
    RobustNorm,
    SignedMSAT,
    TemporalBias,
    TwoStage,
)
from rheobase.neurons import IF, Biased, GradedIF, Neuron, Parallel, Rounded, SpikeConfidence, Temporal
from rheobase.observers import observe
from rheobase.simulation import simulate
from rheobase.spiking import SpikingModel

STEPS = 8
X = inputs(RESIDUAL_INPUT, 48, seed=3).float()


def data() -> Batches:
    return as_batches(X.split(16))


def converted(method: Any) -> tuple[rb.Graph, SpikingModel]:
    graph = rb.trace(residual(), X[:2])
    return graph, SpikingModel(graph, method.plan(graph, observe(graph, data(), method.observer())))


def gaps(graph: rb.Graph, snn: SpikingModel) -> dict[str, Tensor]:
    """Mean activation minus mean rate of each channel."""
    run = simulate(snn, X, STEPS, record=graph.sites)
    with torch.no_grad(), activations(graph) as wanted:
        graph.module(X)
    return {site: channel_mean(wanted[site]) - channel_mean(run.values[site].mean(0)) for site in graph.sites}


@pytest.mark.parametrize("calibrate", [calibrate_bias, calibrate_potential, calibrate_temporal_bias])
@pytest.mark.parametrize("signed", [False, True])
def test_a_pass_brings_the_mean_rates_to_the_mean_activations(calibrate: Callable[..., Any], signed: bool) -> None:
    graph, snn = converted(RateCoding(steps=STEPS, signed=signed))
    before, after = gaps(graph, snn), gaps(graph, calibrate(snn, graph, data(), STEPS, passes=8))
    for site in graph.sites:
        assert float(after[site].abs().mean()) < 0.35 * float(before[site].abs().mean())


def test_a_temporal_bias_makes_the_mean_of_every_step_right() -> None:
    graph, snn = converted(RateCoding(steps=STEPS, signed=True))
    calibrated = calibrate_temporal_bias(snn, graph, data(), STEPS, passes=20)
    with torch.no_grad(), activations(graph) as wanted:
        graph.module(X)

    def worst(network: SpikingModel) -> float:
        run = simulate(network, X, STEPS, record=graph.sites)
        return max(
            float((channel_mean(run.values[s], keep=1) - channel_mean(wanted[s])).abs().mean()) for s in run.values
        )

    assert worst(calibrated) < 0.4 * worst(snn)


@pytest.mark.parametrize("calibrate", [calibrate_bias, calibrate_potential, calibrate_temporal_bias])
def test_a_pass_leaves_the_network_that_it_was_given(calibrate: Callable[..., Any]) -> None:
    graph, snn = converted(RateCoding(steps=STEPS))
    before, output = str(snn.plan), simulate(snn, X[:4], STEPS).output
    weights = {k: v.clone() for k, v in graph.module.state_dict().items()}
    calibrate(snn, graph, data(), STEPS)
    assert str(snn.plan) == before
    assert torch.equal(simulate(snn, X[:4], STEPS).output, output)
    assert all(torch.equal(v, weights[k]) for k, v in graph.module.state_dict().items())


@pytest.mark.parametrize("calibrate", [calibrate_bias, calibrate_potential])
def test_what_is_no_rate_is_refused(calibrate: Callable[..., Any]) -> None:
    graph, snn = converted(DeltaCoding(steps=STEPS))
    with pytest.raises(SettingError, match="sends changes"):
        calibrate(snn, graph, data(), STEPS)


@pytest.mark.parametrize("calibrate", [calibrate_bias, calibrate_potential, calibrate_temporal_bias])
def test_a_calibration_has_a_pass(calibrate: Callable[..., Any]) -> None:
    graph = converted(RateCoding())[0]
    with pytest.raises(SettingError, match="passes is 0; it must be at least 1"):
        calibrate(converted(RateCoding())[1], graph, data(), STEPS, passes=0)


def test_each_layer_sees_what_the_adjusted_layers_before_it_send() -> None:
    graph, snn = converted(RateCoding(steps=STEPS))
    seen: list[str] = []

    def silence(layer: Layer) -> Neuron:
        seen.append(layer.site)
        assert layer.currents.shape[:2] == (STEPS, 20)
        return Biased(layer.neuron, -1e6) if layer.site == graph.sites[0] else layer.neuron

    silenced = layerwise(snn, graph, data(), STEPS, silence, images=20)
    assert seen == list(graph.sites)
    run = simulate(silenced, X[:20], STEPS)
    assert int(run.spikes[graph.sites[0]].sum()) == 0

    def remember(layer: Layer) -> Neuron:
        currents[layer.site] = layer.currents.clone()
        return layer.neuron

    currents: dict[str, Tensor] = {}
    layerwise(silenced, graph, data(), STEPS, remember, images=20)
    second = currents[graph.sites[1]]
    assert torch.allclose(second[0], second[-1])  # nothing but biases arrives, the same at each step


def test_only_as_many_samples_are_held_as_are_asked_for() -> None:
    assert torch.equal(first_samples(data(), 20), X[:20])
    assert torch.equal(first_samples(data()), X)
    with pytest.raises(DataError, match=r"Batch 1 has samples of shape \(4,\)"):
        first_samples(as_batches([torch.rand(2, 3), torch.rand(2, 4)]))


def test_no_more_samples_are_held_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, snn = converted(RateCoding(steps=STEPS))
    seen: list[int] = []

    def look(layer: Layer) -> Neuron:
        seen.append(layer.currents.shape[1])
        return layer.neuron

    size = next(graph.module.parameters()).element_size()
    sample = STEPS * max(map(graph.neurons, graph.sites)) * size
    monkeypatch.setattr(sys.modules[layerwise.__module__], "_LARGEST", 5 * sample + 1)
    with pytest.warns(rb.ConversionWarning, match=r"uses the first 5 samples, not 20: the currents of the layer"):
        layerwise(snn, graph, data(), STEPS, look, images=20)
    layerwise(snn, graph, data(), STEPS, look, images=5)  # no warning, which would be an error
    monkeypatch.setattr(sys.modules[layerwise.__module__], "_LARGEST", 1)
    with pytest.warns(rb.ConversionWarning, match="first 1 samples"):
        layerwise(snn, graph, data(), STEPS, look, images=20)
    assert set(seen) == {5, 1}


METHODS = [
    DeltaCoding(steps=3),
    DeltaCoding(steps=3, schedule="constant"),
    DeltaCoding(steps=3, doubled=True),
    DeltaCoding(steps=2, levels=3, powers=True, fire=0.75),
    RateCoding(steps=4, signed=True),
    SignedMSAT(steps=4, fraction=1.0),
    CalibratedMSAT(steps=4, calibration="none"),
    CalibratedMSAT(steps=4, calibration="none", payload=4),
    ParallelConversion(steps=4),
]


def error(graph: rb.Graph, snn: SpikingModel, steps: int) -> float:
    with torch.no_grad():
        wanted = graph.module(X)
        return float((simulate(snn, X, steps).output - wanted).norm() / wanted.norm())


def layer_errors(graph: rb.Graph, snn: SpikingModel, steps: int) -> dict[str, float]:
    """|r(T) - a| / |a| of each site."""
    run = simulate(snn, X, steps, record=graph.sites)
    share = 1.0 if snn.plan.encoder.changes else 1.0 / steps
    with torch.no_grad(), activations(graph) as wanted:
        graph.module(X)
    return {s: float((run.values[s].sum(0) * share - a).norm() / a.norm()) for s, a in wanted.items()}


@pytest.mark.parametrize("method", METHODS, ids=repr)
@pytest.mark.parametrize("weights", [0.0, 1e-3])
def test_tuning_brings_the_answers_closer(method: Any, weights: float) -> None:
    graph, snn = converted(method)
    tuning = Tuning(iterations=120, rate=2e-2, weight_rate=weights, flip=False, bfloat16=False)
    tuned = tune(snn, graph, data(), method.steps, tuning)
    assert error(graph, tuned, method.steps) < 0.92 * error(graph, snn, method.steps)
    assert bool(tuned.plan.edits) == bool(weights)
    assert not any(p.requires_grad for p in tuned.parameters())


def chain(scale: float) -> nn.Sequential:
    """Two layers and a classifier; what the first sends is so much larger, and what the network answers is the same."""
    torch.manual_seed(5)
    channels, height, width = RESIDUAL_INPUT
    net = nn.Sequential(
        nn.Conv2d(channels, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(8 * height * width, 5),
    )  # fmt: skip
    with torch.no_grad():
        net[0].weight *= scale
        net[0].bias *= scale
        net[2].weight /= scale
    return net.eval()


def tuned_parameters(scale: float, method: Any) -> dict[str, Tensor]:
    """Weights and currents after a conversion, in the units of the chain whose first layer has the scale 1."""
    snn = rb.convert(chain(scale), X, method)
    factors = {"0.weight": scale, "0.bias": scale, "2.weight": 1 / scale, "2.bias": 1.0}
    weights = {**snn.graph.module.state_dict(), **snn.plan.edits}
    currents = {
        f"{site} {path}": neuron.get_buffer(path) / (scale if site == "1" else 1.0)
        for site, neuron in snn.plan.neurons.items()
        for path, kind in tunable(neuron).items()
        if kind == "current"
    }
    return {**{name: weights[name] / factor for name, factor in factors.items()}, **currents}


@pytest.mark.parametrize("method", [*METHODS, TemporalBias(steps=4)], ids=repr)
def test_tuning_does_not_depend_on_how_layers_are_scaled(method: Any) -> None:
    untuned, tuned = (dataclasses.replace(method, iterations=n, weight_rate=1e-2, flip=False) for n in (0, 2))
    plain, scaled = (
        {name: value - start.get(name, 0.0) for name, value in end.items()}
        for start, end in ((tuned_parameters(s, untuned), tuned_parameters(s, tuned)) for s in (1.0, 1024.0))
    )
    for name, step in plain.items():
        assert step.norm() > 0, name
        assert (scaled[name] - step).norm() < 0.2 * step.norm(), name  # rounding decides some spikes


PASSES: dict[str, Callable[..., SpikingModel]] = {
    "tune": lambda snn, x: tune(snn, snn.graph, x, 4, Tuning(iterations=2)),
    "tune_layers": lambda snn, x: tune_layers(snn, snn.graph, x, 4, Tuning(iterations=2)),
    "bias": lambda snn, x: calibrate_bias(snn, snn.graph, x, 4),
    "potential": lambda snn, x: calibrate_potential(snn, snn.graph, x, 4),
    "temporal bias": lambda snn, x: calibrate_temporal_bias(snn, snn.graph, x, 4),
    "weights": lambda snn, x: calibrate_weights(snn, snn.graph, x, 4, iterations=2),
}


@pytest.mark.parametrize("name", PASSES)
def test_a_pass_takes_whatever_a_conversion_takes(name: str) -> None:
    snn = rb.convert(residual(), X, RateCoding(steps=4))
    found = []
    for source in (X, list(X.split(16)), X.double().numpy(), [(X, torch.zeros(len(X), dtype=torch.int64))]):
        plan = PASSES[name](snn, source).plan
        found.append([*plan.edits.values(), *(b for neuron in plan.neurons.values() for b in neuron.buffers())])
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True))
    assert measure_confidence(snn, snn.graph, X, ["relu"], 4) == measure_confidence(snn, snn.graph, data(), ["relu"], 4)


@pytest.mark.parametrize(
    "method", [AdaFire(steps=3, probe=8), LocalBalancing(steps=8), TwoStage(steps=4, trials=2)], ids=repr
)
@pytest.mark.parametrize("source", [X, list(X.split(16))], ids=["tensor", "list"])
def test_a_method_refines_with_whatever_a_conversion_takes(method: Any, source: Any) -> None:
    graph = rb.trace(residual(), X[:2])
    snn = SpikingModel(graph, method.plan(graph, observe(graph, as_batches(X), method.observer())))
    found, wanted = (method.refine(snn, graph, data) for data in (source, as_batches(X.split(16))))
    assert found.plan.neurons.keys() == wanted.plan.neurons.keys()
    assert same(found, wanted)


@pytest.mark.parametrize("source", [X, list(X.split(16))], ids=["tensor", "list"])
def test_auto_chooses_with_whatever_a_conversion_takes(source: Any) -> None:
    graph, auto = rb.trace(residual(), X[:2]), rb.Auto(steps=2, iterations=0)
    assert str(auto.choose(graph, source)) == str(auto.choose(graph, as_batches(X.split(16))))


@pytest.mark.parametrize(("kernel", "mirrored"), [(1, True), (3, False)])
def test_images_are_mirrored_where_the_network_does_not_mind(kernel: int, mirrored: bool) -> None:
    torch.manual_seed(0)
    first = nn.Conv2d(2, 8, kernel, bias=False)
    net = nn.Sequential(first, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 6)).eval()
    if kernel == 3:
        first.weight.data[..., 2] = -first.weight.data[..., 0]  # an edge
        first.weight.data[..., 1] = 0
    with torch.no_grad():
        net[4].bias -= net(X).mean(0)  # all answers occur
    snn = rb.convert(net, X, DeltaCoding(steps=3))
    edits = [
        tune(snn, snn.graph, X, 3, Tuning(iterations=3, flip=flip)).plan.edits
        for flip in (None, mirrored, not mirrored)
    ]
    assert all(torch.equal(edits[0][name], edits[1][name]) for name in edits[0])
    assert not all(torch.equal(edits[0][name], edits[2][name]) for name in edits[0])


@pytest.mark.parametrize("name", ["iterations", "layer_iterations"])
def test_a_method_tunes_with_as_many_images_as_it_is_told(name: str) -> None:
    few, all_of_few = (
        rb.convert(residual(), x, DeltaCoding(steps=3, flip=False, **{name: 2, "tuning_images": n}))  # type: ignore[arg-type]
        for x, n in ((X, 20), (X, 64))
    )
    assert not same(few, all_of_few)
    part = rb.convert(residual(), X, DeltaCoding(steps=3, flip=False))
    tuner = tune if name == "iterations" else tune_layers
    wanted = tuner(part, part.graph, X[:20], 3, Tuning(iterations=2, weight_rate=0.0, flip=False))
    assert same(few, wanted)


def same(first: SpikingModel, second: SpikingModel) -> bool:
    """Whether all numbers of all neurons are equal."""
    pairs = zip(first.plan.neurons.values(), second.plan.neurons.values(), strict=True)
    return all(torch.equal(a, b) for x, y in pairs for a, b in zip(x.buffers(), y.buffers(), strict=True))


@pytest.mark.parametrize("name", ["iterations", "layer_iterations"])
def test_a_method_tunes_with_batches_of_its_size(name: str) -> None:
    method = RateCoding(steps=3, levels=3, flip=False)
    sizes: list[int] = []

    def watched(total: Tensor, target: Tensor) -> Tensor:
        sizes.append(len(target))
        return relative(total, target)

    with mock.patch.object(gradient, "relative", watched):
        rb.convert(chain(1.0), X, dataclasses.replace(method, batch_size=7, **{name: 2}))
    assert set(sizes) == {7}
    with pytest.raises(SettingError, match="batch_size is 0; it must be at least 1"):
        dataclasses.replace(method, batch_size=0)
    with pytest.raises(SettingError, match="weight_rate is inf; it must be at least 0, and finite"):
        dataclasses.replace(method, weight_rate=float("inf"))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda snn, graph: tune(snn, graph, X, 0), "tune: steps is 0; it must be at least 1"),
        (lambda snn, graph: tune_layers(snn, graph, X, 2.5), "tune_layers: steps is 2.5; it must be a whole number"),
        (lambda snn, graph: layerwise(snn, graph, X, "a", lambda layer: layer.neuron), "steps is 'a'; it must be a"),
        (lambda snn, graph: calibrate_bias(snn, graph, X, 4, passes="2"), "calibrate_bias: passes is '2'; it must"),
        (lambda snn, graph: calibrate_bias(snn, graph, X, 4, images=0), "Calibration: images is 0; it must be"),
        (lambda snn, graph: calibrate_temporal_bias(snn, graph, X, 4, rate="x"), "rate is 'x'; it must be above 0"),
        (lambda snn, graph: Tuning(iterations="3"), "Tuning: iterations is '3'; it must be a whole number"),
        (lambda snn, graph: Tuning(iterations=2.5, rate=float("nan")), r"iterations is 2\.5; .*rate is nan; it must"),
        (
            lambda snn, graph: Tuning(flip="no", mix=1),
            r"flip is 'no'; it must be a bool, or None; mix is 1; it must be",
        ),
        (lambda snn, graph: Tuning(bfloat16="no", seed=1.5), r"seed is 1\.5; .*bfloat16 is 'no'; it must be a bool"),
        (lambda snn, graph: CalibratedMSAT(memory=False), "levels 1 and memory on; MSAT has nothing else"),
        (lambda snn, graph: rb.MSAT(confidence_sites=3), "MSAT: confidence_sites is 3; it must be"),
        (lambda snn, graph: GradedIF(1.0, levels=2.5), r"GradedIF: levels is 2\.5; it must be a whole number from 1"),
        (lambda snn, graph: Rounded(IF(1.0), levels="4"), "Rounded: levels is '4'; it must be a whole number from 1"),
    ],
)
def test_a_count_of_another_kind_is_a_clear_error(call: Any, words: str) -> None:
    graph, snn = converted(RateCoding(steps=STEPS))
    with pytest.raises(SettingError, match=words):
        call(snn, graph)


@pytest.mark.parametrize(
    "settings",
    [{"calibration": "bias"}, {"calibration": "potential"}, {"calibration": "temporal"}, {"iterations": 2}],
    ids=str,
)
def test_a_site_of_one_number_a_sample_is_calibrated(settings: Any) -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(6, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.first(x).sum(1).relu() * 2.0  # type: ignore[no-any-return]

    torch.manual_seed(0)
    net, x = Sum().eval(), torch.rand(32, 6)
    snn = rb.convert(net, x, RateCoding(steps=8, levels=3, per_channel=False, **settings))
    assert float((simulate(snn, x, 8).output - net(x).detach()).norm() / net(x).detach().norm()) < 0.1


def test_weights_move_as_far_as_the_answers_are_wrong() -> None:
    moves, wrong = [], []
    for levels in (1, 255):
        method = RateCoding(steps=2, levels=levels, signed=True)
        graph, snn = converted(method)
        tuned = tune(snn, graph, data(), 2, Tuning(iterations=1, weight_rate=1e-2, flip=False, bfloat16=False))
        before = graph.module.get_parameter("fc.weight").detach()
        moves.append(float((tuned.plan.edits["fc.weight"] - before).abs().max() / before.square().mean().sqrt()))
        wrong.append(min(error(graph, snn, 2), 1.0))
    first = 1 / 25  # of its peak has the rate of one cycle in its first iteration
    assert moves == pytest.approx([1e-2 * first * w for w in wrong], rel=0.05)
    assert wrong[1] < 0.1 * wrong[0]


@pytest.mark.parametrize("can", [False, True])
def test_weights_are_multiplied_in_bfloat16_where_the_processor_does_so_by_itself(
    can: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gradient, "multiplies_bfloat16", lambda: can)
    graph, snn = converted(RateCoding(steps=2, levels=15))
    chosen, asked, other = (
        tune(snn, graph, data(), 2, Tuning(iterations=2, bfloat16=wanted)).plan.edits["fc.weight"]
        for wanted in (None, can, not can)
    )
    assert torch.equal(chosen, asked)
    assert not torch.equal(chosen, other)


def test_layers_that_wait_are_tuned_by_their_means_to_what_all_steps_would_give() -> None:
    graph, snn = converted(ParallelConversion(steps=4))
    tuning = Tuning(iterations=12, weight_rate=1e-3, flip=False, bfloat16=False)
    averaged = tune(snn, graph, data(), 4, tuning)
    with mock.patch.object(Parallel, "averaged", return_value=None):
        stepwise = tune(snn, graph, data(), 4, tuning)
    for site, neuron in averaged.plan.neurons.items():
        assert type(neuron) is Parallel
        for name, value in stepwise.plan.neurons[site].named_buffers():
            torch.testing.assert_close(neuron.get_buffer(name), value, rtol=1e-3, atol=1e-5)
    for name, value in stepwise.plan.edits.items():
        torch.testing.assert_close(averaged.plan.edits[name], value, rtol=1e-3, atol=1e-4)


def test_means_stand_for_steps_only_where_they_are_what_is_sent_and_read() -> None:
    class Louder(Parallel):
        def respond(self, current: Tensor) -> Tensor:
            return 1.5 * super().respond(current)

    graph, snn = converted(ParallelConversion(steps=4))
    louder = {site: Louder(**neuron.settings()) for site, neuron in snn.plan.neurons.items()}
    plans = {
        "as it is": (snn.plan, 1),
        "another neuron": (dataclasses.replace(snn.plan, neurons=louder), 4),
        "read late": (dataclasses.replace(snn.plan, readout=Delayed(2)), 4),
        "random input": (dataclasses.replace(snn.plan, encoder=Poisson(1.0)), 4),
    }
    for name, (plan, steps) in plans.items():
        assert _model(SpikingModel(graph, plan), graph, 4, Tuning())[1] == steps, name
    assert _model(snn, graph, 4, Tuning(anytime=1.0))[1] == 4


def test_mixed_images_are_new_ones_and_the_seed_decides_which() -> None:
    x = torch.rand(24, 3, 16, 16)
    drawn = [
        torch.cat(list(_draw(x, Tuning(iterations=3, batch_size=8, mix=True, seed=seed), generator)))
        for seed, generator in ((seed, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    ]
    assert drawn[0].shape == x.shape
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert not any(torch.equal(new, old) for new in drawn[0] for old in x)
    assert 0 <= float(drawn[0].min()) <= float(drawn[0].max()) <= 1


def test_a_method_hands_its_augmentation_to_the_tuning() -> None:
    plain, mixed = (rb.convert(residual(), X, DeltaCoding(steps=3, iterations=4, mix=mix)) for mix in (False, True))
    assert any(
        not torch.equal(a.threshold, b.threshold)
        for a, b in zip(plain.neurons().values(), mixed.neurons().values(), strict=True)
    )


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_tuning_layer_by_layer_brings_each_layer_closer_and_leaves_the_weights(method: Any) -> None:
    graph, snn = converted(method)
    tuned = tune_layers(snn, graph, data(), method.steps, Tuning(iterations=60, rate=6e-2))
    before, after = (layer_errors(graph, network, method.steps) for network in (snn, tuned))
    assert sum(after.values()) < sum(before.values())
    assert tuned.plan.edits == snn.plan.edits


def test_a_method_tunes_its_layers_before_the_whole() -> None:
    snn = rb.convert(residual(), X, DeltaCoding(steps=3, layer_iterations=20))
    graph, untuned = converted(DeltaCoding(steps=3))
    by_hand = tune_layers(untuned, graph, data(), 3, Tuning(20))
    assert torch.equal(simulate(snn, X, 3).output, simulate(by_hand, X, 3).output)


def test_a_layer_whose_loss_is_not_finite_is_named() -> None:
    graph, snn = converted(DeltaCoding(steps=2))
    broken = dataclasses.replace(
        snn.plan, edits={"conv1.weight": graph.module.get_parameter("conv1.weight") * torch.nan}
    )
    with pytest.raises(DataError, match="relu: the loss of the calibration is nan"):
        tune_layers(SpikingModel(graph, broken), graph, data(), 2, Tuning(iterations=3))


class KilledError(Exception):
    """Stands for the end of a process."""


@pytest.mark.parametrize("weights", [0.0, 1e-3])
def test_an_interrupted_tuning_goes_on_and_ends_with_the_same_numbers(weights: float, tmp_path: Path) -> None:
    graph, snn = converted(DeltaCoding(steps=3))
    tuning = Tuning(iterations=45, weight_rate=weights)
    told: list[Progress] = []

    def kill(at: Progress) -> None:
        told.append(at)
        if at.done == 31:
            raise KilledError

    whole = tune(snn, graph, data(), 3, tuning)
    with pytest.raises(KilledError), session(kill, tmp_path / "state"):
        tune(snn, graph, data(), 3, tuning)
    with session(told.append, tmp_path / "state"):
        resumed = tune(snn, graph, data(), 3, tuning)
        again = tune(snn, graph, data(), 3, tuning)
    assert [at.done for at in told] == [*range(1, 32), *range(21, 46)]  # 20 are kept; the last call had nothing to do
    assert {(at.what, at.total) for at in told} == {("tuning", 45)}
    for network in (resumed, again):
        assert torch.equal(simulate(network, X, 3).output, simulate(whole, X, 3).output)


def test_an_interrupted_tuning_of_layers_goes_on_from_its_last_layer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, snn = converted(DeltaCoding(steps=3))
    tuning = Tuning(iterations=12, flip=False)
    whole = tune_layers(snn, graph, data(), 3, tuning)

    def kill(at: Progress) -> None:
        raise KilledError

    with pytest.raises(KilledError), session(kill, tmp_path):
        tune_layers(snn, graph, data(), 3, tuning)
    where: list[str] = []
    monkeypatch.setattr(gradient, "descend", lambda *args: (where.append(args[-1]), descend(*args)))
    with session(folder=tmp_path):
        resumed = tune_layers(snn, graph, data(), 3, tuning)
        again = tune_layers(snn, graph, data(), 3, tuning)
    assert set(where) == set(graph.sites[1:])
    for network in (resumed, again):
        assert torch.equal(simulate(network, X, 3).output, simulate(whole, X, 3).output)


def test_the_ann_beside_the_layers_holds_no_more_than_it_needs() -> None:
    graph, _ = converted(RateCoding(steps=STEPS))
    with torch.no_grad(), activations(graph) as wanted:
        graph.answers(X)
    seen, alive = [], []
    with torch.no_grad():
        for site, received, sent in site_by_site(graph, X):
            assert torch.equal(received.relu(), sent)
            assert torch.equal(sent, wanted[site])
            seen.append(site)
            alive.append(weakref.ref(received))
            assert [ref() is None for ref in alive] == [True] * (len(alive) - 1) + [False]
    assert seen == list(graph.sites)


def test_another_rule_of_the_neurons_does_not_take_up_a_state(tmp_path: Path) -> None:
    graph, plain = converted(DeltaCoding(steps=3))
    _, shifting = converted(DeltaCoding(steps=3, shifts=True))
    tuning = Tuning(iterations=3, flip=False)
    with session(lambda _: None, tmp_path):
        tune(plain, graph, data(), 3, tuning)
        other = tune(shifting, graph, data(), 3, tuning)
    alone = tune(shifting, graph, data(), 3, tuning)
    assert torch.equal(simulate(other, X, 3).output, simulate(alone, X, 3).output)


@pytest.mark.parametrize("calibrate", [tune, tune_layers])
def test_a_network_of_half_precision_is_tuned_in_float32(calibrate: Any) -> None:
    dtype = torch.float16
    method = RateCoding(steps=4, signed=True)
    graph, snn = converted(method)
    wanted = calibrate(snn, graph, data(), 4, Tuning(iterations=40, flip=False))
    half = rb.trace(residual().to(dtype), X[:2].to(dtype))
    start = SpikingModel(half, method.plan(half, observe(half, as_batches(X.to(dtype)), method.observer())))
    tuned = calibrate(start, half, as_batches(X.to(dtype).split(16)), 4, Tuning(iterations=40, flip=False))
    assert (
        {p.dtype for p in tuned.parameters()}
        == {b.dtype for n in tuned.neurons().values() for b in n.buffers()}
        == {dtype}
    )
    for name, value in wanted.plan.edits.items():
        torch.testing.assert_close(tuned.plan.edits[name].float(), value, rtol=0.1, atol=0.05)


def test_flat_images_are_mixed_too() -> None:
    drawn = list(_draw(torch.rand(8, 1, 2, 64), Tuning(iterations=1, batch_size=4, mix=True), torch.Generator()))
    assert drawn[0].shape == (4, 1, 2, 64)


def test_another_tuning_does_not_take_up_a_state(tmp_path: Path) -> None:
    graph, snn = converted(DeltaCoding(steps=3))
    with session(folder=tmp_path):
        tune(snn, graph, data(), 3, Tuning(iterations=3))
        other = tune(snn, graph, as_batches(X.flip(0).split(16)), 3, Tuning(iterations=3))
    by_itself = tune(snn, graph, as_batches(X.flip(0).split(16)), 3, Tuning(iterations=3))
    assert torch.equal(simulate(other, X, 3).output, simulate(by_itself, X, 3).output)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_state_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    graph, snn = converted(DeltaCoding(steps=3))
    with session(folder=tmp_path):
        tune(snn, graph, data(), 3, Tuning(iterations=3))
        (state,) = tmp_path.iterdir()
        state.write_bytes(b"half")
        with pytest.raises(DataError, match=rf"{state.name} is no state of a calibration.*Remove it"):
            tune(snn, graph, data(), 3, Tuning(iterations=3))


def test_layers_report_their_progress_and_an_inner_session_keeps_the_outer_listener() -> None:
    graph, snn = converted(RateCoding(steps=STEPS))
    told: list[Progress] = []
    with session(told.append), session():
        calibrate_bias(snn, graph, data(), STEPS)
    calibrate_bias(snn, graph, data(), STEPS)
    assert [(at.what, at.done, at.total) for at in told] == [("calibrating layers", n, 2) for n in (1, 2)]


def test_tuning_repeats_with_its_seed_and_leaves_what_it_was_given() -> None:
    graph, snn = converted(DeltaCoding(steps=3))
    before = simulate(snn, X, 3).output
    first, second, other = (
        simulate(tune(snn, graph, data(), 3, Tuning(iterations=5, seed=seed)), X, 3).output for seed in (0, 0, 1)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(simulate(snn, X, 3).output, before)


def test_what_is_sent_at_all_steps_keeps_equal_weights_in_tuning() -> None:
    graph, snn = converted(DeltaCoding(steps=3, schedule="constant"))
    tuned = tune(snn, graph, data(), 3, Tuning(iterations=5))
    assert {str(n.alphabet) for n in tuned.plan.neurons.values()} == {"ternary"}


def test_weighing_all_answers_makes_the_early_ones_better() -> None:
    graph, snn = converted(DeltaCoding(steps=4))
    last, all_of_them = (tune(snn, graph, data(), 4, Tuning(iterations=60, anytime=anytime)) for anytime in (0.0, 3.0))
    assert error(graph, all_of_them, 2) < error(graph, last, 2)


def test_weighing_the_divergence_makes_it_smaller_on_the_calibration_samples() -> None:
    def divergence(weight: float) -> float:
        net = residual()
        classifier = [module for module in net.modules() if isinstance(module, nn.Linear)][-1]
        with torch.no_grad():
            classifier.weight *= 30.0  # so that classes are told with some certainty
            classifier.bias *= 30.0
        snn = rb.convert(net, X, DeltaCoding(steps=3, iterations=100, divergence=weight, flip=False))
        with torch.no_grad():
            wanted, found = (o.log_softmax(1) for o in (net(X), simulate(snn, X, 3).output))
        return float(F.kl_div(found, wanted, log_target=True, reduction="batchmean"))

    assert divergence(10.0) < 0.8 * divergence(0.0)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_tuning_works_where_gradients_are_switched_off(mode: Callable[[], Any]) -> None:
    with mode():
        snn = rb.convert(
            residual(), inputs(RESIDUAL_INPUT, 24, seed=3).float(), rb.AnnealedDelta(steps=2, iterations=2)
        )
    assert snn.plan.edits


@pytest.mark.parametrize(
    ("method", "steps"),
    [(rb.ConstantThreshold(), 4), (rb.ConstantThreshold(initial_potential=0.5), 4), (rb.MSAT(), 4), (BDETT(), 2)],
)
@pytest.mark.parametrize("calibrate", [tune, tune_layers])
def test_thresholds_of_plain_and_adaptive_neurons_are_tuned_too(method: Any, steps: int, calibrate: Any) -> None:
    graph, snn = converted(method)
    tuned = calibrate(snn, graph, data(), steps, Tuning(iterations=60, rate=2e-2, weight_rate=0.0, flip=False))
    assert error(graph, tuned, steps) < 0.9 * error(graph, snn, steps)
    kinds = {type(neuron) for neuron in snn.plan.neurons.values()}
    assert {type(neuron) for neuron in tuned.plan.neurons.values()} == kinds
    for site, neuron in tuned.plan.neurons.items():
        assert not torch.equal(neuron.get_buffer("threshold"), snn.plan.neurons[site].get_buffer("threshold"))


@pytest.mark.parametrize("calibrate", [tune, tune_layers])
def test_a_network_that_pools_by_a_gate_is_tuned_by_what_its_neurons_send(calibrate: Any) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(48, 4)
    ).eval()
    x = torch.rand(16, 2, 8, 8)
    snn, graph = rb.convert(net, x, RobustNorm(gate=True)), rb.trace(net, x[:2])
    tuned = calibrate(snn, graph, as_batches(x), 4, Tuning(iterations=5, weight_rate=0.0, flip=False))
    assert tuned.plan.pooling == "gate"
    before, after = (network.plan.neurons["1"].get_buffer("threshold") for network in (snn, tuned))
    assert not torch.equal(before, after)


def test_a_network_of_double_precision_is_tuned_in_it() -> None:
    x = X.double()
    snn = rb.convert(residual().double(), x, rb.DeltaCoding(steps=2))
    tuned = tune(snn, snn.graph, as_batches(x), 2, Tuning(iterations=2, flip=False))
    assert {value.dtype for value in tuned.plan.edits.values()} == {torch.float64}


def test_neurons_that_cannot_be_tuned_are_named() -> None:
    graph, snn = converted(rb.MSAT())

    class Plain(Rounded):
        scan = Temporal.scan

    wrappers = (lambda neuron: SpikeConfidence(neuron, 0.5, 2), lambda neuron: Rounded(IF(neuron.threshold)), Plain)
    for wrap in wrappers:
        wrapped = {site: wrap(neuron) for site, neuron in snn.plan.neurons.items()}
        with pytest.raises(SettingError, match=r"relu, relu_1 cannot be tuned.*RateCoding"):
            tune(SpikingModel(graph, dataclasses.replace(snn.plan, neurons=wrapped)), graph, data(), 4)


@pytest.mark.parametrize("payload", [0, 4])
def test_a_threshold_that_underflows_spoils_no_gradient(payload: int) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3)).eval()
    with torch.no_grad():
        net[0].weight[0], net[0].bias[0] = 5.0, -4.9  # mostly far below silence, and sometimes above
    tuned = rb.convert(
        net, torch.rand(64, 4), CalibratedMSAT(steps=32, payload=payload, iterations=4, weight_rate=5e-3)
    )
    assert all(bool(value.isfinite().all()) for value in tuned.state_dict().values())
    assert all(bool(value.isfinite().all()) for value in tuned.plan.edits.values())


def test_a_gradient_that_is_not_finite_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, snn = converted(rb.MSAT())
    infinite = torch.tensor(float("inf"))
    monkeypatch.setattr(nn.utils, "clip_grad_norm_", lambda *_: infinite)
    with pytest.raises(rb.DataError, match=r"the gradient of the calibration is not finite\. Lower its rates"):
        tune(snn, graph, data(), 4)


@pytest.mark.parametrize(
    "calibrate",
    [tune, tune_layers, calibrate_bias, calibrate_potential, calibrate_temporal_bias, calibrate_weights],
    ids=lambda f: f.__name__,
)
def test_the_graph_of_another_network_is_refused(calibrate: Any) -> None:
    other = rb.trace(nn.Sequential(nn.Flatten(), nn.Linear(X[0].numel(), 4), nn.ReLU(), nn.Linear(4, 3)).eval(), X[:2])
    snn = rb.convert(residual(), X, RateCoding(steps=2))
    with pytest.raises(SettingError, match=r"graph \(sites 2\) is not the one .* \(sites relu, relu_1\)"):
        calibrate(snn, other, data(), 2)


def test_no_more_samples_are_tuned_on_than_asked_for() -> None:
    graph, snn = converted(DeltaCoding(steps=2))
    tuned = [tune(snn, graph, part, 2, Tuning(iterations=4, images=16)) for part in (data(), as_batches(X[:16]))]
    assert torch.equal(*(simulate(network, X, 2).output for network in tuned))


def test_a_loss_that_is_not_finite_stops_with_its_iteration() -> None:
    graph, snn = converted(DeltaCoding(steps=2))
    broken = dataclasses.replace(snn.plan, edits={"fc.weight": graph.module.get_parameter("fc.weight") * float("nan")})
    with pytest.raises(DataError, match="Iteration 0"):
        tune(SpikingModel(graph, broken), graph, data(), 2, Tuning(iterations=3))


@pytest.mark.parametrize("bad", [{"iterations": 0}, {"batch_size": 0}, {"rate": -1.0}, {"anytime": float("inf")}])
def test_settings_of_tuning_out_of_range_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match=f"Tuning: {next(iter(bad))} is"):
        Tuning(**bad)


def test_progress_is_shown_where_it_is_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 10**6, 61))
    monkeypatch.setattr("rheobase.calibration.display.time.monotonic", lambda: next(clock))
    method = DeltaCoding(steps=2, iterations=2)
    rb.convert(residual(), X, method)
    assert capsys.readouterr().err == ""
    rb.convert(residual(), X, method, progress=True)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith(f"Converting with {method!r}: tuning, 1 of 2, loss ")
    assert len(lines) == 2
