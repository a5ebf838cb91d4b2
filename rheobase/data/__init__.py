"""Data sets through Hugging Face `datasets`: from `$RHEOBASE_DATA`, a folder or the hub, by the same code."""

from __future__ import annotations

from rheobase.data.images import ImageBatches, calibration_subset, images, pixels
from rheobase.data.source import KNOWN, Columns, DataSource, load

__all__ = [
    "KNOWN",
    "Columns",
    "DataSource",
    "ImageBatches",
    "calibration_subset",
    "images",
    "load",
    "pixels",
]
