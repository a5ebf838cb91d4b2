"""Which rows of a split are read, and from which columns."""

from __future__ import annotations

import reprlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from rheobase.data.reasons import reason
from rheobase.data.source import Columns, described, load
from rheobase.errors import DataError, SettingError

__all__ = ["Kind", "Rows", "choose"]

Kind = Literal["image", "audio", "text"]


@dataclass(frozen=True)
class Rows:
    """The chosen rows of a split, in order.

    Args:
        table: The rows of the whole split, a `datasets.Dataset`.
        order: The numbers of those that are chosen.
        columns: Of the input and the label.
        where: The data set and the split, in words, for messages.
    """

    table: Any
    order: np.ndarray[Any, np.dtype[np.int64]]
    columns: Columns
    where: str

    def chunks(self, size: int) -> Iterator[tuple[list[tuple[int, Any]], Tensor]]:
        """Give `size` rows at a time: the row numbers with their inputs, and the labels."""
        for start in range(0, len(self.order), size):
            chosen = self.order[start : start + size]
            found = self.table[chosen]
            numbered = list(zip(chosen.tolist(), found[self.columns.input], strict=True))
            yield numbered, self._labels(found[self.columns.label])

    def labels(self) -> Tensor:
        """The labels of all chosen rows, (N,); no input is read."""
        return self._labels(self.table.select_columns(self.columns.label)[self.order][self.columns.label])

    def stored(self, row: int, value: Any, accepted: str) -> bytes:
        """The bytes of an image or a recording, which the table holds or a file does.

        Raises:
            DataError: There are none.
        """
        if not isinstance(value, dict) or not (value.get("bytes") or value.get("path")):
            raise self.damaged(row, value, "nothing is stored there", accepted)
        try:
            content: bytes = value["bytes"] or Path(value["path"]).read_bytes()
        except OSError as error:
            raise self.damaged(row, value, f"the file cannot be read ({reason(error)})", accepted) from error
        return content

    def damaged(self, row: int, value: Any, problem: str, accepted: str) -> DataError:
        """The error for an input that cannot be read."""
        path = value.get("path") if isinstance(value, dict) else None
        named = f" ({path})" if path else ""
        return DataError(
            f"{self.where}, row {row}{named}, column {self.columns.input!r}: {problem}; accepted is {accepted}; "
            "remove or replace it"
        )

    def _labels(self, values: Sequence[Any]) -> Tensor:
        wrong = [value for value in values if not isinstance(value, int) or value < 0]
        if wrong:
            advice = "test splits on the hub often hide them: use 'validation'"
            if not (wrong[0] is None or isinstance(wrong[0], int)):
                advice = "name the column that has them"
            raise DataError(
                f"{self.where}, column {self.columns.label!r}: found the label {reprlib.repr(wrong[0])}; "
                f"labels are whole numbers from 0 ({advice})"
            )
        return torch.tensor(values, dtype=torch.int64)


def choose(
    name: str | Path,
    split: str,
    kind: Kind,
    *,
    limit: int | None = None,
    seed: int | None = None,
    columns: Columns | tuple[str, str] | None = None,
    root: str | Path | None = None,
) -> Rows:
    """Choose rows: all, the first `limit`, or with a seed a random subset or a random order.

    Raises:
        DataError: No such data set, split or column, or it has fewer rows than `limit`.
        SettingError: `limit` is not positive, or `columns` are not two.
    """
    if limit is not None and limit < 1:
        raise SettingError(f"data set {str(name)!r}: limit is {limit}; give a positive number")
    where = f"data set {str(name)!r}, split {split!r}"
    if columns is not None and (isinstance(columns, str) or len(columns) != 2):
        raise SettingError(f"{where}: columns is {columns!r}; give two names, columns=({kind}, label)")
    table = load(name, split, root=root)
    chosen = Columns(*columns) if columns else _columns(str(name), table, kind, where)
    for column in chosen:
        if column not in table.column_names:
            raise DataError(
                f"{where} has no column {column!r}; it has {', '.join(table.column_names)}; "
                f"name the {kind} and the label column with columns=({kind}, label)"
            )
    count = len(table)
    if count == 0 or (limit is not None and limit > count):
        raise DataError(f"{where} has {count} rows, {limit or 'at least 1'} were asked for; lower the limit")
    if seed is None:
        order = np.arange(limit or count)
    else:
        order = np.random.default_rng(seed).permutation(count)
        order = np.sort(order[:limit]) if limit is not None else order
    return Rows(table.select_columns(list(dict.fromkeys(chosen))), order, chosen, where)


def _columns(name: str, table: Any, kind: Kind, where: str) -> Columns:
    """The columns of a known data set, else the only one of this kind and the only one of classes."""
    from datasets import Audio, ClassLabel, Image, Value

    if (known := described(name)) is not None:
        return known.columns
    types = {"image": Image, "audio": Audio, "text": Value}
    features = table.features.items()
    inputs = [
        column
        for column, feature in features
        if isinstance(feature, types[kind]) and (kind != "text" or "string" in feature.dtype)
    ]
    labels = [column for column, feature in features if isinstance(feature, ClassLabel)]
    if len(inputs) == len(labels) == 1:
        return Columns(inputs[0], labels[0])
    raise DataError(
        f"{where}: cannot tell the {kind} and the label column; it has {', '.join(table.column_names)}, "
        f"{len(inputs)} of them {kind} and {len(labels)} of them classes; "
        f"name them with columns=({kind}, label)"
    )
