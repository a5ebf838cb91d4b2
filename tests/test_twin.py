"""The quantised twin: how many levels it has, and how good it is on test data."""

from __future__ import annotations

import itertools

import pytest
import torch
from networks import MLP_INPUT, inputs, mlp

import rheobase as rb
from rheobase.errors import DataError, SettingError
from rheobase.methods import MultiLevel, RateCoding, SpikeConverter
from rheobase.neurons import Alphabet, Payload
from rheobase.observers import MMSE, observe
from rheobase.quantisation import quantised_twin
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
