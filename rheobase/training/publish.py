"""From a finished training to the zoo: round, store, measure what was stored, write the card."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from rheobase import models
from rheobase.errors import DataError
from rheobase.models.zoo import Card, names, read_card, store, table
from rheobase.training.batches import Samples
from rheobase.training.config import TrainingConfig, config_from
from rheobase.training.provenance import Provenance, read_provenance
from rheobase.training.run import accuracy
from rheobase.training.samples import samples_to_test

__all__ = ["AnnAccuracy", "evaluate_ann", "publish"]


@dataclass(frozen=True)
class AnnAccuracy:
    """How many test samples a network of the zoo classifies correctly."""

    name: str
    correct: int
    samples: int

    @property
    def accuracy(self) -> float:
        """The part that is correct."""
        return self.correct / self.samples

    def __str__(self) -> str:
        """One line: the name, the percentage and the counts."""
        return f"{self.name}: {100 * self.accuracy:.2f} % ({self.correct:,} of {self.samples:,})"


def evaluate_ann(
    name: str, *, folder: str | Path | None = None, limit: int | None = None, test: Samples | None = None
) -> AnnAccuracy:
    """Measure the stored weights of a network of the zoo on the test split.

    Args:
        name: One of `rheobase.models.names`.
        folder: Of the zoo, where it is another.
        limit: Use the first `limit` test samples only.
        test: Test samples, instead of the data set that the card names.

    Raises:
        DataError: There is no such network or data set, or a file is damaged.
    """
    pretrained = models.load(name, folder)
    config = config_from(pretrained.card.recipe)
    samples = test if test is not None else samples_to_test(config, limit)
    if limit is not None:
        samples = Samples(samples.inputs[:limit], samples.labels[:limit])
    correct = round(accuracy(pretrained.model, samples, config) * len(samples))
    return AnnAccuracy(name, correct, len(samples))


def publish(run: str | Path, zoo: str | Path, *, test: Samples | None = None) -> Card:
    """Store a finished training in the zoo, where it is better than what is there under its name.

    The name is the recipe's without ``-fast`` or ``-paper``: recipes for one network compete.

    Args:
        run: The folder of the training.
        zoo: The folder of the zoo.
        test: Test samples, instead of the data set that the recipe names.

    Returns:
        The card of what the zoo now holds under that name.

    Raises:
        DataError: The training is not finished, or a file cannot be read.
    """
    place = Path(run)
    config, model, seconds = _finished(place)
    name = config.name.removesuffix("-fast").removesuffix("-paper")
    origin = read_provenance(place)
    samples = test if test is not None else samples_to_test(config)
    card = _card(name, config, model, seconds, origin, len(samples))
    staged = place / "zoo"
    store(model, card, staged)
    measured = evaluate_ann(name, folder=staged, test=samples)
    if name in names(zoo) and read_card(name, zoo).accuracy >= measured.accuracy:
        return read_card(name, zoo)
    kept = models.load(name, staged)
    card = store(kept.model, dataclasses.replace(card, accuracy=measured.accuracy), zoo)
    (Path(zoo) / "README.md").write_text(_PREFACE + table(zoo), encoding="utf-8")
    return card


_PREFACE = """# Trained networks

`rheobase.models.load("NAME")` gives the network with its weights, the transform of its input and its accuracy.
The accuracy is that of the stored, rounded weights on the whole test split. This page is generated from the cards.

"""


def _finished(place: Path) -> tuple[TrainingConfig, nn.Module, float]:
    try:
        values = json.loads((place / "config.json").read_text(encoding="utf-8"))
        checkpoint = torch.load(place / "last.ckpt", map_location="cpu", weights_only=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(f"{place} does not hold a training ({error}); give the folder of a finished one") from error
    config = config_from(values)
    if checkpoint["epoch"] < config.epochs - 1 or not (place / "result.json").is_file():
        raise DataError(
            f"the training in {place} is in epoch {checkpoint['epoch']} of {config.epochs}; let it end before it is "
            "published"
        )
    model = models.build(config.model, **config.model_settings)
    state = {k.removeprefix("model."): v for k, v in checkpoint["state_dict"].items()}
    model.load_state_dict(state)
    return config, model.eval(), float(checkpoint["seconds"])


def _card(
    name: str, config: TrainingConfig, model: nn.Module, seconds: float, origin: Provenance, samples: int
) -> Card:
    return Card(
        name=name,
        model=config.model,
        model_settings=config.model_settings,
        data=config.data,
        mean=config.mean,
        std=config.std,
        accuracy=0.0,
        test_samples=samples,
        parameters=sum(p.numel() for p in model.parameters()),
        recipe=json.loads(json.dumps(dataclasses.asdict(config))),  # lists for tuples, as in the file
        seconds=round(seconds, 1),
        hardware=origin.hardware,
        commit=origin.commit,
        versions=origin.versions,
        sha256="",
    )
