"""Whatever a loader yields becomes the same batch, and what cannot be one is named."""

from __future__ import annotations

from collections import UserDict, namedtuple
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from rheobase.batches import Batch, as_batch, as_batches
from rheobase.errors import DataError

X = torch.arange(12.0).reshape(2, 6)
Y = torch.tensor([3, 1])
Pair = namedtuple("Pair", ["x", "y"])
Unnamed = namedtuple("Unnamed", ["first", "second"])


@dataclass
class Sample:
    inputs: Tensor
    target: Tensor


LABELLED = {
    "tuple": (X, Y),
    "list": [X, Y],
    "arrays": (X.numpy(), Y.numpy()),
    "small integers": (X, Y.to(torch.uint8)),
    "integer list": (X, [3, 1]),
    "column of labels": (X, Y[:, None]),
    "batch": Batch(X, Y),
    "named tuple": Pair(X, Y),
    "named tuple with other names": Unnamed(X, Y),
    "dataclass": Sample(X, Y),
    "cifar": {"img": X, "label": Y},
    "transformers": UserDict({"pixel_values": X, "labels": Y}),
    "audio": {"id": ["a", "b"], "input_values": X.numpy(), "target": Y},
    "two sorts of label": {"fine_label": Y, "coarse_label": Y + 1, "image": X},
}
UNLABELLED = {
    "tensor": X,
    "array": X.numpy(),
    "tuple": (X,),
    "list": [X],
    "mapping": {"x": X},
    "none": (X, None),
}


@pytest.mark.parametrize("item", LABELLED.values(), ids=LABELLED.keys())
def test_every_labelled_structure_gives_the_same_batch(item: object) -> None:
    inputs, labels = as_batch(item)
    assert torch.equal(inputs, X)
    assert labels is not None
    assert labels.dtype == torch.int64
    assert torch.equal(labels, Y)


@pytest.mark.parametrize("item", UNLABELLED.values(), ids=UNLABELLED.keys())
def test_every_unlabelled_structure_gives_the_same_batch(item: object) -> None:
    inputs, labels = as_batch(item)
    assert torch.equal(inputs, X)
    assert labels is None


def test_float64_arrays_become_the_type_of_the_network() -> None:
    assert as_batch(X.double().numpy(), dtype=torch.float32).inputs.dtype == torch.float32
    assert as_batch(X.double().numpy()).inputs.dtype == torch.float64


def test_inputs_and_labels_go_to_the_device() -> None:
    inputs, labels = as_batch((X, Y), device="meta")
    assert inputs.device.type == "meta"
    assert labels is not None
    assert labels.device.type == "meta"


def test_token_indices_stay_integers() -> None:
    assert as_batch(torch.ones(2, 5, dtype=torch.int64), dtype=torch.float32).inputs.dtype == torch.int64


@pytest.mark.parametrize("labels", [torch.rand(2), torch.rand(2, 4), torch.zeros(2, 3, 3, dtype=torch.int32)])
def test_labels_that_are_no_classes_stay_as_they_are(labels: Tensor) -> None:
    assert as_batch((X, labels)).labels is labels


@pytest.mark.parametrize("change", [lambda a: a[:, ::-1], lambda a: a.astype(">f4"), lambda a: a[::2]])
def test_awkward_memory_layouts_keep_their_values(change: Any) -> None:
    array = change(X.numpy())
    np.testing.assert_array_equal(as_batch(array).inputs.numpy(), array)


def test_read_only_arrays_are_copied() -> None:
    array = X.numpy().copy()
    array.flags.writeable = False
    as_batch(array).inputs.zero_()
    np.testing.assert_array_equal(array, X.numpy())


PROBLEMS = {
    "bytes": (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), r"integers .*uint8.*scale and normalise"),
    "int images": (np.zeros((2, 3, 4, 4), int), r"integers .*int64.*scale and normalise"),
    "bool": (torch.zeros(2, 3, dtype=torch.bool), r"torch\.bool, where floating"),
    "complex": (torch.zeros(2, 3, dtype=torch.complex64), r"torch\.complex64, where floating"),
    "number": (torch.tensor(1.0), r"shape \(\), where \(N, \.\.\.\)"),
    "nothing": (torch.zeros(0, 3), r"shape \(0, 3\), where"),
    "sample": ((torch.zeros(3, 4, 4), 7), r"one sample of shape \(3, 4, 4\).*DataLoader"),
    "lengths": ((X, torch.zeros(3)), r"shape \(2, 6\) and the labels \(3,\)"),
    "strings": ((X, ["cat", "dog"]), r"labels are a list of 2 \(str, str\)"),
    "boxes": (
        (X, [{"boxes": 1}, {"boxes": 2}]),
        r"labels are a list of 2 \(dict, dict\).*yield the inputs alone",
    ),
    "ragged": ((X, [[1], [1, 2]]), r"labels are a list of 2 \(list, list\)"),
    "objects": (np.array([None, None]), r"inputs are an ndarray of object"),
    "long double": (np.zeros((2, 2), np.longdouble), r"inputs are an ndarray of (float128|longdouble)"),
    "keys": ({"picture": X, "label": Y}, r"dict with the keys picture, label.*Accepted: .*pixel_values, img"),
    "three": ((X, Y, Y), r"tuple of 3 \(Tensor, Tensor, Tensor\).*Accepted: a tensor"),
    "text": ("batch", r"of type str\. Accepted"),
    "lists": ([[1.0, 2.0], [3.0, 4.0]], r"inputs are a list of 2 \(float, float\)"),
}


@pytest.mark.parametrize(("item", "message"), PROBLEMS.values(), ids=PROBLEMS.keys())
def test_a_batch_that_cannot_be_used_is_described(item: object, message: str) -> None:
    with pytest.raises(DataError, match=f"(?s){message}"):
        as_batch(item)


def test_all_problems_of_a_batch_are_in_one_message() -> None:
    with pytest.raises(DataError, match=r"(?s)uint8.*labels are of type str"):
        as_batch((torch.zeros(2, 3, dtype=torch.uint8), "cat"))


def _shapes(source: object) -> list[tuple[int, ...]]:
    return [tuple(batch.inputs.shape) for batch in as_batches(source)]


@pytest.mark.parametrize("source", [*LABELLED.values(), *UNLABELLED.values()])
def test_one_batch_is_a_source_unless_it_is_a_list(source: object) -> None:
    if isinstance(source, list):
        source = tuple(source)
    assert _shapes(source) == [(2, 6)]
    assert as_batches(source).count == 1


def test_a_list_of_tensors_is_a_sequence_of_batches() -> None:
    assert _shapes([X, X[:1]]) == [(2, 6), (1, 6)]


def test_a_tuple_of_batches_is_a_sequence_of_batches() -> None:
    assert _shapes(((X, Y), (X, Y))) == [(2, 6), (2, 6)]


@pytest.mark.parametrize("source", [X.split(1), (X.numpy(), X.numpy()), (X, X.clone())])
def test_two_pieces_of_one_length_may_be_inputs_and_labels_and_are_refused(source: object) -> None:
    with pytest.raises(DataError, match=r"one labelled batch or several.*tuple of .*list\(x\.split\(64\)\)"):
        as_batches(source)
    assert as_batches([source]).count == 1


@pytest.mark.parametrize(
    ("source", "lengths"),
    [
        (torch.ones(7, 2).split(2), [2, 2, 2, 1]),
        (torch.ones(6, 2, 3, 3).split(2), [2, 2, 2]),
        ((X, X[:1]), [2, 1]),
        ((X.numpy(), X[:1].numpy()), [2, 1]),
        (torch.ones(7, 2).split([3, 4]), [3, 4]),
    ],
)
def test_a_tuple_that_cannot_be_inputs_and_labels_is_a_sequence_of_batches(source: object, lengths: list[int]) -> None:
    assert [len(batch.inputs) for batch in as_batches(source)] == lengths
    assert all(batch.labels is None for batch in as_batches(source))


@pytest.mark.parametrize("source", [(X, X.double()), (X, X[:, :2]), (X, Y), (X, X.long()), (X, Y[:, None])])
def test_a_tuple_of_two_unlike_tensors_is_inputs_and_labels(source: object) -> None:
    (batch,) = as_batches(source)
    assert torch.equal(batch.inputs, X)
    assert batch.labels is not None


def test_three_unlike_tensors_are_no_batch() -> None:
    with pytest.raises(DataError, match="structure of the batch is unknown"):
        list(as_batches((X, X, Y)))


def test_a_loader_is_read_anew_for_every_pass() -> None:
    batches = as_batches(DataLoader(TensorDataset(X, Y), batch_size=1))
    assert batches.count == 2
    assert [b.inputs.tolist() for b in batches] == [b.inputs.tolist() for b in batches] == [[r] for r in X.tolist()]


def test_a_generator_gives_all_its_batches_to_every_pass() -> None:
    batches = as_batches((X, Y) for _ in range(3))
    assert batches.count == len(list(batches)) == len(list(batches)) == 3


def test_a_list_is_read_lazily() -> None:
    first = next(iter(as_batches([X, "no batch"])))
    assert torch.equal(first.inputs, X)


class _Stream(IterableDataset[Tensor]):
    def __iter__(self) -> Iterator[Tensor]:
        yield from [X, X]


def test_a_stream_has_no_count() -> None:
    batches = as_batches(_Stream())
    assert batches.count is None
    assert as_batches(DataLoader(_Stream(), batch_size=None)).count is None
    assert len(list(batches)) == 2


def test_batches_pass_through_and_take_a_new_type() -> None:
    inner = as_batches([X.double()], device="cpu")
    outer = as_batches(inner, dtype=torch.float32)
    assert outer.device == "cpu"
    assert next(iter(outer)).inputs.dtype == torch.float32


@pytest.mark.parametrize("source", [[], (), iter([]), DataLoader(TensorDataset(X[:0]))])
def test_no_batch_is_an_error_at_the_first_iteration(source: object) -> None:
    batches = as_batches(source)
    with pytest.raises(DataError, match="The data gave no batch"):
        list(batches)


def test_an_error_says_which_batch() -> None:
    with pytest.raises(DataError, match=r"Batch 1: the structure of the batch is unknown"):
        list(as_batches([X, "no batch"]))


@pytest.mark.parametrize("source", [3, None, "data", TensorDataset(X, Y), Sample])
def test_a_source_of_something_else_is_an_error(source: object) -> None:
    with pytest.raises(DataError, match=r"Found: of type .* Accepted: one batch, or a DataLoader"):
        as_batches(source)
