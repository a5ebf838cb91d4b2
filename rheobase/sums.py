"""What an evaluation adds up over the batches.

All sums are exact, so they do not depend on the order of the batches, nor on the process that took each of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Self

import torch
from torch import Tensor

from rheobase.errors import DataError

__all__ = ["Sums", "exact", "rounded"]

_UNIT = 1126  # every float64 number is a whole multiple of 2^-1126


def exact(value: float) -> int | None:
    """A number in units of 2^-1126; None where it is not finite."""
    if not math.isfinite(value):
        return None
    mantissa, exponent = math.frexp(value)
    return int(math.ldexp(mantissa, 53)) << (exponent - 53 + _UNIT)


def rounded(units: int | None) -> float:
    """The float64 number nearest to a sum of `exact` ones; NaN for None.

    >>> rounded(exact(1e300) + exact(1.5) - exact(1e300))
    1.5
    """
    return math.nan if units is None else units / (1 << _UNIT)


def _plus(a: int | None, b: int | None) -> int | None:
    return None if a is None or b is None else a + b


@dataclass
class Sums:
    """Sums over the samples so far, at each step.

    Args:
        seeds: how many runs there are of each sample.
        steps: T.

    Attributes:
        images: samples so far.
        labelled: whether all of them had labels.
        classes: whether all answers were classes.
        reference_correct: samples that the reference network answers correctly.
        reference_square: the squares of its answers, as `exact` gives them.
        correct: samples answered correctly. Shape (seeds, T).
        agree: samples answered as the reference network does. Shape (seeds, T).
        error: squared differences from its answers, as `exact` gives them, for each seed and step.
        exits: samples that decided at each step, over all seeds. Shape (T,).
        spikes: of each site, over all seeds. Shape (T,).
        operations: of each weighted layer, over all seeds. Shape (T,).
    """

    seeds: int
    steps: int
    images: int = 0
    labelled: bool = True
    classes: bool = True
    reference_correct: int = 0
    reference_square: int | None = 0
    correct: Tensor = field(init=False)
    agree: Tensor = field(init=False)
    error: list[list[int | None]] = field(init=False)
    exits: Tensor = field(init=False)
    spikes: dict[str, Tensor] = field(default_factory=dict)
    operations: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.correct = torch.zeros(self.seeds, self.steps, dtype=torch.int64)
        self.agree = torch.zeros(self.seeds, self.steps, dtype=torch.int64)
        self.error = [[0] * self.steps for _ in range(self.seeds)]
        self.exits = torch.zeros(self.steps, dtype=torch.int64)

    def add_batch(self, answer: Any, x: Tensor, y: Tensor | None, index: int) -> None:
        """Add the samples of a batch, and what the reference network answers (None without one).

        Raises:
            DataError: the answers are no finite numbers.
        """
        self.images += len(x)
        self.labelled &= y is not None
        if answer is None:
            return
        if not isinstance(answer, Tensor) or not bool(torch.isfinite(answer).all()):
            kind = (
                "values that are not finite" if isinstance(answer, Tensor) else f"a {type(answer).__name__}, no tensor"
            )
            raise DataError(f"Batch {index}: the original network gives {kind}.")
        self.reference_square = _plus(self.reference_square, exact(float(answer.double().square().sum())))
        if y is not None and y.shape == answer.shape[:1] and answer.ndim == 2:
            self.reference_correct += int((answer.argmax(1) == y).sum())

    def add_answers(self, row: int, first: int, answers: Tensor, wanted: Tensor | None, y: Tensor | None) -> None:
        """Add the answers of a seed's run after K steps, from step ``first`` on.

        Shape: answers (K, N, ...), wanted (N, ...), y (N,).

        Raises:
            DataError: they are not finite, or do not fit the labels or the reference network's answers.
        """
        if not bool(torch.isfinite(answers).all()):
            raise DataError(
                f"The converted network answers NaN or infinite values in steps {first} to {first + len(answers) - 1}. "
                "Check the weights of the network, and the thresholds in the plan."
            )
        at = slice(first - 1, first - 1 + len(answers))
        classes = answers.argmax(2) if answers.ndim == 3 and answers.shape[2] > 1 else None  # (K, N)
        self.classes &= classes is not None
        if wanted is not None and wanted.shape != answers.shape[1:]:
            raise DataError(
                f"The original network answers in the shape {tuple(wanted.shape)} and the converted one in "
                f"{tuple(answers.shape[1:])}. Give the network that was converted, as the reference."
            )
        if y is not None:
            if classes is None or y.shape != classes.shape[1:] or y.is_floating_point():
                raise DataError(
                    f"The labels have the shape {tuple(y.shape)} and type {y.dtype}, and the network's answers "
                    f"the shape {tuple(answers.shape[1:])}; accuracy needs integer labels (N,) and answers (N, "
                    "classes), at least 2 classes. Give data without labels for other tasks."
                )
            least, most = int(y.min()), int(y.max())
            if least < 0 or most >= answers.shape[2]:
                raise DataError(
                    f"The labels go from {least} to {most}, and the network has the classes 0 to "
                    f"{answers.shape[2] - 1}. Let labels count from 0; -1 often means that a split has none."
                )
            self.correct[row, at] += (classes == y).sum(1).cpu()
        if wanted is not None:
            if classes is not None:
                self.agree[row, at] += (classes == wanted.argmax(1)).sum(1).cpu()
            squares = (answers - wanted).double().square().flatten(1).sum(1).cpu().tolist()
            self.error[row][at] = map(_plus, self.error[row][at], map(exact, squares))

    def add_activity(self, first: int, spikes: Mapping[str, Tensor], operations: Mapping[str, Tensor]) -> None:
        """Add what each site sent in K steps, from step ``first`` on, and what it cost each layer. Shape (K,)."""
        for totals, counted in ((self.spikes, spikes), (self.operations, operations)):
            for name, counts in counted.items():
                total = totals.setdefault(name, torch.zeros(self.steps, dtype=torch.int64))
                total[first - 1 : first - 1 + len(counts)] += counts.cpu()

    def add_exits(self, exits: Tensor) -> None:
        """Add the steps at which the samples of a run decided, 0 for those that never did. Shape (N,)."""
        self.exits += exits.cpu().bincount(minlength=self.steps + 1)[1:]

    def logit_error(self) -> list[float] | None:
        """The root of squared differences over squares, a mean over the seeds, for each step; None without squares."""
        square = rounded(self.reference_square)
        if square == 0:
            return None
        means = [sum(map(rounded, step)) / self.seeds for step in zip(*self.error, strict=True)]
        return [math.sqrt(mean / square) for mean in means]

    @classmethod
    def total(cls, parts: Sequence[Self]) -> Self:
        """The sums of all parts, which have the same seeds and steps."""
        result = cls(parts[0].seeds, parts[0].steps)
        result.images = sum(part.images for part in parts)
        result.labelled = all(part.labelled for part in parts)
        result.classes = all(part.classes for part in parts)
        result.reference_correct = sum(part.reference_correct for part in parts)
        for name in ("correct", "agree", "exits"):
            setattr(result, name, torch.stack([getattr(part, name) for part in parts]).sum(0))
        for part in parts:
            result.reference_square = _plus(result.reference_square, part.reference_square)
            result.error = [list(map(_plus, *rows)) for rows in zip(result.error, part.error, strict=True)]
            result.add_activity(1, part.spikes, part.operations)
        return result

    def values(self) -> dict[str, Any]:
        """All of it as numbers and lists, for JSON, which keeps every bit."""
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        for name in ("spikes", "operations"):
            found[name] = {key: counts.tolist() for key, counts in found[name].items()}
        return {name: value.tolist() if isinstance(value, Tensor) else value for name, value in found.items()}

    def alike(self, other: Sums) -> bool:
        """Whether both are of as many seeds and steps."""
        tensors = ((getattr(s, name).shape for name in ("correct", "agree", "exits")) for s in (self, other))
        one, two = (tuple(shapes) for shapes in tensors)
        return one == two and [len(row) for row in self.error] == [len(row) for row in other.error]

    @classmethod
    def restored(cls, values: Mapping[str, Any]) -> Self:
        """The sums that `values` gave."""
        sums = cls(values["seeds"], values["steps"])
        for f in fields(cls):
            value, empty = values[f.name], getattr(sums, f.name)
            setattr(sums, f.name, torch.tensor(value, dtype=empty.dtype) if isinstance(empty, Tensor) else value)
        for name in ("spikes", "operations"):
            setattr(sums, name, {k: torch.tensor(counts, dtype=torch.int64) for k, counts in values[name].items()})
        return sums
