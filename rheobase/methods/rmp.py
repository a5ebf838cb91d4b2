"""RMP-SNN: soft reset, and a share of the threshold of Spike-Norm.

References:
    Han, Srinivasan, Roy 2020, "RMP-SNN: residual membrane potential neuron for enabling deeper high-accuracy and
    low-latency spiking neural network", arXiv 2003.01811.

alpha is tuned for each network in the paper (about 0.7 to 0.9). Departures are those of `SpikeNorm`. Where the MSAT
paper says RMP, it means soft reset with the largest activation as threshold, which is `ConstantThreshold()`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rheobase.methods.spike_norm import SpikeNorm

__all__ = ["RMP"]


@dataclass(frozen=True, repr=False)
class RMP(SpikeNorm):
    """`SpikeNorm` with soft reset and a smaller threshold; arguments are the same.

    .. code-block:: text

        y(t) = threshold if v(t-1) + x(t) >= threshold, else 0;  v(t) = v(t-1) + x(t) - y(t)
        threshold = alpha max over neurons and steps of x(t)
    """

    alpha: float = 0.8
    reset: Literal["soft", "hard"] = "soft"
