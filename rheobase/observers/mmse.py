"""The clip that makes a quantiser's mean squared error least.

References:
    Li et al. 2021, "A free lunch from ANN: towards efficient, accurate spiking neural networks
    calibration", arXiv 2106.06984 (grid search of the threshold; floor).
    Bu et al. 2022, arXiv 2202.01440 (a half step of initial potential rounds instead).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from rheobase.errors import SettingError, is_whole
from rheobase.observers.histogram import FromHistogram

__all__ = ["MMSE", "mmse"]

OCTAVES = 6  # how far below the largest activation the clip is sought: down to 1/64 of it


@final
@dataclass(eq=False)
class MMSE(FromHistogram):
    """The clip M of least mean squared error for a quantiser of the activation a = max(z, 0); see ``mmse``.

    An IF neuron that runs T steps is such a quantiser with T levels and threshold M (rounding with an
    initial potential of half a threshold, flooring with none); a neuron that counts in integers has the
    step M / levels. Memory: that of a ``Histogram``, 41 kB for the site or for each channel.

    Li et al. average the thresholds of single batches; here one clip serves all the data.

    Args:
        levels: L, how many values above 0 the quantiser has; 1 or more.
        per_channel: one clip for each channel (dimension 1) instead of one for the site.
        rounding: to the nearest value; otherwise to the next value below.
        powers_of_two: the values are M 2^-i, i = 0 to L - 1, instead of M k / L, k = 1 to L.

    Shape:
        x: (N, C, ...); result: () or, per channel, (C,), float32 (float64 for float64 data); 0 where the
        activation was never above zero.

    Raises:
        SettingError: levels is out of range.

    Example:
        >>> observer = MMSE(levels=4, per_channel=False)
        >>> observer.update(torch.linspace(-1, 1, 1001)[None])
        >>> round(observer.result().item(), 1)
        0.9
    """

    levels: int = 16
    per_channel: bool = True
    rounding: bool = True
    powers_of_two: bool = False

    def __post_init__(self) -> None:
        _values(self.levels, self.powers_of_two)
        super().__post_init__()

    def result(self) -> Tensor:
        """Return the clip, () or (C,)."""
        counts, centres = self._histogram.result(), self._histogram.centres()
        clip = mmse(counts, centres, self.levels, rounding=self.rounding, powers_of_two=self.powers_of_two)
        return clip.to(self._histogram.quantile(1.0).dtype)


def mmse(
    counts: Tensor,
    centres: Tensor,
    levels: int,
    *,
    rounding: bool = True,
    powers_of_two: bool = False,
    grid: int = 32,
) -> Tensor:
    """The clip M of least mean squared error, from a histogram of the activation a >= 0.

    .. code-block:: text

        q(a; M) = (M / L) clip(round(a L / M), 0, L)      (or floor instead of round)
        M       = argmin over M of  sum over bins of counts * (centre - q(centre; M))^2

    over M = 2^(j / grid), from 1/64 of the largest activation to the first that is not below it. The M of
    the quantiser that rounds is then within 2^(1 / (2 grid)), 1.1 % by default, of the best, which adds at
    most that share of the largest activation to the root of the mean squared error, and the width of the
    bins 2^-(bits + 1) more. The sums over bins are one product of matrices for all channels.

    Args:
        counts: how many activations fell into each bin.
        centres: of the bins, ascending, the first 0.
        levels: L, how many values above 0 the quantiser has.
        rounding: to the nearest value; otherwise to the next value below.
        powers_of_two: the values are 0 and M 2^-i, i = 0 to L - 1, instead of M k / L, k = 0 to L.
        grid: how many M there are in an octave, 1 or more.

    Shape:
        counts: (bins,) or (C, bins); centres: (bins,); result: () or (C,), float64.

    Returns:
        M, in units of the activation; 0 for a channel without a count above bin 0. A neuron that counts
        steps of M / L takes that as its threshold.

    Raises:
        SettingError: levels or grid is out of range.
    """
    values = _values(levels, powers_of_two).to(counts.device)  # (L + 1,), as fractions of M
    if grid < 1:
        raise SettingError(f"mmse: grid is {grid}; accepted: 1 or more.")
    n = counts.reshape(-1, counts.shape[-1])  # (C, bins)
    used = (n > 0).any(0)
    used[0] = False
    n, a = n[:, used].double(), centres.to(counts.device)[used].double()  # (C, B), (B,)
    if len(a) == 0:
        return torch.zeros(counts.shape[:-1], dtype=torch.float64, device=counts.device)
    top = torch.where(n > 0, a, 0.0).amax(1)  # (C,)
    octaves = torch.arange(_octave(top[top > 0].min()) - OCTAVES, _octave(top.max()) + 2, dtype=torch.float64)
    clips = torch.outer(2.0**octaves, 2.0 ** (torch.arange(grid, dtype=torch.float64) / grid)).flatten().to(a.device)
    bounds = (values[:-1] + values[1:]) / 2 if rounding else values[1:]
    q = values[torch.bucketize(a[:, None] / clips, bounds, right=True)] * clips  # (B, M)
    error = n @ (a[:, None] - q).square_()  # (C, M)
    last = torch.searchsorted(clips, top)[:, None]  # the first clip that is not below the largest activation
    index = torch.arange(len(clips), device=a.device)
    outside = (index > last) | (index < last - OCTAVES * grid)
    best = clips[error.masked_fill_(outside, torch.inf).argmin(1)]
    return torch.where(top > 0, best, 0.0).reshape(counts.shape[:-1])


def _values(levels: int, powers_of_two: bool) -> Tensor:
    """What the quantiser may send, ascending, as fractions of the clip. Shape (L + 1,)."""
    most = 32 if powers_of_two else 2**20
    if not is_whole(levels) or not 1 <= levels <= most:
        raise SettingError(f"MMSE: levels is {levels!r}; accepted: a whole number from 1 to {most:,}.")
    if powers_of_two:
        powers = 2.0 ** torch.arange(1 - levels, 1, dtype=torch.float64)
        return torch.cat([powers.new_zeros(1), powers])
    return torch.arange(levels + 1, dtype=torch.float64) / levels


def _octave(x: Tensor) -> int:
    """e with 2^e <= x < 2^(e + 1)."""
    return int(torch.frexp(x).exponent) - 1
