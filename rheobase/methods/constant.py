"""Constant thresholds: the largest activation, a fraction of it, or a percentile.

References:
    Diehl et al. 2015, "Fast-classifying, high-accuracy spiking deep networks through weight and
    threshold balancing" (maximum; kept as a threshold here, not divided into the weights).
    Rueckauer et al. 2017, "Conversion of continuous-valued deep networks to efficient event-driven
    networks for image classification" (percentile, soft reset).
    He et al. 2023, arXiv 2303.13080, figure 4 (fractions of the maximum).
    Bu et al. 2022, arXiv 2202.01440 (initial potential of half a threshold).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rheobase.errors import SettingError, nonpositive
from rheobase.graph import Graph
from rheobase.methods._base import Method
from rheobase.neurons import IF
from rheobase.observers import Max, Observer, Percentile, Statistics
from rheobase.plan import Plan
from rheobase.thresholds import scales

__all__ = ["ConstantThreshold"]


@dataclass(frozen=True, repr=False)
class ConstantThreshold(Method):
    """Integrate-and-fire neurons with threshold = fraction * (percentile of the activations).

    What other tools call ``mode="max"`` is ``ConstantThreshold()``, ``mode="99.9%"`` is
    ``ConstantThreshold(percentile=99.9)``, and ``mode=0.5`` is ``ConstantThreshold(fraction=0.5)``.

    Args:
        fraction: of the maximum or percentile; greater than 0.
        percentile: from above 1 to 100; 100 is the maximum.
        per_channel: one threshold a channel instead of one a layer.
        initial_potential: v(0) as a fraction of the threshold, 0 to 1; 0.5 rounds instead of flooring.
        reset: "soft" (by subtraction) or "hard" (to zero).

    Raises:
        SettingError: a value is outside its range.
    """

    fraction: float = 1.0
    percentile: float = 100.0
    per_channel: bool = False
    initial_potential: float = 0.0
    reset: Literal["soft", "hard"] = "soft"

    def __post_init__(self) -> None:
        problems = nonpositive("fraction", self.fraction)
        if not 1 < self.percentile <= 100:
            problems.append(f"percentile is {self.percentile}; it must be above 1 and at most 100, such as 99.9")
        if not 0 <= self.initial_potential <= 1:
            problems.append(f"initial_potential is {self.initial_potential}; it must be from 0 to 1")
        if self.reset not in ("soft", "hard"):
            problems.append(f'reset is {self.reset!r}; it must be "soft" or "hard"')
        if problems:
            raise SettingError("ConstantThreshold: " + "; ".join(problems) + ".")

    def observer(self) -> Observer:
        if self.percentile == 100:
            return Max(per_channel=self.per_channel)
        return Percentile(self.percentile, per_channel=self.per_channel)

    def plan(self, graph: Graph, statistics: Statistics) -> Plan:
        thresholds = {site: self.fraction * scale for site, scale in scales(statistics).items()}
        return Plan(
            repr(self),
            {site: IF(th, self.initial_potential * th, self.reset) for site, th in thresholds.items()},
        )
