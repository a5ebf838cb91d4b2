"""SNNC, "calibration": thresholds of least squared error, and biases or potentials fitted layer by layer.

References:
    Li, Deng, Dong, Gong, Gu 2021, "A free lunch from ANN: towards efficient, accurate spiking neural networks
    calibration", ICML 2021, arXiv 2106.06984.

``SNNC.light()`` fits a bias for each channel, ``SNNC.advanced()`` an initial potential for each neuron (what the
authors' CIFAR script does). ``weight_iterations`` fits the weights of each layer first, as their ImageNet script
does. Their grid of thresholds averages over some batches; here it is the exact minimum of a histogram of all of them.
As theirs, it is for neurons that floor, though half a threshold spread over the steps makes them round:
``fire=0.5, spread=False`` rounds by half a threshold at the start, with thresholds for that, which is more accurate
with few steps: up to 8 on ResNet-20, up to 4 on VGG16 (docs/methods.md).
Their script for CIFAR runs 32 steps whatever it is told.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Self

from rheobase.batches import Batches
from rheobase.calibration import calibrate_weights
from rheobase.calibration.bias import fit_bias, fit_potential, fit_temporal_bias
from rheobase.errors import miscounts
from rheobase.graph import Graph
from rheobase.methods.rate import RateCoding
from rheobase.neurons import Neuron
from rheobase.spiking import SpikingModel

__all__ = ["SNNC"]


@dataclass(frozen=True, repr=False)
class SNNC(RateCoding):
    """Binary rate coding with half a threshold spread over the steps, and calibrated biases or potentials.

    .. code-block:: text

        v_pre(t) = v(t-1) + x(t) + threshold / (2 T)
        y(t)     = threshold if v_pre(t) >= threshold, else 0;  v(t) = v_pre(t) - y(t)
        light:     bias_c += mean over samples and space of (a - r(T)),  r(T) the mean of y
        advanced:  v(0)   += T mean over samples of (a - r(T))

    Args:
        weight_iterations: of fitting the weights of each layer, 0 for none; see
            `rheobase.calibration.calibrate_weights`.

    The other arguments are those of `RateCoding`.
    """

    fire: float = 1.0
    spread: bool = True
    calibration: Literal["none", "bias", "potential", "temporal"] = "bias"
    weight_iterations: int = 0

    def _problems(self) -> list[str]:
        found = miscounts(self, "weight_iterations", least=0)
        both = self.weight_iterations > 0 and self.differential
        found += ["weight_iterations must be 0 where differential is on; iterations tunes weights too"] if both else []
        return super()._problems() + found

    def calibrated(self, snn: SpikingModel, graph: Graph, batches: Batches) -> SpikingModel:
        if not self.weight_iterations:
            return super().calibrated(snn, graph, batches)
        fits: dict[str, Callable[..., Neuron]] = {
            "bias": fit_bias,
            "potential": fit_potential,
            "temporal": fit_temporal_bias,
        }
        fit = fits.get(self.calibration)
        return calibrate_weights(
            snn,
            graph,
            batches,
            self.steps,
            iterations=self.weight_iterations,
            images=self.images,
            seed=self.seed,
            adjust=None if fit is None else partial(fit, passes=self.passes),
        )

    @classmethod
    def light(cls, **changes: Any) -> Self:
        """Biases (the default)."""
        return cls(**{"calibration": "bias", **changes})

    @classmethod
    def advanced(cls, **changes: Any) -> Self:
        """Initial potentials."""
        return cls(**{"calibration": "potential", **changes})
