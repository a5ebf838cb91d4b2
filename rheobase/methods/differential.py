"""DCGS: differential coding with graded units, spikes of powers of two around a running mean.

References:
    Huang et al. 2025, "Differential coding for training-free ANN-to-SNN conversion", ICML 2025.

There a neuron keeps the running mean r of what it sent and the mean m of what it received, and with s(t) sent

    v(t) = v(t-1) + x(t) - b + m(t-1) - r(t-1) - s(t),  m(t) = m(t-1) + (x(t) - b) / t,  r(t) = r(t-1) + s(t) / t.

As v(t) + s(t) = t (m(t) - r(t-1)) + v(0), this is delta coding of m with the threshold theta / t: what travels is
s(t) / t. The library runs it so. Departures: the sum may fall below zero, by less than one level, before a
negative spike is refused; thresholds come from histograms of training images (theirs from validation images, by an
iteration for Gaussian pre-activations, which ``threshold="gaussian"`` solves), for T 2^(levels - 1) levels, which is
what the smallest power can count, instead of T 2^levels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rheobase.methods.delta import DeltaCoding
from rheobase.methods.parts.scaled import ThresholdRule

__all__ = ["DifferentialCoding"]


@dataclass(frozen=True, repr=False)
class DifferentialCoding(DeltaCoding):
    """Delta coding with signed powers of two and a threshold that falls as 1 / t; ``levels=1`` is ternary.

    .. code-block:: text

        s(t) = (relu(m(t)) - r(t-1)) t / theta, rounded to a signed power of two 1, 1/2, ..., 2^(1 - levels) or 0
        r(t) = r(t-1) + s(t) theta / t                        m the sum of all that arrived, r of all that was sent

    Arguments are those of `DeltaCoding`.
    """

    threshold: ThresholdRule = "mmse"
    levels: int = 4
    powers: bool = True
    fire: float = 0.75
    schedule: Literal["constant", "harmonic", "geometric"] = "harmonic"
    first: float = 1.0
