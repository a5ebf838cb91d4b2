"""From statistics to thresholds."""

from __future__ import annotations

import torch
from torch import Tensor

from rheobase.observers import Statistics

__all__ = ["scales"]


def scales(statistics: Statistics) -> dict[str, Tensor]:
    """The observed scale of each site, with something harmless where nothing was ever active.

    A channel that stayed silent on the calibration data gets the largest scale of its layer, and
    a layer that stayed silent gets 1; `observe` has warned of it.

    Args:
        statistics: of an observer that gives a maximum or percentile. Shapes () or (C,).

    Returns:
        Positive scales of the same shapes.
    """
    positive = {}
    for site, value in statistics.values.items():
        largest = value.max()
        positive[site] = torch.where(value > 0, value, torch.where(largest > 0, largest, 1.0))
    return positive
