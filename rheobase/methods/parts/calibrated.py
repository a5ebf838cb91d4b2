"""What rate and delta coding share: spikes of several levels, and calibration layer by layer before any tuning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from rheobase.batches import Batches
from rheobase.calibration import calibrate_bias, calibrate_potential, calibrate_temporal_bias
from rheobase.errors import miscounts, nonpositive
from rheobase.graph import Graph
from rheobase.methods.parts.scaled import Scaled
from rheobase.methods.parts.tuned import Tuned
from rheobase.neurons import GradedIF
from rheobase.neurons.alphabet import mislevelled
from rheobase.precision import type_of_sums
from rheobase.spiking import SpikingModel

__all__ = ["Calibrated", "Levelled"]

_ROUNDING = 2**11  # of the smallest step between numbers around 1
"""The share of a threshold that rounding may take: a neuron that sent n spikes and must take them back is at -r, and
r, a sum of n rounded numbers, times the reciprocal of the threshold need not be a whole number."""


@dataclass(frozen=True, repr=False)
class Levelled(Scaled):
    """Neurons with spikes of several levels.

    Args:
        levels: magnitudes of a spike, from 1 to 65,536, with powers of two to 16.
        powers: whether they are powers of two.
        signed: whether spikes may be negative.
        fire: the smallest potential that fires, in thresholds (of the lowest level); with 1 and a memory, one that
            differs from it by rounding alone fires too.

    The other arguments and errors are those of `rheobase.methods.parts.scaled.Scaled`.
    """

    levels: int = 1
    powers: bool = False
    signed: bool = False
    fire: float = 0.5

    def _problems(self) -> list[str]:
        problems = super()._problems()
        return problems + mislevelled("levels", self.levels, self.powers) + nonpositive("fire", self.fire)

    def resolution(self) -> int:
        return self.steps * (2 ** (self.levels - 1) if self.powers else self.levels)

    def rounds(self) -> bool:
        return self.fire < 1

    def lowest(self, scale: Tensor) -> Tensor:
        """The threshold of a spike, without powers of two that of one level, for the scale that all levels make."""
        return scale / (1 if self.powers else self.levels)

    def scheduled(self, shares: Tensor, scale: Tensor) -> Tensor:
        """The threshold of each step, for shares of the scale. (T,), () or (C,) -> (T, C)."""
        return self.lowest(shares.to(scale)[:, None] * scale.reshape(1, -1))

    def least(self, memory: bool, dtype: torch.dtype) -> float:
        """The potential that fires; rounding may leave one with spikes to take back below a whole threshold."""
        share = _ROUNDING * torch.finfo(type_of_sums(dtype)).eps
        return self.fire - share if memory and self.signed and self.fire == 1 else self.fire

    def graded(self, threshold: Tensor, memory: bool) -> GradedIF:
        """The neuron with this threshold, and with these levels and signs."""
        memory = memory and self.signed
        return GradedIF(threshold, self.levels, self.powers, self.signed, memory, self.least(memory, threshold.dtype))


@dataclass(frozen=True, repr=False)
class Calibrated(Tuned, Levelled):
    """What rate and delta coding share: spikes of several levels, calibration layer by layer, and tuning by gradient.

    Args:
        calibration: "none", a "bias" a channel, a "potential" a neuron, or a "temporal" bias a channel and step. What
            sends changes has the last alone.
        passes: of that calibration, at least 1.
        images: how many calibration samples it uses; gradients use ``tuning_images``.

    The other arguments and errors are those of `Levelled` and of `rheobase.methods.parts.tuned.Tuned`.
    """

    calibration: Literal["none", "bias", "potential", "temporal"] = "none"
    passes: int = 1
    images: int = 256

    def _problems(self) -> list[str]:
        problems = super()._problems() + miscounts(self, "passes", "images")
        accepted = ("none", "temporal") if self.sends_changes() else ("none", "bias", "potential", "temporal")
        if self.calibration not in accepted:
            known = f"{', '.join(accepted[:-1])} or {accepted[-1]}"
            problems.append(f"calibration is {self.calibration!r}; it must be {known}")
        return problems

    def sends_changes(self) -> bool:
        """Whether neurons send changes of their activations."""
        return False

    def refine(self, snn: SpikingModel, graph: Graph, batches: Batches) -> SpikingModel:
        snn = self.calibrated(snn, graph, batches)
        if self.iterations or self.layer_iterations:
            snn = super().refine(self.to_tune(snn), graph, batches)
        return snn

    def calibrated(self, snn: SpikingModel, graph: Graph, batches: Batches) -> SpikingModel:
        """The network after the calibration layer by layer."""
        if self.calibration == "none":
            return snn
        calibrate = {
            "bias": calibrate_bias,
            "potential": calibrate_potential,
            "temporal": calibrate_temporal_bias,
        }[self.calibration]
        return calibrate(snn, graph, batches, self.steps, passes=self.passes, images=self.images)

    def to_tune(self, snn: SpikingModel) -> SpikingModel:
        """What tuning starts from."""
        return snn
