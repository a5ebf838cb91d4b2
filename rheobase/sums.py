"""What an evaluation adds up over the batches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

import torch
from torch import Tensor

from rheobase.errors import DataError

__all__ = ["Sums"]


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
        reference_square: the squares of its answers.
        correct: samples answered correctly. Shape (seeds, T).
        agree: samples answered as the reference network does. Shape (seeds, T).
        error: squared differences from its answers. Shape (seeds, T).
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
    reference_square: float = 0.0
    correct: Tensor = field(init=False)
    agree: Tensor = field(init=False)
    error: Tensor = field(init=False)
    exits: Tensor = field(init=False)
    spikes: dict[str, Tensor] = field(default_factory=dict)
    operations: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.correct = torch.zeros(self.seeds, self.steps, dtype=torch.int64)
        self.agree = torch.zeros(self.seeds, self.steps, dtype=torch.int64)
        self.error = torch.zeros(self.seeds, self.steps, dtype=torch.float64)
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
        self.reference_square += float(answer.double().square().sum())
        if y is not None and y.shape == answer.shape[:1] and answer.ndim == 2:
            self.reference_correct += int((answer.argmax(1) == y).sum())

    def add_answers(self, row: int, first: int, answers: Tensor, wanted: Tensor | None, y: Tensor | None) -> None:
        """Add the answers of a seed's run after K steps, from step ``first`` on.

        Shape: answers (K, N, ...), wanted (N, ...), y (N,).

        Raises:
            DataError: they do not fit the labels or the reference network's answers.
        """
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
            self.correct[row, at] += (classes == y).sum(1).cpu()
        if wanted is not None:
            if classes is not None:
                self.agree[row, at] += (classes == wanted.argmax(1)).sum(1).cpu()
            self.error[row, at] += (answers - wanted).double().square().flatten(1).sum(1).cpu()

    def add_activity(self, first: int, spikes: Mapping[str, Tensor], operations: Mapping[str, Tensor]) -> None:
        """Add what each site sent in K steps, from step ``first`` on, and what it cost each layer. Shape (K,)."""
        for totals, counted in ((self.spikes, spikes), (self.operations, operations)):
            for name, counts in counted.items():
                total = totals.setdefault(name, torch.zeros(self.steps, dtype=torch.int64))
                total[first - 1 : first - 1 + len(counts)] += counts.cpu()

    def add_exits(self, exits: Tensor) -> None:
        """Add the steps at which the samples of a run decided, 0 for those that never did. Shape (N,)."""
        self.exits += exits.cpu().bincount(minlength=self.steps + 1)[1:]

    def values(self) -> dict[str, Any]:
        """All of it as numbers and lists, for JSON, which keeps every bit."""
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        for name in ("spikes", "operations"):
            found[name] = {key: counts.tolist() for key, counts in found[name].items()}
        return {name: value.tolist() if isinstance(value, Tensor) else value for name, value in found.items()}

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
