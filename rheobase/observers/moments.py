"""Mean and variance of the pre-activation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import final

import torch
from torch import Tensor

from rheobase.observers._base import Observer, by_channel, seen_data, squeeze

__all__ = ["Moments"]


@final
@dataclass(eq=False)
class Moments(Observer):
    """Mean and variance of the pre-activation z (not of a), for methods that take z as Gaussian.

        s = mean of the first batch;  d = z - s
        mean = s + sum(d) / n;  variance = sum(d^2) / n - (sum(d) / n)^2

    in float64. The shift s lies among the data, so a mean that is large beside the deviation costs no
    precision. Splits and orders agree up to float64 rounding: to 1e-10 of the variance, and of
    max |z| for the mean.

    Args:
        per_channel: for each channel (dimension 1) instead of for the site.

    Shape:
        x: (N, C, ...); result: (2,) or, per channel, (2, C): the mean, then the variance, float64.

    Example:
        >>> observer = Moments()
        >>> observer.update(torch.tensor([[1.0, -2.0, 4.0]]))
        >>> observer.result()
        tensor([1., 6.], dtype=torch.float64)
    """

    per_channel: bool = False
    _shift: Tensor | None = field(default=None, init=False, repr=False)
    _sums: Tensor | None = field(default=None, init=False, repr=False)
    _n: int = field(default=0, init=False, repr=False)

    def update(self, x: Tensor) -> None:
        """Take in the pre-activations of one batch, shape (N, C, ...)."""
        z = by_channel(x, self.per_channel, self._shift)  # (N, C, L)
        if self._shift is None:
            self._shift = z.mean((0, 2), dtype=torch.float64).to(z.dtype).double()
            self._sums = torch.zeros(2, z.shape[1], dtype=torch.float64, device=z.device)
        d = z - self._shift[:, None]
        self._sums = seen_data(self._sums) + torch.stack([d.sum((0, 2)), d.square_().sum((0, 2))])
        self._n += d.shape[0] * d.shape[2]

    def result(self) -> Tensor:
        """Return mean and variance, (2,) or (2, C)."""
        d, squared = seen_data(self._sums) / max(self._n, 1)
        mean, variance = seen_data(self._shift) + d, (squared - d**2).clamp_min(0)
        return squeeze(torch.stack([mean, variance]), self.per_channel)
