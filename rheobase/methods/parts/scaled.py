"""What most methods begin with: a scale for each layer or channel, by one of several rules."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from numbers import Real
from typing import Literal

import torch
from torch import Tensor

from rheobase.errors import SettingError, miscounts
from rheobase.graph import Graph
from rheobase.methods._base import Method
from rheobase.observers import LTB, MMSE, Max, Moments, Observer, Percentile, Statistics
from rheobase.precision import first_weight, type_of_sums
from rheobase.qcfs import trained_thresholds
from rheobase.thresholds import gaussian, scales

__all__ = ["Scaled", "ThresholdRule"]

ThresholdRule = Literal["max", "mmse", "gaussian", "ltb"] | float
"""The largest activation, the clip of least squared error (of the activations, or were the pre-activations Gaussian),
local balancing, or a percentile such as 99.9."""

_RULES = ("max", "mmse", "gaussian", "ltb")
_MOST_LEVELS = 4096  # more change no clip


@dataclass(frozen=True, repr=False)
class Scaled(Method):
    """A method for T steps whose neurons take their thresholds from a rule.

    A site that was trained as `rheobase.qcfs.ClipFloorShift` keeps the threshold that was trained.

    Args:
        steps: T, for which the network is converted; at least 1.
        threshold: where the scale comes from.
        per_channel: one scale a channel instead of one a layer.

    Raises:
        SettingError: a value is outside its range.
    """

    steps: int = 16
    threshold: ThresholdRule = "mmse"
    per_channel: bool = True

    def __post_init__(self) -> None:
        problems = miscounts(self, "steps")
        if not isinstance(self.threshold, Real):
            if self.threshold not in _RULES:
                accepted = ", ".join(f'"{rule}"' for rule in _RULES)
                problems.append(f"threshold is {self.threshold!r}; it must be {accepted} or a percentile")
            if self.threshold == "gaussian" and not self.rounds():
                problems.append(
                    'threshold is "gaussian", for neurons that round; fire must be below 1, or "mmse" taken'
                )
        elif not 1 < self.threshold <= 100:
            problems.append(f"threshold is the percentile {self.threshold}; it must be above 1 and at most 100")
        problems += self._problems()
        if problems:
            raise SettingError(f"{type(self).__name__}: " + "; ".join(problems) + ".")

    def _problems(self) -> list[str]:
        """What is wrong with the settings that a subclass adds."""
        return []

    def resolution(self) -> int:
        """How many values above 0 the sum of T steps can take."""
        return self.steps

    def rounds(self) -> bool:
        """Whether a neuron rounds to the nearest of these values, or to the next one below."""
        return True

    def clips(self) -> bool:
        return True

    def observer(self) -> Observer:
        if self.threshold == "max":
            return Max(per_channel=self.per_channel)
        if self.threshold == "mmse":
            levels = min(self.resolution(), _MOST_LEVELS)
            return MMSE(levels, per_channel=self.per_channel, rounding=self.rounds())
        if self.threshold == "gaussian":
            return Moments(per_channel=self.per_channel)
        if self.threshold == "ltb":
            return LTB(per_channel=self.per_channel)
        return Percentile(float(self.threshold), per_channel=self.per_channel)

    def scales(self, graph: Graph, statistics: Statistics) -> dict[str, Tensor]:
        """The greatest rate of each site: as trained, else as observed. Shapes () or (C,)."""
        if self.threshold == "gaussian":
            weight = first_weight(graph.module, torch.zeros(()))
            levels, dtype = min(self.resolution(), _MOST_LEVELS), type_of_sums(weight.dtype)
            clips = {site: gaussian(mean, var, levels).to(dtype) for site, (mean, var) in statistics.values.items()}
            statistics = dataclasses.replace(statistics, values=clips)
        return scales(statistics) | trained_thresholds(graph.module, graph.sites)
