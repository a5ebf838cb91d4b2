"""The samples of a recipe, in memory."""

from __future__ import annotations

from rheobase.data import pixels
from rheobase.training.batches import Samples
from rheobase.training.config import TrainingConfig

__all__ = ["load_samples", "samples_to_test"]


def load_samples(config: TrainingConfig) -> tuple[Samples, Samples]:
    """The training split and the test split of the data set that the recipe names."""
    return Samples(*pixels(config.data, "train")), samples_to_test(config)


def samples_to_test(config: TrainingConfig, limit: int | None = None) -> Samples:
    """The test split, or its first `limit` samples."""
    return Samples(*pixels(config.data, "test", limit=limit))
