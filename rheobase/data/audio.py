"""Recordings as waveforms of one rate and one length."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rheobase.data.reasons import reason
from rheobase.data.rows import Rows, choose
from rheobase.data.source import Columns
from rheobase.errors import DataError, SettingError

__all__ = ["resample", "waveforms"]

_UNKNOWN = 0x7FFF0000  # what programs that write into a pipe announce
_ACCEPTED = "what libsndfile reads (WAV, FLAC, OGG)"
Wave = np.ndarray[Any, np.dtype[np.float32]]


def waveforms(
    name: str | Path,
    split: str,
    *,
    rate: int = 8000,
    seconds: float = 1.0,
    limit: int | None = None,
    seed: int | None = None,
    columns: Columns | tuple[str, str] | None = None,
    root: str | Path | None = None,
) -> tuple[Tensor, Tensor]:
    """Decode the recordings of a split: one channel, resampled to `rate`, cut or filled with silence.

    Several channels are averaged. A recording that is cut off, has no samples, or samples that are not finite, is an
    error; one of a single sample is filled with silence, as any short one.

    Args:
        name: The data set, see `rheobase.data.load`.
        split: The split.
        rate: Samples in a second.
        seconds: Length of every waveform.
        limit: Take this many: the first ones, or with `seed` a random subset.
        seed: Of the random subset, or of the random order where there is no `limit`.
        columns: Names of the audio and the label column, where they cannot be told from the data.
        root: Folder that holds the data sets by name, instead of `$RHEOBASE_DATA` and the hub.

    Shape:
        float32 (N, 1, rate * seconds) in -1..1, and int64 (N,).

    Raises:
        DataError: No such data set, split or column, or a damaged recording.
        SettingError: `rate` or `seconds` is not positive.
    """
    length = round(rate * seconds) if math.isfinite(rate * seconds) else 0
    if rate < 1 or length < 1:
        raise SettingError(
            f"waveforms of {str(name)!r}: rate is {rate}, seconds {seconds}; give positive numbers, at least one sample"
        )
    rows = choose(name, split, "audio", limit=limit, seed=seed, columns=columns, root=root)
    result = np.zeros((len(rows.order), 1, length), dtype=np.float32)
    labels = []
    at = 0
    for chunk, some in rows.chunks(1000):
        labels.append(some)
        for row, value in chunk:
            wave, found = _recording(rows, row, value)
            wave = resample(wave, found, rate)[:length]
            result[at, 0, : len(wave)] = wave
            at += 1
    return torch.from_numpy(result), torch.cat(labels)


def resample(wave: Wave, rate: int, to: int) -> Wave:
    """Change the rate of a waveform by cutting its spectrum, or filling it with zeros.

    Shape:
        (L,) -> (round(L * to / rate),), at least one sample.

    >>> wave = np.sin(np.arange(80, dtype=np.float32) * 2 * np.pi / 16)
    >>> bool(np.allclose(resample(wave, 16_000, 8_000), wave[::2], atol=1e-6))
    True
    """
    length = max(round(len(wave) * to / rate), min(len(wave), 1))
    if length == len(wave):
        return wave
    spectrum = np.fft.rfft(wave)
    return (np.fft.irfft(spectrum[: length // 2 + 1], length) * (length / len(wave))).astype(np.float32)


def _recording(rows: Rows, row: int, value: Any) -> tuple[Wave, int]:
    """The recording of a row, and its rate.

    Raises:
        DataError: It is none, cut off, empty or not finite.
    """
    content = rows.stored(row, value, _ACCEPTED)
    try:
        wave, rate = _decode(content)
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        problem = f"not a recording, or damaged ({reason(error)})"
        raise rows.damaged(row, value, problem, _ACCEPTED) from error
    if missing := _missing(content):
        problem = f"the recording is cut off, {missing:,} bytes of its samples are missing"
    elif not len(wave):
        problem = "the recording has no samples"
    elif wrong := int((~np.isfinite(wave)).sum()):
        problem = f"{wrong:,} of the {len(wave):,} samples of the recording are not finite"
    else:
        return wave, rate
    raise rows.damaged(row, value, problem, "a whole recording of finite samples")


def _decode(content: bytes) -> tuple[Wave, int]:
    try:
        import soundfile
    except ImportError as error:
        raise DataError("recordings need the package `soundfile`; pip install 'rheobase[data]'") from error
    wave, rate = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)  # (L, channels)
    return wave.mean(axis=1), int(rate)


def _missing(content: bytes) -> int:
    """How many bytes of samples a WAV file announces and does not have; libsndfile reads on without a word."""
    at = 12
    if content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        return 0
    while at + 8 <= len(content):
        size = int.from_bytes(content[at + 4 : at + 8], "little")
        if content[at : at + 4] == b"data":
            return max(0, at + 8 + size - len(content)) if size < _UNKNOWN else 0
        at += 8 + size + size % 2
    return 0
