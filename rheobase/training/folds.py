"""Cross-validation: parts of a data set that are tested on in turn, and what their accuracies say together."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import mean, stdev

import numpy as np
import torch
from torch import Tensor

from rheobase.errors import DataError
from rheobase.training.config import TrainingConfig

__all__ = ["FoldSummary", "fold_config", "fold_rows", "summarise"]

_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)  # 97.5 % quantiles for 1 to 9 degrees of freedom


def fold_rows(labels: Tensor, contents: Sequence[Hashable], folds: int, fold: int, seed: int) -> tuple[Tensor, Tensor]:
    """The rows to train on and those to test on. Over all folds, every row is tested on once.

    Rows of equal content stay together, so that no sample is trained on and tested on because the data set has it
    twice. The different samples of each class are put into a random order and dealt to the folds in turn, so that
    each fold has the classes in their proportions.

    Args:
        labels: Of all rows.
        contents: What each row holds, or a checksum of it.
        folds: How many parts.
        fold: The part that is tested on, from 0.
        seed: Of the order.

    Shape:
        (N,) -> (N - n,) and (n,), n about N / folds; both ascend.

    >>> [rows.tolist() for rows in fold_rows(torch.zeros(5), "aabcd", 2, 0, 0)]
    [[2, 3], [0, 1, 4]]
    """
    number: dict[Hashable, int] = {}
    samples = torch.tensor([number.setdefault(content, len(number)) for content in contents])  # (N,) -> 0 .. M-1
    first = torch.from_numpy(np.unique(samples.numpy(), return_index=True)[1])  # (M,) rows
    order = torch.randperm(len(number), generator=torch.Generator().manual_seed(seed))
    order = order[labels[first[order]].argsort(stable=True)]
    chosen = torch.zeros(len(number), dtype=torch.bool)
    chosen[order[fold::folds]] = True
    return (~chosen[samples]).nonzero().flatten(), chosen[samples].nonzero().flatten()


def fold_config(config: TrainingConfig, fold: int) -> TrainingConfig:
    """The recipe for one fold, of five where it does not say of how many."""
    return dataclasses.replace(config, name=f"{config.name}-fold{fold}", folds=config.folds or 5, fold=fold)


@dataclass(frozen=True)
class FoldSummary:
    """The accuracies on all folds, their mean, and its 95 % interval.

    mean ± t s / sqrt(k): s is the standard deviation of the k accuracies, t the 97.5 % quantile of Student's
    distribution with k - 1 degrees of freedom. It takes the folds for independent; they share training samples, so
    that the true uncertainty is somewhat greater.
    """

    accuracies: tuple[float, ...]
    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        """One line, in per cent."""
        return (
            f"{len(self.accuracies)} folds: mean accuracy {100 * self.mean:.2f} % "
            f"(95 % interval {100 * self.low:.2f} to {100 * self.high:.2f})"
        )


def summarise(measured: Sequence[tuple[TrainingConfig, float]]) -> FoldSummary:
    """The mean accuracy over the folds of one recipe.

    Args:
        measured: The recipe and the accuracy of each fold, in any order.

    Raises:
        DataError: The recipes differ in more than the fold, or a fold is missing or there twice.
    """
    first = measured[0][0]
    found = sorted(config.fold for config, _ in measured)
    if not first.folds or found != list(range(first.folds)) or len(found) > len(_T) + 1:
        raise DataError(
            f"a summary needs each fold once, 0 to {max(first.folds, 2) - 1}, of at most {len(_T) + 1}; found "
            f"{', '.join(map(str, found)) if first.folds else 'trainings on the official split'}; "
            "`rheobase train RECIPE --fold K` trains one"
        )
    keys = [entry.name for entry in dataclasses.fields(first) if entry.name not in _FREE]
    differ = [key for key in keys if any(getattr(config, key) != getattr(first, key) for config, _ in measured)]
    if differ:
        raise DataError(f"these folds are of several recipes: {', '.join(differ)} differs; give the folds of one")
    accuracies = tuple(accuracy for _, accuracy in sorted(measured, key=lambda pair: pair[0].fold))
    middle, count = mean(accuracies), len(accuracies)
    half = _T[count - 2] * stdev(accuracies) / math.sqrt(count)
    return FoldSummary(accuracies, middle, max(0.0, middle - half), min(1.0, middle + half))


_FREE = ("name", "fold", "checkpoint_steps", "logger", "threads", "devices", "nodes", "strategy")
