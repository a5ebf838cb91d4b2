"""What methods share whose neurons can be tuned by gradient."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rheobase.batches import Batches
from rheobase.calibration import Tuning, tune, tune_layers
from rheobase.errors import miscounts
from rheobase.graph import Graph
from rheobase.methods.parts.scaled import Scaled
from rheobase.spiking import SpikingModel

__all__ = ["Tuned"]


@dataclass(frozen=True, repr=False)
class Tuned(Scaled):
    """A method that ends with gradient calibration.

    Args:
        iterations: of gradient tuning, 0 for none; see `rheobase.calibration.tune`.
        layer_iterations: of gradient tuning of the neurons of each layer before it, 0 for none; see
            `rheobase.calibration.tune_layers`.
        weight_rate: learning rate of the weights in it, in units of their root mean square, for answers that are
            wholly wrong; 0 leaves them.
        anytime: weight of the answers before the last step in it, against 1 for the last.
        divergence: weight of the Kullback-Leibler divergence of the answers in it, beside their squared error.
        flip: whether it mirrors half of the samples left to right; if not given, where the network answers mirrored
            images as it answers the images.
        mix: whether it shifts and mixes images; of use with many iterations.
        batch_size: samples in each iteration; T steps of all layers are held for them, so that fewer take less memory.
        tuning_images: the most samples that it uses, the first ones; they are held in memory.
        seed: of its random order.

    The other arguments and errors are those of `rheobase.methods.parts.scaled.Scaled`.
    """

    iterations: int = 0
    layer_iterations: int = 0
    weight_rate: float = 0.0
    anytime: float = 0.0
    divergence: float = 0.0
    flip: bool | None = None
    mix: bool = False
    batch_size: int = 32
    tuning_images: int = 1024
    seed: int = 0

    def _problems(self) -> list[str]:
        names = ("iterations", "layer_iterations", "weight_rate", "anytime", "divergence", "seed")
        values = {name: getattr(self, name) for name in names}
        wrong = [f"{n} is {v}; it must be at least 0, and finite" for n, v in values.items() if not 0 <= v < math.inf]
        return super()._problems() + wrong + miscounts(self, "batch_size", "tuning_images")

    def refine(self, snn: SpikingModel, graph: Graph, batches: Batches) -> SpikingModel:
        if self.layer_iterations:
            layers = Tuning(self.layer_iterations, self.batch_size, images=self.tuning_images, seed=self.seed)
            snn = tune_layers(snn, graph, batches, self.steps, layers)
        if not self.iterations:
            return snn
        names = ("iterations", "weight_rate", "anytime", "divergence", "flip", "mix", "batch_size", "seed")
        chosen = {name: getattr(self, name) for name in names}
        return tune(snn, graph, batches, self.steps, Tuning(images=self.tuning_images, **chosen))
