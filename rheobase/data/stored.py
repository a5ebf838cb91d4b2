"""Images that stay where they are stored, and are decoded when they are asked for: for sets larger than memory."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from rheobase.data.images import sizes
from rheobase.data.pictures import decode, fit, random_part
from rheobase.data.rows import Rows, choose
from rheobase.data.source import Columns
from rheobase.errors import SettingError

__all__ = ["StoredImages"]


class StoredImages:
    """The images of a split as something that is indexed like a tensor of bytes, and decoded then.

    ``images[rows]`` scales the shorter side to `resize` and crops the centre of `size`, as for an evaluation;
    `draw` takes random parts, as for training.

    Args:
        name: The data set, see `rheobase.data.load`.
        split: The split.
        size: Side of the images. 224 for ImageNet if not given.
        resize: 8/7 of `size` if not given, as 256 for 224.
        limit: The first images only.
        columns: Names of the image and the label column, where they cannot be told from the data.
        root: Folder that holds the data sets by name, instead of `$RHEOBASE_DATA` and the hub.
        threads: That decode; 0 for one on each core.

    Shape:
        Indexed uint8 (n, 3, size, size); `labels` int64 (N,).

    Raises:
        DataError: No such data set, split or column, or no labels; when indexed, a damaged image.
        SettingError: `size` is missing, or does not go with `resize`.
    """

    dtype = torch.uint8

    def __init__(
        self,
        name: str | Path,
        split: str,
        size: int | None = None,
        resize: int | None = None,
        *,
        limit: int | None = None,
        columns: Columns | tuple[str, str] | None = None,
        root: str | Path | None = None,
        threads: int = 0,
    ) -> None:
        side, short = sizes(name, size, resize)
        if side is None:
            raise SettingError(f"images of {str(name)!r}: no size is given; give that of the images of the network")
        self.size, self.resize = side, short or round(side * 8 / 7)
        self._threads = threads or os.cpu_count() or 1
        self._rows = choose(name, split, "image", limit=limit, columns=columns, root=root)
        self.labels = self._rows.labels()

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """That of all images together."""
        return len(self), 3, self.size, self.size

    def first(self, count: int | None) -> StoredImages:
        """The first images only; nothing is decoded."""
        part = copy.copy(self)
        part._rows = Rows(self._rows.table, self._rows.order[:count], self._rows.columns, self._rows.where)
        part.labels = self.labels[:count]
        return part

    def __getitem__(self, chosen: slice | Tensor | np.ndarray[Any, Any]) -> Tensor:
        """The centres of some images.

        Raises:
            SettingError: `chosen` is not a slice, nor a list of row numbers.
            DataError: A damaged image.
        """
        if not isinstance(chosen, slice) and np.ndim(chosen) != 1:
            raise SettingError(
                f"images are chosen by a slice or by a list of rows, not by {chosen!r}; for one, [i : i + 1]"
            )
        rows = self._rows.order[chosen if isinstance(chosen, slice) else np.asarray(chosen)]
        return self._decoded(rows, [lambda image: fit(image, self.size, self.resize)] * len(rows))

    def draw(self, chosen: Tensor, generator: Generator) -> Tensor:
        """Random parts of some images; which ones depends on the generator and the place in the batch only."""
        seeds = torch.randint(2**62, (len(chosen),), generator=generator).tolist()
        return self._decoded(self._rows.order[np.asarray(chosen)], [partial(self._part, seed) for seed in seeds])

    def _part(self, seed: int, image: Any) -> Any:
        return random_part(image, self.size, Generator().manual_seed(seed))

    def _decoded(self, rows: np.ndarray[Any, np.dtype[np.int64]], ways: Sequence[Callable[[Any], Any]]) -> Tensor:
        if not len(rows):
            return torch.zeros(0, *self.shape[1:], dtype=torch.uint8)

        def one(row: int, value: Any, way: Callable[[Any], Any]) -> np.ndarray[Any, np.dtype[np.uint8]]:
            return np.asarray(way(decode(self._rows, row, value)))

        values = self._rows.table[rows][self._rows.columns.input]
        with ThreadPoolExecutor(self._threads) as pool:  # Pillow decodes and scales without Python's lock
            arrays = list(pool.map(one, rows.tolist(), values, ways))
        return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous()  # (n, H, W, 3) -> (n, 3, H, W)
