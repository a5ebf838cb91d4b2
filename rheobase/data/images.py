"""Images as tensors: decoded once to bytes, normalised a batch at a time."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from rheobase.data.source import KNOWN, Columns, load
from rheobase.errors import DataError, SettingError

__all__ = ["ImageBatches", "calibration_subset", "images", "normalise", "pixels"]

_TRAIN = re.compile(r"train(\[[^\]]*\])?")


def normalise(raw: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """x = (raw / 255 - mean) / std, with one mean and one std for each channel.

    Shape:
        uint8 (N, C, H, W) -> float32 (N, C, H, W).
    """
    shift = torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1)
    scale = torch.tensor(std, dtype=torch.float32).view(-1, 1, 1)
    return raw.float().div_(255).sub_(shift).div_(scale)


def pixels(
    name: str | Path,
    split: str,
    *,
    size: int | None = None,
    limit: int | None = None,
    seed: int | None = None,
    columns: Columns | tuple[str, str] | None = None,
    root: str | Path | None = None,
) -> tuple[Tensor, Tensor]:
    """Decode the images of a split into one tensor of bytes (CIFAR-10: 150 MB), and their labels.

    Args:
        name: The data set, see `load`.
        split: The split, see `load`.
        size: Scale the shorter side to `size` and crop the centre; needed where sizes differ.
        limit: Take this many images: the first ones, or with `seed` a random subset.
        seed: Of the random subset, or of the random order where there is no `limit`.
        columns: Names of the image and the label column, where they cannot be told from the data.
        root: Folder that holds the data sets by name, instead of `$RHEOBASE_DATA` and the hub.

    Shape:
        uint8 (N, 3, H, W) and int64 (N,).

    Raises:
        DataError: No such data set, split or column, a damaged image, images of several sizes, or no labels.
    """
    batches = ImageBatches(
        name, split, size=size, limit=limit, seed=seed, columns=columns, root=root, batch_size=1000
    )
    return batches.pixels()


def images(
    name: str | Path,
    split: str,
    mean: Sequence[float],
    std: Sequence[float],
    *,
    size: int | None = None,
    limit: int | None = None,
    seed: int | None = None,
    columns: Columns | tuple[str, str] | None = None,
    root: str | Path | None = None,
) -> TensorDataset:
    """The images of a split in memory, normalised: what a `DataLoader` takes.

    Args:
        name: The data set, see `load`.
        split: The split, see `load`.
        mean: What is subtracted from the pixels (in 0..1), one value for each channel.
        std: What they are then divided by.
        size: Scale the shorter side to `size` and crop the centre; needed where sizes differ.
        limit: Take this many images: the first ones, or with `seed` a random subset.
        seed: Of the random subset, or of the random order where there is no `limit`.
        columns: Names of the image and the label column, where they cannot be told from the data.
        root: Folder that holds the data sets by name, instead of `$RHEOBASE_DATA` and the hub.

    Shape:
        ``.tensors`` is float32 (N, 3, H, W) and int64 (N,).

    Raises:
        DataError: As `pixels`.
    """
    raw, labels = pixels(name, split, size=size, limit=limit, seed=seed, columns=columns, root=root)
    return TensorDataset(normalise(raw, mean, std), labels)


def calibration_subset(
    name: str | Path,
    mean: Sequence[float],
    std: Sequence[float],
    *,
    count: int = 1024,
    seed: int = 0,
    split: str = "train",
    size: int | None = None,
    columns: Columns | tuple[str, str] | None = None,
    root: str | Path | None = None,
) -> TensorDataset:
    """A random subset of the training split, the same for the same seed. Never of the test split.

    Args:
        name: The data set, see `load`.
        mean: As for `images`.
        std: As for `images`.
        count: Number of images.
        seed: Which ones.
        split: ``"train"`` or a part of it, such as ``"train[:5000]"``.
        size: As for `images`.
        columns: As for `images`.
        root: As for `images`.

    Raises:
        DataError: `split` is not of the training data, or as `pixels`.
    """
    if not _TRAIN.fullmatch(split):
        raise DataError(
            f"calibration on split {split!r} of {str(name)!r}: calibration data come from the training split "
            "only, or the accuracy on the test split means nothing; use 'train' or a part of it, such as "
            "'train[:5000]'"
        )
    return images(name, split, mean, std, size=size, limit=count, seed=seed, columns=columns, root=root)


class ImageBatches:
    """Batches of a split decoded as they are asked for, so that memory does not grow with the data set.

    Iterating gives ``(x, y)`` pairs and can be repeated; each pass decodes again. Use `images` for sets that
    fit into memory. The arguments are those of `images`, and `batch_size`, the number of images in a batch.

    Shape:
        x float32 (N, 3, H, W), y int64 (N,).
    """

    def __init__(
        self,
        name: str | Path,
        split: str,
        mean: Sequence[float] = (0.0, 0.0, 0.0),
        std: Sequence[float] = (1.0, 1.0, 1.0),
        *,
        batch_size: int = 256,
        size: int | None = None,
        limit: int | None = None,
        seed: int | None = None,
        columns: Columns | tuple[str, str] | None = None,
        root: str | Path | None = None,
    ) -> None:
        given = (("batch_size", batch_size), ("size", size), ("limit", limit))
        problems = [f"{key} is {value}" for key, value in given if value is not None and value < 1]
        if problems:
            raise SettingError(f"images of {str(name)!r}: {', '.join(problems)}; give a positive number")
        self._mean, self._std, self._size, self._batch = mean, std, size, batch_size
        self._where = f"data set {str(name)!r}, split {split!r}"
        rows = load(name, split, root=root)
        image, label = columns or _columns(str(name), rows, self._where)
        for column in (image, label):
            if column not in rows.column_names:
                raise DataError(
                    f"{self._where} has no column {column!r}; it has {', '.join(rows.column_names)}; "
                    "name the image and the label column with columns=(image, label)"
                )
        rows = rows.select_columns([image, label])
        if seed is not None:
            order = np.random.default_rng(seed).permutation(len(rows))
            self._order = np.sort(order[:limit]) if limit is not None else order
        else:
            self._order = np.arange(len(rows) if limit is None else min(limit, len(rows)))
        if limit is not None and limit > len(rows):
            raise DataError(f"{self._where} has {len(rows)} images, {limit} were asked for; lower the limit")
        self._rows, self._columns = rows, Columns(image, label)

    def __len__(self) -> int:
        """Number of batches."""
        return -(-len(self._order) // self._batch)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Decode and normalise, a batch at a time."""
        for raw, labels in self._raw():
            yield normalise(raw, self._mean, self._std), labels

    def pixels(self) -> tuple[Tensor, Tensor]:
        """Everything at once: uint8 (N, 3, H, W) and int64 (N,)."""
        parts = list(self._raw())
        if not parts:
            raise DataError(f"{self._where} is empty")
        shapes = sorted({tuple(raw.shape[1:]) for raw, _ in parts})
        if len(shapes) > 1:
            raise DataError(_sizes(self._where, shapes))
        return torch.cat([raw for raw, _ in parts]), torch.cat([labels for _, labels in parts])

    def _raw(self) -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, len(self._order), self._batch):
            chosen = self._order[start : start + self._batch]
            rows = self._rows[chosen]
            decoded = [
                self._decode(row, at) for row, at in zip(rows[self._columns.input], chosen, strict=True)
            ]
            shapes = sorted({array.shape for array in decoded})
            if len(shapes) > 1:
                raise DataError(_sizes(self._where, [(c, h, w) for h, w, c in shapes]))
            stacked = torch.from_numpy(np.stack(decoded))  # (N, H, W, 3) -> (N, 3, H, W)
            yield stacked.permute(0, 3, 1, 2).contiguous(), self._labels(rows[self._columns.label])

    def _labels(self, values: list[Any]) -> Tensor:
        wrong = [value for value in values if not isinstance(value, int) or value < 0]
        if wrong:
            raise DataError(
                f"{self._where}, column {self._columns.label!r}: found the label {wrong[0]!r}; "
                "labels are whole numbers from 0 (test splits on the hub often hide them: use 'validation')"
            )
        return torch.tensor(values, dtype=torch.int64)

    def _decode(self, row: dict[str, Any], at: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        from PIL import Image

        try:
            with Image.open(io.BytesIO(row["bytes"]) if row["bytes"] is not None else row["path"]) as file:
                image = file.convert("RGB")
        except (OSError, ValueError, SyntaxError, TypeError, KeyError) as error:
            named = f" ({row['path']})" if row and row.get("path") else ""
            raise DataError(
                f"{self._where}, row {at}{named}, column {self._columns.input!r}: not an image, or damaged "
                f"({error}); accepted is what Pillow reads; remove or replace the file"
            ) from error
        if self._size is not None and image.size != (self._size, self._size):
            width, height = image.size
            scale = self._size / min(width, height)
            image = image.resize(
                (max(self._size, round(width * scale)), max(self._size, round(height * scale)))
            )
            left, top = (image.width - self._size) // 2, (image.height - self._size) // 2
            image = image.crop((left, top, left + self._size, top + self._size))
        return np.asarray(image)


def _columns(name: str, rows: Any, where: str) -> Columns:
    """The columns of a known data set, else the only image and the only class column that there are."""
    from datasets import ClassLabel, Image

    if name in KNOWN:
        return KNOWN[name].columns
    found = [
        [column for column, feature in rows.features.items() if isinstance(feature, kind)]
        for kind in (Image, ClassLabel)
    ]
    if [len(names) for names in found] == [1, 1]:
        return Columns(found[0][0], found[1][0])
    raise DataError(
        f"{where}: cannot tell the image and the label column; it has {', '.join(rows.column_names)}, "
        f"{len(found[0])} of them images and {len(found[1])} of them classes; "
        "name them with columns=(image, label)"
    )


def _sizes(where: str, shapes: Sequence[tuple[int, ...]]) -> str:
    shown = ", ".join(f"{height}x{width}" for _, height, width in shapes[:5])
    return f"{where} has images of several sizes ({shown}); give size= to scale and crop them all to one"
