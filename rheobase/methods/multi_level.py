"""H-MT: harmony multi-threshold neurons, whose thresholds halve and may all fire in one step.

References:
    "Generalized threshold optimization with harmony multi-threshold neurons for accurate ANN-to-SNN conversion",
    AAAI 2026.

With thresholds th, th/2, ..., th/2^(n-1) = l that fire greedily from v(0) = l/2, a step sends the n-bit count
min(floor((v + l/2) / l), 2^n - 1) of l: integer levels, sent as n binary spikes. The alphabet counts one event for the
whole number. Departures: the paper's pairs of positive and negative neurons are one signed neuron with memory; the
scale is that of least squared error on a histogram (theirs, for Gaussian pre-activations, is ``threshold="gaussian"``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from rheobase.errors import SettingError, miscounted
from rheobase.methods.rate import RateCoding

__all__ = ["MultiLevel"]


@dataclass(frozen=True, repr=False)
class MultiLevel(RateCoding):
    """Rate coding with 2^n - 1 signed levels a step (n = 4); arguments are those of `RateCoding`.

    .. code-block:: text

        n(t) = clip(floor(e(t) / l + 1/2), -(2^n - 1), 2^n - 1),  e(t) = max(v(t-1) + x(t), -r(t-1))
        y(t) = l n(t),  v(t) = v(t-1) + x(t) - y(t),  r(t) = r(t-1) + y(t)
    """

    steps: int = 2
    levels: int = 15
    signed: bool = True

    @classmethod
    def bits(cls, n: int = 4, **changes: Any) -> Self:
        """With n thresholds, which are n bits.

        Raises:
            SettingError: n is no whole number from 1 to 16.
        """
        problems = miscounted("n", n)
        if problems or n > 16:
            raise SettingError(f"MultiLevel.bits: {''.join(problems) or f'n is {n}; it must be at most 16'}.")
        return cls(**{"levels": 2**n - 1, **changes})
