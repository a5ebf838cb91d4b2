"""How good the ANN is with as few levels as the spikes of an SNN: what a conversion is to be measured against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from rheobase.batches import batches_for
from rheobase.graph import Graph
from rheobase.plan import Plan
from rheobase.precision import float32_products
from rheobase.quantisation import fitted_twin
from rheobase.reading import AS_TRAINED, Reading, on_batch
from rheobase.sums import Sums

__all__ = ["Twin", "evaluate_twin", "levels_after"]

_MOST = 255  # levels, 8 bits; beyond them nothing changes that a few thousand samples could show


@dataclass(frozen=True)
class Twin:
    """A quantised twin on test data.

    Attributes:
        levels: how many values above 0 each activation can have.
        images: how many samples were evaluated.
        accuracy: share of samples answered correctly; None without labels.
        agreement: share of samples answered as the ANN does; None where the answers are not classes.
    """

    levels: int
    images: int
    accuracy: float | None
    agreement: float | None


def levels_after(plan: Plan, steps: int) -> int | None:
    """How many levels the twin of a converted network has that runs T steps: those of its finest site, at most 255.

    None where a site sends real numbers. See `rheobase.neurons.Neuron.levels_after`.
    """
    found = [neuron.levels_after(steps) for neuron in plan.neurons.values()]
    known = [levels for levels in found if levels is not None]
    return min(max(known), _MOST) if known and len(known) == len(found) else None


@torch.no_grad()
def evaluate_twin(graph: Graph, calibration: Any, loader: Any, levels: int) -> Twin:
    """Quantise the activations of the ANN, and measure what is left; see `rheobase.quantisation.fitted_twin`.

    Under `torchrun` each process takes its share of the test data, and all get the same result.

    Args:
        graph: the ANN in normal form, such as ``snn.graph``.
        calibration: training data, for the thresholds and the bias correction.
        loader: test data, as for `rheobase.evaluate`.
        levels: how many values above 0 each activation can have, at least 1.

    Raises:
        SettingError: levels is below 1.
        DataError: the data are malformed or do not fit the network.

    Example:
        >>> import rheobase as rb
        >>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
        >>> x = torch.rand(64, 4)
        >>> evaluate_twin(rb.trace(net, x), x, [(x, net(x).argmax(1))], 255).agreement
        1.0
    """
    twin = fitted_twin(graph, calibration, levels)
    read = Reading(batches_for(loader, graph.module))

    def share() -> Sums:
        sums = Sums(1, 1)
        for index, (x, y) in enumerate(read):
            if read.own.takes(index):
                with on_batch(index, x, "the network", AS_TRAINED), float32_products(x.device, rounded=False):
                    wanted, answers = graph.answers(x), twin(x)
                sums.add_batch(wanted, x, y, index)
                sums.add_answers(0, 1, answers.unsqueeze(0), wanted, y)
        return sums

    sums = Sums.total(read.gather(share))
    correct, agree = (float(counts[0, 0]) / sums.images for counts in (sums.correct, sums.agree))
    return Twin(levels, sums.images, correct if sums.labelled else None, agree if sums.classes else None)
