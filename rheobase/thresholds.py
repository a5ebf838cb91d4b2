"""From statistics to thresholds.

``scales`` takes what ``Max``, ``Percentile``, ``MMSE`` or ``LTB`` measured; ``mmse`` a ``Histogram``, and
``gaussian`` the ``Moments``.

References:
    "Generalized threshold optimization with harmony multi-threshold neurons for accurate ANN-to-SNN
    conversion", AAAI 2026 (H-MT; threshold iteration for Gaussian pre-activations, eq. 11). The code of
    differential coding (DCGS, ICML 2025) iterates it 100 times.
"""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor

from rheobase.errors import ConversionWarning, SettingError
from rheobase.observers import Statistics
from rheobase.observers.mmse import mmse

__all__ = ["gaussian", "mmse", "scales"]


def scales(statistics: Statistics) -> dict[str, Tensor]:
    """The observed scale of each site, with something harmless where nothing was ever active.

    A channel that stayed silent on the calibration data gets the largest scale of its layer, and
    a layer that stayed silent gets 1; `observe` has warned of it. A layer whose percentile is 0
    although some of its neurons were active gets 1 too, with a warning.

    Args:
        statistics: of an observer that gives a scale: all but `Moments` (see `gaussian`). Shapes () or (C,).

    Returns:
        Positive scales of the same shapes.

    Warns:
        ConversionWarning: a site was active and its scale is 0; all such sites in one message.
    """
    zero = [s for s, value in statistics.values.items() if not bool((value > 0).any()) and s not in statistics.dead]
    if zero:
        warnings.warn(
            f"The observed scale of {', '.join(zero)} is 0 although some neurons there were active, so the "
            "threshold is set as for a scale of 1. Choose a higher percentile, or another rule for thresholds.",
            ConversionWarning,
            stacklevel=2,
        )
    positive = {}
    for site, value in statistics.values.items():
        largest = value.max()
        positive[site] = torch.where(value > 0, value, torch.where(largest > 0, largest, 1.0))
    return positive


def gaussian(mean: Tensor, variance: Tensor, levels: int) -> Tensor:
    """The clip M of least mean squared error where the pre-activation z is Gaussian.

    .. code-block:: text

        n(z; M) = clip(round(z N / M), 0, N)
        M       = argmin E (max(z, 0) - n M / N)^2,   z ~ N(mean, variance)

    With the bounds b_i = (i - 1/2) M / N between the levels, i = 1 to N, and the density phi and the
    distribution function Phi of z:

    .. code-block:: text

        E[z n]  = sum over i of  mean (1 - Phi(b_i)) + variance phi(b_i)
        E[n^2]  = sum over i of  (2 i - 1) (1 - Phi(b_i))
        dE / dM = (2 / N) (M / N E[n^2] - E[z n])

    The published iteration M <- N E[z n] / E[n^2] stops at the same place, but its steps shrink as N grows:
    for N(0, 1) and N = 256, 100 of them from M = 1 end at 3.2, where 4.2 is best. Here the error is compared
    on a grid from E[z | z > 0], below which no minimum lies, to 9 deviations above the mean, and its
    derivative is then bisected between the neighbours of the best: 89 evaluations of N values a channel.

    Args:
        mean: of the pre-activation, as ``Moments`` gives it.
        variance: the same; 0 or more.
        levels: N; for multi-threshold neurons of n powers of two that run T steps, T 2^(n - 1).

    Shape:
        mean, variance: () or (C,); result: the same, float64.

    Returns:
        M, in units of the activation; 0 where the mean lies 8 deviations or more below 0, where z is never above.

    Raises:
        SettingError: levels is below 1.

    Example:
        >>> gaussian(torch.tensor(0.0), torch.tensor(1.0), 8)
        tensor(2.5512, dtype=torch.float64)
    """
    if levels < 1:
        raise SettingError(f"gaussian: levels is {levels}; accepted: 1 or more.")
    mu, sigma = mean.double().reshape(-1, 1), variance.double().reshape(-1, 1).sqrt()  # (C, 1)
    alive = (mu > -8 * sigma) & (sigma > 0)
    deviation = torch.where(alive, sigma, 1.0)
    centre = torch.where(alive, mu, 0.0)
    i = torch.arange(1, levels + 1, dtype=torch.float64, device=mu.device)

    def tails(bounds: Tensor) -> tuple[Tensor, Tensor]:
        """P(z > b) and E[z 1(z > b)]."""
        e = (bounds - centre) / deviation
        mass = torch.special.erfc(e / math.sqrt(2)) / 2  # ndtr has no digits left where it is small
        return mass, centre * mass + deviation * torch.exp(-(e**2) / 2) / math.sqrt(2 * math.pi)

    def moments(m: Tensor) -> tuple[Tensor, Tensor]:
        """E[z n] and E[n^2] for M of shape (C, 1); result (C, 1)."""
        mass, first = tails((i - 0.5) * m / levels)  # (C, N)
        return first.sum(1, keepdim=True), ((2 * i - 1) * mass).sum(1, keepdim=True)

    mass, first = tails(torch.zeros_like(centre))
    least, most = first / mass, centre.clamp_min(0) + 9 * deviation
    ratio = most / least
    best, place = torch.full_like(centre, -torch.inf), torch.zeros_like(centre)
    points = 48
    for k in range(points + 1):
        m = least * ratio ** (k / points)
        zn, nn = moments(m)
        gain = m / levels * (2 * zn - m / levels * nn)  # E a^2 - E (a - n M / N)^2
        place = torch.where(gain > best, k / points, place)
        best = torch.maximum(gain, best)
    low = least * ratio ** (place - 1 / points).clamp_min(0)
    high = least * ratio ** (place + 1 / points).clamp_max(1)
    for _ in range(40):
        m = (low + high) / 2
        zn, nn = moments(m)
        falling = m / levels * nn < zn
        low, high = torch.where(falling, m, low), torch.where(falling, high, m)
    clip = torch.where(alive, (low + high) / 2, torch.where(sigma > 0, 0.0, mu.clamp_min(0)))
    return clip.reshape(mean.shape)
