"""The quantised twin: how many levels it has, and how good it is on test data."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from networks import MLP_INPUT, inputs, mlp

import rheobase as rb
from rheobase.errors import DataError, SettingError
from rheobase.methods import SRP, MultiLevel, RateCoding, SpikeConverter
from rheobase.neurons import Alphabet, Biased, GradedIF, Payload
from rheobase.observers import MMSE, observe
from rheobase.qcfs import ClipFloorShift
from rheobase.quantisation import fitted_twin, quantised_twin
from rheobase.thresholds import scales
from rheobase.twin import evaluate_twin, levels_after

X = inputs(MLP_INPUT, 90, seed=3).float()


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("payload", "levels", "signed", "symbols"),
    [
        (Payload.BINARY, 1, False, [0, 1]),
        (Payload.TERNARY, 1, False, [-1, 0, 1]),
        (Payload.INTEGER, 3, False, [0, 1, 2, 3]),
        (Payload.INTEGER, 3, True, [-3, -2, -1, 0, 1, 2, 3]),
        (Payload.POWER_OF_TWO, 3, True, [-4, -2, -1, 0, 1, 2, 4]),
    ],
)
def test_the_sums_of_spikes_have_as_many_values_as_said(
    payload: Payload, levels: int, signed: bool, symbols: list[int], steps: int, weighted: bool
) -> None:
    alphabet = Alphabet(payload, levels, step_weighted=weighted, signed=signed)
    values = [1000**t if weighted else 1 for t in range(steps)]
    sums = {sum(a * s for a, s in zip(values, sent, strict=True)) for sent in itertools.product(symbols, repeat=steps)}
    above = {total for total in sums if total > 0}
    if payload is Payload.POWER_OF_TWO and not weighted:  # a grid, of which some places stay empty
        assert alphabet.levels_after(steps) == max(above)
    else:
        assert alphabet.levels_after(steps) == len(above)


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize(
    ("settings", "rows"),
    [
        ({"doubled": True}, [1.0, 0.3, 0.1]),
        ({"doubled": True, "levels": 2}, [1.0, 0.9, 0.1]),
        ({"signed": False, "memory": False}, [1.0, 2.0, 2.0]),  # two stages: some sums come about in two ways
        ({"levels": 2, "powers": True}, [1.0, 0.5, 1 / 3]),
        ({"levels": 3}, [1.0, 1.0, 1.0]),
    ],
)
def test_a_graded_neuron_counts_the_sums_of_its_own_schedule(
    settings: dict[str, Any], rows: list[float], steps: int
) -> None:
    neuron = GradedIF(torch.tensor(rows)[:, None], **settings)
    sizes = [0.5**i for i in range(neuron.levels)] if neuron.powers else [*range(1, neuron.levels + 1)]
    usual = [0, *sizes, *([-size for size in sizes] if neuron.signed else [])]
    first = range(2 * neuron.levels + 1) if neuron.doubled else usual
    choices = [[row * symbol for symbol in (usual if t else first)] for t, row in enumerate(rows[:steps])]
    above = {round(sum(sent), 4) for sent in itertools.product(*choices)}
    assert neuron.levels_after(steps) == sum(total > 0 for total in above)
    assert Biased(neuron, 0.1).levels_after(steps) == neuron.levels_after(steps)


def test_a_ternary_neuron_sends_all_that_it_counts() -> None:
    neuron = GradedIF(torch.tensor([[1.0], [0.3]]), doubled=True)
    currents = torch.stack(torch.meshgrid(torch.linspace(0, 3, 40), torch.linspace(-3, 3, 40), indexing="ij"))
    sums = neuron(currents.reshape(2, -1)[..., None]).sum(0)
    assert len(sums[sums > 0].unique()) == neuron.levels_after(2) == 7


def test_only_steps_that_are_read_count() -> None:
    snn = rb.convert(mlp(), X, SRP(steps=8))
    assert levels_after(snn.plan, snn.plan.steps or 0) == 8


@pytest.mark.parametrize("levels", [2, 4])
def test_a_network_that_was_trained_with_few_levels_is_its_own_twin(levels: int) -> None:
    net = mlp()
    for path in ("1", "3"):
        net.set_submodule(path, ClipFloorShift(levels, 0.8))
    graph = rb.trace(net, X[:2])
    with torch.no_grad():
        torch.testing.assert_close(fitted_twin(graph, X, levels)(X), net(X))


def test_real_spikes_have_no_number_of_levels() -> None:
    assert Alphabet(Payload.REAL).levels_after(4) is None


def test_a_network_has_the_levels_of_its_finest_site_up_to_eight_bits() -> None:
    net = mlp()
    assert levels_after(rb.convert(net, X, RateCoding(steps=6)).plan, 6) == 6
    assert levels_after(rb.convert(net, X, MultiLevel(steps=2)).plan, 2) == 30
    assert levels_after(rb.convert(net, X, SpikeConverter(steps=16)).plan, 16) == 255
    assert levels_after(rb.convert(net, X, rb.MSAT()).plan, 6) is None


def test_the_twin_is_the_quantised_network_on_the_test_data() -> None:
    net, graph = mlp(), rb.trace(mlp(), X[:2])
    calibration, test = X[:40], X[40:]
    with torch.no_grad():
        wanted = net(test).argmax(1)
        clips = scales(observe(graph, [calibration], MMSE(1)))
        answers = quantised_twin(graph, clips, 1, batches=calibration)(test).argmax(1)
    labels = torch.where(torch.arange(50) % 5 == 0, (wanted + 1) % 4, wanted)
    found = evaluate_twin(graph, calibration, [(test[:30], labels[:30]), (test[30:], labels[30:])], 1)
    assert (found.levels, found.images) == (1, 50)
    assert found.accuracy == pytest.approx(float((answers == labels).double().mean()))
    assert found.agreement == pytest.approx(float((answers == wanted).double().mean()))
    assert found.agreement < 1
    unlabelled = evaluate_twin(graph, calibration, test, 1)
    assert (unlabelled.accuracy, unlabelled.agreement) == (None, found.agreement)


def test_what_cannot_be_a_twin_says_why() -> None:
    graph = rb.trace(mlp(), X[:2])
    with pytest.raises(SettingError, match=r"levels.* is 0"):
        evaluate_twin(graph, X, X, 0)
    with pytest.raises(DataError, match="Batch 0"):
        evaluate_twin(graph, X, torch.rand(4, 5), 3)
