"""Group neurons (GN): members with thresholds 1/m, 2/m, ..., 1 that share a potential.

References:
    Lv et al. 2024, "Optimal ANN-SNN conversion with group neurons", ICASSP 2024.

With c members at or above their thresholds i threshold / m, the group sends c threshold / m and keeps the rest; it
starts from threshold / (2 m). That is one neuron with m levels which rounds. Departure: the paper converts networks
trained with a quantised activation; here thresholds of least squared error are put to any ReLU network.
"""

from __future__ import annotations

from dataclasses import dataclass

from rheobase.methods.rate import RateCoding

__all__ = ["GroupNeurons"]


@dataclass(frozen=True, repr=False)
class GroupNeurons(RateCoding):
    """Rate coding with ``levels`` members in each group; the other arguments are those of `RateCoding`.

    .. code-block:: text

        v(0)     = threshold / (2 m),  v_pre(t) = v(t-1) + x(t)
        c(t)     = #{i: v_pre(t) >= i threshold / m, i = 1 ... m}
        y(t)     = c(t) threshold / m,  v(t) = v_pre(t) - y(t)
    """

    steps: int = 4
    levels: int = 4
