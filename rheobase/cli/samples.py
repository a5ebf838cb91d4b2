"""The images of the command line: those to calibrate with, and, never the same, those to evaluate on."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

from rheobase.data import Columns, ImageBatches, calibration_subset, evaluation_split, load
from rheobase.errors import ConversionError, DataError, SettingError
from rheobase.locate import locate

__all__ = ["Samples"]

_SLICE = re.compile(r"(?P<name>[^\[\]]+)\[(?P<from>\d*)(?P<p>%?):(?P<to>\d*)(?P<q>%?)\]")


@dataclass(frozen=True)
class Samples:
    """Where the data come from, with the options of the command line as fields.

    Args:
        data: a known name, a folder, a hub name, or ``package.module:function``, a function of the
            split that gives inputs, with labels (inputs, labels), or a data set of one or the other.
        split: to evaluate on; None for the one with labels that nothing is trained on.
        calibration_split: the training split or a part of it.
        calibration_images: how many of it, at random; fewer where it has fewer.
        images: the first images of the split; None for all.
        mean: subtracted from the pixels in 0..1, one value or one a channel, separated by commas.
        std: what they are divided by.
        size: the shorter side is scaled to it and the centre cropped.
        resize: the shorter side is scaled to this instead.
        batch_size: images in a batch.
        columns: the image column and the label column, separated by a comma.
        seed: of the choice of calibration images.
    """

    data: str
    split: str | None = None
    calibration_split: str = "train"
    calibration_images: int = 1000
    images: int | None = None
    mean: str | None = None
    std: str | None = None
    size: int | None = None
    resize: int | None = None
    batch_size: int = 50
    columns: str | None = None
    seed: int = 0

    def evaluation(self) -> Any:
        """Batches of the split to evaluate on."""
        if self._is_function:
            chosen = self._call(self.evaluated)
            if self.images is not None:
                chosen = Subset(chosen, range(min(self.images, _length(chosen))))
            return DataLoader(chosen, batch_size=self.batch_size)
        return ImageBatches(
            self.data,
            self.evaluated,
            _numbers("mean", self.mean, 0.0),
            _numbers("std", self.std, 1.0),
            batch_size=self.batch_size,
            size=self.size,
            resize=self.resize,
            limit=self.images,
            columns=self._columns,
        )

    def calibration(self) -> DataLoader[Any]:
        """Batches of the training split, without an image of the split to evaluate on.

        Raises:
            SettingError: the two splits are, or may be, the same images.
        """
        if _may_overlap(self.evaluated, self.calibration_split):
            raise SettingError(
                f"--calibration-split {self.calibration_split} and --split {self.evaluated} share images. Thresholds "
                "that have seen the images they are measured on make the accuracy look better than it is: evaluate "
                "on another split, or another part (--calibration-split 'train[:5000]' --split 'train[5000:]')."
            )
        if self._is_function:
            chosen = self._call(self.calibration_split)
            order = torch.randperm(_length(chosen), generator=torch.Generator().manual_seed(self.seed))
            return DataLoader(Subset(chosen, order[: self.calibration_images].tolist()), batch_size=self.batch_size)
        chosen = calibration_subset(
            self.data,
            _numbers("mean", self.mean, 0.0),
            _numbers("std", self.std, 1.0),
            count=min(self.calibration_images, len(load(self.data, self.calibration_split))),
            seed=self.seed,
            split=self.calibration_split,
            size=self.size,
            resize=self.resize,
            columns=self._columns,
        )
        return DataLoader(chosen, batch_size=self.batch_size)

    @cached_property
    def evaluated(self) -> str:
        """The split to evaluate on."""
        if self.split is not None:
            return self.split
        return "test" if self._is_function else evaluation_split(self.data)

    @property
    def _is_function(self) -> bool:
        return ":" in self.data and not Path(self.data).exists()

    @property
    def _columns(self) -> Columns | None:
        if self.columns is None:
            return None
        names = [name.strip() for name in self.columns.split(",")]
        if len(names) != 2:
            raise SettingError(
                f"--columns is {self.columns!r}; give the image and the label column, such as img,label."
            )
        return Columns(*names)

    def _call(self, split: str) -> Dataset[Any]:
        """The data set that the function gives for a split."""
        unused = [n for n in ("mean", "std", "size", "resize", "columns") if getattr(self, n) is not None]
        if unused:
            names = ", ".join(f"--{name}" for name in unused)
            raise SettingError(f"{names} is for images; the function {self.data} gives tensors that are ready.")
        function = locate(self.data)
        try:
            found = function(split)
        except ConversionError:
            raise
        except Exception as error:
            raise DataError(f"--data {self.data}: {split!r} raised {type(error).__name__}: {error}.") from error
        if isinstance(found, Tensor):
            return TensorDataset(found)
        if isinstance(found, tuple | list) and len(found) == 2 and all(isinstance(t, Tensor) for t in found):
            if len(found[0]) != len(found[1]):
                raise DataError(f"--data {self.data}: {len(found[0])} inputs and {len(found[1])} labels for {split!r}.")
            return TensorDataset(*found)
        if hasattr(found, "__getitem__") and hasattr(found, "__len__") and not isinstance(found, tuple | list):
            return found  # type: ignore[no-any-return]
        raise DataError(
            f"--data {self.data}: {split!r} gave a {type(found).__name__}; accepted are inputs, one tensor, "
            "with labels (inputs, labels), and a torch.utils.data.Dataset of one or the other."
        )


def _length(dataset: Any) -> int:
    return len(dataset)


def _numbers(name: str, text: str | None, default: float) -> tuple[float, ...]:
    if text is None:
        return (default,)
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) not in (1, 3) or (name == "std" and min(values) <= 0):
        raise SettingError(
            f"--{name} is {text!r}; give one number, or one for red, green and blue, such as 0.49,0.48,0.45"
            f"{' (greater than 0)' if name == 'std' else ''}."
        )
    return values


def _may_overlap(one: str, other: str) -> bool:
    """Whether two splits may share images: they are of one split, and no two disjoint slices ``[a:b]``."""
    if any("+" in split or split.startswith("all") for split in (one, other)):
        return True
    if one.split("[", maxsplit=1)[0].strip() != other.split("[", maxsplit=1)[0].strip():
        return False
    a, b = _SLICE.fullmatch(one), _SLICE.fullmatch(other)
    if a is None or b is None or len({unit for m in (a, b) for unit in _units(m)}) != 1:
        return True
    (start, stop), (first, last) = ((int(m["from"] or 0), float(m["to"] or "inf")) for m in (a, b))
    return start < last and first < stop


def _units(slice_: re.Match[str]) -> set[str]:
    """The units of the bounds that are given: images or per cent."""
    return {slice_[unit] for bound, unit in (("from", "p"), ("to", "q")) if slice_[bound]}
