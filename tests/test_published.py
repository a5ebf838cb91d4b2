"""What the published methods decide, against the slowest obvious version of each rule."""

from __future__ import annotations

import dataclasses
import gc
import itertools
import math
import sys
import weakref
from typing import Any

import numpy as np
import pytest
import torch
from networks import MLP_INPUT, RESIDUAL_INPUT, inputs, maxima, mlp, mlp_trace, pre_activations, residual
from references import if_neuron
from torch import Tensor, nn

import rheobase as rb
from rheobase import methods, neurons
from rheobase.batches import as_batches
from rheobase.calibration import Layer, layerwise
from rheobase.coding import Delayed, Poisson
from rheobase.errors import ConversionError, SettingError
from rheobase.methods import (
    BSNN,
    RMP,
    SNNC,
    TSC,
    AdaFire,
    Burst,
    CalibratedMSAT,
    DeltaCoding,
    DoubleThreshold,
    GroupNeurons,
    LocalBalancing,
    MultiLevel,
    Opt,
    PotentialInit,
    RobustNorm,
    SignedMSAT,
    SpikeNorm,
    ThresholdBalancing,
    TwoStage,
    adafire,
    two_stage,
)
from rheobase.methods.adafire import best_within
from rheobase.methods.parse import parse_method
from rheobase.neurons import (
    BDETT,
    IF,
    MSAT,
    Adaptation,
    Biased,
    CumulativeMaxPool,
    EdgeTransmission,
    GradedIF,
    MaxPoolGate,
    Retracting,
    Rounded,
)
from rheobase.observers import Percentile, Statistics, observe
from rheobase.operations import AmaxPool
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


def test_spike_norm_of_channels_takes_the_largest_current_of_each() -> None:
    net, steps = residual().double(), 12
    x = inputs(RESIDUAL_INPUT, 16)
    snn = rb.convert(net, x, SpikeNorm(steps, per_channel=True, images=16))
    start = rb.convert(net, x, rb.ConstantThreshold(per_channel=True))
    seen: list[Layer] = []

    def look(layer: Layer) -> Any:
        seen.append(layer)
        return snn.plan.neurons[layer.site]

    layerwise(snn, snn.graph, x, steps, look, images=16)
    for layer in seen:
        naive = [layer.currents[:, :, c].max() for c in range(layer.currents.shape[2])]
        found = snn.plan.neurons[layer.site].threshold
        before = start.plan.neurons[layer.site].threshold
        assert [float(t) for t in found] == [float(m if m > 0 else b) for m, b in zip(naive, before, strict=True)]
    assert len({float(t) for t in found}) > 1


def test_rmp_is_a_share_of_spike_norm_with_soft_reset() -> None:
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


@pytest.mark.parametrize(("dim", "keepdim"), [((2, 3), False), ((-1, 2), True), (3, False), (-2, True)])
def test_the_gate_passes_what_the_leading_unit_of_a_global_pooling_sends(dim: Any, keepdim: bool) -> None:
    spikes = (torch.rand(9, 2, 3, 4, 5, generator=torch.Generator().manual_seed(3)) < 0.4).float() * 0.5
    spikes += torch.linspace(0, 1e-3, 20).view(4, 5) * spikes  # no ties
    found = MaxPoolGate(AmaxPool(dim, keepdim))(spikes)
    kept = {(2, 3): (2, 3), (-1, 2): (2, 3, 1, 1), 3: (2, 3, 4), -2: (2, 3, 1, 5)}[dim]
    assert found.shape == (9, *kept)
    parts = {(2, 3): [spikes.flatten(3)], 3: spikes.unbind(3), -2: spikes.unbind(4)}[dim if dim != (-1, 2) else (2, 3)]
    for k, part in enumerate(parts):
        for t, n, c in np.ndindex(9, 2, 3):
            leader = int(part[: t + 1, n, c].sum(0).argmax())
            assert float(found[t, n, c].flatten()[k]) == float(part[t, n, c, leader])


@pytest.mark.parametrize("pool", [lambda x: x.amax((2, 3)), lambda x: x.max(3)[0].max(2)[0]], ids=["amax", "max"])
def test_a_network_with_a_global_max_pooling_is_gated(pool: Any) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Conv2d(2, 4, 3), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(pool(self.first(x).relu()))  # type: ignore[no-any-return]

    torch.manual_seed(0)
    net, x = Net().eval(), inputs(RESIDUAL_INPUT, 16).float()
    snn = rb.convert(net, x, RobustNorm(gate=True))
    assert any(isinstance(m, MaxPoolGate) for m in snn.modules())
    output = rb.simulate(snn, x, 256).output
    wanted = net(x).detach()
    assert float((output - wanted).norm() / wanted.norm()) < 0.2
    p = rb.calibration.measure_confidence(snn, rb.trace(net, x[:2]), x, snn.graph.sites)
    assert all(0 <= value <= 1 for value in p.values())


def test_the_gate_is_used_for_each_pooling_and_is_saved(tmp_path: Any) -> None:
    x = inputs(RESIDUAL_INPUT, 20, seed=1).float()
    exact = [CumulativeMaxPool]  # the first pooling is of currents
    for method, kinds in ((RobustNorm(), exact), (RobustNorm(gate=True), [MaxPoolGate, MaxPoolGate])):
        snn = rb.convert(residual(), x, method)
        snn.save(tmp_path / "net")
        for found in (snn, rb.load(tmp_path / "net", residual())):
            assert [type(m) for m in found.modules() if isinstance(m, CumulativeMaxPool | MaxPoolGate)] == kinds


@pytest.mark.parametrize("first", [nn.ReLU, lambda: nn.MaxPool2d(2)], ids=["ReLU first", "pooling first"])
def test_the_gate_reads_spikes_also_where_an_exact_pooling_reads_currents(tmp_path: Any, first: Any) -> None:
    torch.manual_seed(0)
    pair = [nn.ReLU(), nn.MaxPool2d(2)] if first is nn.ReLU else [nn.MaxPool2d(2), nn.ReLU()]
    net = nn.Sequential(nn.Conv2d(2, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3), *pair, nn.Flatten(), nn.Linear(64, 3))
    x = torch.rand(30, 2, 12, 12)
    exact, gated = (rb.convert(net, x, RobustNorm(gate=gate)) for gate in (False, True))
    assert [exact.graph.neurons(s) for s in exact.graph.sites] == [600, 64]
    assert [gated.graph.neurons(s) for s in gated.graph.sites] == [600, 256]
    torch.testing.assert_close(gated.graph.module(x), net(x), rtol=1e-4, atol=1e-5)
    received: list[Tensor] = []
    gate = next(m for m in gated.modules() if isinstance(m, MaxPoolGate))
    gate.register_forward_pre_hook(lambda _, args: received.append(args[0]))
    run = rb.simulate(gated, x, 8)
    site = gated.graph.sites[1]
    threshold = gated.plan.neurons[site].get_buffer("threshold")
    assert set(torch.cat(received).unique().tolist()) == {0.0, float(threshold)}
    assert run.neurons[site] == 30 * 256
    gated.save(tmp_path / "net")
    loaded = rb.load(tmp_path / "net", net)
    assert torch.equal(rb.simulate(loaded, x, 8).output, run.output)


def test_robust_normalisation_may_rank_active_neurons_alone() -> None:
    graph = rb.trace(mlp(), MLP_X.float()[:2])
    data = as_batches(MLP_X.float())
    observer = Percentile(60.0, nonzero=True)
    snn = rb.convert(mlp(), MLP_X.float(), RobustNorm(percentile=60.0, nonzero=True))
    for site, value in observe(graph, data, observer).values.items():
        assert torch.equal(snn.plan.neurons[site].get_buffer("threshold"), value)
        assert value > observe(graph, data, Percentile(60.0)).values[site]


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


# ------------------------------------------------------------------------------ bursts and levels


def test_burst_counts_in_thresholds_of_one_spike() -> None:
    net = mlp().double()
    neuron = rb.convert(net, MLP_X, Burst(threshold="max", levels=3)).plan.neurons["1"]
    assert isinstance(neuron, GradedIF)
    assert float(neuron.threshold) == pytest.approx(maxima(net, MLP_X)["1"])
    assert str(neuron.alphabet) == "integer(3)"
    augmented = rb.convert(net, MLP_X, DoubleThreshold.augmented()).plan.neurons["1"]
    assert str(augmented.alphabet) == "signed integer(16)"


def test_group_neurons_are_members_with_a_common_potential() -> None:
    x = torch.rand(12, 1, 7, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    group = GroupNeurons(levels=4).neuron(torch.tensor(1.0, dtype=torch.float64))(x)
    v = np.full(7, 1 / 8)
    for t in range(12):
        v = v + x[t, 0].numpy()
        sent = sum((v >= i / 4).astype(float) for i in range(1, 5)) / 4
        np.testing.assert_allclose(group[t, 0].numpy(), sent, atol=1e-12)
        v = v - sent


def test_h_mt_sends_the_binary_digits_of_the_potential() -> None:
    x = torch.rand(10, 1, 7, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    method = MultiLevel.bits(3, signed=False)
    neuron = method.neuron(torch.tensor(7 / 8, dtype=torch.float64))  # thresholds 1/2, 1/4 and 1/8
    found, v = neuron(x), np.full(7, 1 / 16)
    for t in range(10):
        v = v + x[t, 0].numpy()
        sent = np.zeros(7)
        for digit in (0.5, 0.25, 0.125):
            fires = v - sent >= digit
            sent += digit * fires
        np.testing.assert_allclose(found[t, 0].numpy(), sent, atol=1e-12)
        v = v - sent


def test_the_best_choice_within_a_limit_is_that_of_brute_force() -> None:
    rng = np.random.default_rng(0)
    options = [[(float(c), float(s)) for c, s in rng.integers(1, 30, (3, 2))] for _ in range(5)]
    for limit in (70.0, 90.0, 110.0):
        every = [
            (sum(o[k][1] for o, k in zip(options, ks, strict=True)), ks)
            for ks in itertools.product(range(3), repeat=5)
            if sum(o[k][0] for o, k in zip(options, ks, strict=True)) <= limit
        ]
        found = best_within(options, limit)
        loss = sum(o[k][1] for o, k in zip(options, found, strict=True))
        assert every
        assert loss == min(every)[0]


def test_a_small_budget_gives_one_level_and_a_large_one_the_best() -> None:
    x = MLP_X.float()
    with pytest.warns(
        rb.ConversionWarning, match=r"no choice of levels stays within budget=1e-06; .* spends [\d.]+ times"
    ):
        few = rb.convert(mlp(), x, AdaFire(budget=1e-6, calibration="none"))
    many = rb.convert(mlp(), x, AdaFire(budget=1e6, calibration="none"))  # without a warning, which would be an error
    levels = [[n.neuron.levels for n in snn.plan.neurons.values()] for snn in (few, many)]  # type: ignore[union-attr]
    events = [sum(float(s.sum()) for s in simulate(snn, x, 8).spikes.values()) for snn in (few, many)]
    assert max(levels[1]) > 1
    assert levels[0] != levels[1]
    assert events[0] <= events[1]


def test_adafire_has_thresholds_of_least_squared_error_for_each_number_of_levels() -> None:
    x, net = MLP_X.float(), mlp()
    chosen = rb.convert(net, x, AdaFire(budget=1.2, calibration="none")).plan.neurons
    inside = {site: neuron.neuron for site, neuron in chosen.items() if isinstance(neuron, Biased)}
    assert len({neuron.levels for neuron in inside.values()}) > 1  # type: ignore[union-attr]
    for site, neuron in inside.items():
        assert isinstance(neuron, GradedIF)
        alike = rb.convert(net, x, rb.RateCoding(steps=8, levels=neuron.levels, fire=1.0, spread=True)).plan.neurons[
            site
        ]
        assert torch.equal(neuron.threshold, alike.neuron.threshold)  # type: ignore[union-attr]


@pytest.mark.parametrize(("where", "method"), [(adafire, AdaFire()), (two_stage, TwoStage(steps=4, trials=4))])
def test_networks_that_are_tried_do_not_pile_up(where: Any, method: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[weakref.ref[nn.Module]] = []

    def watched(snn: SpikingModel, *rest: Any) -> Any:
        assert [ref() for ref in tried] == [None] * len(tried)
        tried.append(weakref.ref(snn.module))
        return simulate(snn, *rest)

    monkeypatch.setattr(where, "simulate", watched)
    gc.disable()
    try:
        rb.convert(mlp(), MLP_X.float(), method)
    finally:
        gc.enable()
    assert len(tried) >= 4


def test_adafire_warns_once_of_a_silent_site() -> None:
    net = mlp()
    nn.init.constant_(net[0].bias, -1e3)  # type: ignore[arg-type]
    with pytest.warns(rb.ConversionWarning) as caught:
        rb.convert(net, MLP_X.float(), AdaFire(calibration="none"))
    assert len([w for w in caught if "dead" in str(w.message)]) == 1


def test_the_delay_is_the_time_until_the_layers_fire() -> None:
    net = mlp().double()
    snn = rb.convert(net, MLP_X, LocalBalancing(images=40))
    wait = 0.0
    for site, z in pre_activations(net, MLP_X).items():
        mean = np.maximum(z, 0).mean(0)
        neuron = snn.plan.neurons[site]
        assert isinstance(neuron, GradedIF)
        wait += 0.5 * float(neuron.threshold[mean.argmax()]) / mean.max()
    assert snn.plan.readout == Delayed(round(wait))
    assert rb.convert(net, MLP_X, LocalBalancing(steps=5)).plan.readout == Delayed(1)
    assert rb.convert(net, MLP_X, LocalBalancing(delay=3)).plan.readout == Delayed(3)


def test_what_is_read_late_is_tuned_so(monkeypatch: Any) -> None:
    started: list[Any] = []

    def spied(snn: Any, *others: Any) -> Any:
        started.append(snn.plan.readout)
        return snn

    monkeypatch.setattr("rheobase.methods.parts.tuned.tune", spied)
    snn = rb.convert(mlp(), MLP_X, LocalBalancing(delay=3, iterations=1))
    assert started == [Delayed(3)] == [snn.plan.readout]


def test_a_silent_neuron_takes_back_what_it_sent() -> None:
    currents = np.concatenate([np.full(6, 0.5), np.full(24, -0.2)])
    sent = Retracting(IF(1.0), allowance=2.0)(torch.tensor(currents).float().view(30, 1, 1)).flatten()
    v, n, fired, last, quiet = 0.0, 0, 0, 0, 0
    for t, x in enumerate(currents, 1):
        v, quiet, y = v + x, quiet + 1, 0.0
        if v >= 1.0:
            v, n, fired, last, quiet, y = v - 1, n + 1, fired + 1, t, 0, 1.0
        elif n > 0 and quiet > last / fired + 2.0:
            v, n, quiet, y = v + 1, n - 1, 0, -1.0
        assert float(sent[t - 1]) == y
    assert float(sent.sum()) == 0
    assert float(sent.min()) == -1


# ---------------------------------------------------------------------------------------- edges


@pytest.mark.parametrize("name", ["mlp", "residual"])
def test_switching_currents_computes_what_spikes_do_with_fewer_events(name: str) -> None:
    build, shape = {"mlp": (mlp, MLP_INPUT), "residual": (residual, RESIDUAL_INPUT)}[name]
    net, x = build().double(), inputs(shape, 40, seed=1)
    spikes, edges = (rb.convert(net, x, m(0.1)) for m in (rb.ConstantThreshold, TSC))
    a, b = (simulate(s, x, 50, record=s.plan.neurons) for s in (spikes, edges))
    for site in spikes.plan.neurons:
        torch.testing.assert_close(b.values[site].cumsum(0), a.values[site])
    torch.testing.assert_close(b.output, a.output)
    assert sum(s.sum() for s in b.spikes.values()) < sum(s.sum() for s in a.spikes.values())


def test_edges_of_graded_spikes_are_an_error() -> None:
    with pytest.raises(SettingError, match="ternary"):
        EdgeTransmission(GradedIF(1.0))
    with pytest.raises(SettingError, match="must be binary"):
        Retracting(GradedIF(1.0))


# ------------------------------------------------------------------------- thresholds that change


def test_the_threshold_is_low_first_and_high_later() -> None:
    neuron = TwoStage(steps=8, low=0.25, high=2.0).neuron(torch.tensor(3.0))
    assert neuron.get_buffer("threshold").flatten().tolist() == [0.75, 0.75, 6, 6, 6, 6, 6, 6]
    assert str(neuron.alphabet) == "binary, step-weighted"


def test_the_search_does_not_make_the_answers_worse_and_repeats() -> None:
    pytest.importorskip("optuna")
    net, x = mlp(), MLP_X.float()
    plain, found, again = (rb.convert(net, x, TwoStage(trials=n)) for n in (0, 5, 5))
    with torch.no_grad():
        errors = [float((simulate(s, x, 16).output - net(x)).square().mean()) for s in (plain, found, again)]
    assert errors[1] <= errors[0] * 1.0001
    assert errors[1] == errors[2]


def test_without_optuna_the_search_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(SettingError, match=r"rheobase\[search\]"):
        rb.convert(mlp(), MLP_X.float(), TwoStage(trials=1))


def test_the_threshold_of_bsnn_follows_the_phase() -> None:
    theta = BSNN(steps=6, period=2).neuron(torch.tensor(1.0)).get_buffer("threshold").flatten()
    assert theta.tolist() == [1.0, 0.5, 1.0, 0.5, 1.0, 0.5]


def test_bdett_equals_its_equations() -> None:
    x = 0.4 * torch.randn(15, 2, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64) + 0.3
    found = BDETT(torch.tensor(0.8, dtype=torch.float64))(x).numpy()
    for n in range(2):
        v, before, mean = np.zeros(5), np.zeros(5), np.zeros(5)
        for t in range(15):
            v_pre, sent = v + x[t, n].numpy(), np.zeros(5)
            for i in range(5):
                d, rise = (v[i] - mean[i]) / 0.8, (v_pre[i] - before[i]) / 0.8
                th = 0.8 * max((0.3 * d + math.log1p(math.exp(d / 4.0)) + math.exp(-rise / 5.0)) / 2, 0.05)
                th = 0.8 if t == 0 else th
                sent[i] = th if v_pre[i] >= th else 0.0
            np.testing.assert_allclose(found[t, n], sent, atol=1e-12)
            v, before = v_pre - sent, v_pre
            mean = (t * mean + v) / (t + 1)


def test_a_doubled_schedule_has_half_of_the_threshold_and_twice_the_levels_at_first() -> None:
    plain, doubled = (
        rb.convert(mlp(), MLP_X.float(), DeltaCoding(steps=3, doubled=d)).plan.neurons["3"] for d in (False, True)
    )
    assert doubled.threshold[0].equal(plain.threshold[0] / 2)
    assert doubled.threshold[1:].equal(plain.threshold[1:])
    large = torch.full((3, 1, doubled.threshold.shape[1]), 100.0)
    assert doubled(large)[0].equal(2 * doubled.threshold[:1])
    assert rb.AnnealedDelta(steps=3).doubled
    for wrong in ({"powers": True, "levels": 4}, {"signed": False}, {"schedule": "constant"}):
        with pytest.raises(SettingError, match=f"doubled is True; with {next(iter(wrong))}="):
            DeltaCoding(doubled=True, **wrong)  # type: ignore[arg-type]


def test_msat_rounds_in_one_pass_what_the_wrapper_rounds_step_by_step() -> None:
    class Plain(MSAT):
        scan = MSAT.scan

    x = torch.rand(30, 2, 4, 5, 5, generator=torch.Generator().manual_seed(1)) * 1.2
    fast, slow = (Rounded(kind(torch.linspace(0.5, 2, 4), Adaptation()), 3) for kind in (MSAT, Plain))
    assert (fast.neuron.rounding, slow.neuron.rounding) == (fast.counting, slow.counting) == (True, False)
    counts = torch.zeros(30, 2, dtype=torch.int64)
    found, expected = fast(x, counts=counts), slow(x)
    same = (found == expected).all(0)  # within rounding, a threshold may be sent either way
    assert same.float().mean() > 0.98
    assert torch.equal(counts, (found != 0).flatten(2).sum(2))
    for one, other in zip(fast._state[:3], slow._state[:3], strict=True):
        torch.testing.assert_close(one[same], other[same], rtol=1e-5, atol=1e-5)


def test_a_rounded_payload_is_the_nearest_power_of_two_and_loses_no_charge() -> None:
    x = torch.rand(20, 3, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    neuron = Rounded(MSAT(torch.tensor(1.0, dtype=torch.float64), Adaptation()), 3)
    y, state = neuron.scan(x, neuron.initial_state(x[0]))
    assert set(y.unique().tolist()) <= {0.0, 0.25, 0.5, 1.0}
    torch.testing.assert_close(x.sum(0), y.sum(0) + state.potential)
    assert str(neuron.alphabet) == "power_of_two(3)"
    assert str(Rounded(neuron.neuron, 1).alphabet) == "binary"
    with pytest.raises(SettingError, match="levels is 0"):
        Rounded(IF(1.0), 0)
    for signed in (neurons.SignedMSAT(1.0, Adaptation()), GradedIF(1.0)):
        with pytest.raises(SettingError, match=rf"Rounded: {type(signed).__name__} sends negative spikes"):
            Rounded(signed)


@pytest.mark.parametrize("kind", [CalibratedMSAT, SignedMSAT])
def test_each_hyper_parameter_of_the_threshold_reaches_the_neurons(kind: type[CalibratedMSAT | SignedMSAT]) -> None:
    settings = {"alpha": 0.1, "ka": 0.5, "ki": 2.0, "c": 3.0, "tau_mp": 0.75, "tau_rd": 0.25, "v_t": -0.5}
    plan = rb.convert(mlp(), MLP_X.float(), kind(calibration="none", **settings)).plan  # type: ignore[arg-type]
    innermost = [[m for m in neuron.modules() if hasattr(m, "adaptation")][-1] for neuron in plan.neurons.values()]
    assert {neuron.adaptation for neuron in innermost} == {Adaptation(**settings)}


def test_a_wrong_hyper_parameter_of_the_threshold_is_told_with_the_others() -> None:
    with pytest.raises(SettingError, match=r"SignedMSAT: steps is 0.*; ki is 0\.0; it must be > 0"):
        SignedMSAT(steps=0, ki=0.0)


def test_calibrated_msat_has_a_scale_and_biases_of_each_channel() -> None:
    snn = rb.convert(mlp(), MLP_X.float(), CalibratedMSAT(payload=4, passes=1))
    neuron = snn.plan.neurons["3"]
    assert str(neuron.alphabet) == "power_of_two(4)"
    assert isinstance(neuron, Biased)
    assert neuron.bias.shape == (16, 8)


def test_calibrated_msat_starts_from_a_share_of_its_scale() -> None:
    for start in (0.0, 0.5, 1.0):
        snn = rb.convert(mlp(), MLP_X.float(), CalibratedMSAT(start=start, calibration="none"))
        neuron = snn.plan.neurons["3"]
        assert isinstance(neuron, Biased)
        torch.testing.assert_close(neuron.potential, start * neuron.threshold)
        current = torch.full((1, 1, 8), 0.6) * neuron.threshold
        assert bool((neuron(current) > 0).all()) == (start >= 0.5)  # 0.6 M + start M reaches M


@pytest.mark.parametrize("method", [TwoStage, BSNN])
def test_methods_with_several_thresholds_refuse_to_spread_half_of_one(method: Any) -> None:
    with pytest.raises(rb.SettingError, match="spread must be off"):
        method(spread=True)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: methods.RateCoding(steps="8"), "RateCoding: steps is '8'; it must be a whole number"),
        (lambda: methods.AnnealedDelta(steps=8.0, seed=1.5), r"AnnealedDelta: steps is 8.0.*; seed is 1.5"),
        (lambda: methods.Auto(steps=2.5), "Auto: steps is 2.5"),
        (lambda: methods.MSAT(confidence=True, confidence_steps=2.5), "MSAT: confidence_steps is 2.5"),
        (lambda: methods.MSAT(alpha=None), "MSAT: alpha is None; it must be a number"),
        (lambda: methods.MSAT(alpha=float("nan")), "alpha is not finite"),
        (lambda: methods.ConstantThreshold(fraction="a"), "ConstantThreshold: fraction is 'a'"),
        (lambda: methods.BSNN(steps=True), "BSNN: steps is True"),
        (lambda: methods.RateCoding(per_channel="no"), "RateCoding: per_channel is 'no'; it must be True or False"),
        (lambda: methods.AnnealedDelta(doubled=1), "AnnealedDelta: doubled is 1; it must be True or False"),
        (
            lambda: methods.MSAT(dtt="no", det=None),
            "dtt is 'no'; it must be True or False; det is None; it must be True",
        ),
        (lambda: methods.Auto(step_weighted="no", flip="no"), "step_weighted is 'no'.*; flip is 'no'; it must be True"),
        (lambda: methods.RateCoding(powers=True, levels=20), "levels is 20; it must be from 1 to 16"),
        (lambda: methods.RateCoding(levels=70000), "levels is 70000; it must be from 1 to 65536"),
        (lambda: methods.Auto("power_of_two", levels=20), "Auto: levels is 20; it must be from 1 to 16"),
        (lambda: methods.MultiLevel.bits(0), "MultiLevel.bits: n is 0; it must be at least 1"),
        (lambda: methods.MultiLevel.bits(2.5), "MultiLevel.bits: n is 2.5; it must be a whole number"),
        (lambda: methods.MultiLevel.bits(17), "MultiLevel.bits: n is 17; it must be at most 16"),
        (lambda: methods.LocalBalancing(steps=16, delay=16), "delay is 16; it must be at least 0 and below steps, 16"),
        (lambda: methods.SpiCalib(iterations=5), "SpiCalib: iterations and layer_iterations must be 0"),
        (lambda: methods.RateCoding(threshold=None), "threshold is None; it must be"),
        (lambda: methods.SpikeNorm(steps=2.5), "SpikeNorm: steps is 2.5"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_setting_of_another_kind_is_a_clear_error(make: Any, message: str) -> None:
    with pytest.raises(rb.SettingError, match=message):
        make()


@pytest.mark.parametrize(
    "method",
    [
        methods.RateCoding(steps=np.int64(8)),  # type: ignore[arg-type]
        methods.PotentialInit(steps=np.int64(8), per_channel=np.bool_(True)),  # type: ignore[arg-type]
        methods.Burst(levels=np.int64(3), fire=np.float32(0.75)),  # type: ignore[arg-type]
    ],
    ids=lambda method: type(method).__name__,
)
def test_numbers_of_numpy_are_as_good_as_others(method: Any, tmp_path: Any) -> None:
    assert parse_method(repr(method)) == method
    net, x = mlp(), inputs(MLP_INPUT, 8).float()
    snn = rb.convert(net, x, method)
    snn.save(tmp_path / "net")
    assert rb.load(tmp_path / "net", net).plan.method == repr(method)


def test_a_number_that_may_be_none_may_be_none() -> None:
    assert methods.Auto(steps=None).steps is None
    assert methods.RateCoding(steps=np.int64(4)).steps == 4


# ------------------------------------------------------------------------------------- rounding, and what is refused


@pytest.mark.parametrize(
    "method",
    [DoubleThreshold(), methods.SignedMemory(fire=1.0), methods.DeltaCoding(fire=1.0, schedule="constant", first=1.0)],
    ids=repr,
)
def test_a_neuron_takes_back_all_that_it_sent_whatever_its_threshold(method: Any) -> None:
    thresholds = torch.rand(2000, generator=torch.Generator().manual_seed(1)) + 0.5
    net = nn.Sequential(nn.Linear(1, 2000), nn.ReLU(), nn.Linear(2000, 1)).eval()
    statistics = Statistics({"1": thresholds}, 1)
    neuron = method.plan(rb.trace(net, torch.ones(2, 1)), statistics).neurons["1"]
    up, down = thresholds.expand(7, 1, -1), -thresholds.expand(20, 1, -1)
    sent = neuron(torch.cat([1.01 * up, 3 * down]))
    assert bool((sent[:7] > 0).all())
    assert float((sent.sum(0) / thresholds).abs().max()) < 0.01


@pytest.mark.parametrize(("dtype", "least"), [(torch.float64, 1 - 1e-12), (torch.float32, 1 - 2.0**-12)])
def test_a_whole_threshold_is_needed_but_for_what_rounding_takes(dtype: torch.dtype, least: float) -> None:
    neuron = methods.SignedMemory(fire=1.0).neuron(torch.ones(1, dtype=dtype))
    assert float(neuron.get_buffer("fire")) == pytest.approx(least, rel=1e-12)
    assert float(methods.SignedMemory(fire=0.5).neuron(torch.ones(1, dtype=dtype)).get_buffer("fire")) == 0.5


def test_half_of_the_lowest_level_is_spread_over_the_steps_with_powers_of_two() -> None:
    neuron = methods.RateCoding(steps=4, levels=4, powers=True, spread=True, fire=1.0).neuron(torch.ones(3))
    current = torch.tensor([0.0, 0.045, 0.05]).expand(4, 1, 3)  # sums 0, 0.18 and 0.2, to the nearest eighth
    assert neuron(current).sum(0).tolist() == [[0.0, 0.125, 0.25]]


@pytest.mark.parametrize(
    "method", [methods.RateCoding(fraction=3.0), methods.TwoStage(low=1.5), methods.TwoStage(trials=2)], ids=repr
)
def test_thresholds_above_the_trained_one_do_not_keep_it(method: Any) -> None:
    assert not method.clips()
    assert methods.RateCoding(fraction=0.5).clips()
    assert methods.TwoStage(low=0.5).clips()
