"""Canonic signed spikes: signed digits whose weights fall geometrically.

References:
    Gu et al. 2024, "Canonic signed spikes" (CSS), arXiv 2408.17245.

A spike of step t weighs decay^t, and negative spikes correct what was sent too much, so that T steps have the
resolution of a number of T signed digits. Departures: the paper's neuron stays silent for one step in each layer, so
that it never fires too early; here neurons send changes and correct themselves, without the delay, and
the digits need a base below 2 (decay above 1/2) for later steps to have the reach for it.
"""

from __future__ import annotations

from dataclasses import dataclass

from rheobase.methods.delta import DeltaCoding

__all__ = ["CanonicSigned"]


@dataclass(frozen=True, repr=False)
class CanonicSigned(DeltaCoding):
    """The digits of the paper without its silent step: `DeltaCoding`, whose arguments it has, with decay 0.7.

    .. code-block:: text

        theta(t) = M decay^(t-1)
        s(t)     = (relu(C(t)) - r(t-1)) / theta(t), rounded to -1, 0 or 1;  r(t) = r(t-1) + theta(t) s(t)
    """

    first: float = 1.0
    decay: float | None = 0.7
