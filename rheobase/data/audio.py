"""Recordings as waveforms of one rate and one length."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rheobase.data.reasons import reason
from rheobase.data.rows import choose
from rheobase.data.source import Columns
from rheobase.errors import DataError, SettingError

__all__ = ["resample", "waveforms"]

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
    """
    length = round(rate * seconds)
    if rate < 1 or length < 1:
        raise SettingError(f"waveforms of {str(name)!r}: rate is {rate}, seconds {seconds}; give positive numbers")
    rows = choose(name, split, "audio", limit=limit, seed=seed, columns=columns, root=root)
    result = np.zeros((len(rows.order), 1, length), dtype=np.float32)
    labels = []
    at = 0
    for chunk, some in rows.chunks(1000):
        labels.append(some)
        for row, value in chunk:
            content = rows.stored(row, value, _ACCEPTED)
            try:
                wave, found = _decode(content)
            except (OSError, RuntimeError, TypeError) as error:
                problem = f"not a recording, or damaged ({reason(error)})"
                raise rows.damaged(row, value, problem, _ACCEPTED) from error
            wave = resample(wave, found, rate)[:length]
            result[at, 0, : len(wave)] = wave
            at += 1
    return torch.from_numpy(result), torch.cat(labels)


def resample(wave: Wave, rate: int, to: int) -> Wave:
    """Change the rate of a waveform by cutting its spectrum, or filling it with zeros.

    Shape:
        (L,) -> (round(L * to / rate),).

    >>> wave = np.sin(np.arange(80, dtype=np.float32) * 2 * np.pi / 16)
    >>> bool(np.allclose(resample(wave, 16_000, 8_000), wave[::2], atol=1e-6))
    True
    """
    length = round(len(wave) * to / rate)
    if length == len(wave):
        return wave
    spectrum = np.fft.rfft(wave)
    return (np.fft.irfft(spectrum[: length // 2 + 1], length) * (length / len(wave))).astype(np.float32)


def _decode(content: bytes) -> tuple[Wave, int]:
    try:
        import soundfile
    except ImportError as error:
        raise DataError("recordings need the package `soundfile`; pip install 'rheobase[data]'") from error
    wave, rate = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)  # (L, channels)
    return wave.mean(axis=1), int(rate)
