"""The samples of a recipe: images, waveforms or tokens, in memory or, with a size, where they are stored."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from rheobase import data
from rheobase.data import StoredImages, evaluation_split
from rheobase.data.source import described
from rheobase.errors import DataError, SettingError
from rheobase.training.batches import Samples
from rheobase.training.config import TrainingConfig
from rheobase.training.folds import fold_rows
from rheobase.training.inputs import prepare

__all__ = ["calibration_samples", "load_samples", "samples_to_test", "tokenizer_to_store"]

_Raw = tuple[Tensor | list[str], Tensor]  # texts are not numbers before the vocabulary is learned


def load_samples(config: TrainingConfig) -> tuple[Samples, Samples]:
    """The training and the test samples of the data set that the recipe names: its splits, or a fold.

    Raises:
        DataError: The data set cannot be read.
        SettingError: Images that are not read into memory are divided into folds, or random parts are taken of others.
    """
    if _is_stored(config):
        return _stored_to_train(config), samples_to_test(config)
    if config.random_part:
        raise SettingError(f"training {config.name!r}: random_part is true and size is 0; give that of the images")
    training, test = _raw(config, "train"), _raw(config, "test")
    if config.folds:
        training, test = _fold(training, test, config)
    return _encode(training, training, config), _encode(test, training, config)


def samples_to_test(
    config: TrainingConfig, limit: int | None = None, numbers: Callable[[list[str]], Tensor] | None = None
) -> Samples:
    """The test samples, or the first `limit` of them.

    Args:
        config: The recipe.
        limit: How many.
        numbers: From texts to token numbers; without it the vocabulary is learned again.
    """
    if _is_stored(config):
        return _stored(config, evaluation_split(config.data), limit)
    if config.folds:
        return load_samples(config)[1].first(limit)
    test_split = _raw(config, "test", limit)
    if numbers is not None and isinstance(test_split[0], list):
        return Samples(numbers(test_split[0]), test_split[1])
    return _encode(test_split, _raw(config, "train") if isinstance(test_split[0], list) else test_split, config)


def calibration_samples(config: TrainingConfig, count: int = 1024, seed: int = 0) -> TensorDataset:
    """A random subset of what a network was trained on, as it takes it: images, waveforms or tokens, not augmented.

    Args:
        config: The recipe of the network; of one of the zoo, ``config_from(card.recipe)``.
        count: Number of samples.
        seed: Which ones. Without folds they are those of `rheobase.data.calibration_subset`.

    Raises:
        DataError: There are fewer training samples, or the data set cannot be read.
    """
    if _is_stored(config):
        training = _stored_to_train(config)
    elif config.folds:
        training = load_samples(config)[0]
    else:
        training = _encode(raw := _raw(config, "train"), raw, config)
    if not 0 < count <= len(training):
        raise DataError(
            f"calibration for {config.name!r}: {count} samples were asked for, and there are {len(training)} training "
            "samples; give a number from 1 to that"
        )
    rows = np.sort(np.random.default_rng(seed).permutation(len(training))[:count])
    return TensorDataset(prepare(training.inputs[rows], config, None), training.labels[rows])


def tokenizer_to_store(config: TrainingConfig) -> str | None:
    """The tokenizer of a training on texts as JSON, with the length that the recipe says; None for other inputs."""
    if config.model != "bilstm":
        return None
    tokenizer = _learn(list(_raw(config, "train")[0]), config)
    tokenizer.enable_truncation(config.length)
    tokenizer.enable_padding(length=config.length)
    return str(tokenizer.to_str())


def _is_stored(config: TrainingConfig) -> bool:
    """Whether the images are decoded as they are asked for: they have many sizes, and a network takes one."""
    known = described(config.data)
    return bool(config.size or (known is not None and known.size))


def _stored_to_train(config: TrainingConfig) -> Samples:
    if config.folds:
        raise SettingError(
            f"training {config.name!r}: folds = {config.folds} needs all images in memory, and those of "
            f"{config.data!r} are decoded as they are asked for; leave out folds"
        )
    return dataclasses.replace(_stored(config, "train"), drawn=config.random_part)


def _stored(config: TrainingConfig, split: str, limit: int | None = None) -> Samples:
    images = StoredImages(config.data, split, config.size or None, limit=limit, threads=config.threads)
    return Samples(images, images.labels)


def _raw(config: TrainingConfig, split: str, limit: int | None = None) -> _Raw:
    if config.model == "m5":
        return data.waveforms(config.data, split, limit=limit)
    if config.model == "bilstm":
        return data.texts(config.data, split, limit=limit)
    return data.pixels(config.data, split, limit=limit)


def _fold(training: _Raw, test: _Raw, config: TrainingConfig) -> tuple[_Raw, _Raw]:
    labels = torch.cat([training[1], test[1]])
    first, second = training[0], test[0]
    if isinstance(first, list) or isinstance(second, list):
        texts = [*first, *second]
        parts = fold_rows(labels, texts, config.folds, config.fold, config.seed)
        one, other = (([texts[row] for row in part.tolist()], labels[part]) for part in parts)
        return one, other
    inputs = torch.cat([first, second])
    checksums = [hashlib.sha256(sample.numpy().tobytes()).digest() for sample in inputs]
    train, tested = fold_rows(labels, checksums, config.folds, config.fold, config.seed)
    return (inputs[train], labels[train]), (inputs[tested], labels[tested])


def _encode(raw: _Raw, training: _Raw, config: TrainingConfig) -> Samples:
    """Texts as tokens of the words that the training samples have; all else as it is."""
    inputs, labels = raw
    if not isinstance(inputs, list):
        return Samples(inputs, labels)
    return Samples(data.tokens(inputs, _learn(list(training[0]), config), config.length), labels)


def _learn(corpus: list[str], config: TrainingConfig) -> Any:
    return data.learn_tokenizer(corpus, int(config.model_settings.get("vocabulary", 20_000)))
