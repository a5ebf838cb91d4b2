"""Images as tensors: decoded once to bytes, normalised a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from rheobase.data.pictures import decode, fit
from rheobase.data.rows import choose
from rheobase.data.source import Columns, described
from rheobase.errors import DataError, SettingError

__all__ = ["ImageBatches", "images", "normalise", "pixels", "sizes"]


def normalise(raw: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """x = (raw / 255 - mean) / std, with one mean and one std for each channel.

    Shape:
        uint8 (N, C, H, W) -> float32 (N, C, H, W).
    """
    shift = torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1)
    scale = torch.tensor(std, dtype=torch.float32).view(-1, 1, 1)
    return raw.float().div_(255).sub_(shift).div_(scale)


def sizes(name: str | Path, size: int | None, resize: int | None) -> tuple[int | None, int | None]:
    """The size of the images, and what they are scaled to before: as given, or as the data set says.

    Raises:
        SettingError: One is not positive, or `resize` smaller than `size` or without it.
    """
    known = described(name)
    if known is not None and size is None and resize is None:
        return known.size, known.resize
    problems = [f"{key} is {value}" for key, value in (("size", size), ("resize", resize)) if value is not None]
    if (size is not None and size < 1) or (resize is not None and (size is None or resize < size)):
        raise SettingError(
            f"images of {str(name)!r}: {', '.join(problems)}; give a positive size, and with it a resize that is not "
            "smaller"
        )
    return size, resize


def _check_normalisation(name: str | Path, mean: Sequence[float], std: Sequence[float]) -> None:
    if not {len(mean), len(std)} <= {1, 3} or not min(std) > 0:  # so that NaN fails too
        raise SettingError(
            f"images of {str(name)!r}: mean is {tuple(mean)} and std {tuple(std)}; give one number each, or one for "
            "red, green and blue, and positive deviations"
        )


def pixels(
    name: str | Path,
    split: str,
    *,
    size: int | None = None,
    resize: int | None = None,
    limit: int | None = None,
    seed: int | None = None,
    columns: Columns | tuple[str, str] | None = None,
    root: str | Path | None = None,
) -> tuple[Tensor, Tensor]:
    """Decode the images of a split into one tensor of bytes (CIFAR-10: 150 MB), and their labels.

    Grey images give three equal channels, 16 bits are scaled to 8, and CMYK and palettes become red, green and blue.
    Transparency is dropped and a rotation in the EXIF data ignored, as torchvision does.

    Args:
        name: The data set, see `load`.
        split: The split, see `load`.
        size: Scale the shorter side to `size` and crop the centre; needed where sizes differ, and 224 for ImageNet.
        resize: Scale the shorter side to this before the centre is cropped. 256 for ImageNet where `size` is not given.
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
        name, split, size=size, resize=resize, limit=limit, seed=seed, columns=columns, root=root, batch_size=1000
    )
    return batches.pixels()


def images(
    name: str | Path,
    split: str,
    mean: Sequence[float],
    std: Sequence[float],
    *,
    size: int | None = None,
    resize: int | None = None,
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
        size: Scale the shorter side to `size` and crop the centre; needed where sizes differ, and 224 for ImageNet.
        resize: Scale the shorter side to this before the centre is cropped. 256 for ImageNet where `size` is not given.
        limit: Take this many images: the first ones, or with `seed` a random subset.
        seed: Of the random subset, or of the random order where there is no `limit`.
        columns: Names of the image and the label column, where they cannot be told from the data.
        root: Folder that holds the data sets by name, instead of `$RHEOBASE_DATA` and the hub.

    Shape:
        ``.tensors`` is float32 (N, 3, H, W) and int64 (N,).

    Raises:
        DataError: As `pixels`.
        SettingError: `mean` or `std` has neither one number nor three, or a deviation is not positive.
    """
    _check_normalisation(name, mean, std)
    raw, labels = pixels(name, split, size=size, resize=resize, limit=limit, seed=seed, columns=columns, root=root)
    return TensorDataset(normalise(raw, mean, std), labels)


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
        resize: int | None = None,
        limit: int | None = None,
        seed: int | None = None,
        columns: Columns | tuple[str, str] | None = None,
        root: str | Path | None = None,
    ) -> None:
        if batch_size < 1:
            raise SettingError(f"images of {str(name)!r}: batch_size is {batch_size}; give a positive number")
        _check_normalisation(name, mean, std)
        self._size, self._resize = sizes(name, size, resize)
        self._mean, self._std, self._batch = mean, std, batch_size
        self._rows = choose(name, split, "image", limit=limit, seed=seed, columns=columns, root=root)

    def __len__(self) -> int:
        """Return the number of batches."""
        return -(-len(self._rows.order) // self._batch)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Decode and normalise, a batch at a time."""
        for raw, labels in self._raw():
            yield normalise(raw, self._mean, self._std), labels

    def pixels(self) -> tuple[Tensor, Tensor]:
        """Everything at once: uint8 (N, 3, H, W) and int64 (N,)."""
        parts = list(self._raw())
        self._check_sizes([tuple(raw.shape[2:]) for raw, _ in parts])
        return torch.cat([raw for raw, _ in parts]), torch.cat([labels for _, labels in parts])

    def _raw(self) -> Iterator[tuple[Tensor, Tensor]]:
        for chunk, labels in self._rows.chunks(self._batch):
            decoded = [self._decode(value, row) for row, value in chunk]
            self._check_sizes([array.shape[:2] for array in decoded])
            stacked = torch.from_numpy(np.stack(decoded))  # (N, H, W, 3) -> (N, 3, H, W)
            yield stacked.permute(0, 3, 1, 2).contiguous(), labels

    def _check_sizes(self, sizes: Sequence[tuple[int, ...]]) -> None:
        if len(found := sorted(set(sizes))) > 1:
            shown = ", ".join(f"{height}x{width}" for height, width in found[:5])
            raise DataError(
                f"{self._rows.where} has images of several sizes ({shown}); "
                "give size= to scale and crop them all to one"
            )

    def _decode(self, value: Any, row: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        image = decode(self._rows, row, value)
        return np.asarray(image if self._size is None else fit(image, self._size, self._resize))
