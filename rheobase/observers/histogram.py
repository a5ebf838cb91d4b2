"""The distribution of the activations, streaming and in bounded memory, and its percentiles."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Self, final

import torch
from torch import Tensor

from rheobase.errors import SettingError
from rheobase.observers._base import Observer, by_channel, seen_data, squeeze
from rheobase.observers.maximum import Max

__all__ = ["FromHistogram", "Histogram", "Percentile"]


@final
@dataclass(eq=False)
class Histogram(Observer):
    """Counts of the activation a = max(z, 0) in bins that are narrow where a is small.

    The bins come from the bits of the float32 number: its exponent and the first ``bits`` bits of its
    mantissa, so each octave 2^e <= a < 2^(e+1) has 2^bits equal bins, and a bin is at most 2^-bits of
    its lower edge wide. Bin 0 holds a = 0, bin 1 holds 0 < a < 2^low, the last one a >= 2^high; bin k
    holds edges[k] <= a < edges[k + 1]. Counts are integers, so the result is exactly the same
    however the data are split or ordered. Memory: 8 (3 + (high - low) 2^bits) bytes, 41 kB by default,
    for the site or for each channel.

    With ``follow`` the octaves are those of the data: low and high both move by a whole number, 0 where the largest
    activation so far, of all channels, is from 2^(low + 10) to below 2^high, and otherwise that with which it lies in
    the top octave, within the exponents of float32. What falls below the lowest octave then joins bin 1, so the
    result is that of a histogram which had the last octaves from the start.

    Args:
        per_channel: one histogram for each channel (dimension 1) instead of one for the site.
        bits: bits of the mantissa that are kept, 1 to 12.
        low: smallest exponent, -126 or more.
        high: exponent of the upper end, above low and 127 or less.
        follow: move the octaves to where the data are.

    Shape:
        x: (N, C, ...); result: (bins,) or, per channel, (C, bins), int64.

    Raises:
        SettingError: bits, low or high is out of range.

    Example:
        >>> observer = Histogram(bits=1, low=0, high=1)
        >>> observer.update(torch.tensor([[-1.0, 0.5, 1.0, 1.2, 1.5, 7.0]]))
        >>> observer.edges().tolist()
        [0.0, 0.0, 1.0, 1.5, 2.0, inf]
        >>> observer.result().tolist()
        [1, 1, 2, 1, 1]
        >>> observer.quantile(1.0)
        tensor(7.)
    """

    per_channel: bool = False
    bits: int = 7
    low: int = -20
    high: int = 20
    follow: bool = False
    _counts: Tensor | None = field(default=None, init=False, repr=False)
    _shift: int = field(default=0, init=False, repr=False)  # octaves by which low and high have moved
    _max: Max = field(init=False, repr=False)

    def __post_init__(self) -> None:
        problems = []
        if not 1 <= self.bits <= 12:
            problems.append(f"bits is {self.bits}; accepted: 1 to 12.")
        if not -126 <= self.low < self.high <= 127:
            problems.append(f"low, high are {self.low}, {self.high}; accepted: -126 <= low < high <= 127.")
        if problems:
            raise SettingError("Histogram: " + " ".join(problems))
        self._max = Max(self.per_channel)
        self._shift = -126 - self.low if self.follow else 0

    def edges(self) -> Tensor:
        """Return the edges of the bins, shape (bins + 1,), float64, the last one infinite."""
        octaves = 2.0 ** torch.arange(self.low + self._shift, self.high + self._shift, dtype=torch.float64)
        parts = 1 + torch.arange(2**self.bits, dtype=torch.float64) / 2**self.bits
        inner = torch.outer(octaves, parts).flatten()  # (high - low, 2^bits) -> (bins - 3,)
        return torch.cat([inner.new_zeros(2), inner, inner.new_tensor([2.0 ** (self.high + self._shift), torch.inf])])

    def centres(self) -> Tensor:
        """Return the middle of each bin, shape (bins,), float64; of the last bin its lower edge."""
        edges = self.edges()
        return torch.cat([(edges[:-2] + edges[1:-1]) / 2, edges[-2:-1]])

    def update(self, x: Tensor) -> None:
        """Take in the pre-activations of one batch, shape (N, C, ...)."""
        self._max.update(x)
        z = by_channel(x, self.per_channel, self._counts).float()  # (N, C, L)
        channels, bins = z.shape[1], (self.high - self.low) * 2**self.bits + 3
        if self._counts is None:
            self._counts = torch.zeros(channels, bins, dtype=torch.int64, device=z.device)
        if self.follow:
            self._rise(self._shift_for(float(self._max.result().max())))
        word = z.view(torch.int32)  # as an integer z grows with z, and is negative where z is
        kept = 23 - self.bits
        first = ((127 + self.low + self._shift) << self.bits) - 2  # so that a = 2^low falls into bin 2
        index = (word >> kept).sub_(first).clamp_max_(bins - 1)
        torch.maximum(index, word.clamp(0, 1), out=index)  # 0 for z <= 0, 1 for 0 < z < 2^low
        if channels > 1:
            index += torch.arange(channels, dtype=torch.int32, device=z.device)[:, None] * bins
        flat, counts = index.reshape(-1), self._counts.view(-1)
        if len(flat) < len(counts):  # then a second array of counts would cost more than the additions
            counts.scatter_add_(0, flat.long(), counts.new_ones(1).expand(len(flat)))
        else:
            counts += torch.bincount(flat, minlength=len(counts))

    def merge(self, other: Self) -> bool:
        """The counts of both together."""
        self._rise(other._shift)
        if other._counts is not None:
            counts = self._raised(other._counts, self._shift - other._shift)
            self._counts = counts.clone() if self._counts is None else self._counts + counts
        return self._max.merge(other._max)

    def _shift_for(self, largest: float) -> int:
        """How far the octaves move for the largest activation; the larger it is, the further up."""
        if largest == 0:
            return -126 - self.low
        e = math.frexp(largest)[1] - 1 if math.isfinite(largest) else 127  # 2^e <= largest < 2^(e + 1)
        shift = 0 if self.low + 10 <= e < self.high else e + 1 - self.high
        return min(max(shift, -126 - self.low), 127 - self.high)

    def _rise(self, shift: int) -> None:
        """Move the octaves up to this shift, never down."""
        if shift > self._shift:
            if self._counts is not None:
                self._counts = self._raised(self._counts, shift - self._shift)
            self._shift = shift

    def _raised(self, counts: Tensor, octaves: int) -> Tensor:
        """The counts of a histogram that begins so many octaves higher: those of the lowest join bin 1."""
        k = min(octaves << self.bits, counts.shape[1] - 2)
        kept = [counts[:, :1], counts[:, 1 : k + 2].sum(1, keepdim=True), counts[:, k + 2 :]]
        return torch.cat([*kept, counts.new_zeros(len(counts), k)], 1) if k else counts

    def result(self) -> Tensor:
        """Return the counts, (bins,) or (C, bins)."""
        counts = seen_data(self._counts).clone()
        return counts if self.per_channel else counts[0]

    def quantile(self, q: float, *, nonzero: bool = False) -> Tensor:
        """Return the q-quantile of a, interpolated as ``numpy.quantile`` does.

            r = q (n - 1);  k = floor(r);  result = a_k + (r - k) (a_(k+1) - a_k)

        where a_0 <= ... <= a_(n-1) are the activations, each replaced by the centre of its bin and none
        by more than the maximum, which is exact. The relative error is at most 2^-(bits + 1), 0.4 % by
        default, where the values lie between 2^low and 2^high, as they have moved with ``follow``. Below, the
        error is at most 2^low; values above count as the maximum.

        Args:
            q: 0 to 1.
            nonzero: rank the activations above 0 only; 0 where there are none.

        Shape:
            result: () or, per channel, (C,), float32 (float64 for float64 data).

        Raises:
            SettingError: q is not in 0 to 1.
        """
        if not 0 <= q <= 1:
            raise SettingError(f"Histogram.quantile: q is {q}; accepted: 0 to 1 (for 99.9 %, write 0.999).")
        counts = seen_data(self._counts)  # (C, bins)
        maximum = self._max.result()
        greatest = maximum.double().reshape(-1, 1)  # (C, 1)
        centres = self.centres().to(counts.device)
        centres[-1] = torch.inf
        below = (counts[:, 1:] if nonzero else counts).cumsum(1)
        last = (below[:, -1:] - 1).clamp_min(0)  # (C, 1), the highest rank
        rank = q * last.double()

        def value(ranks: Tensor) -> Tensor:
            bins = torch.searchsorted(below, ranks, right=True).clamp_max(below.shape[1] - 1) + int(nonzero)
            return torch.where(ranks == last, greatest, torch.minimum(centres[bins], greatest))

        lower = rank.floor().long()
        a, b = value(lower), value(torch.minimum(lower + 1, last))
        mixed = a + (rank - lower) * (b - a)
        return squeeze(mixed[:, 0].to(torch.promote_types(maximum.dtype, torch.float32)), self.per_channel)


class FromHistogram(Observer):
    """What is read off a `Histogram` of the activation, which follows the data; subclasses are dataclasses."""

    per_channel: bool

    def __post_init__(self) -> None:
        self._histogram = Histogram(self.per_channel, follow=True)

    def update(self, x: Tensor) -> None:
        """Take in the pre-activations of one batch, shape (N, C, ...)."""
        self._histogram.update(x)

    def merge(self, other: Self) -> bool:
        """Take in, exactly, what another one has seen: the histograms add up."""
        return self._histogram.merge(other._histogram)


@final
@dataclass(eq=False)
class Percentile(FromHistogram):
    """The p-th percentile of the activation a = max(z, 0), from a ``Histogram``.

    The rank is exact and interpolated as in ``numpy.percentile``; the value is off by at most 2^-8 = 0.4 %
    (see ``Histogram.quantile``); percentile = 100 is the exact maximum. Memory: 41 kB for the site, or for
    each channel.

    Args:
        percentile: above 1, up to 100.
        per_channel: one percentile for each channel (dimension 1) instead of one for the site.
        nonzero: rank only a > 0, as snn_toolbox does; the result is 0 where no a is.

    Shape:
        x: (N, C, ...); result: () or, per channel, (C,), float32 (float64 for float64 data).

    Raises:
        SettingError: percentile is out of range.

    References:
        Rueckauer et al. 2017, "Conversion of continuous-valued deep networks to efficient event-driven
        networks for image classification", Frontiers in Neuroscience 11:682.

    Example:
        >>> observer = Percentile(percentile=50)
        >>> observer.update(torch.tensor([[-3.0, 1.0, 4.0]]))
        >>> round(observer.result().item(), 2)
        1.0
    """

    percentile: float = 99.9
    per_channel: bool = False
    nonzero: bool = False

    def __post_init__(self) -> None:
        if not 1 < self.percentile <= 100:
            raise SettingError(
                f"Percentile: percentile is {self.percentile}; accepted: above 1, up to 100. It is in per "
                "cent: write 99.9 for the value below which 99.9 % of the activations lie, not 0.999."
            )
        super().__post_init__()

    def result(self) -> Tensor:
        """Return the percentile, () or (C,)."""
        return self._histogram.quantile(self.percentile / 100, nonzero=self.nonzero)
