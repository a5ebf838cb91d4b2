"""The accuracy of a trained network before its conversion, and whether it is the one that was stated."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from rheobase import models
from rheobase.intervals import wilson
from rheobase.training.batches import Samples
from rheobase.training.config import TrainingConfig, config_from
from rheobase.training.finished import Finished, read_finished
from rheobase.training.inputs import prepare
from rheobase.training.samples import samples_to_test

__all__ = ["AnnAccuracy", "accuracy", "evaluate_ann", "evaluate_run"]

_ROUNDING = 0.001  # part of the samples that another processor may answer otherwise
_FAR = 3.890592  # the normal quantile of 99.99 %


@dataclass(frozen=True)
class AnnAccuracy:
    """How many test samples a network classifies correctly, and what its card or its training says.

    Args:
        name: Of the network.
        config: Its recipe.
        correct: Samples that are classified correctly.
        samples: Samples that were measured.
        stated: The accuracy on the card, or at the end of the training.
        whole: Whether these are all test samples.
        seconds: Wall-clock time of its training.
        hardware: What it was trained on.
    """

    name: str
    config: TrainingConfig
    correct: int
    samples: int
    stated: float
    whole: bool
    seconds: float
    hardware: str

    @property
    def accuracy(self) -> float:
        """The part that is correct."""
        return self.correct / self.samples

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the accuracy, by Wilson's score."""
        return wilson(self.accuracy, self.samples)

    @property
    def reproduced(self) -> bool:
        """Whether the stated accuracy is found again.

        On all samples up to 0.1 % may be answered otherwise, as processors round differently. On some of them the
        stated accuracy must be in the 99.99 % interval of what is measured.
        """
        if self.whole:
            return abs(self.correct - self.stated * self.samples) <= _ROUNDING * self.samples
        low, high = wilson(self.accuracy, self.samples, _FAR)
        return low <= self.stated <= high

    def __str__(self) -> str:
        """One line: the name, the percentage and the counts."""
        return f"{self.name}: {100 * self.accuracy:.2f} % ({self.correct:,} of {self.samples:,})"


def evaluate_ann(
    name: str, *, folder: str | Path | None = None, limit: int | None = None, test: Samples | None = None
) -> AnnAccuracy:
    """Measure the stored weights of a network of the zoo on the test split, texts by its stored tokenizer.

    Args:
        name: One of `rheobase.models.names`.
        folder: Of the zoo, where it is another.
        limit: Use the first `limit` test samples only.
        test: Test samples, instead of the data set that the card names.

    Raises:
        DataError: There is no such network or data set, or a file is damaged.
    """
    pretrained = models.load(name, folder)
    card = pretrained.card
    trained = Finished(config_from(card.recipe), pretrained.model, pretrained.accuracy, card.seconds, card.hardware)
    if test is None:
        test = samples_to_test(trained.config, limit, pretrained.transform if pretrained.tokenizer else None)
    return _measured(name, trained, limit, test)


def evaluate_run(run: str | Path, *, limit: int | None = None, test: Samples | None = None) -> AnnAccuracy:
    """Measure the network of a finished training, as it was trained, on the test samples of its recipe.

    Args:
        run: The folder of the training.
        limit: Use the first `limit` test samples only.
        test: Test samples, instead of those of the recipe.

    Raises:
        DataError: The training is not finished, a file cannot be read, or there is no such data set.
    """
    finished = read_finished(Path(run))
    return _measured(finished.config.name, finished, limit, test)


def accuracy(model: nn.Module, samples: Samples, config: TrainingConfig, batch_size: int = 500) -> float:
    """The part of the samples whose class the network names, in float32."""
    correct = 0
    if not isinstance(samples.inputs, Tensor):
        batch_size = min(batch_size, 100)  # stored images are large
    device = next(model.parameters()).device
    with torch.inference_mode():
        for start in range(0, len(samples), batch_size):
            part = slice(start, start + batch_size)
            answers = model(prepare(samples.inputs[part].to(device), config, None)).argmax(1)
            correct += int((answers.cpu() == samples.labels[part]).sum())
    return correct / len(samples)


def _measured(name: str, trained: Finished, limit: int | None, test: Samples | None) -> AnnAccuracy:
    config = trained.config
    samples = test if test is not None else samples_to_test(config, limit)
    if limit is not None:
        samples = samples.first(limit)
    correct = round(accuracy(trained.model, samples, config) * len(samples))
    return AnnAccuracy(
        name, config, correct, len(samples), trained.accuracy, limit is None, trained.seconds, trained.hardware
    )
