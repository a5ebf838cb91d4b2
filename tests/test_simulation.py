"""Whole networks against networks of the numpy references; what `simulate` promises; what it refuses."""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest
import torch
from networks import (
    MLP_INPUT,
    MLP_SITES,
    RESIDUAL_INPUT,
    RESIDUAL_SITES,
    Array,
    Trace,
    dyadic,
    inputs,
    maxima,
    mlp,
    mlp_trace,
    residual,
    residual_trace,
)
from references import if_neuron, msat_neuron
from torch import Tensor, nn

import rheobase as rb
from rheobase import simulation
from rheobase.coding import Encoder, Poisson
from rheobase.errors import DataError, SettingError
from rheobase.methods import COS, MSAT, TPP, ConstantThreshold, DeltaCoding, ParallelConversion, SpikeConverter
from rheobase.neurons import IF, Neuron, SpikeConfidence
from rheobase.plan import Plan
from rheobase.simulation import simulate, stream
from rheobase.spiking import SpikingModel

NETWORKS: dict[str, tuple[Callable[[int], Any], Callable[..., Trace], tuple[int, ...], tuple[str, ...]]] = {
    "mlp": (mlp, mlp_trace, MLP_INPUT, MLP_SITES),
    "residual": (residual, residual_trace, RESIDUAL_INPUT, RESIDUAL_SITES),
}
STEPS = 40


def check(name: str, net: nn.Module, snn: SpikingModel, fire: Callable[[str, Array], Array], chunk: int | None) -> None:
    """The simulation and the slow network agree at every site, neuron and step, and in every answer."""
    _, trace, shape, sites = NETWORKS[name]
    x = inputs(shape, seed=1)
    generator = torch.Generator().manual_seed(11)
    parts = list(stream(snn, x, STEPS, chunk=chunk, record=sites, generator=generator))
    expected = trace(net, x, STEPS, fire)
    for site in sites:
        values = torch.cat([part.values[site] for part in parts])
        np.testing.assert_allclose(values.numpy(), expected[site], atol=1e-9, err_msg=site)
        spikes = torch.cat([part.spikes[site] for part in parts])
        np.testing.assert_array_equal(spikes.numpy(), np.count_nonzero(expected[site].reshape(STEPS, -1), axis=1))
    answers = torch.cat([part.answers for part in parts])
    np.testing.assert_allclose(answers.numpy(), expected["output"], atol=1e-9)
    assert [part.first_step for part in parts] == list(range(1, STEPS + 1, len(parts[0].answers)))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("reset", "start", "fraction"), [("soft", 0.0, 1.0), ("soft", 0.5, 0.4), ("hard", 0.0, 0.5)])
@pytest.mark.parametrize("chunk", [1, 7, None])
def test_a_network_of_if_neurons_equals_the_numpy_one(
    name: str, reset: Literal["soft", "hard"], start: float, fraction: float, chunk: int | None
) -> None:
    build, _, shape, _ = NETWORKS[name]
    net, calibration = build(0).double(), inputs(shape, 50, seed=2)
    snn = rb.convert(net, calibration, ConstantThreshold(fraction, initial_potential=start, reset=reset))
    threshold = {site: fraction * m for site, m in maxima(net, calibration).items()}

    def fire(site: str, currents: Array) -> Array:
        return if_neuron(currents, threshold[site], start * threshold[site], reset)[0]

    check(name, net, snn, fire, chunk)


MSATS = {
    "paper": MSAT.resnet20(),
    "vgg16": MSAT.vgg16(v_t=-0.5),
    "release": MSAT.release(),
    "raw": MSAT.resnet34(units="raw"),
    "tracking alone": MSAT(det=False),
    "evoked alone": MSAT(dtt=False),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("variant", MSATS)
def test_a_network_of_msat_neurons_equals_the_numpy_one(name: str, variant: str) -> None:
    build, _, shape, _ = NETWORKS[name]
    net, calibration, method = build(1).double(), inputs(shape, 50, seed=2), MSATS[variant]
    snn = rb.convert(net, calibration, method)
    maximum, adaptation = maxima(net, calibration), dataclasses.asdict(method.adaptation())

    def fire(site: str, currents: Array) -> Array:
        return msat_neuron(currents, maximum[site], **adaptation)["values"]

    check(name, net, snn, fire, None)


@pytest.mark.parametrize("keep_charge", [True, False])
def test_a_network_with_spike_confidence_equals_the_numpy_one(keep_charge: bool) -> None:
    net, calibration = residual(2).double(), inputs(RESIDUAL_INPUT, 50, seed=2)
    method = MSAT(confidence=True, confidence_sites="all", confidence_steps=9, keep_charge=keep_charge)
    converted = rb.convert(net, calibration, method)
    plan = converted.plan
    for site, neuron in plan.neurons.items():
        plan = plan.with_neuron(site, SpikeConfidence(neuron.neuron, 0.6, 9, keep_charge))  # type: ignore[arg-type]
    snn = SpikingModel(converted.graph, plan)
    maximum, adaptation = maxima(net, calibration), dataclasses.asdict(method.adaptation())
    snn.reset(torch.Generator().manual_seed(11))  # the keys of the run in `check`
    keys = {site: neuron.key for site, neuron in snn.neurons().items()}

    def fire(site: str, currents: Array) -> Array:
        steps = len(currents)
        filter_ = SpikeConfidence(IF(1.0), 0.6, 9)
        filter_.reset(keys[site])
        like = torch.zeros(5, *snn.graph.shapes[site])
        keep = np.stack([filter_.draw(t, like).double().numpy().ravel() for t in range(1, steps + 1)])
        assert 0.5 < keep[:9].mean() < 0.7
        return msat_neuron(
            currents, maximum[site], keep=keep, keep_charge=keep_charge, early_steps=9, **adaptation
        )["values"]  # fmt: skip

    check("residual", net, snn, fire, 4)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("chunk", [1, None])
@pytest.mark.parametrize("reset", ["soft", "hard"])
def test_float32_equals_the_numpy_network_exactly_where_no_sum_is_rounded(
    name: str, chunk: int | None, reset: Literal["soft", "hard"]
) -> None:
    build, trace, shape, sites = NETWORKS[name]
    net = dyadic(build(3))
    if name == "residual":
        for norm in (net.bn1, net.bn2):
            norm.running_mean.zero_()
            norm.running_var.fill_(1.0)
            norm.eps = 0.0
    x = inputs(shape, 5, seed=4, denominator=8)
    plan = Plan("by hand", {sites[0]: IF(1.0, 0.25, reset), sites[1]: IF(0.5, 0.0, reset)})
    run = simulate(SpikingModel(rb.trace(net, x.float()), plan), x.float(), 32, record=sites, chunk=chunk)

    def fire(site: str, currents: Array) -> Array:
        return if_neuron(currents, *((1.0, 0.25) if site == sites[0] else (0.5, 0.0)), reset)[0]

    expected = trace(net.double(), x, 32, fire)
    for site in sites:
        np.testing.assert_array_equal(run.values[site].numpy(), expected[site], err_msg=site)
        assert np.count_nonzero(expected[site]) > 50
    np.testing.assert_array_equal(run.output.double().numpy(), expected["output"][-1])


def one_neuron() -> tuple[nn.Module, SpikingModel]:
    """0.5 into a neuron of threshold 1, which fires at t = 2, 4, ...; the output is 3 y + 0.25."""
    net = nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1))
    for layer, weight, bias in ((net[0], 0.5, 0.0), (net[2], 3.0, 0.25)):
        nn.init.constant_(layer.weight, weight)  # type: ignore[arg-type]
        nn.init.constant_(layer.bias, bias)  # type: ignore[arg-type]
    return net, SpikingModel(rb.trace(net, torch.ones(2, 1)), Plan("by hand", {"1": IF(1.0)}))


@pytest.mark.parametrize("chunk", [1, 2, 3, 5])
def test_the_answer_is_the_mean_of_the_outputs_so_far(chunk: int) -> None:
    _, snn = one_neuron()
    parts = list(stream(snn, torch.ones(1, 1), 5, chunk=chunk))
    answers = torch.cat([part.answers for part in parts]).flatten()
    mean_spikes = torch.tensor([0.0, 1 / 2, 1 / 3, 2 / 4, 2 / 5])
    torch.testing.assert_close(answers, 3 * mean_spikes + 0.25)
    assert torch.cat([part.spikes["1"] for part in parts]).tolist() == [0, 1, 0, 1, 0]


def test_a_run_counts_spikes_neurons_and_rates() -> None:
    _, snn = one_neuron()
    run = simulate(snn, torch.tensor([[1.0], [1.0], [-1.0]]), 5, record=["1"])
    assert run.spikes["1"].tolist() == [0, 2, 0, 2, 0]
    assert run.neurons == {"1": 3}
    assert run.rates == {"1": pytest.approx(4 / 15)}
    assert run.values["1"].shape == (5, 3, 1)
    assert str(run) == "5 steps\nsite        spikes     rate\n1                4   0.2667"


def converted(method: rb.MSAT | ConstantThreshold | None = None, dtype: torch.dtype = torch.float32) -> SpikingModel:
    return rb.convert(residual(5).to(dtype), inputs(RESIDUAL_INPUT, 40, seed=6), method or rb.MSAT())


X = inputs(RESIDUAL_INPUT, 6, seed=7).float()
RANDOM = MSAT(confidence=True, confidence_sites="all")


def assert_same(a: rb.Run, b: rb.Run, rtol: float = 0.0, atol: float = 0.0) -> None:
    torch.testing.assert_close(a.output, b.output, rtol=rtol, atol=atol)
    for site in a.spikes:
        assert torch.equal(a.spikes[site], b.spikes[site])
    for site in a.values:
        torch.testing.assert_close(a.values[site], b.values[site], rtol=rtol, atol=atol)


@pytest.mark.parametrize("method", [ConstantThreshold(), MSAT(), RANDOM], ids=repr)
def test_a_second_run_equals_the_first(method: rb.MSAT) -> None:
    snn = converted(method)
    first = simulate(snn, X, 20, record=RESIDUAL_SITES, generator=torch.Generator().manual_seed(3))
    simulate(snn, X[:2].flip(0), 5)  # another batch of another size in between
    next(stream(snn, X[:3], 9, chunk=2))  # and a run that nobody finished
    second = simulate(snn, X, 20, record=RESIDUAL_SITES, generator=torch.Generator().manual_seed(3))
    assert_same(first, second)


def test_another_seed_gives_another_run_where_the_network_is_random() -> None:
    snn = converted(RANDOM)
    assert snn.random
    runs = [simulate(snn, X, 16, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
    assert len({tuple(run.output.flatten().tolist()) for run in runs}) == 3


def test_the_seed_is_ignored_where_nothing_is_random() -> None:
    snn = converted(MSAT())
    assert not snn.random
    first, second = (simulate(snn, X, 16, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
    assert_same(first, second)


@pytest.mark.parametrize(
    ("samples", "largest", "memory", "steps"),
    [
        (1, 1000, None, 32),  # the most
        (128, 1000, None, 16),  # 2048 samples times steps
        (32, 2**26 // 256, None, 8),  # 256 MiB
        (32, 2**26, None, 4),  # 128 samples times steps
        (4000, 1000, None, 1),
        (256, 1000, 2**37, 32),  # 8192 samples times steps
        (256, 2**16, 2**36, 16),  # a 64th of the memory of a device
        (256, 2**16, 2**30, 1),
    ],
)
def test_a_chunk_has_as_many_steps_as_pay(samples: int, largest: int, memory: int | None, steps: int) -> None:
    assert simulation._at_once(samples, largest, memory) == steps


@pytest.mark.parametrize(
    ("samples", "first_step", "sizes"),
    [
        (1, 1, [32, 8]),
        (16, 1, [8] * 5),
        (128, 1, [4] * 10),
        (128, 13, [13, 4, 4, 4, 4, 4, 4, 3]),
        (128, 40, [16, 16, 8]),
        (2000, 6, [1, 1, *[4] * 9, 2]),
    ],
)
def test_with_an_exit_rule_chunks_are_small_from_its_first_step_on(
    samples: int, first_step: int, sizes: list[int]
) -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    snn = rb.convert(net, torch.rand(8, 3), ConstantThreshold())
    parts = stream(snn, torch.rand(samples, 3), 40, until=rb.Exit("margin", 1e9, first_step))
    assert [len(part.answers) for part in parts] == sizes


@pytest.mark.parametrize("method", [ConstantThreshold(per_channel=True), MSAT(), RANDOM], ids=repr)
@pytest.mark.parametrize("chunk", [2, 5, 24, 100, None])
def test_the_chunk_changes_nothing_beyond_rounding(method: rb.MSAT, chunk: int | None) -> None:
    snn = converted(method, torch.float64)
    runs = [
        simulate(snn, X.double(), 24, chunk=k, record=RESIDUAL_SITES, generator=torch.Generator().manual_seed(1))
        for k in (1, chunk)
    ]
    assert_same(*runs, rtol=1e-10, atol=1e-10)


def test_samples_do_not_see_each_other() -> None:
    snn = converted(MSAT(), torch.float64)
    together = simulate(snn, X.double(), 20)
    alone = [simulate(snn, X[i : i + 1].double(), 20) for i in range(len(X))]
    torch.testing.assert_close(together.output, torch.cat([run.output for run in alone]), rtol=1e-9, atol=1e-9)
    for site, count in together.spikes.items():
        assert torch.equal(count, torch.stack([run.spikes[site] for run in alone]).sum(0))


def test_the_type_of_the_network_is_the_type_of_the_answer() -> None:
    for dtype in (torch.float64, torch.float32):
        assert simulate(converted(dtype=dtype), X.to(dtype), 3).output.dtype == dtype


def test_simulating_computes_no_gradients() -> None:
    assert not simulate(converted(), X.clone().requires_grad_(), 3).output.requires_grad


def test_many_steps_come_close_to_the_original_network() -> None:
    net = residual(5)
    calibration = inputs(RESIDUAL_INPUT, 40, seed=6).float()
    run = simulate(rb.convert(net, torch.cat([calibration, X]), ConstantThreshold()), X, 512)
    with torch.no_grad():
        torch.testing.assert_close(run.output, net(X), rtol=0.03, atol=0.03)


def test_a_final_relu_is_a_layer_of_neurons_read_out_as_it_is() -> None:
    net = mlp(4)[:4].double()  # Linear, ReLU, Linear, ReLU
    x = inputs(MLP_INPUT, 7)
    run = simulate(rb.convert(net, x, ConstantThreshold()), x, 30, record=MLP_SITES)
    torch.testing.assert_close(run.output, run.values["3"].mean(0))
    assert int(run.spikes["3"].sum()) > 0
    with torch.no_grad():
        assert float((simulate(rb.convert(net, x, ConstantThreshold()), x, 2000).output - net(x)).abs().max()) < 0.02


def test_a_function_after_the_last_layer_acts_on_the_mean() -> None:
    net = mlp(4).double()
    x = inputs(MLP_INPUT, 7)
    plain = rb.convert(net, x, ConstantThreshold())
    headed = rb.convert(nn.Sequential(*net, nn.Softmax(1)), x, ConstantThreshold())
    for t in (1, 5, 12):
        torch.testing.assert_close(simulate(headed, x, t).output, simulate(plain, x, t).output.softmax(1))


def test_what_comes_before_the_first_neurons_runs_once_a_batch() -> None:
    snn = converted()
    calls: dict[str, int] = {"conv1": 0, "conv2": 0}

    def count(name: str) -> Callable[..., None]:
        return lambda *_: calls.update({name: calls[name] + 1})

    for name in calls:
        snn.module.get_submodule(name).register_forward_hook(count(name))
    simulate(snn, X, 12, chunk=3)
    assert calls == {"conv1": 1, "conv2": 4}


def live_bytes() -> int:
    gc.collect()  # what other tests left in cycles
    kinds = (Tensor, torch.nn.Parameter)  # and not those without content, which a compilation leaves behind
    storages = [o.untyped_storage() for o in gc.get_objects() if type(o) in kinds]
    return sum({s.data_ptr(): s.nbytes() for s in storages}.values())


def held(snn: SpikingModel, act: Callable[[], object], chunks: int) -> int:
    """The memory in tensors when the last layer has done its last chunk."""
    seen: list[int] = []
    calls = iter(range(1, chunks + 1))
    hook = snn.module.get_submodule("fc").register_forward_hook(
        lambda *_: seen.append(live_bytes()) if next(calls) == chunks else None
    )
    act()
    hook.remove()
    assert next(calls, None) is None
    return seen[0]


@pytest.mark.parametrize("record", [(), ("relu",)])
def test_memory_does_not_grow_with_the_number_of_steps(record: tuple[str, ...]) -> None:
    snn, x = converted(), inputs(RESIDUAL_INPUT, 32).float()

    def drain(steps: int) -> None:
        for _ in stream(snn, x, steps, chunk=8, record=record):
            pass

    few = held(snn, lambda: drain(32), 4)
    assert held(snn, lambda: drain(256), 32) <= few


def test_memory_of_an_evaluation_does_not_grow_with_the_number_of_steps() -> None:
    net = residual(5)
    snn, x = converted(), inputs(RESIDUAL_INPUT, 32).float()

    def measure(steps: int) -> int:
        return held(snn, lambda: rb.evaluate(snn, [x, x], steps, net, chunk=8), 2 * steps // 8)

    counters = (256 - 32) * 8 * (4 + 2 + 2)  # correct, agree, error, exits, two sites, two layers; 8 bytes each
    few = measure(32)
    assert measure(256) - few <= counters


# ------------------------------------------------------------------------------ what is refused


def test_all_wrong_settings_are_listed() -> None:
    with pytest.raises(SettingError, match=r"steps is 0.*chunk is -1.*\['nowhere'\].*'relu', 'relu_1'"):
        simulate(converted(), X, 0, chunk=-1, record=["nowhere"])


@pytest.mark.parametrize("chunk", [0, -3])
def test_a_chunk_below_one_is_an_error(chunk: int) -> None:
    with pytest.raises(SettingError, match="chunk"):
        simulate(converted(), X, 3, chunk=chunk)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (X[:0], r"shape \(0, 2, 8, 8\)"),
        (torch.tensor(1.0), r"shape \(\)"),
        (torch.full_like(X, float("nan")), "NaN"),
        (torch.where(X > 2, float("inf"), X), "infinite"),
        (X[:, :1], r"\(N, 2, 8, 8\)"),
        (X[0], r"\(N, 2, 8, 8\)"),
    ],
)
def test_an_input_that_cannot_be_simulated_is_an_error(x: Tensor, message: str) -> None:
    with pytest.raises(DataError, match=message):
        simulate(converted(), x, 3)


def test_a_failed_run_does_not_spoil_the_next() -> None:
    snn = converted()
    expected = simulate(snn, X, 5)
    simulate(snn, X[:4], 3)
    with pytest.raises(DataError):
        simulate(snn, X[:, :1], 3)
    assert_same(simulate(snn, X, 5), expected)


class _Nothing(Encoder):
    def encode(self, x: Tensor, steps: int, generator: torch.Generator | None = None) -> Tensor:
        return torch.zeros(steps, *x.shape)


def test_an_encoder_of_ones_own_is_used() -> None:
    snn = converted()
    changed = SpikingModel(snn.graph, dataclasses.replace(snn.plan, encoder=_Nothing()))
    nothing = simulate(changed, X, 3)
    torch.testing.assert_close(nothing.output, simulate(snn, torch.zeros_like(X), 3).output)


def test_a_plan_of_shared_neurons_gives_each_site_its_own_state() -> None:
    net, x = mlp(6).double(), inputs(MLP_INPUT, 3)
    shared: Neuron = IF(torch.tensor(0.5, dtype=torch.float64))
    own = {site: IF(torch.tensor(0.5, dtype=torch.float64)) for site in MLP_SITES}
    graph = rb.trace(net, x)
    runs = [simulate(SpikingModel(graph, Plan("", p)), x, 20) for p in (dict.fromkeys(MLP_SITES, shared), own)]
    assert_same(*runs)


def largest_batch(snn: SpikingModel, x: Tensor, steps: int, **options: Any) -> tuple[rb.Run, int]:
    """A run, and how many samples times steps the widest pass through the second convolution had."""
    sizes: list[int] = []
    layer = snn.module.get_submodule("conv2")
    handle = layer.register_forward_hook(lambda _layer, inputs, _output: sizes.append(len(inputs[0])))
    run = simulate(snn, x, steps, **options)
    handle.remove()
    return run, max(sizes)


def same(a: rb.Run, b: rb.Run) -> None:
    torch.testing.assert_close(a.output, b.output, atol=1e-9, rtol=0)
    for found, wanted in ((a.spikes, b.spikes), (a.operations, b.operations)):
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert a.values.keys() == b.values.keys()
    for site in b.values:
        torch.testing.assert_close(a.values[site], b.values[site], atol=1e-9, rtol=0)


@pytest.mark.parametrize("method", [ParallelConversion(steps=16), SpikeConverter(steps=16), COS(steps=16)], ids=repr)
@pytest.mark.parametrize(("samples", "widest"), [(7, 112), (8, 128), (21, 112)])
def test_a_layer_synchronous_network_takes_samples_in_groups_with_the_same_result(
    method: Any, samples: int, widest: int
) -> None:
    net, x = residual().double(), inputs(RESIDUAL_INPUT, seed=1, n=samples)
    snn = rb.convert(net, inputs(RESIDUAL_INPUT, seed=2, n=16), method)
    found, size = largest_batch(snn, x, 16, record=RESIDUAL_SITES, operations=True)
    whole, all_at_once = largest_batch(snn, x, 16, chunk=16, record=RESIDUAL_SITES, operations=True)
    assert (size, all_at_once) == (widest, 16 * samples)
    same(found, whole)


def test_what_is_random_keeps_its_batch_and_its_numbers() -> None:
    net, x = residual().double(), inputs(RESIDUAL_INPUT, seed=1, n=21)
    snn = rb.convert(net, x, TPP(steps=16))
    runs = [largest_batch(snn, x, 16, chunk=chunk, generator=torch.Generator().manual_seed(5)) for chunk in (None, 16)]
    assert [size for _, size in runs] == [16 * 21, 16 * 21]
    same(runs[0][0], runs[1][0])


@pytest.mark.parametrize(("bytes_a_sample", "wanted"), [(0, 2048), (2**28 // 300, 300), (2**28, 128)])
def test_samples_times_steps_in_a_pass_are_at_most_2048_and_fewer_of_large_values(
    bytes_a_sample: int, wanted: int
) -> None:
    snn = converted()
    snn.program.largest = max(1, bytes_a_sample // 4)
    x = torch.cat([X[:1]] * 100)
    assert len(next(stream(snn, x, 1000)).answers) == wanted // 100
    assert len(next(stream(snn, x, 1000, until=rb.Exit("margin", 1e9))).answers) == 4
    assert len(next(stream(snn, X[:1], 1000)).answers) == 32  # so that memory does not grow with T


@pytest.mark.parametrize("coding", [DeltaCoding(steps=4), "poisson"], ids=repr)
def test_a_network_whose_input_depends_on_the_step_cannot_be_called_step_by_step(coding: Any) -> None:
    snn = rb.convert(residual(), X, ConstantThreshold() if coding == "poisson" else coding)
    if coding == "poisson":
        snn = SpikingModel(snn.graph, dataclasses.replace(snn.plan, encoder=Poisson(4.0)))
    with pytest.raises(rb.ConversionError, match=r"cannot be called step by step.*stream\(snn, x, steps, chunk=1\)"):
        snn(X)
    answers = [chunk.answers for chunk in stream(snn, X, 4, chunk=1)]
    torch.testing.assert_close(torch.cat(answers), torch.cat([c.answers for c in stream(snn, X, 4, chunk=4)]))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps": 4.0}, "steps is 4.0; it must be a whole number"), ({"steps": "4"}, "steps is '4'"),
        ({"steps": None}, "steps is not given"), ({"steps": True}, "steps is True"), ({"chunk": 2.0}, "chunk is 2.0"),
        ({"record": "relu"}, "record is 'relu'; it must be a list"), ({"record": None}, "record is None"),
        ({"until": "margin:0.5"}, "until is 'margin:0.5'; it must be a rheobase.Exit"),
        ({"generator": 3}, "generator is 3; it must be a torch.Generator"),
        ({"snn": nn.Linear(2, 2)}, "a Linear cannot be simulated; convert it"),
        ({"x": X.numpy()}, "the input is a ndarray; give a dense tensor"), ({"x": X.tolist()}, "is a list"),
        ({"x": lambda: X.to_sparse()}, "is a tensor of layout torch.sparse_coo"),
        ({"x": X.byte()}, r"torch.uint8 and the network torch.float32; give x.to\(torch.float32\)"),
        ({"x": X.to(torch.complex64)}, "torch.complex64 and the network"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_is_no_setting_and_no_input_is_a_clear_error(wrong: dict[str, Any], message: str) -> None:
    snn = rb.convert(residual(), X, ConstantThreshold())
    wrong = {name: value() if name == "x" and callable(value) else value for name, value in wrong.items()}
    with pytest.raises((SettingError, DataError), match=message):
        simulate(**{"snn": snn, "x": X, "steps": 4, **wrong})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps": 4.0}, "steps is 4.0"), ({"chunk": 1.5}, "chunk is 1.5"), ({"seeds": 3}, "seeds is 3; it must be a"),
        ({"seeds": "ab"}, "seeds is 'ab'"), ({"seeds": [0.5]}, "a seed is 0.5"), ({"until": "margin:1"}, "until is"),
        ({"reference": "net"}, "reference is 'net'"), ({"loader": [X.byte()[:, :1]]}, "shape"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_is_no_evaluation_is_a_clear_error(wrong: dict[str, Any], message: str) -> None:
    snn = rb.convert(residual(), X, ConstantThreshold())
    with pytest.raises((SettingError, DataError), match=message):
        rb.evaluate(**{"snn": snn, "loader": [X], "steps": 4, **wrong})
