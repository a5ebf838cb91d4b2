"""Data sets through Hugging Face `datasets`: from `$RHEOBASE_DATA`, a folder or the hub, by the same code."""

from __future__ import annotations

from rheobase.data.audio import resample, waveforms
from rheobase.data.calibration import calibration_subset, calibration_texts, calibration_waveforms
from rheobase.data.images import ImageBatches, images, pixels
from rheobase.data.source import KNOWN, Columns, DataSource, evaluation_split, load
from rheobase.data.stored import StoredImages
from rheobase.data.text import learn_tokenizer, texts, tokens

__all__ = [
    "KNOWN",
    "Columns",
    "DataSource",
    "ImageBatches",
    "StoredImages",
    "calibration_subset",
    "calibration_texts",
    "calibration_waveforms",
    "evaluation_split",
    "images",
    "learn_tokenizer",
    "load",
    "pixels",
    "resample",
    "texts",
    "tokens",
    "waveforms",
]
