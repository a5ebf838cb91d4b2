"""Calibration data: a random subset of the training split, the same for the same seed. Never of the test split."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch.utils.data import TensorDataset

from rheobase.data.audio import waveforms
from rheobase.data.images import images
from rheobase.data.source import Columns
from rheobase.data.text import learn_tokenizer, texts, tokens
from rheobase.errors import DataError

__all__ = ["calibration_subset", "calibration_texts", "calibration_waveforms"]

_TRAIN = re.compile(r"train(\[[^\]]*\])?")
_TESTS = {"test", "val", "valid", "validation", "eval"}


def calibration_subset(
    name: str | Path,
    mean: Sequence[float],
    std: Sequence[float],
    *,
    count: int = 1024,
    seed: int = 0,
    split: str = "train",
    size: int | None = None,
    resize: int | None = None,
    columns: Columns | tuple[str, str] | None = None,
    root: str | Path | None = None,
) -> TensorDataset:
    """A random subset of the images of the training split, the same for the same seed. Never of the test split.

    Args:
        name: The data set, see `load`.
        mean: As for `images`.
        std: As for `images`.
        count: Number of images.
        seed: Which ones.
        split: ``"train"`` or a part of it, such as ``"train[:5000]"``.
        size: As for `images`.
        resize: As for `images`.
        columns: As for `images`.
        root: As for `images`.

    Raises:
        DataError: `split` is not of the training data, or as `pixels`.
    """
    _check_split(name, split)
    return images(name, split, mean, std, size=size, resize=resize, limit=count, seed=seed, columns=columns, root=root)


def calibration_waveforms(
    name: str | Path,
    *,
    count: int = 1024,
    seed: int = 0,
    split: str = "train",
    rate: int = 8000,
    seconds: float = 1.0,
    columns: Columns | tuple[str, str] | None = None,
    root: str | Path | None = None,
) -> TensorDataset:
    """A random subset of the recordings of the training split, the same for the same seed. Never of the test split.

    Args:
        name: The data set, see `load`.
        count: Number of recordings.
        seed: Which ones.
        split: ``"train"`` or a part of it, such as ``"train[:500]"``.
        rate: As for `waveforms`.
        seconds: As for `waveforms`.
        columns: As for `waveforms`.
        root: As for `waveforms`.

    Raises:
        DataError: `split` is not of the training data, or as `waveforms`.
    """
    _check_split(name, split)
    found = waveforms(name, split, rate=rate, seconds=seconds, limit=count, seed=seed, columns=columns, root=root)
    return TensorDataset(*found)


def calibration_texts(
    name: str | Path,
    tokenizer: Any = None,
    *,
    count: int = 1024,
    seed: int = 0,
    split: str = "train",
    vocabulary: int = 20_000,
    length: int = 256,
    columns: Columns | tuple[str, str] | None = None,
    root: str | Path | None = None,
) -> TensorDataset:
    """A random subset of the texts of the training split, as tokens, the same for the same seed.

    Never of the test split, from which no word is learned either.

    Args:
        name: The data set, see `load`.
        tokenizer: That of the network; learned from the whole training split where it is not given.
        count: Number of texts.
        seed: Which ones.
        split: ``"train"`` or a part of it, such as ``"train[:500]"``.
        vocabulary: As for `learn_tokenizer`.
        length: As for `tokens`.
        columns: As for `texts`.
        root: As for `texts`.

    Raises:
        DataError: `split` is not of the training data, or as `texts`.
    """
    _check_split(name, split)
    corpus, labels = texts(name, split, limit=count, seed=seed, columns=columns, root=root)
    if tokenizer is None:
        tokenizer = learn_tokenizer(texts(name, "train", columns=columns, root=root)[0], vocabulary)
    return TensorDataset(tokens(corpus, tokenizer, length), labels)


def _check_split(name: str | Path, split: str) -> None:
    """Raise unless a split is the training split or a part of it.

    Raises:
        DataError: it is another one.
    """
    folder = Path(name).name.lower()
    if folder in _TESTS:  # `datasets` calls any folder of images "train"
        raise DataError(
            f"calibration on the folder {str(name)!r}: its name is that of a test split, and calibration data come "
            "from the training split only; name the folder with the training data"
        )
    if not _TRAIN.fullmatch(split):
        raise DataError(
            f"calibration on split {split!r} of {str(name)!r}: calibration data come from the training split "
            "only, or the accuracy on the test split means nothing; use 'train' or a part of it, such as "
            "'train[:5000]'"
        )
