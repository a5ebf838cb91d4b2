"""Conversion takes whatever holds calibration data, and says first what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from networks import MLP_INPUT, RESIDUAL_INPUT, dyadic, inputs, maxima, mlp, residual
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import rheobase as rb
from rheobase.errors import ConversionError, DataError, SettingError, UnsupportedOperationError
from rheobase.methods import MSAT, ConstantThreshold
from rheobase.neurons import SpikeConfidence

X = inputs(MLP_INPUT, 30, seed=3, denominator=8).float()
Y = torch.arange(30) % 4


class _Stream(IterableDataset[Tensor]):
    def __iter__(self) -> Iterator[Tensor]:
        yield from X.split(7)


class _Dicts(Dataset[dict[str, Any]]):
    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"pixel_values": X[index], "label": int(Y[index])}


SOURCES: dict[str, Callable[[], object]] = {
    "tensor": lambda: X,
    "float64": lambda: X.double(),
    "array": lambda: X.numpy(),
    "list": lambda: list(X.split(7)),
    "split": lambda: X.split(7),
    "generator": lambda: (x for x in X.split(7)),
    "pair": lambda: (X, Y),
    "pairs": lambda: [(x, y) for x, y in zip(X.split(7), Y.split(7), strict=True)],
    "pairs of a generator": lambda: ([x, y] for x, y in zip(X.split(7), Y.split(7), strict=True)),
    "mapping": lambda: {"img": X, "label": Y},
    "mappings": lambda: [{"x": x.numpy()} for x in X.split(11)],
    "loader": lambda: DataLoader(TensorDataset(X), batch_size=4),
    "loader of pairs": lambda: DataLoader(TensorDataset(X, Y), batch_size=13, shuffle=True),
    "loader of dictionaries": lambda: DataLoader(_Dicts(), batch_size=30),
    "stream": _Stream,
}


def fingerprint(snn: rb.SpikingModel) -> tuple[str, list[float], list[float]]:
    neurons = snn.plan.neurons.values()
    probabilities = [n.probability for n in neurons if isinstance(n, SpikeConfidence)]
    thresholds = [v.item() for n in neurons for v in n.state_dict().values()]
    return str(snn.plan), thresholds, probabilities


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("method", [ConstantThreshold(), MSAT(confidence=True, confidence_sites="all")], ids=repr)
def test_the_form_of_the_calibration_data_does_not_change_the_plan(source: str, method: MSAT) -> None:
    net = dyadic(mlp(1))  # no rounding, so that the split into batches cannot change a sum
    found = fingerprint(rb.convert(net, SOURCES[source](), method))
    assert found == fingerprint(rb.convert(net, X, method))
    assert found[1]
    if isinstance(method, MSAT):
        assert min(found[2]) < 1


def test_without_a_method_one_is_chosen_and_the_reason_given() -> None:
    plan = rb.convert(mlp(), X).plan
    assert plan.method in plan.reason
    assert plan.reason == rb.convert(mlp(), X, rb.Auto()).plan.reason


def test_one_calibration_image_is_enough() -> None:
    for net, shape in ((mlp(), MLP_INPUT), (residual(), RESIDUAL_INPUT)):
        x = inputs(shape, 1).float()
        assert rb.simulate(rb.convert(net, x, ConstantThreshold()), x, 5).output.shape[0] == 1


def test_all_calibration_images_count() -> None:
    x = X.clone()
    x[-1] *= 100
    snn = rb.convert(mlp(), DataLoader(TensorDataset(x), batch_size=7), ConstantThreshold())
    assert float(snn.plan.neurons["1"].threshold) == pytest.approx(maxima(mlp(), x)["1"])  # type: ignore[arg-type]


def test_the_network_is_converted_as_in_evaluation_mode() -> None:
    x = inputs(RESIDUAL_INPUT, 20).float()
    net = residual().train()
    assert fingerprint(rb.convert(net, x, MSAT())) == fingerprint(rb.convert(residual(), x, MSAT()))


def test_later_changes_of_the_network_do_not_reach_the_converted_one() -> None:
    net = mlp()
    snn = rb.convert(net, X, ConstantThreshold())
    before = rb.simulate(snn, X, 5).output
    for parameter in net.parameters():
        parameter.data.zero_()
    assert torch.equal(rb.simulate(snn, X, 5).output, before)


@pytest.mark.parametrize("method", [MSAT, "MSAT()", 0.5])
def test_what_is_no_method_is_an_error(method: Any) -> None:
    with pytest.raises(SettingError, match=r"give an instance such as rheobase\.MSAT\(\)"):
        rb.convert(mlp(), X, method)


class Shuffled(nn.Module):
    """A network whose first parameter is of whole numbers: the places that its inputs go to."""

    def __init__(self) -> None:
        super().__init__()
        self.places = nn.Parameter(torch.arange(8).flip(0), requires_grad=False)
        self.body = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.body(x[:, self.places])
        return answer


@pytest.mark.parametrize("threshold", [99.9, "gaussian"])
def test_a_parameter_of_whole_numbers_says_nothing_of_the_type_of_a_network(threshold: Any, tmp_path: Any) -> None:
    """`Tuned` changes the weights too."""
    torch.manual_seed(0)
    net, x = Shuffled().eval(), torch.rand(64, 8)
    method = rb.methods.RateCoding(steps=4, threshold=threshold, iterations=2, weight_rate=0.1)
    snn = rb.convert(net, x, method)
    plain = rb.convert(net.body, x[:, net.places], method)
    answer = rb.simulate(snn, x, 4).output
    assert torch.equal(answer, rb.simulate(plain, x[:, net.places], 4).output)
    assert any("weight" in name for name in snn.plan.edits)
    snn.save(tmp_path / "net")
    assert torch.equal(rb.simulate(rb.load(tmp_path / "net", net), x, 4).output, answer)


def test_a_network_that_is_none_is_an_error() -> None:
    with pytest.raises(ConversionError, match="Module"):
        rb.convert(lambda x: x, X)  # type: ignore[arg-type]


def test_a_network_that_answers_nan_is_an_error() -> None:
    net = mlp()
    net.get_parameter("4.weight").data[2] = torch.nan
    with pytest.raises(DataError, match=r"answers NaN or infinite values .* such values: 4\.weight"):
        rb.convert(net, X, MSAT())


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize(
    ("around", "words"),
    [
        (lambda net: rb.convert(net, X, MSAT()), "converted already"),
        (lambda net: torch.jit.trace(net, X), "TorchScript"),
        (nn.DataParallel, "net.module"),
        (lambda net: torch.compile(net, backend="eager"), "net._orig_mod"),
        (lambda net: net.to("meta"), "meta device"),
    ],
)
def test_what_is_around_a_network_or_made_of_it_is_an_error(around: Any, words: str) -> None:
    with pytest.raises(ConversionError, match=words):
        rb.convert(around(mlp()), X, MSAT())


@pytest.mark.parametrize("at", [0, 17])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_calibration_data_that_are_not_finite_are_an_error(at: int, value: float) -> None:
    x = X.clone()
    x[at, 2] = value
    with pytest.raises(DataError, match="NaN or infinite values"):
        rb.convert(mlp(), list(x.split(7)))


@pytest.mark.parametrize("source", [[], X[:0], np.zeros((0, 6)), DataLoader(TensorDataset(X[:0])), iter([])])
def test_no_calibration_data_are_an_error(source: object) -> None:
    with pytest.raises(DataError):
        rb.convert(mlp(), source)


def test_data_of_another_shape_are_an_error() -> None:
    with pytest.raises(ConversionError):
        rb.convert(mlp(), torch.rand(5, 7))
    with pytest.raises(DataError, match=r"[Bb]atch 1"):
        rb.convert(mlp(), [X, torch.rand(5, 7)])


def test_a_network_without_sites_is_an_error() -> None:
    with pytest.raises(UnsupportedOperationError, match="no ReLU"):
        rb.convert(nn.Linear(6, 2), X)
