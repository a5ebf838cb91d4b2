"""Opt (also RTS): the largest activation as threshold, and half a threshold spread over all steps.

References:
    Deng & Gu 2021, "Optimal conversion of conventional artificial neural networks to spiking neural networks",
    arXiv 2103.00476.

Departure: the paper also trains the network with an activation that is clipped at the threshold; here the network is
taken as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

from rheobase.methods.parts.scaled import ThresholdRule
from rheobase.methods.rate import RateCoding

__all__ = ["Opt"]


@dataclass(frozen=True, repr=False)
class Opt(RateCoding):
    """Binary rate coding that adds threshold / (2 T) to the current of each step.

    .. code-block:: text

        v_pre(t) = v(t-1) + x(t) + threshold / (2 T)
        y(t)     = threshold if v_pre(t) >= threshold, else 0;  v(t) = v_pre(t) - y(t)

    Arguments are those of `RateCoding`.
    """

    threshold: ThresholdRule = "max"
    per_channel: bool = False
    fire: float = 1.0
    spread: bool = True
