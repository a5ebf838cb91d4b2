"""The samples of a recipe, in memory: images, waveforms or tokens, as the data set has them."""

from __future__ import annotations

from rheobase import data
from rheobase.training.batches import Samples
from rheobase.training.config import TrainingConfig

__all__ = ["load_samples", "samples_to_test"]


def load_samples(config: TrainingConfig) -> tuple[Samples, Samples]:
    """The training split and the test split of the data set that the recipe names."""
    return _samples(config, "train", None), samples_to_test(config)


def samples_to_test(config: TrainingConfig, limit: int | None = None) -> Samples:
    """The test split, or its first `limit` samples."""
    return _samples(config, "test", limit)


def _samples(config: TrainingConfig, split: str, limit: int | None) -> Samples:
    if config.model == "m5":
        return Samples(*data.waveforms(config.data, split, limit=limit))
    if config.model == "bilstm":
        vocabulary = int(config.model_settings.get("vocabulary", 20_000))
        tokenizer = data.learn_tokenizer(data.texts(config.data, "train")[0], vocabulary)
        corpus, labels = data.texts(config.data, split, limit=limit)
        return Samples(data.tokens(corpus, tokenizer, config.length), labels)
    return Samples(*data.pixels(config.data, split, limit=limit))
