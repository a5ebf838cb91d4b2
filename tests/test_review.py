"""Faults that a reviewer found, each with the example that showed it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import rheobase as rb
from rheobase.cli.samples import _may_overlap


class Rounding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        rounded: Tensor = self.last((torch.relu(self.first(x)) * 5).to(torch.int32).float())
        return rounded


def normalised() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))


def test_a_cast_to_integers_is_no_affine_operation() -> None:
    with pytest.raises(rb.UnsupportedOperationError, match="to"):
        rb.trace(Rounding(), torch.rand(2, 4))


def test_load_notices_another_batch_norm(tmp_path: Path) -> None:
    model = normalised()
    rb.convert(model, torch.rand(20, 4), rb.MSAT()).save(tmp_path / "net.rheobase")
    rb.load(tmp_path / "net.rheobase", model)
    model[0].running_mean += 5  # type: ignore[operator]
    with pytest.raises(rb.ConversionError, match="other weights"):
        rb.load(tmp_path / "net.rheobase", model)


def test_layers_draw_different_numbers_without_a_generator() -> None:
    snn = rb.convert(normalised(), torch.rand(20, 4), rb.MSAT(confidence=True, confidence_sites="all"))
    snn.reset()
    first, second = (neuron.key for neuron in snn.neurons().values())
    snn.reset()
    assert first != second
    assert [neuron.key for neuron in snn.neurons().values()] == [first, second]


def test_an_unknown_confidence_site_is_found_before_anything_is_measured() -> None:
    graph = rb.trace(normalised(), torch.rand(2, 4))
    method = rb.MSAT(confidence=True, confidence_sites="typo")
    with pytest.raises(rb.SettingError, match="typo"):
        method.plan(graph, rb.observe(graph, torch.rand(20, 4), method.observer()))


def test_a_plan_alone_is_not_loaded_as_a_network(tmp_path: Path) -> None:
    model = normalised()
    rb.convert(model, torch.rand(20, 4), rb.MSAT()).plan.save(tmp_path / "plan")
    with pytest.raises(rb.DataError, match="plan alone"):
        rb.load(tmp_path / "plan", model)


def test_an_input_of_another_precision_is_an_error_that_says_so() -> None:
    snn = rb.convert(normalised(), torch.rand(20, 4), rb.MSAT())
    with pytest.raises(rb.DataError, match="float64"):
        rb.simulate(snn, torch.rand(3, 4).double(), 4)


@pytest.mark.parametrize("split", ["train+test", "all"])
def test_splits_that_contain_the_test_split_overlap_it(split: str) -> None:
    assert _may_overlap("test", split)
    assert not _may_overlap("test", "train")
