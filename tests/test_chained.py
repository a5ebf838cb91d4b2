"""A layer from events in one pass with the neurons that it feeds: the same bits as one after the other."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import rheobase as rb
from rheobase import kernels
from rheobase.execution import Execution
from rheobase.kernels import EventLayer, chained, cpu
from rheobase.methods import BDETT, RateCoding, SignedMemory, TemporalBias, ThresholdBalancing
from rheobase.methods._base import Method
from rheobase.neurons import IF, Biased, GradedIF
from rheobase.neurons.biased import BiasedState
from rheobase.neurons.integrate_fire import IFState
from rheobase.spiking import SpikingModel

METHODS = (
    rb.ConstantThreshold(),
    rb.ConstantThreshold(per_channel=True, initial_potential=0.5),
    rb.ConstantThreshold(reset="hard"),
    rb.MSAT(confidence=False),
    BDETT(),
    TemporalBias(steps=8, calibration="temporal", passes=2),
    SignedMemory(steps=8),
    RateCoding(steps=4, levels=3, powers=True, signed=True, fire=0.75),
)
STEPS = 7
ONE = torch.tensor(1.0)


class Block(nn.Module):
    """Layers of 16 channels, of 32 and of 48, one of them with a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.second = nn.Conv2d(16, 16, 3, padding=1)
        self.third = nn.Conv2d(16, 16, 3, padding=1)
        self.fourth = nn.Conv2d(16, 32, 3, padding=1, bias=False)
        self.fifth = nn.Conv2d(32, 48, 3, stride=2, padding=1)
        self.last = nn.Linear(48 * 5 * 5, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).relu()
        x = (self.third(self.second(x).relu()) + x).relu()
        x = self.fifth(self.fourth(x).relu()).relu()
        answers: Tensor = self.last(x.flatten(1))
        return answers


@pytest.fixture
def case() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    return Block().eval(), torch.rand(2 * torch.get_num_threads() + 1, 3, 10, 9)


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The layers that were computed together with their neurons, or by themselves."""
    found: list[str] = []

    def spy(name: str, function: Callable[..., object]) -> Callable[..., object]:
        def run(*arguments: object, **keywords: object) -> object:
            result = function(*arguments, **keywords)
            if result is not None or name == "apart":
                found.append(name)
            return result

        return run

    monkeypatch.setattr(chained, "together", spy("together", chained.together))
    monkeypatch.setattr(cpu, "compute", spy("apart", cpu.compute))
    return found


def simulated(snn: rb.SpikingModel, x: Tensor, **settings: Any) -> tuple[Tensor, dict[str, Tensor]]:
    snn.events = "always"
    with torch.no_grad():
        run = rb.simulate(snn, x, STEPS, **settings)
    return run.output, run.spikes


@pytest.mark.parametrize("method", METHODS, ids=repr)
@pytest.mark.parametrize("chunk", [STEPS, 3])
@pytest.mark.parametrize("room", [2**17, 2 * 16 * 10 * 9])
def test_together_they_give_the_same_bits(
    method: Method,
    chunk: int,
    room: int,
    case: tuple[nn.Module, Tensor],
    launched: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, x = case
    snn = rb.convert(model, x, method)
    monkeypatch.setattr(chained, "_IN_CACHE", room)  # of the smaller one, two steps of the second layer are a part
    output, spikes = simulated(snn, x, chunk=chunk)
    chunks = -(-STEPS // chunk)
    assert launched.count("together") == 4 * chunks
    monkeypatch.setattr(Execution, "_goes_with_neurons", lambda *_: False)
    launched.clear()
    apart, spikes_apart = simulated(snn, x, chunk=chunk)
    assert "together" not in launched
    assert torch.equal(output, apart)
    assert all(torch.equal(spikes[site], spikes_apart[site]) for site in spikes_apart)
    assert sum(int(n.sum()) for n in spikes.values()) > 0


def test_so_they_do_where_the_first_step_is_another_and_thresholds_change(
    case: tuple[nn.Module, Tensor], launched: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, x = case
    snn = rb.convert(model, x, rb.ConstantThreshold(fraction=0.3))
    schedule = torch.linspace(1, 0.5, STEPS)[:, None]
    neurons = {
        site: Biased(GradedIF(neuron.threshold * schedule, levels=2, doubled=True), 0.01 * schedule)
        for site, neuron in snn.neurons().items()
    }
    snn = SpikingModel(snn.graph, dataclasses.replace(snn.plan, neurons=neurons))
    monkeypatch.setattr(chained, "_IN_CACHE", 2 * 16 * 10 * 9)
    output, spikes = simulated(snn, x, chunk=5)
    assert launched.count("together") == 8
    snn.backend = "reference"
    plain, plain_spikes = simulated(snn, x, chunk=5)
    assert torch.equal(output, plain)
    assert all(torch.equal(spikes[site], plain_spikes[site]) for site in spikes)


def test_a_neuron_without_the_kernel_gets_its_currents_first(
    case: tuple[nn.Module, Tensor], launched: list[str]
) -> None:
    model, x = case
    snn = rb.convert(model, x, rb.ConstantThreshold())
    output, spikes = simulated(snn, x)
    launched.clear()
    snn.backend = "reference"
    plain, plain_spikes = simulated(snn, x)
    assert launched == ["apart"] * 5  # and the last layer, which feeds none
    assert torch.equal(output, plain)
    assert all(torch.equal(spikes[site], plain_spikes[site]) for site in spikes)


@pytest.mark.parametrize("which", ["neuron", "layer"])
def test_nothing_waits_where_somebody_looks(which: str, case: tuple[nn.Module, Tensor], launched: list[str]) -> None:
    model, x = case
    snn = rb.convert(model, x, rb.ConstantThreshold())
    output, _ = simulated(snn, x)
    launched.clear()
    seen: list[Tensor] = []
    watched = next(iter(snn.neurons().values())) if which == "neuron" else snn.module.get_submodule("second")
    watched.register_forward_hook(lambda _layer, given, sent: seen.append(sent.clone()))
    watched.register_forward_pre_hook(lambda _layer, given: seen.append(given[0].clone()))
    again, _ = simulated(snn, x)
    assert torch.equal(output, again)
    assert all(bool(torch.isfinite(values).all()) for values in seen)
    assert len(seen) == 2
    assert launched.count("together") == (4 if which == "neuron" else 3)


def test_few_samples_are_not_worth_it(case: tuple[nn.Module, Tensor], launched: list[str]) -> None:
    model, x = case
    snn = rb.convert(model, x, rb.ConstantThreshold())
    simulated(snn, x[: 2 * torch.get_num_threads() - 1])
    assert "together" not in launched


def test_layers_that_are_no_convolutions_count_right() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 64, 4)
    )
    x = torch.rand(2 * torch.get_num_threads() + 1, 8, 64)
    snn = rb.convert(model.eval(), x, rb.ConstantThreshold())
    output, spikes = simulated(snn, x)
    snn.backend = "reference"
    plain, plain_spikes = simulated(snn, x)
    assert torch.equal(output, plain)
    assert all(torch.equal(spikes[site], plain_spikes[site]) for site in spikes)


def test_a_kernel_that_counts_rows_of_other_samples_has_its_layer_first() -> None:
    layer = EventLayer(nn.Conv2d(16, 16, 3, padding=1))
    x = (torch.rand(12, 16, 9, 9) < 0.2).float().to(memory_format=torch.channels_last)  # three rows of two samples
    waits: list[chained.Waiting] = []
    counts = torch.full((2, 2), -1)
    with torch.no_grad():
        expected = kernels.if_scan(layer(x, "always").view(2, 2, 3, 16, 9, 9), torch.zeros(2, 3, 16, 9, 9), ONE)[0]
        current = layer(x, "always", waits=waits).view(2, 2, 3, 16, 9, 9)
        with chained.before(waits[0]):
            values, _ = kernels.if_scan(current, torch.zeros(2, 3, 16, 9, 9), ONE, counts=counts)
    assert torch.equal(values, expected)
    assert torch.equal(counts, (expected != 0).flatten(2).sum(2))


@pytest.mark.parametrize("settings", [{"until": rb.Exit(on="margin", threshold=0.05, first_step=2)}, {}])
def test_samples_may_leave_and_the_input_may_move(
    settings: dict[str, Any], case: tuple[nn.Module, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, x = case
    snn = rb.convert(model, x, rb.ConstantThreshold(percentile=99.0) if settings else ThresholdBalancing(poisson=True))
    output, spikes = simulated(snn, x, **settings, chunk=2)
    monkeypatch.setattr(Execution, "_goes_with_neurons", lambda *_: False)
    apart, spikes_apart = simulated(snn, x, **settings, chunk=2)
    assert torch.equal(output, apart)
    assert all(torch.equal(spikes[site], spikes_apart[site]) for site in spikes)


def test_a_potential_that_is_tuned_keeps_its_gradient() -> None:
    neuron = Biased(GradedIF(1.0), torch.zeros(3))
    potential = torch.zeros((), requires_grad=True)
    neuron.potential = potential
    neuron(torch.rand(4, 2, 3)).sum().backward()
    assert potential.grad is not None
    assert float(potential.grad) != 0


class HalfOfTheFirst(IF):
    """Begins with half of what it receives first."""

    def initial_state(self, current: Tensor) -> IFState:
        return IFState(0.5 * current)


class Twice(IF):
    """Has a scan of its own, which reads its current."""

    def scan(
        self, current: Tensor, state: IFState, overwrite: bool = False, counts: Tensor | None = None
    ) -> tuple[Tensor, IFState]:
        return super().scan(2 * current, state)


class Doubling:
    """A mixin whose scan reads its current."""

    def scan(self, current: Tensor, state: IFState, **options: object) -> tuple[Tensor, IFState]:
        values, after = super().scan(2 * current, state, **options)  # type: ignore[misc]
        return values, after


class Double(Doubling, IF):  # type: ignore[misc]
    """Has the scan of the mixin."""


class FromHalf(Biased):
    """Begins with half of what it receives first."""

    def initial_state(self, current: Tensor) -> BiasedState:
        state = super().initial_state(current)
        return state._replace(inner=state.inner._replace(potential=0.5 * current))


class Same(IF):
    """Has nothing of its own."""


def test_a_neuron_that_reads_its_current_itself_is_not_chained() -> None:
    assert IF.chains
    assert Same.chains
    assert not HalfOfTheFirst.chains
    assert not Twice.chains
    assert not Double.chains
    assert not Double.overwrites
    assert not Double.counting
    assert Biased(GradedIF(1.0)).chains
    assert not Biased(IF(1.0)).chains  # which takes no bias
    assert not FromHalf(GradedIF(1.0)).chains
