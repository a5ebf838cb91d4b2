"""What every observer is, and how it sees the channels of a pre-activation."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Self

from torch import Tensor

from rheobase.errors import DataError

__all__ = ["Observer", "by_channel", "seen_data", "squeeze"]


@dataclass(eq=False)
class Observer(ABC):
    """Watches one site; its result must not depend on how the data were batched or ordered.

    A subclass is a dataclass: the fields that its constructor takes are its settings, all others are
    what it has seen so far.
    """

    @abstractmethod
    def update(self, x: Tensor) -> None:
        """Take in the pre-activations of one batch: x, finite, of shape (N, C, ...)."""

    def merge(self, other: Self) -> bool:
        """Take in, exactly, all that an observer with the same settings has seen of other data.

        Returns:
            False where this kind of observer cannot; then each of several processes looks at all data.
        """
        return False

    @abstractmethod
    def result(self) -> Tensor:
        """Return the statistic of all that was seen; raise a ``DataError`` if nothing was."""

    def clone(self) -> Self:
        """Return an observer with the same settings that has seen nothing."""
        return dataclasses.replace(self)


def by_channel(x: Tensor, per_channel: bool, seen: Tensor | None = None) -> Tensor:
    """Give x three dimensions, and check the channels against those of the state that was ``seen`` before.

    Shape:
        x: (N, C, ...); result: (N, C, L), or (N, 1, C*L) where there is one statistic for the site.
    """
    if x.numel() == 0 or x.ndim < 1 + per_channel:
        need = "(N, C, ...)" if per_channel else "(N, ...)"
        raise DataError(f"The pre-activation has shape {tuple(x.shape)}. Accepted: {need}, with at least one value.")
    z = x.detach().reshape(x.shape[0], x.shape[1] if per_channel else 1, -1)
    if seen is not None and z.shape[1] != seen.shape[0]:
        raise DataError(
            f"The pre-activation has {z.shape[1]} channels (dimension 1), but {seen.shape[0]} in earlier "
            "batches. Accepted: the same number throughout, or per_channel=False."
        )
    return z


def seen_data(state: Tensor | None) -> Tensor:
    """Return the state, or raise a ``DataError`` where there is none yet."""
    if state is None:
        raise DataError("The observer has seen no data. Call update with at least one batch first.")
    return state


def squeeze(x: Tensor, per_channel: bool) -> Tensor:
    """Drop the channel dimension, (..., 1) -> (...), where there is one statistic for the site."""
    return x if per_channel else x[..., 0]
