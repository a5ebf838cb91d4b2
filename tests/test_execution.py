"""Execution over folded time, and what it must not get wrong, over the zoo of awkward networks."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from references import cumulative_max_pool
from torch import Tensor, nn

import zoo
from rheobase.errors import ConversionError, DataError
from rheobase.graph import Graph, trace
from rheobase.neurons import IF, MSAT, Adaptation, CumulativeMaxPool, Temporal
from rheobase.neurons import Neuron as SpikingNeuron
from rheobase.operations import AmaxPool
from rheobase.plan import Plan
from rheobase.simulation import simulate, stream
from rheobase.spiking import SpikingModel

BOUND = 6.0  # of the error times T, relative to the largest output; the worst network of the zoo has 5.7


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    """Networks in float64: only there may the spikes of two orders of summation be expected to be equal."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@functools.cache
def network(name: str) -> tuple[nn.Module, Graph]:
    model = zoo.build(zoo.ZOO[name]).double().eval()
    return model, trace(model, images(name, 2))


def images(name: str, samples: int, seed: int = 1) -> Tensor:
    return zoo.inputs(zoo.ZOO[name], samples, seed).double()


class Relu(Temporal):
    """A "neuron" without memory: the network is then the ANN at each step."""

    def initial_state(self, current: Tensor) -> None:
        return None

    def step(self, current: Tensor, state: None) -> tuple[Tensor, None]:
        return current.relu(), None


def with_neurons(graph: Graph, make: Any) -> SpikingModel:
    return SpikingModel(graph, Plan("test", {site: make(site) for site in graph.sites}))


def largest(graph: Graph, x: Tensor) -> dict[str, Tensor]:
    """The largest activation of each site."""
    found: dict[str, Tensor] = {}
    handles = [
        graph.module.get_submodule(site).register_forward_hook(
            lambda _m, _args, out, site=site: found.update({site: out.max().clamp(min=1e-3)})
        )
        for site in graph.sites
    ]
    graph.module(x)
    for handle in handles:
        handle.remove()
    return found


# ------------------------------------------------------------------------------- folded time


@pytest.mark.parametrize("name", zoo.ZOO)
@torch.no_grad()
def test_each_folded_step_is_the_network_itself(name: str) -> None:
    model, graph = network(name)
    snn = with_neurons(graph, lambda _site: Relu())
    for samples, chunks in ((3, (1, 4, 4, 2)), (1, (1, 3))):
        x = images(name, samples, seed=samples)
        expected = model(x.clone())
        snn.reset()
        execution = snn.execution(x)
        for chunk in chunks:
            outputs = execution.advance(chunk)
            assert outputs.shape[:2] == (chunk, outputs.shape[1])
            for output in outputs:
                answer = execution.answer(output).reshape(expected.shape)  # squeeze() at one sample
                torch.testing.assert_close(answer, expected, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("name", ["LambdaShortcut", "ManyMaxPools", "Inception", "Sizes", "TransposedAndBack"])
def test_what_no_neuron_reaches_runs_once_a_batch(name: str) -> None:
    _, graph = network(name)
    snn = with_neurons(graph, lambda _site: Relu())
    calls: dict[str, int] = {}
    for path, layer in snn.module.named_modules():
        layer.register_forward_hook(lambda _m, _a, _o, path=path: calls.update({path: calls.get(path, 0) + 1}))
    execution = snn.execution(images(name, 2))
    static = dict(calls)
    for _ in range(3):
        execution.advance(2)
    once = {str(n.target) for n in snn.program.constant if n.op == "call_module"}
    moving = {str(n.target) for n in snn.program.moving if n.op == "call_module"}
    assert static == dict.fromkeys(once, 1)
    assert {path: calls[path] for path in once | moving} == {**dict.fromkeys(once, 1), **dict.fromkeys(moving, 3)}


@pytest.mark.parametrize("name", zoo.ZOO)
def test_chunks_equal_single_steps(name: str) -> None:
    _, graph = network(name)
    x = images(name, 2, seed=5)
    top = largest(graph, images(name, 8))
    for make in (lambda site: IF(0.4 * top[site]), lambda site: MSAT(top[site], Adaptation.resnet20())):
        snn = with_neurons(graph, make)
        single = simulate(snn, x, 6, record=graph.sites, chunk=1)
        folded = simulate(snn, x, 6, record=graph.sites, chunk=4)
        for site in graph.sites:
            assert torch.equal(folded.spikes[site], single.spikes[site])
            torch.testing.assert_close(folded.values[site], single.values[site], atol=1e-9, rtol=1e-9)
        torch.testing.assert_close(folded.output, single.output, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("name", zoo.ZOO)
def test_integrate_and_fire_converges_to_the_network(name: str) -> None:
    """Charge is conserved everywhere, so the error falls as 1 / T."""
    model, graph = network(name)
    x = images(name, 2, seed=7)
    top = largest(graph, x)
    snn = with_neurons(graph, lambda site: IF(1.05 * top[site]))
    expected = model(x.clone())
    snn.reset()
    answers = torch.cat([part.answers for part in stream(snn, x, 80, chunk=40)])
    errors = (answers.reshape(80, *expected.shape) - expected).abs().flatten(1).amax(1) / expected.abs().max()
    assert (errors * torch.arange(1, 81)).max() <= BOUND


@pytest.mark.parametrize("name", ["LambdaShortcut", "ManyMaxPools", "Splits", "Sizes", "Squeeze", "UNet"])
def test_a_run_leaves_nothing_behind(name: str) -> None:
    _, graph = network(name)
    top = largest(graph, images(name, 8))
    snn = with_neurons(graph, lambda site: MSAT(top[site], Adaptation.resnet20()))
    first = simulate(snn, images(name, 3, seed=2), 9, record=graph.sites)
    simulate(snn, images(name, 5, seed=3), 7, chunk=3)  # another size of batch, another chunk
    again = simulate(snn, images(name, 3, seed=2), 9, record=graph.sites)
    assert torch.equal(first.output, again.output)
    assert all(torch.equal(first.values[s], again.values[s]) for s in graph.sites)


def test_the_network_in_single_precision_agrees_with_its_reference() -> None:
    """The compiled kernels, on the memory order that convolutions leave."""
    torch.set_default_dtype(torch.float32)
    for name in ("LambdaShortcut", "ManyMaxPools", "ViewAfterConv"):
        model = zoo.build(zoo.ZOO[name]).eval()
        x = zoo.inputs(zoo.ZOO[name], 3)
        graph = trace(model, x)
        top = largest(graph, x)
        snn = with_neurons(graph, lambda site, top=top: IF(1.05 * top[site]))
        expected = model(x)
        error = (simulate(snn, x, 80).output - expected).detach().abs().max() / expected.detach().abs().max()
        assert error <= BOUND / 80, name


def test_another_batch_without_reset_is_refused() -> None:
    _, graph = network("plain")
    snn = with_neurons(graph, lambda _site: IF(1.0))
    snn(images("plain", 2))
    with pytest.raises(ConversionError, match=r"Call reset\(\)"):
        snn(images("plain", 3))


def test_another_shape_of_input_is_refused() -> None:
    _, graph = network("plain")
    snn = with_neurons(graph, lambda _site: IF(1.0))
    with pytest.raises(DataError, match=r"converted for \(N, 6\)"):
        simulate(snn, torch.randn(2, 7), 3)


def test_values_are_freed_after_their_last_reader() -> None:
    """Of a chain of layers, a chunk keeps two moving values at a time."""
    depth = 8
    model = nn.Sequential(*(nn.Sequential(nn.Linear(6, 6), nn.ReLU()) for _ in range(depth)), nn.Linear(6, 3))
    snn = with_neurons(trace(model, torch.randn(2, 6)), lambda _site: Relu())
    program = snn.program
    alive = max(
        sum(1 for n in program.moving[: i + 1] if program.moving.index(program.last_reader.get(n, n)) >= i)
        for i in range(len(program.moving))
    )
    assert alive <= 3


# ---------------------------------------------------------------------------------- plan and graph


def test_a_plan_that_does_not_fit_is_refused_with_every_misfit() -> None:
    _, graph = network("plain")
    plan = Plan("test", {"2": IF(1.0), "1": IF(torch.ones(3))}, edits={"nowhere": torch.ones(2)})
    with pytest.raises(ConversionError) as error:
        SpikingModel(graph, plan)
    for words in ("no site 2", "1 has 8 channels and threshold of shape (3,)", "no parameter nowhere"):
        assert words in str(error.value)


def test_edits_reach_the_copy_and_not_the_graph() -> None:
    _, graph = network("plain")
    names = dict(graph.module.named_parameters())
    path = next(iter(names))
    before = names[path].clone()
    plan = Plan("test", {"1": IF(1.0)}, edits={path: torch.zeros_like(before)})
    snn = SpikingModel(graph, plan)
    assert not snn.module.get_parameter(path).any()
    assert torch.equal(names[path], before)


def test_neurons_are_in_the_order_of_execution_and_pools_are_not_among_them() -> None:
    _, graph = network("ManyMaxPools")
    snn = with_neurons(graph, lambda _site: IF(1.0))
    assert tuple(snn.neurons()) == graph.sites
    assert all(isinstance(neuron, SpikingNeuron) for neuron in snn.neurons().values())
    pools = [m for m in snn.module.modules() if isinstance(m, CumulativeMaxPool)]
    assert len(pools) == 5  # the two that see only the constant input stay as they are


# -------------------------------------------------------------------------------- exact max pooling

KINDS = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
ADAPTIVE = {1: nn.AdaptiveMaxPool1d, 2: nn.AdaptiveMaxPool2d, 3: nn.AdaptiveMaxPool3d}


@st.composite
def pools(draw: st.DrawFn) -> tuple[nn.Module, int]:
    """A max pooling, and its number of dimensions."""
    d = draw(st.integers(1, 3))
    form = draw(st.sampled_from(["fixed", "adaptive", "global"]))
    if form == "adaptive":
        return ADAPTIVE[d](draw(st.integers(1, 3))), d
    if form == "global":
        return AmaxPool(tuple(range(2, 2 + d)), keepdim=draw(st.booleans())), d
    kernel = draw(st.integers(1, 3))
    pool = KINDS[d](
        kernel,
        stride=draw(st.integers(1, 3)),
        padding=draw(st.integers(0, kernel // 2)),
        dilation=draw(st.integers(1, 2)),
        ceil_mode=draw(st.booleans()),
    )
    return pool, d


@given(pool=pools(), seed=st.integers(0, 2**31), chunk=st.integers(1, 6))
@settings(max_examples=20, deadline=None)
def test_pooled_charge_is_the_pool_of_the_charge(pool: tuple[nn.Module, int], seed: int, chunk: int) -> None:
    layer, d = pool
    x = torch.randn(6, 2, 3, *[6] * d, generator=torch.Generator().manual_seed(seed))  # (T, N, C, ...), of either sign
    cumulative = CumulativeMaxPool(layer)
    y = torch.cat([cumulative(part) for part in x.split(chunk)])
    for t in range(1, 7):
        torch.testing.assert_close(y[:t].sum(0), layer(x[:t].sum(0)), atol=1e-12, rtol=0)
    cumulative.reset()
    torch.testing.assert_close(torch.cat([cumulative(part) for part in x.split(1)]), y, atol=1e-12, rtol=0)


@pytest.mark.parametrize("edges", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("chunk", [1, 100])
def test_pooled_charge_of_half_precision_is_the_pool_of_the_charge(dtype: torch.dtype, edges: bool, chunk: int) -> None:
    layer, seed = nn.MaxPool1d(2), torch.Generator().manual_seed(0)
    held = torch.tensor([0.7]) + torch.rand(600, 2, 3, 8, generator=seed) / 16  # a constant and what rounds
    x = torch.cat([held[:1], held.diff(dim=0)] if edges else [held]).to(dtype)
    cumulative = CumulativeMaxPool(layer, edges)
    y = torch.cat([cumulative(part) for part in x.split(chunk)])
    assert y.dtype == dtype
    sums = [part.double().cumsum(0).sum(0) if edges else part.double().sum(0) for part in (x, y)]
    torch.testing.assert_close(sums[1], layer(sums[0]), atol=4 * torch.finfo(dtype).eps, rtol=1e-6)


@given(kernel=st.integers(1, 3), stride=st.integers(1, 3), dilation=st.integers(1, 2), seed=st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_max_pooling_equals_its_reference(kernel: int, stride: int, dilation: int, seed: int) -> None:
    padding = kernel // 2
    x = torch.randn(5, 8, generator=torch.Generator().manual_seed(seed))
    span = dilation * (kernel - 1)
    starts = range(-padding, 8 + padding - span, stride)
    windows = [[i for i in range(s, s + span + 1, dilation) if 0 <= i < 8] for s in starts]
    pool = CumulativeMaxPool(nn.MaxPool1d(kernel, stride, padding, dilation))
    expected = torch.from_numpy(cumulative_max_pool(x.numpy(), windows))
    torch.testing.assert_close(pool(x[:, None, None])[:, 0, 0], expected, atol=1e-12, rtol=0)
