"""How sure a share is that was counted on some samples."""

from __future__ import annotations

import math

__all__ = ["wilson"]


def wilson(fraction: float, n: int, z: float = 1.959964) -> tuple[float, float]:
    """The Wilson score interval of a proportion; 95 % by default.

    Args:
        fraction: what share of the n trials succeeded, from 0 to 1.
        n: the number of trials.
        z: the normal quantile of the confidence level.

    Returns:
        The lower and upper bound, from 0 to 1.

    Example:
        >>> [round(bound, 3) for bound in wilson(0.9, 1000)]
        [0.88, 0.917]
    """
    if n == 0:
        return 0.0, 1.0
    middle = fraction + z * z / (2 * n)
    half = z * math.sqrt(fraction * (1 - fraction) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)
