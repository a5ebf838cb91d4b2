"""What every published method promises, and what each of them decides."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from networks import (
    MLP_INPUT,
    MLP_SITES,
    RESIDUAL_INPUT,
    RESIDUAL_SITES,
    inputs,
    maxima,
    mlp,
    pre_activations,
    residual,
)
from torch import Tensor, nn

import rheobase as rb
from rheobase import methods
from rheobase.errors import ConversionWarning, SettingError
from rheobase.methods import MSAT, SNNC, ConstantThreshold, DoubleThreshold, RobustNorm, SpikeNorm, ThresholdBalancing
from rheobase.methods._base import Method
from rheobase.neurons import IF, Adaptation, SpikeConfidence
from rheobase.neurons import MSAT as MSATNeuron
from rheobase.observers import Max, Percentile, Statistics, observe
from rheobase.plan import Plan
from rheobase.simulation import simulate
from rheobase.spiking import SpikingModel

PUBLISHED: list[type[Method]] = [getattr(methods, name) for name in methods.__all__ if name != "Auto"]  # test_auto.py
DEFAULTS = [cls() for cls in PUBLISHED]  # the contract: a method has a default for every hyper-parameter
VARIANTS: list[Method] = [
    ConstantThreshold(0.5),
    ConstantThreshold(percentile=99.9, per_channel=True),
    ConstantThreshold(per_channel=True, initial_potential=0.5, reset="hard"),
    ThresholdBalancing(reset="soft", poisson=True),
    SpikeNorm(reset="soft", poisson=True, steps=16),
    RobustNorm(gate=True),
    SNNC.advanced(),
    DoubleThreshold.augmented(),
    MSAT.vgg16(),
    MSAT.resnet34(det=False),
    MSAT.release(confidence=True),
    MSAT(confidence=True, confidence_sites="all", confidence_steps=4, units="raw"),
    MSAT(confidence=True, confidence_sites=(), v_t=-0.5),
]
EVERY = [*DEFAULTS, *VARIANTS]
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], tuple[str, ...]]] = {
    "mlp": (mlp, MLP_INPUT, MLP_SITES),
    "residual": (residual, RESIDUAL_INPUT, RESIDUAL_SITES),
}

each = pytest.mark.parametrize("method", EVERY, ids=repr)
on_each_network = pytest.mark.parametrize("name", NETWORKS)


def prepared(name: str, method: Method) -> tuple[rb.Graph, Statistics, Tensor]:
    build, shape, _ = NETWORKS[name]
    x = inputs(shape, 40, seed=1).float()
    graph = rb.trace(build(), x[:2])
    return graph, observe(graph, x, method.observer()), x


def thresholds(plan: Plan) -> dict[str, Tensor]:
    """Every tensor called a threshold, also of neurons inside neurons."""
    return {
        f"{site}.{name}": value
        for site, neuron in plan.neurons.items()
        for name, value in neuron.state_dict().items()
        if name.rpartition(".")[2] == "threshold"
    }


# ----------------------------------------------------------------------------------- the contract


def test_every_published_method_is_one() -> None:
    assert all(issubclass(cls, Method) for cls in PUBLISHED)


@each
def test_a_method_is_a_frozen_value(method: Method) -> None:
    assert dataclasses.is_dataclass(method)
    field = dataclasses.fields(method)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(method, field, getattr(method, field))
    assert hash(method) == hash(dataclasses.replace(method))  # type: ignore[type-var]
    assert method == dataclasses.replace(method)  # type: ignore[type-var]


@each
def test_the_line_of_a_method_in_a_table_makes_it_again(method: Method) -> None:
    assert eval(repr(method), {cls.__name__: cls for cls in PUBLISHED}) == method
    assert "\n" not in repr(method)


def test_different_methods_have_different_lines() -> None:
    assert len({repr(method) for method in EVERY}) == len(EVERY)


@each
def test_the_observer_is_a_new_one_each_time(method: Method) -> None:
    assert method.observer() is not method.observer()


@each
@on_each_network
def test_planning_changes_nothing_and_repeats(method: Method, name: str) -> None:
    graph, statistics, _ = prepared(name, method)
    state = {k: v.clone() for k, v in graph.module.state_dict().items()}
    values = {k: v.clone() for k, v in statistics.values.items()}
    code, line = graph.module.code, repr(method)
    first, second = method.plan(graph, statistics), method.plan(graph, statistics)
    assert str(first) == str(second)
    assert all(torch.equal(v, thresholds(second)[k]) for k, v in thresholds(first).items())
    assert graph.module.code == code
    assert all(torch.equal(v, state[k]) for k, v in graph.module.state_dict().items())
    assert all(torch.equal(v, values[k]) for k, v in statistics.values.items())
    assert repr(method) == line


@each
@on_each_network
def test_the_plan_has_a_neuron_with_positive_thresholds_for_each_site(method: Method, name: str) -> None:
    graph, statistics, x = prepared(name, method)
    plan = method.plan(graph, statistics)
    assert plan.method == repr(method)
    assert tuple(plan.neurons) == graph.sites == NETWORKS[name][2]
    for found in (plan, rb.convert(NETWORKS[name][0](), x, method).plan):
        assert thresholds(found)
        assert all(bool((value > 0).all() and value.isfinite().all()) for value in thresholds(found).values())
    assert rb.convert(NETWORKS[name][0](), x, method).plan.method == repr(method)


@each
@on_each_network
def test_a_converted_network_runs_and_is_saved(method: Method, name: str, tmp_path: Path) -> None:
    build, shape, sites = NETWORKS[name]
    x = inputs(shape, 40, seed=1).float()
    snn = rb.convert(build(), x, method)
    run = simulate(snn, x[:4], 24, record=sites, generator=torch.Generator().manual_seed(1))
    assert bool(run.output.isfinite().all())
    assert all(int(spikes.sum()) > 0 for spikes in run.spikes.values())
    snn.save(tmp_path / "net")
    again = simulate(rb.load(tmp_path / "net", build()), x[:4], 24, generator=torch.Generator().manual_seed(1))
    assert torch.equal(again.output, run.output)


@pytest.mark.parametrize("method", DEFAULTS, ids=repr)
@on_each_network
def test_with_many_steps_the_default_comes_close_to_the_network(method: Method, name: str) -> None:
    build, shape, _ = NETWORKS[name]
    net, x = build(), inputs(shape, 40, seed=1).float()
    steps = {"steps": 128} if hasattr(method, "steps") else {}
    curve = rb.evaluate(rb.convert(net, x, dataclasses.replace(method, **steps)), x, 128 if steps else 512, net)  # type: ignore[type-var]
    assert curve.logit_error is not None
    assert curve.logit_error[-1] < (0.6 if loses_charge(method) else 0.1)


def loses_charge(method: Method) -> bool:
    """A reset to zero forgets what was above the threshold: the rates of such methods stay too low for ever."""
    return getattr(method, "reset", "soft") == "hard"


def dying(name: str) -> nn.Module:
    """The second site of the network is never above zero."""
    net = NETWORKS[name][0]()
    last = net[2] if isinstance(net, nn.Sequential) else net.bn2
    nn.init.constant_(last.bias, -1e3)  # type: ignore[arg-type]
    return net


@each
@on_each_network
def test_a_dead_site_warns_and_breaks_nothing(method: Method, name: str) -> None:
    x = inputs(NETWORKS[name][1], 40, seed=1).float()
    with pytest.warns(ConversionWarning, match=rf"1 of 2 sites are dead.*{NETWORKS[name][2][1]}") as caught:
        snn = rb.convert(dying(name), x, method)
    assert len(caught) == 1
    run = simulate(snn, x, 12)
    assert bool(run.output.isfinite().all())
    assert int(run.spikes[NETWORKS[name][2][1]].sum()) == 0


@pytest.mark.parametrize(
    ("method", "dtype"), [*((m, torch.float64) for m in EVERY), *((m, torch.bfloat16) for m in DEFAULTS)], ids=repr
)
def test_the_network_may_be_in_another_floating_type(method: Method, dtype: torch.dtype) -> None:
    x = inputs(MLP_INPUT, 40, seed=1).to(dtype)
    run = simulate(rb.convert(mlp().to(dtype), x, method), x[:3], 12)
    assert run.output.dtype == dtype
    assert all(int(spikes.sum()) > 0 for spikes in run.spikes.values())


# ----------------------------------------------------------------------------- constant thresholds


@pytest.mark.parametrize("fraction", [0.2, 0.5, 0.7, 0.9, 1.0, 1.5])
@on_each_network
def test_the_threshold_is_the_fraction_of_the_maximum(fraction: float, name: str) -> None:
    build, shape, sites = NETWORKS[name]
    net, x = build().double(), inputs(shape, 40, seed=1)
    plan = rb.convert(net, x, ConstantThreshold(fraction)).plan
    for site in sites:
        assert float(plan.neurons[site].threshold) == pytest.approx(fraction * maxima(net, x)[site], rel=1e-12)  # type: ignore[arg-type]


@on_each_network
def test_per_channel_each_channel_has_its_own_maximum(name: str) -> None:
    build, shape, sites = NETWORKS[name]
    net, x = build().double(), inputs(shape, 40, seed=1)
    plan = rb.convert(net, x, ConstantThreshold(0.5, per_channel=True, initial_potential=0.5)).plan
    for site in sites:
        z = pre_activations(net, x)[site]
        expected = 0.5 * np.maximum(z, 0).swapaxes(0, 1).reshape(z.shape[1], -1).max(1)
        alive = expected > 0
        neuron = plan.neurons[site]
        assert isinstance(neuron, IF)
        np.testing.assert_allclose(neuron.threshold.numpy()[alive], expected[alive], rtol=1e-12)
        np.testing.assert_allclose(neuron.threshold.numpy()[~alive], expected.max(), rtol=1e-12)
        torch.testing.assert_close(neuron.initial_potential, neuron.threshold / 2)


def test_a_dead_channel_gets_the_threshold_of_the_largest_and_stays_silent() -> None:
    net, x = mlp().double(), inputs(MLP_INPUT, 40, seed=1)
    net[0].bias.data[3] = -1e3  # type: ignore[operator, index]
    snn = rb.convert(net, x, ConstantThreshold(per_channel=True))
    threshold = snn.plan.neurons["1"].threshold
    assert isinstance(threshold, Tensor)
    assert float(threshold[3]) == float(threshold.max())
    assert int(simulate(snn, x, 30, record=["1"]).values["1"][:, :, 3].count_nonzero()) == 0


def test_a_percentile_is_close_to_numpys() -> None:
    net, x = residual().double(), inputs(RESIDUAL_INPUT, 200, seed=1)
    plan = rb.convert(net, x, ConstantThreshold(percentile=99)).plan
    for site, z in pre_activations(net, x).items():
        expected = np.percentile(np.maximum(z, 0), 99)
        assert float(plan.neurons[site].threshold) == pytest.approx(expected, rel=0.02)  # type: ignore[arg-type]


@pytest.mark.parametrize("per_channel", [True, False])
def test_for_gaussian_currents_the_gaussian_rule_is_that_of_least_squared_error(per_channel: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 3), nn.ReLU(), nn.Linear(3, 2))
    x = torch.randn(20_000, 8, generator=generator)
    with torch.no_grad():
        net[0].weight.copy_(torch.randn(3, 8, generator=generator) * torch.tensor([[0.1], [1.0], [3.0]]))
        net[0].bias.copy_(torch.tensor([0.2, 0.0, -1.0]))
    if not per_channel:  # the mixture of all channels is Gaussian where they are alike
        nn.init.zeros_(net[0].bias)
        net[0].weight.data /= net[0].weight.data.norm(dim=1, keepdim=True)
    found = [
        rb.convert(net, x, methods.RateCoding(steps=4, levels=3, threshold=rule, per_channel=per_channel))
        .plan.neurons["1"].threshold
        for rule in ("gaussian", "mmse")
    ]  # fmt: skip
    assert found[0].shape == found[1].shape == ((3,) if per_channel else ())
    assert found[0].dtype == torch.float32
    torch.testing.assert_close(*found, rtol=0.02, atol=0)


def test_the_gaussian_rule_is_for_neurons_that_round() -> None:
    with pytest.raises(SettingError, match="for neurons that round"):
        methods.RateCoding(threshold="gaussian", fire=1.0)


def test_a_percentile_of_silence_warns() -> None:
    """The maximum is above zero and the percentile is not: most neurons are silent on most images."""
    net, x = mlp().double(), inputs(MLP_INPUT, 40, seed=1)
    with pytest.warns(ConversionWarning, match=r"scale of 1, 3 is 0.*higher percentile"):
        plan = rb.convert(net, x, ConstantThreshold(percentile=1.5)).plan
    assert float(plan.neurons["1"].threshold) == 1.0  # type: ignore[arg-type]


def test_the_observer_measures_no_more_than_is_needed() -> None:
    assert isinstance(ConstantThreshold().observer(), Max)
    observer = ConstantThreshold(percentile=99.9, per_channel=True).observer()
    assert isinstance(observer, Percentile)
    assert observer.per_channel
    assert isinstance(MSAT().observer(), Max)


@pytest.mark.parametrize("reset", ["soft", "hard"])
@pytest.mark.parametrize("start", [0.0, 0.25])
def test_reset_and_initial_potential_reach_the_neurons(reset: Any, start: float) -> None:
    plan = rb.convert(mlp(), inputs(MLP_INPUT, 40), ConstantThreshold(0.5, initial_potential=start, reset=reset)).plan
    for neuron in plan.neurons.values():
        assert isinstance(neuron, IF)
        assert neuron.reset_mode == reset
        torch.testing.assert_close(neuron.initial_potential, start * neuron.threshold)


BAD = {
    "fraction": [0.0, -1.0, float("nan"), float("inf")],
    "percentile": [0.0, 0.999, 1.0, 100.5, float("nan")],
    "initial_potential": [-0.1, 1.1, float("nan")],
    "reset": ["none", None],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_a_setting_outside_its_range_is_an_error(name: str, value: Any) -> None:
    with pytest.raises(SettingError, match=f"ConstantThreshold: {name} is"):
        ConstantThreshold(**{name: value})


def test_all_wrong_settings_are_listed() -> None:
    with pytest.raises(SettingError, match=r"fraction is 0.*percentile is 101.*initial_potential is 2.*reset is 'x'"):
        ConstantThreshold(0, 101, initial_potential=2, reset="x")  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------ MSAT


def test_the_presets_are_table_2_of_the_paper() -> None:
    table = {"vgg16": (0.03, 1, 1, 5, 1, 1), "resnet20": (0.3, 1, 1, 5, 0.5, 0.5), "resnet34": (1, 1, 1, 5, 0.5, 0.5)}
    for name, row in table.items():
        for cls in (MSAT, Adaptation):
            a = getattr(cls, name)()
            assert (a.alpha, a.ka, a.ki, a.c, a.tau_mp, a.tau_rd) == row
    assert MSAT() == MSAT.resnet20()


def changes(a: Any, b: Any) -> dict[str, tuple[Any, Any]]:
    names = [field.name for field in dataclasses.fields(a)]
    return {n: (getattr(a, n), getattr(b, n)) for n in names if getattr(a, n) != getattr(b, n)}


def test_the_release_differs_from_the_paper_where_it_should_and_only_there() -> None:
    assert changes(MSAT(), MSAT.release()) == {
        "depolarisation": ("potential", "current"),
        "tau_rd_twice": (True, False),
        "keep_charge": (True, False),
    }
    assert MSAT().v_t == -1.0  # minus the maximum, as the release has it; the paper leaves it open
    assert MSAT().confidence_steps == 16
    assert changes(MSAT.release(), MSAT.release(alpha=2.0, keep_charge=True)) == {
        "alpha": (0.3, 2.0),
        "keep_charge": (False, True),
    }


@on_each_network
def test_the_neurons_of_msat_have_the_maximum_and_the_hyper_parameters(name: str) -> None:
    build, shape, sites = NETWORKS[name]
    net, x = build().double(), inputs(shape, 40, seed=1)
    method = MSAT.vgg16(units="raw", v_t=-0.25, confidence=True)
    plan = rb.convert(net, x, method).plan
    for site in sites:
        neuron = plan.neurons[site]
        if site == sites[-1]:
            assert isinstance(neuron, SpikeConfidence)
            neuron = neuron.neuron
        assert isinstance(neuron, MSATNeuron)
        assert float(neuron.threshold) == pytest.approx(maxima(net, x)[site], rel=1e-12)
        assert neuron.adaptation == Adaptation.vgg16(units="raw", v_t=-0.25)


@pytest.mark.parametrize("method", [MSAT(), MSAT.release(), MSAT.vgg16(units="raw"), MSAT(dtt=False)], ids=repr)
def test_the_threshold_of_the_first_step_is_the_maximum(method: MSAT) -> None:
    """A current just below it does not fire at t = 1, the maximum itself does, and carries it."""
    net = nn.Sequential(nn.Linear(1, 1, bias=False), nn.ReLU(), nn.Linear(1, 1)).double()
    nn.init.ones_(net[0].weight)  # type: ignore[arg-type]
    maximum = 3.25
    snn = rb.convert(net, torch.tensor([[1.0], [maximum], [2.0]]), method)
    x = torch.tensor([[maximum], [maximum - 1e-9], [2 * maximum]], dtype=torch.float64)
    run = simulate(snn, x, 3, record=["1"])
    assert run.values["1"][0].flatten().tolist() == [maximum, 0.0, maximum]
    second = run.values["1"][1].flatten()
    assert bool((second > 0).all())
    assert bool((second < maximum).all())  # from t = 2 on the sigmoid keeps it below


def test_scaling_a_layer_scales_its_spikes_in_normalised_units_only() -> None:
    net, x = mlp(2).double(), inputs(MLP_INPUT, 20, seed=1)
    scaled = mlp(2).double()
    scaled[0].weight.data *= 8  # type: ignore[operator]
    scaled[0].bias.data *= 8  # type: ignore[operator]
    scaled[2].weight.data /= 8  # type: ignore[operator]
    outputs = {}
    for units in ("normalised", "raw"):
        method = MSAT(units=units)  # type: ignore[arg-type]
        outputs[units] = [simulate(rb.convert(n, x, method), x, 20).output for n in (net, scaled)]
    torch.testing.assert_close(*outputs["normalised"])
    assert not torch.allclose(*outputs["raw"], rtol=0.01)


# ------------------------------------------------------------------------------- a method of one's own


@dataclasses.dataclass(frozen=True, repr=False)
class Half(Method):
    """The smallest method: half the maximum everywhere; its refinement raises the last threshold."""

    share: float = 0.5

    def observer(self) -> Max:
        return Max()

    def plan(self, graph: rb.Graph, statistics: Statistics) -> Plan:
        return Plan(repr(self), {site: IF(self.share * statistics[site]) for site in graph.sites})

    def refine(self, snn: SpikingModel, graph: rb.Graph, batches: Any) -> SpikingModel:
        count = sum(len(x) for x, _ in batches)
        return SpikingModel(graph, snn.plan.with_neuron(graph.sites[-1], IF(float(count))))


def test_a_method_from_anywhere_converts() -> None:
    x = inputs(MLP_INPUT, 33)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        snn = rb.convert(mlp(), list(x.split(10)), Half(0.25))
    assert not caught
    assert snn.plan.method == "Half(share=0.25)"
    assert float(snn.plan.neurons["1"].threshold) == pytest.approx(0.25 * maxima(mlp(), x.float())["1"])  # type: ignore[arg-type]
    assert float(snn.plan.neurons["3"].threshold) == 33.0  # type: ignore[arg-type]
    assert repr(Half()) == "Half()"


@on_each_network
@each
def test_what_a_neuron_calls_whole_numbers_is_that(method: Method, name: str) -> None:
    build, shape, _ = NETWORKS[name]
    x = inputs(shape, 40, seed=1).float()
    snn = rb.convert(build(), x, method)
    run = simulate(snn, x[:8], 12, record=list(snn.plan.neurons))
    for site, neuron in snn.neurons().items():
        values = run.values[site]
        if neuron.code is not None:
            unit, levels, signed = neuron.code
            whole = values / unit.reshape(-1, *[1] * (values.ndim - 3))
            torch.testing.assert_close(whole, whole.round(), rtol=0, atol=1e-4)
            assert float(whole.abs().max()) <= levels + 0.5
            assert signed or float(whole.min()) >= 0
