"""Labels of a data set as those of the task: the classes that a network answers with, in their order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rheobase.errors import DataError

__all__ = ["relabel"]


def relabel(table: Any, column: str, classes: Sequence[str], other: str, where: str) -> Any:
    """Give the label column of a table the classes of a task; a name that is none of them counts as `other`.

    Args:
        table: A `datasets.Dataset`.
        column: The label column, of the type `datasets.ClassLabel`.
        classes: The names, in the order of the numbers.
        other: The one of them for all names that are not among them.
        where: The data set and the split, in words, for messages.

    Raises:
        DataError: The column has no names, or lacks one of the task.
    """
    from datasets import ClassLabel

    if column not in table.column_names:
        return table  # whoever reads the column says so
    feature = table.features[column]
    if not isinstance(feature, ClassLabel) or feature.names is None:
        raise DataError(
            f"{where}, column {column!r}: it holds numbers or text without the names of classes; store it as a "
            f"datasets.ClassLabel, so that {', '.join(classes)} can be told"
        )
    if list(feature.names) == list(classes):
        return table
    if missing := [name for name in classes if name not in feature.names and name != other]:
        raise DataError(
            f"{where}, column {column!r}: its classes are {', '.join(feature.names)}; {', '.join(missing)} of "
            "the task is not among them; give a data set of other classes by its folder"
        )
    number = np.array([classes.index(name if name in classes else other) for name in feature.names])
    found = np.array([-1 if label is None else label for label in table[column]], dtype=np.int64)
    labels = np.where(found < 0, -1, number[found])
    names = table.column_names
    renamed = table.remove_columns(column).add_column(column, labels, feature=ClassLabel(names=list(classes)))
    return renamed.select_columns(names)
