"""Input codings and read-outs, by themselves and through whole networks."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

import zoo
from rheobase.coding import Delayed, Mean, MeanOfSums, Poisson, Readout, RunningSum, SentOnce
from rheobase.errors import SettingError
from rheobase.graph import Graph, trace
from rheobase.neurons import IF, GradedIF
from rheobase.observers import Max, observe
from rheobase.plan import Plan
from rheobase.simulation import simulate, stream
from rheobase.spiking import SpikingModel
from rheobase.thresholds import scales


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@functools.cache
def network(name: str) -> tuple[nn.Module, Graph, Tensor]:
    torch.manual_seed(0)
    model = zoo.build(zoo.ZOO[name]).double().eval()
    x = zoo.inputs(zoo.ZOO[name], 3, 1).double()
    return model, trace(model, x[:2]), x


@pytest.mark.parametrize("name", zoo.ZOO)
@pytest.mark.parametrize("chunk", [1, 3])
@torch.no_grad()
def test_changes_sent_exactly_add_up_to_the_network(name: str, chunk: int) -> None:
    """With thresholds fine enough to send any change at once, the sum is the ANN's answer from step 1 on."""
    model, graph, x = network(name)
    maxima = scales(observe(graph, x, Max()))
    fine = {site: GradedIF(2.0**-14 * maximum, 2**16) for site, maximum in maxima.items()}
    snn = SpikingModel(graph, Plan("fine", fine, SentOnce(), RunningSum()))
    expected = model(x.clone())  # some work in place on their input
    for part in stream(snn, x, 4, chunk=chunk):
        for answer in part.answers:
            torch.testing.assert_close(answer, expected, rtol=0, atol=1e-2 * (1 + float(expected.abs().max())))


@pytest.mark.parametrize("name", zoo.ZOO)
@pytest.mark.parametrize("events", ["always", "never"])
@torch.no_grad()
def test_in_single_precision_too_and_after_a_batch_of_zeros(name: str, events: str) -> None:
    torch.set_default_dtype(torch.float32)
    model, graph, x = single(name)
    fine = {site: GradedIF(2.0**-14 * m, 2**16) for site, m in scales(observe(graph, x, Max())).items()}
    snn = SpikingModel(graph, Plan("fine", fine, SentOnce(), RunningSum()))
    snn.events = events  # type: ignore[assignment]
    simulate(snn, torch.zeros_like(x), 2)
    expected = model(x.clone())
    answer = simulate(snn, x, 4, chunk=3).output
    torch.testing.assert_close(answer, expected, rtol=0, atol=2e-2 * (1 + float(expected.abs().max())))


@functools.cache
def single(name: str) -> tuple[nn.Module, Graph, Tensor]:
    torch.manual_seed(0)
    model = zoo.build(zoo.ZOO[name]).float().eval()
    x = zoo.inputs(zoo.ZOO[name], 3, 1)
    x = x.float() if x.is_floating_point() else x
    return model, trace(model, x[:2]), x


class Skip(nn.Module):
    """A path from the input around the neurons, which is nothing for an input of zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.k = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(6, 8, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return (self.b(self.a(x).relu()) + self.k(x)).relu()


@torch.no_grad()
def test_a_first_batch_of_zeros_changes_nothing_for_later_ones() -> None:
    torch.manual_seed(0)
    model, x = Skip().eval(), torch.randn(5, 6)
    graph = trace(model, x)
    fine = {site: GradedIF(1e-4, 2**16) for site in graph.sites}
    snn = SpikingModel(graph, Plan("fine", fine, SentOnce(), RunningSum()))
    simulate(snn, torch.zeros(1, 6), 3)
    torch.testing.assert_close(simulate(snn, x, 6).output, model(x), atol=1e-2, rtol=0)


@torch.no_grad()
def test_changes_stop_when_everything_has_been_sent() -> None:
    _, graph, x = network("LambdaShortcut")
    fine = {site: GradedIF(torch.tensor(2.0**-10, dtype=torch.float64), 2**16) for site in graph.sites}
    run = simulate(SpikingModel(graph, Plan("fine", fine, SentOnce(), RunningSum())), x, 6)
    assert all(int(spikes[0]) > 0 and int(spikes[4:].sum()) == 0 for spikes in run.spikes.values())


def outputs(steps: int) -> Tensor:
    return torch.randn(steps, 2, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


@pytest.mark.parametrize("readout", [Mean(), RunningSum(), MeanOfSums(), Delayed(0), Delayed(3), Delayed(20)], ids=repr)
@pytest.mark.parametrize("sizes", [[7], [1] * 7, [2, 3, 2], [4, 3]], ids=str)
def test_a_readout_does_not_depend_on_the_chunks(readout: Readout, sizes: list[int]) -> None:
    o, state, first, answers = outputs(7), None, 1, []
    for part in o.split(sizes):
        read, state = readout.read(part, first, state)
        answers.append(read)
        first += len(part)
    torch.testing.assert_close(torch.cat(answers), readout.read(o, 1, None)[0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("readout", [Mean(), RunningSum(), MeanOfSums(), Delayed(100)], ids=repr)
@pytest.mark.parametrize("chunk", [1, 32])
def test_many_outputs_of_half_precision_are_added_up_without_rounding(
    readout: Readout, dtype: torch.dtype, chunk: int
) -> None:
    o, state, answers = torch.full((1024, 1), 0.7, dtype=dtype), None, []
    for done, part in enumerate(o.split(chunk)):
        read, state = readout.read(part, 1 + done * chunk, state)
        answers.append(read)
    expected = readout.read(o.double(), 1, None)[0].to(dtype)
    torch.testing.assert_close(torch.cat(answers), expected, rtol=torch.finfo(dtype).eps, atol=0)


def test_the_readouts_say_what_their_equations_say() -> None:
    o = outputs(6)
    for t in range(1, 7):
        before = o[:t]
        torch.testing.assert_close(Mean().read(o, 1, None)[0][t - 1], before.mean(0))
        torch.testing.assert_close(RunningSum().read(o, 1, None)[0][t - 1], before.sum(0))
        torch.testing.assert_close(MeanOfSums().read(o, 1, None)[0][t - 1], before.cumsum(0).mean(0))
        expected = before.mean(0) if t <= 2 else before[2:].mean(0)
        torch.testing.assert_close(Delayed(2).read(o, 1, None)[0][t - 1], expected)


def test_poisson_spikes_have_the_size_and_the_mean_of_the_input() -> None:
    x = torch.tensor([[0.5, -0.25, 0.0, 2.0]])
    spikes = Poisson(2.0).encode(x, 4000, torch.Generator().manual_seed(0))
    assert set(spikes.unique().tolist()) == {-2.0, 0.0, 2.0}
    torch.testing.assert_close(spikes.mean(0), x, atol=0.06, rtol=0)


def two_layers() -> tuple[Graph, Tensor]:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(6, 20), nn.ReLU(), nn.Linear(20, 3)).eval()
    x = torch.rand(5, 6)
    return trace(model, x), x


@torch.no_grad()
def test_a_network_with_random_input_repeats_with_its_generator_and_converges() -> None:
    graph, x = two_layers()
    neurons = {s: IF(torch.tensor(0.5), 0.25) for s in graph.sites}
    snn = SpikingModel(graph, Plan("p", neurons, Poisson(1.0)))
    assert snn.random
    first, again, other = (
        simulate(snn, x, 40, generator=torch.Generator().manual_seed(seed)).output for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    constant = simulate(SpikingModel(graph, Plan("c", neurons)), x, 4000).output
    torch.testing.assert_close(simulate(snn, x, 4000).output, constant, atol=0.15, rtol=0)


class Waiting(IF):
    """A neuron that is not causal."""

    causal = False


def test_a_layer_synchronous_network_runs_all_its_steps_at_once() -> None:
    graph, x = two_layers()
    snn = SpikingModel(graph, Plan("w", {s: Waiting(torch.tensor(0.5)) for s in graph.sites}))
    assert [len(part.answers) for part in stream(snn, x, 300)] == [300]
    with pytest.raises(SettingError, match="layer-synchronous"):
        simulate(snn, x, 8, chunk=4)


@pytest.mark.parametrize("bad", [lambda: Poisson(0.0), lambda: Delayed(-1)])
def test_a_coding_out_of_range_is_refused(bad: Callable[[], object]) -> None:
    with pytest.raises(SettingError):
        bad()
