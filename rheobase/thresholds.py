"""From statistics to thresholds."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from rheobase.errors import ConversionWarning
from rheobase.observers import Statistics

__all__ = ["scales"]


def scales(statistics: Statistics) -> dict[str, Tensor]:
    """The observed scale of each site, with something harmless where nothing was ever active.

    A channel that stayed silent on the calibration data gets the largest scale of its layer, and
    a layer that stayed silent gets 1; `observe` has warned of it. A layer whose percentile is 0
    although some of its neurons were active gets 1 too, with a warning.

    Args:
        statistics: of an observer that gives a maximum or percentile. Shapes () or (C,).

    Returns:
        Positive scales of the same shapes.

    Warns:
        ConversionWarning: a site was active and its scale is 0; all such sites in one message.
    """
    zero = [s for s, value in statistics.values.items() if not bool((value > 0).any()) and s not in statistics.dead]
    if zero:
        warnings.warn(
            f"The observed scale of {', '.join(zero)} is 0 although some neurons there were active, so the "
            "threshold is set as for a scale of 1. Choose a higher percentile.",
            ConversionWarning,
            stacklevel=2,
        )
    positive = {}
    for site, value in statistics.values.items():
        largest = value.max()
        positive[site] = torch.where(value > 0, value, torch.where(largest > 0, largest, 1.0))
    return positive
