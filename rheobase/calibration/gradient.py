"""Gradient calibration: thresholds, biases and weights tuned so that every layer sends what the ANN computes.

The network is simulated for T steps with surrogate gradients, and its sums and answers are pulled towards
the activations and answers of the ANN. No labels are used.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from rheobase.batches import Batches
from rheobase.calibration.activations import activations
from rheobase.calibration.layerwise import first_samples
from rheobase.errors import DataError, SettingError
from rheobase.graph import Graph
from rheobase.neurons import Neuron, Temporal
from rheobase.spiking import SpikingModel

__all__ = ["Tuning", "tune"]


@dataclass(frozen=True)
class Tuning:
    """How a network is tuned; see `tune`.

    Args:
        iterations: of gradient descent, at least 1.
        batch_size: samples in each.
        rate: the peak learning rate of the neurons' parameters (thresholds by their logarithm).
        weight_rate: that of weights and biases; 0 leaves them as they are.
        flip: mirror half of the samples left to right, where they are images.
        anytime: weight of the answers before the last step, against 1 for the last.
        divergence: weight of the Kullback-Leibler divergence of the answers.
        bfloat16: multiply weights in bfloat16, which is 3 to 5 times faster where the processor can (AMX).
        images: the most samples that are used, the first ones; they are held in memory.
        seed: of the order and the mirroring.

    Raises:
        SettingError: a value is outside its range.
    """

    iterations: int = 160
    batch_size: int = 32
    rate: float = 1e-2
    weight_rate: float = 4e-4
    flip: bool = True
    anytime: float = 0.0
    divergence: float = 0.3
    bfloat16: bool = True
    images: int = 1024
    seed: int = 0

    def __post_init__(self) -> None:
        least = ("rate", "weight_rate", "anytime", "divergence")
        problems = [f"{n} is {getattr(self, n)}; it must be at least 1" for n in ("iterations", "batch_size", "images")
                    if getattr(self, n) < 1]  # fmt: skip
        problems += [f"{n} is {getattr(self, n)}; it must be 0 or more" for n in least
                     if not 0 <= getattr(self, n) < math.inf]  # fmt: skip
        if problems:
            raise SettingError("Tuning: " + "; ".join(problems) + ".")


def tune(
    snn: SpikingModel,
    graph: Graph,
    batches: Batches,
    steps: int,
    tuning: Tuning | None = None,
    *,
    progress: Callable[[int, float], None] | None = None,
) -> SpikingModel:
    r"""Tune a converted network to its ANN by gradient descent, end to end.

    .. code-block:: text

        loss = mean over sites of |r(T) - a|^2 / |a|^2 + |o(T) - o|^2 / |o|^2
               + divergence KL(softmax(o) || softmax(o(T)))

    with r(T) the sum (for a coding of changes) or mean of what a site sent, a the activation of the ANN,
    and o the answers. Adam with one cycle of the learning rate, gradients clipped at norm 1. What a neuron
    lets be tuned is in its `Neuron.tunable`. The result is determined by the seed and the number of threads.

    Args:
        snn: the converted network; it is left as it is.
        graph: the ANN in normal form.
        batches: calibration data.
        steps: T.
        tuning: the settings.
        progress: called after each iteration with their number and the loss.

    Raises:
        SettingError: a neuron's scan cannot be differentiated.
        DataError: the loss is not finite.
    """
    fixed = [site for site, neuron in snn.plan.neurons.items() if not _differentiable(neuron)]
    if fixed:
        raise SettingError(
            f"tune: the neurons of {', '.join(fixed)} cannot be tuned by gradient. Accepted are GradedIF and Parallel, "
            "also inside Biased: convert with RateCoding, DeltaCoding, ParallelConversion or what derives from them."
        )
    with torch.inference_mode(False), torch.enable_grad():
        return _tune(snn, graph, batches, steps, tuning or Tuning(), progress)


def _tune(
    snn: SpikingModel,
    graph: Graph,
    batches: Batches,
    steps: int,
    tuning: Tuning,
    progress: Callable[[int, float], None] | None,
) -> SpikingModel:
    x = first_samples(batches, tuning.images).clone()  # tensors of inference mode cannot be differentiated
    model = SpikingModel(graph, snn.plan)
    leaves = {
        (site, path): _leaf(neuron.get_buffer(path), kind)
        for site, neuron in model.neurons().items()
        for path, kind in tunable(neuron).items()
    }
    weights = {n: p for n, p in model.module.named_parameters() if tuning.weight_rate}
    for p in weights.values():
        p.requires_grad_(True)
    groups: list[dict[str, Any]] = [{"params": list(leaves.values()), "lr": tuning.rate}]
    groups += [{"params": list(weights.values()), "lr": tuning.weight_rate}] if weights else []
    optimizer = torch.optim.Adam(groups)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, [g["lr"] for g in groups], max(tuning.iterations, 10), pct_start=0.2, cycle_momentum=False
    )
    generator = torch.Generator().manual_seed(tuning.seed)
    for i, batch in enumerate(_draw(x, tuning, generator)):
        _set(model, leaves)
        loss = _loss(model, graph, batch, steps, tuning)
        if not bool(torch.isfinite(loss)):
            raise DataError(f"Iteration {i}: the loss of the calibration is {loss.item()}. Lower its rates.")
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        for group in groups:
            nn.utils.clip_grad_norm_(group["params"], 1.0)
        optimizer.step()
        schedule.step()
        if progress is not None:
            progress(i + 1, float(loss.detach()))
    _set(model, leaves, detach=True)
    model.reset()
    edits = {**snn.plan.edits, **{n: p.detach().clone() for n, p in weights.items()}}
    plan = dataclasses.replace(snn.plan, neurons=model.neurons(), edits=edits)
    return SpikingModel(graph, plan)


def tunable(neuron: Neuron) -> dict[str, str]:
    """The dotted paths of the buffers that can be tuned, also of neurons inside, and whether by logarithm."""
    return {
        f"{prefix}.{name}" if prefix else name: kind
        for prefix, module in neuron.named_modules()
        if isinstance(module, Neuron)
        for name, kind in module.tunable.items()
    }


def _differentiable(neuron: Neuron) -> bool:
    """Whether the innermost neuron can be tuned."""
    innermost = [m for m in neuron.modules() if isinstance(m, Neuron)][-1]
    return bool(innermost.tunable)


def _leaf(value: Tensor, kind: str) -> Tensor:
    return (value.log() if kind == "log" else value.clone()).requires_grad_(True)


def _set(model: SpikingModel, leaves: Mapping[tuple[str, str], Tensor], detach: bool = False) -> None:
    neurons = model.neurons()
    for (site, path), leaf in leaves.items():
        owner, _, name = path.rpartition(".")
        module = neurons[site].get_submodule(owner)
        value = leaf.exp() if module.tunable[name] == "log" else leaf  # type: ignore[index]
        setattr(module, name, value.detach().clone() if detach else value)


def _draw(x: Tensor, tuning: Tuning, generator: torch.Generator) -> Iterator[Tensor]:
    """Batches in random order, half of the images mirrored."""
    order = torch.empty(0, dtype=torch.int64)
    size = min(tuning.batch_size, len(x))
    for _ in range(tuning.iterations):
        if len(order) < size:
            order = torch.cat([order, torch.randperm(len(x), generator=generator)])
        chosen, order = x[order[:size]], order[size:]
        if tuning.flip and x.ndim == 4:
            mirrored = torch.rand(size, generator=generator) < 0.5
            chosen = torch.where(mirrored.view(-1, 1, 1, 1).to(x.device), chosen.flip(3), chosen)
        yield chosen


def _loss(model: SpikingModel, graph: Graph, x: Tensor, steps: int, tuning: Tuning) -> Tensor:
    with torch.no_grad(), activations(graph) as targets:
        wanted = graph.module(x.to(memory_format=torch.channels_last) if x.ndim == 4 else x)
    errors: list[Tensor] = []
    share = 1.0 if model.plan.encoder.changes else 1.0 / steps

    def emit(node: fx.Node, layer: Temporal, current: Tensor) -> Tensor:
        values: Tensor = layer(current.float())
        if isinstance(layer, Neuron):
            a = targets.pop(str(node.target))
            errors.append((values.sum(0) * share - a).square().sum() / a.square().sum().clamp(min=1e-12))
        return values

    model.reset()
    execution = model.execution(x)
    with torch.autocast(x.device.type, torch.bfloat16, enabled=tuning.bfloat16):
        outputs = execution.walk(steps, emit)
    outputs, _ = model.plan.readout.read(outputs.float(), 1, None)
    loss = torch.stack(errors).mean()
    last = range(steps if tuning.anytime else 1)
    for back in last:
        answer = execution.answer(outputs[steps - 1 - back])
        weight = tuning.anytime / (steps - 1) if back else 1.0
        error = (answer - wanted).square().sum() / wanted.square().sum().clamp(min=1e-12)
        if answer.ndim == 2 and answer.shape[1] > 1:
            target = wanted.log_softmax(1)
            kl = F.kl_div(answer.log_softmax(1), target, log_target=True, reduction="batchmean")
            error = error + tuning.divergence * kl
        loss = loss + weight * error
    return loss
