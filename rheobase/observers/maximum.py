"""The largest activation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self, final

import torch
from torch import Tensor

from rheobase.observers._base import Observer, by_channel, seen_data, squeeze

__all__ = ["Max"]


@final
@dataclass(eq=False)
class Max(Observer):
    """The largest activation: max a, where a = max(z, 0).

    Args:
        per_channel: one maximum for each channel (dimension 1) instead of one for the site.

    Shape:
        x: (N, C, ...); result: () or, per channel, (C,), in the type of x.

    Example:
        >>> observer = Max(per_channel=True)
        >>> observer.update(torch.tensor([[1.0, -2.0], [3.0, -1.0]]))
        >>> observer.result()
        tensor([3., 0.])
    """

    per_channel: bool = False
    _max: Tensor | None = field(default=None, init=False, repr=False)

    def update(self, x: Tensor) -> None:
        """Take in the pre-activations of one batch, shape (N, C, ...)."""
        greatest = by_channel(x, self.per_channel, self._max).amax((0, 2)).clamp_min(0)  # (N, C, L) -> (C,)
        self._max = greatest if self._max is None else torch.maximum(self._max, greatest)

    def merge(self, other: Self) -> bool:
        """The larger maximum of both."""
        if self._max is None or other._max is None:
            self._max = other._max if self._max is None else self._max
        else:
            self._max = torch.maximum(self._max, other._max)
        return True

    def result(self) -> Tensor:
        """Return the maximum, () or (C,)."""
        return squeeze(seen_data(self._max), self.per_channel)
