"""Two-stage thresholds: low first, for early spikes, then high.

References:
    Kim, Park, Na, Kim, Yoon 2020, "Towards fast and accurate object detection in spiking neural networks using
    Bayesian optimization", IEEE Access.

Written from a summary. Both thresholds are fractions of the largest activation, the same for all layers here (the
paper searches by layer). The search goes through Optuna (``pip install rheobase[search]``), by the squared error of
the answers after T steps on the last calibration samples, which it does not hold back from the largest activations.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rheobase.batches import Batches
from rheobase.calibration.layerwise import first_samples
from rheobase.errors import SettingError, miscounts, nonpositive
from rheobase.graph import Graph
from rheobase.methods.parts.scaled import ThresholdRule
from rheobase.methods.rate import RateCoding
from rheobase.neurons import Neuron
from rheobase.simulation import simulate
from rheobase.spiking import SpikingModel

__all__ = ["TwoStage"]


@dataclass(frozen=True, repr=False)
class TwoStage(RateCoding):
    """Binary rate coding with threshold = low * scale in the first steps, then high * scale.

    Args:
        low: greater than 0.
        high: greater than 0.
        switch: the share of the steps with the low threshold, from 0 to 1.
        trials: of the search for low and high, 0 for none.

    The other arguments are those of `RateCoding`.
    """

    threshold: ThresholdRule = "max"
    per_channel: bool = False
    fire: float = 1.0
    low: float = 0.5
    high: float = 1.0
    switch: float = 0.25
    trials: int = 0

    def _problems(self) -> list[str]:
        problems = super()._problems() + nonpositive("low", self.low) + nonpositive("high", self.high)
        problems += [f"switch is {self.switch}; it must be from 0 to 1"] if not 0 <= self.switch <= 1 else []
        problems += miscounts(self, "trials", least=0)
        problems += ["trials must be 0 where differential is on"] if self.trials and self.differential else []
        problems += ["spread must be off; there are two thresholds to take a half of"] if self.spread else []
        return problems

    def clips(self) -> bool:
        return not self.trials and max(self.low, self.high) <= 1 and super().clips()

    def neuron(self, scale: Tensor) -> Neuron:
        early = torch.arange(self.steps) < round(self.switch * self.steps)
        share = self.fraction * torch.where(early, self.low, self.high)  # (T,)
        return self.graded(self.scheduled(share, scale), self.memory)

    def refine(self, snn: SpikingModel, graph: Graph, batches: Batches) -> SpikingModel:
        return super().refine(self._searched(snn, graph, batches) if self.trials else snn, graph, batches)

    def _searched(self, snn: SpikingModel, graph: Graph, batches: Batches) -> SpikingModel:
        try:
            import optuna
        except ImportError as error:
            raise SettingError(
                "TwoStage: the search for thresholds needs Optuna: pip install rheobase[search], or trials=0."
            ) from error
        x = first_samples(batches)[-self.images :]
        with torch.no_grad():
            wanted = graph.answers(x)

        unit = float(self.neuron(torch.ones(())).get_buffer("threshold")[-1])  # the last threshold of a scale of 1

        def candidate(low: float, high: float) -> SpikingModel:
            method = dataclasses.replace(self, low=low, high=high)
            neurons = {s: method.neuron(n.get_buffer("threshold")[-1] / unit) for s, n in snn.plan.neurons.items()}
            return SpikingModel(graph, dataclasses.replace(snn.plan, neurons=neurons))

        def objective(trial: Any) -> float:
            low = trial.suggest_float("low", 0.1, 1.0)
            high = trial.suggest_float("high", low, 1.5)
            return float((simulate(candidate(low, high), x, self.steps).output - wanted).square().mean())

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=self.seed))
        low = min(max(self.low, 0.1), 1.0)
        study.enqueue_trial({"low": low, "high": min(max(self.high, low), 1.5)})
        study.optimize(objective, n_trials=self.trials)
        return candidate(study.best_params["low"], study.best_params["high"])
