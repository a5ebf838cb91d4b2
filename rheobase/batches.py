"""Batches: one shape for everything that calibration and test loaders yield.

A loader may yield a tensor, a NumPy array, ``(x,)``, ``(x, y)``, ``[x, y]``, a dictionary, a named tuple
or a dataclass. ``as_batch`` turns each into a ``Batch``; ``as_batches`` does so for a whole source of data,
lazily, and as often as it is asked to, because calibration passes over its data several times.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from rheobase.errors import DataError
from rheobase.precision import first_weight

__all__ = ["Batch", "Batches", "as_batch", "as_batches", "batches_for", "is_finite"]

INPUT_KEYS = (
    *("pixel_values", "img", "image", "images", "input", "inputs", "x"),
    *("input_values", "input_features", "audio", "features", "data", "input_ids"),
)
LABEL_KEYS = ("label", "labels", "y", "target", "targets", "fine_label", "coarse_label")

_ACCEPTED = (
    "Accepted: a tensor, a NumPy array, (x,), (x, y), [x, y], or a mapping, named tuple or dataclass with "
    f"the input under one of {', '.join(INPUT_KEYS)} and the labels, if any, under one of "
    f"{', '.join(LABEL_KEYS)}."
)


class Batch(NamedTuple):
    """Some inputs of the network, and their labels where the source has any.

    Attributes:
        inputs: shape (N, ...), floating (or integer token indices of shape (N,) or (N, L)).
        labels: int64 of shape (N,) for integer classes; other labels as the source gave them; or None.
    """

    inputs: Tensor
    labels: Tensor | None


@dataclass(frozen=True, eq=False)
class Batches:
    """A source of data that yields a ``Batch`` at a time, and begins anew each time it is iterated.

    Attributes:
        source: what is iterated; each of its items is what ``as_batch`` accepts.
        device: where the inputs and labels go; None leaves them where they are.
        dtype: floating type of the inputs; None leaves it as it is.
    """

    source: Iterable[object]
    device: torch.device | str | None = None
    dtype: torch.dtype | None = None

    @property
    def count(self) -> int | None:
        """The number of batches, for a progress bar; None where the source does not know it."""
        try:
            return len(cast(Sized, self.source))
        except (TypeError, NotImplementedError):
            return None

    def __iter__(self) -> Iterator[Batch]:
        """Yield every batch; raise a ``DataError`` that counts batches from 0 where one is malformed."""
        index = -1
        for index, item in enumerate(self.source):
            try:
                batch = as_batch(item, device=self.device, dtype=self.dtype)
            except DataError as error:
                raise DataError(f"Batch {index}: {error}") from error
            yield batch
        if index < 0:
            raise DataError(
                f"The data gave no batch. Found: an empty {_name(self.source)}. Accepted: at "
                "least one batch. Check the length of the data set, drop_last=True with few samples, and "
                "that a custom __iter__ starts anew each time."
            )


def as_batch(item: object, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Batch:
    """Turn what a loader yields into a ``Batch``.

    In a mapping the first of ``INPUT_KEYS`` and the first of ``LABEL_KEYS`` that it has are taken.

    Args:
        item: a tensor, array, ``(x,)``, ``(x, y)``, ``[x, y]``, mapping, named tuple or dataclass instance.
        device: where to move inputs and labels; None leaves them.
        dtype: what to cast floating inputs to (float64 arrays to float32, say); None leaves them. Token
            indices stay integers.

    Shape:
        inputs (N, ...); labels (N,) where they are integer classes (a column (N, 1) is flattened).

    Returns:
        The batch; values are copied only where device, type or memory layout demand it.

    Raises:
        DataError: The structure is unknown, the inputs are integer images, boolean, complex, empty or a
            single sample, or the labels do not fit; all problems of the batch in one message.

    Example:
        >>> as_batch({"img": torch.zeros(2, 3, 4, 4), "label": [5, 7]}).labels
        tensor([5, 7])
    """
    found, found_labels = _split(item)
    problems: list[str] = []
    inputs = _tensor(found)
    if inputs is None:
        problems.append(f"the inputs are {_describe(found)}, where a tensor or a numeric array is needed.")
    else:
        problems += _input_problems(inputs)
        inputs = inputs.to(device, dtype if inputs.is_floating_point() else None)
    labels = None
    if found_labels is not None:
        labels = _labels(found_labels)
        if labels is None:
            problems.append(
                f"the labels are {_describe(found_labels)}, where a tensor, an array or a list of integers "
                "is needed; calibration needs no labels: yield the inputs alone."
            )
        elif inputs is not None:
            problems += _label_problems(labels, inputs)
    if problems or inputs is None:
        raise DataError("the batch cannot be used:\n" + "\n".join(f"  * {problem}" for problem in problems))
    return Batch(inputs, None if labels is None else labels.to(device))


def as_batches(
    source: object, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
) -> Batches:
    """Make any source of data iterable as batches, any number of times.

    The rule: a tensor, an array, a mapping, a dataclass instance, and a *tuple* whose first item is a
    tensor or an array are one batch (so a tuple of two tensors is inputs and labels). Everything else
    that can be iterated, a *list* above all, is a sequence of batches (so a list of two tensors is two
    batches). So is a tuple of tensors of one sample shape, (n, C, ...), as ``x.split(250)`` gives, if it
    cannot be inputs and labels: more than two tensors, or two of different lengths. Two of one length
    may be either, and are refused: make them a list. A sequence is iterated lazily and anew each time,
    except that an iterator or a generator, which gives its items once, is read into a list here: cut an
    endless one with ``itertools.islice``.

    Args:
        source: one batch, a ``DataLoader``, a list, any iterable, an iterator, or a ``Batches``.
        device: where to move inputs and labels; None leaves them.
        dtype: what to cast floating inputs to; None leaves them.

    Returns:
        The batches; ``count`` is their number where that is known.

    Raises:
        DataError: The source cannot be iterated, yields single samples (a map-style data set), or is a
            tuple of two that may be one labelled batch or two batches.

    Example:
        >>> [tuple(inputs.shape) for inputs, _ in as_batches([torch.zeros(4, 3), torch.zeros(2, 3)])]
        [(4, 3), (2, 3)]
        >>> as_batches((torch.zeros(4, 3), torch.tensor([0, 1, 1, 0]))).count
        1
        >>> as_batches(torch.zeros(10, 3).split(4)).count
        3
    """
    if isinstance(source, Batches):
        return Batches(source.source, source.device if device is None else device, dtype or source.dtype)
    pieces = _pieces(source)
    if len(pieces) == 2 and len(pieces[0]) == len(pieces[1]):
        raise DataError(
            f"The data may be one labelled batch or several batches. Found: {_describe(source)} of equal "
            "shapes. Accepted: [x1, x2] or list(x.split(64)) for several batches, [(x, y)] for one "
            "with labels."
        )
    if not pieces and _is_one_batch(source):
        return Batches((source,), device, dtype)
    if isinstance(source, Iterator):
        return Batches(list(source), device, dtype)
    if isinstance(source, (str, bytes)) or not isinstance(source, Iterable):
        raise DataError(
            f"The data cannot be iterated as batches. Found: {_describe(source)}. Accepted: one batch, or a "
            "DataLoader, list or other iterable of batches. For a data set of single samples pass "
            "torch.utils.data.DataLoader(dataset, batch_size=64)."
        )
    return Batches(source, device, dtype)


def batches_for(source: object, network: nn.Module) -> Batches:
    """`as_batches`, on the device of a network and of the type of its weights, where it has any."""
    weight = first_weight(network, None)
    return as_batches(source) if weight is None else as_batches(source, device=weight.device, dtype=weight.dtype)


def is_finite(x: Tensor) -> bool:
    """Whether all values are numbers; whole numbers are."""
    if not x.is_floating_point() or bool(torch.isfinite(x.sum())):
        return True  # a sum is finite only if all its terms are, and far quicker than the full test
    return bool(torch.isfinite(x).all())


def _is_one_batch(source: object) -> bool:
    if isinstance(source, tuple):
        return bool(source) and (isinstance(source[0], (Tensor, np.ndarray)) or hasattr(source, "_fields"))
    is_value = is_dataclass(source) and not isinstance(source, (type, Iterable))
    return is_value or isinstance(source, (Tensor, np.ndarray, Mapping))


def _pieces(source: object) -> tuple[Tensor | np.ndarray, ...]:
    """``source``, if it is a tuple of two or more tensors that may be pieces of one; else nothing."""
    if type(source) is not tuple or len(source) < 2:
        return ()
    if not all(isinstance(x, (Tensor, np.ndarray)) and x.ndim > 1 for x in source):
        return ()
    return source if len({(x.dtype, tuple(x.shape[1:])) for x in source}) == 1 else ()


def _split(item: object) -> tuple[object, object]:
    """The inputs and the labels (or None) inside ``item``, whatever they are."""
    if isinstance(item, (Tensor, np.ndarray)):
        return item, None
    named: Mapping[Any, object] = {}
    if isinstance(item, Mapping):
        named = item
    elif isinstance(item, tuple) and hasattr(item, "_asdict"):
        named = item._asdict()
    elif is_dataclass(item) and not isinstance(item, type):
        named = {field.name: getattr(item, field.name) for field in fields(item)}
    key = next((key for key in INPUT_KEYS if key in named), None)
    if key is not None:
        return named[key], next((named[label] for label in LABEL_KEYS if label in named), None)
    if isinstance(item, (tuple, list)) and len(item) in (1, 2):
        return item[0], item[1] if len(item) == 2 else None
    raise DataError(f"the structure of the batch is unknown. Found: {_describe(item)}. {_ACCEPTED}")


def _tensor(value: object) -> Tensor | None:
    """``value`` as a tensor, without a copy where possible; None if it is no numeric array."""
    if isinstance(value, Tensor):
        return value
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiubc":
        return None
    native = np.asarray(value, dtype=value.dtype.newbyteorder("="), order="C")
    try:
        return torch.from_numpy(native if native.flags.writeable else native.copy())
    except TypeError:  # a type that torch has not, such as longdouble
        return None


def _labels(value: object) -> Tensor | None:
    if isinstance(value, (list, tuple, int, np.generic)):
        try:
            value = np.asarray(value)
        except ValueError:  # a ragged list
            return None
    labels = _tensor(value)
    if labels is None or labels.is_floating_point() or labels.is_complex():
        return labels
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels.flatten()  # (N, 1) -> (N,)
    return labels.long() if labels.ndim == 1 else labels


def _input_problems(inputs: Tensor) -> Iterator[str]:
    shape = tuple(inputs.shape)
    if inputs.ndim == 0 or inputs.numel() == 0:
        yield f"the inputs have shape {shape}, where (N, ...) with at least one value is needed."
    elif inputs.dtype == torch.bool or inputs.is_complex():
        yield f"the inputs are {inputs.dtype}, where floating values are needed: cast them as in training."
    elif inputs.dtype == torch.uint8 or (not inputs.is_floating_point() and inputs.ndim > 2):
        yield (
            f"the inputs are integers ({inputs.dtype}, shape {shape}), where floating values are needed: "
            "scale and normalise them as in training, such as (x.float() / 255 - mean) / std."
        )


def _label_problems(labels: Tensor, inputs: Tensor) -> Iterator[str]:
    shape, label_shape = tuple(inputs.shape), tuple(labels.shape)
    if labels.ndim == 0:
        yield (
            f"the label is a single number, so this looks like one sample of shape {shape}: pass batches "
            "(N, ...), for example from torch.utils.data.DataLoader(dataset, batch_size=64)."
        )
    elif label_shape[:1] != shape[:1]:
        yield (
            f"the inputs have shape {shape} and the labels {label_shape}, where the first dimensions must "
            "agree; two batches of inputs go in a list, [x1, x2], since a tuple of two is (inputs, labels)."
        )


def _name(value: object) -> str:
    return type(value).__name__


def _describe(value: object) -> str:
    """The type of ``value`` and what is in it, in a few words."""
    if isinstance(value, Mapping):
        return f"a {_name(value)} with the keys {', '.join(map(str, value)) or '(none)'}"
    if isinstance(value, (tuple, list)):
        names = [_name(inner) for inner in value[:4]] + ["..."] * (len(value) > 4)
        return f"a {_name(value)} of {len(value)} ({', '.join(names)})"
    if isinstance(value, np.ndarray):
        return f"an ndarray of {value.dtype}"
    if is_dataclass(value) and not isinstance(value, type):
        return f"a {_name(value)} with the fields {', '.join(field.name for field in fields(value))}"
    return f"of type {_name(value)}"
