"""Sigma-delta networks: rounded changes, whatever their size.

References:
    O'Connor & Welling 2017, "Sigma delta quantized networks", ICLR 2017, arXiv 1611.02024.

A neuron sends the change of its rounded activation, a whole number of steps of one size. Departures: at most
``levels`` of them at once (theirs has no limit), so that step = scale / levels; a static input is sent once, where
theirs is made for video. The error is that of rounding, and does not fall with more steps once all layers have settled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rheobase.methods.delta import DeltaCoding

__all__ = ["SigmaDelta"]


@dataclass(frozen=True, repr=False)
class SigmaDelta(DeltaCoding):
    """Delta coding with signed integers and a constant step; arguments are those of `DeltaCoding`.

    .. code-block:: text

        n(t) = round((relu(C(t)) - r(t-1)) / theta), at most +-levels;  r(t) = r(t-1) + theta n(t)
    """

    levels: int = 15
    schedule: Literal["constant", "harmonic", "geometric"] = "constant"
    first: float = 1.0
