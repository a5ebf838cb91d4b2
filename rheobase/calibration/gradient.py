"""Gradient calibration: thresholds, biases and weights tuned so that every layer sends what the ANN computes.

The network is simulated for T steps with surrogate gradients, and its sums and answers are pulled towards
the activations and answers of the ANN: `tune` end to end, `tune_layers` one layer after the other, which never
holds more than the currents of one layer. No labels are used.
"""

from __future__ import annotations

import copy
import dataclasses
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from rheobase import augment
from rheobase.batches import as_batches, batches_for
from rheobase.calibration.activations import activations
from rheobase.calibration.descent import (
    State,
    descend,
    descent,
    group,
    groups_of,
    leaves_of,
    put,
    relative,
    root_mean_square,
)
from rheobase.calibration.layerwise import Layer, check_graph, first_samples, layerwise
from rheobase.calibration.session import current, fingerprint
from rheobase.calibration.widened import in_float32, is_half
from rheobase.coding import ConstantCurrent, Mean
from rheobase.errors import SettingError, miscounted, miscounts, mismeasured, mistyped
from rheobase.graph import Graph, are_classes
from rheobase.kernels.processor import multiplies_bfloat16
from rheobase.neurons import Neuron, Temporal
from rheobase.neurons._base import along_channels
from rheobase.precision import type_of_sums
from rheobase.spiking import SpikingModel

__all__ = ["Tuning", "tune", "tune_layers"]

_MIRRORED = 0.8  # of the answers
_FIRST = 128  # samples by which the error before tuning is told


@dataclass(frozen=True)
class Tuning:
    """How a network is tuned; see `tune`.

    Args:
        iterations: of gradient descent, at least 1.
        batch_size: samples in each.
        rate: the peak learning rate of the neurons' parameters: thresholds by their logarithm, currents in units of the
            first threshold of their site.
        weight_rate: that of weights and biases, each tensor in units of its own root mean square (a tensor of zeros
            stays), times the relative error of the answers before tuning, |o(T) - o| / |o|, at most 1: the less wrong a
            network is, the less its weights should move. 0 leaves all as they are.
        flip: mirror half of the samples left to right, where they are images. If not given, where the network gives at
            least 80 % of the mirrored images the answer (N, C), C > 1, of the images: not of digits, or of spectra.
        mix: shift images by up to an eighth of their width, blend one half of them with others (mixup) and put pieces
            of others into the rest (cutmix). With many iterations, what is tuned then fits the calibration samples less
            and all others more.
        anytime: weight of the answers before the last step, against 1 for the last.
        divergence: weight of the Kullback-Leibler divergence of the answers. It makes what is tuned fit the calibration
            samples more and all others less.
        bfloat16: multiply weights in bfloat16; if not given, on a processor that does so by itself (AMX, AVX512-BF16),
            where it is 2 to 5 times faster, and on a graphics processor. On others it is much slower than float32.
        images: the most samples that are used, the first ones; they are held in memory.
        seed: of the order and the mirroring.

    Raises:
        SettingError: a value is outside its range.
    """

    iterations: int = 160
    batch_size: int = 32
    rate: float = 1e-2
    weight_rate: float = 5e-3
    flip: bool | None = None
    mix: bool = False
    anytime: float = 0.0
    divergence: float = 0.0
    bfloat16: bool | None = None
    images: int = 1024
    seed: int = 0

    def __post_init__(self) -> None:
        problems = miscounts(self, "iterations", "batch_size", "images") + miscounts(self, "seed", least=0)
        for name in ("rate", "weight_rate", "anytime", "divergence"):
            problems += mismeasured(name, getattr(self, name), "at least 0, and finite", 0, sys.float_info.max)
        problems += mistyped("flip", self.flip, bool, "bool") + mistyped("bfloat16", self.bfloat16, bool, "bool")
        problems += [] if isinstance(self.mix, bool) else [f"mix is {self.mix!r}; it must be True or False"]
        if problems:
            raise SettingError("Tuning: " + "; ".join(problems) + ".")


def tune(
    snn: SpikingModel,
    graph: Graph,
    batches: object,
    steps: int,
    tuning: Tuning | None = None,
) -> SpikingModel:
    r"""Tune a converted network to its ANN by gradient descent, end to end.

    .. code-block:: text

        loss = mean over sites of |r(T) - a|^2 / |a|^2 + |o(T) - o|^2 / |o|^2
               + divergence KL(softmax(o) || softmax(o(T)))

    with r(T) the sum (for a coding of changes) or mean of what a site sent, a the activation of the ANN,
    and o the answers. Adam with one cycle of the learning rate, gradients clipped at norm 1, both in units that
    make it the same for a network whose layers are scaled. What a neuron lets be tuned is in its
    `Neuron.tunable`. The result is determined by the seed, the processor and the number of threads, also where an
    interrupted tuning goes on in a `rheobase.calibration.session` with a folder.

    Args:
        snn: the converted network; it is left as it is.
        graph: the ANN in normal form.
        batches: calibration data, what `rheobase.batches.as_batches` accepts.
        steps: T.
        tuning: the settings.

    Raises:
        SettingError: a neuron's scan cannot be differentiated, steps is below 1, or the graph is of another network.
        DataError: the loss is not finite.
    """
    check_graph(snn, graph)
    _check_tunable(snn, "tune", steps)
    settings = tuning or Tuning()
    x = first_samples(batches_for(batches, graph.module), settings.images)
    if is_half(snn):
        return in_float32(snn, graph, x, lambda s, g, b: tune(s, g, b, steps, settings))
    with torch.inference_mode(False), torch.enable_grad():
        return _tune(snn, graph, x, steps, settings)


def tune_layers(
    snn: SpikingModel,
    graph: Graph,
    batches: object,
    steps: int,
    tuning: Tuning | None = None,
) -> SpikingModel:
    r"""Tune the neurons of one layer after the other, each to the activation of the ANN: |r(T) - a|^2 / |a|^2.

    Weights stay as they are. Held are some four tensors as large as the currents of the largest layer, of T * images
    samples (at most 1 GiB each: fewer images are used where they would take more), and what one backward pass through
    its neurons holds, however many layers there are; `tune` holds all layers for T steps, but of one batch. Which is
    less depends on the network and the images: see docs/annealed.md. It also serves as its start. In a
    `rheobase.calibration.session` with a folder, an interrupted one goes on from its last layer, and ends with the same
    numbers.

    Args:
        snn: the converted network; it is left as it is.
        graph: the ANN in normal form.
        batches: calibration data, what `rheobase.batches.as_batches` accepts.
        steps: T.
        tuning: its iterations (for each layer), batch_size, rate, images and seed are used.

    Raises:
        SettingError: a neuron's scan cannot be differentiated, steps is below 1, or the graph is of another network.
        DataError: the loss is not finite.
    """
    _check_tunable(snn, "tune_layers", steps)
    settings = tuning or Tuning()
    data = batches_for(batches, graph.module)
    if is_half(snn):
        x = first_samples(data, settings.images)
        return in_float32(snn, graph, x, lambda s, g, b: tune_layers(s, g, b, steps, settings))
    generator = torch.Generator().manual_seed(settings.seed)
    share = 1.0 if snn.plan.encoder.changes else 1.0 / steps
    kept, key = current(), ""
    if kept.folder is not None:
        x = first_samples(data, settings.images)
        data = as_batches(x)
        key = fingerprint(snn, x, steps, "layers", settings, torch.get_num_threads())
    done: dict[str, dict[str, Tensor]] = (kept.saved(key) or {}).get("layers", {})

    def adjust(layer: Layer) -> Neuron:
        neuron = copy.deepcopy(layer.neuron)
        orders = list(_orders(layer.currents.shape[1], settings, generator))  # drawn also where the layer is done
        if layer.site not in done:
            with torch.inference_mode(False), torch.enable_grad():
                done[layer.site] = _tuned_leaves(layer, neuron, share, orders, settings)
            kept.keep(key, lambda: {"layers": done}, len(done), len(graph.sites), every=1)
        put(neuron, done[layer.site], detach=True)
        neuron.reset()
        return neuron

    return layerwise(snn, graph, data, steps, adjust, images=settings.images)


def _tuned_leaves(
    layer: Layer, neuron: Neuron, share: float, orders: list[Tensor], tuning: Tuning
) -> dict[str, Tensor]:
    leaves = leaves_of(neuron)
    optimizer, schedule = descent(groups_of({layer.site: neuron}, {layer.site: leaves}, tuning.rate), tuning.iterations)
    for chosen in orders:
        a, current = layer.activation[chosen].clone(), layer.currents[:, chosen].clone()
        put(neuron, leaves)
        neuron.reset()
        loss = relative(neuron(current).sum(0) * share, a)
        descend(loss, optimizer, schedule, layer.site)
    return {path: leaf.detach() for path, leaf in leaves.items()}


def _check_tunable(snn: SpikingModel, name: str, steps: int) -> None:
    problems = miscounted("steps", steps)
    if problems:
        raise SettingError(f"{name}: {problems[0]}.")
    fixed = [
        site
        for site, neuron in snn.plan.neurons.items()
        if not all(part.differentiable for part in neuron.modules() if isinstance(part, Neuron))
    ]
    if fixed:
        raise SettingError(
            f"{name}: the neurons of {', '.join(fixed)} cannot be tuned by gradient. Accepted are IF, GradedIF, MSAT, "
            "SignedMSAT, BDETT and Parallel, also inside Biased and Differential, and MSAT inside Rounded: convert "
            "with ConstantThreshold, RateCoding, DeltaCoding, MSAT, SignedMSAT, BDETT, ParallelConversion or what "
            "derives from them."
        )


def _tune(
    snn: SpikingModel,
    graph: Graph,
    x: Tensor,
    steps: int,
    tuning: Tuning,
) -> SpikingModel:
    x = x.clone()  # tensors of inference mode cannot be differentiated
    if tuning.bfloat16 is None:
        tuning = dataclasses.replace(tuning, bfloat16=x.device.type != "cpu" or multiplies_bfloat16())
    if tuning.flip is None:
        tuning = dataclasses.replace(tuning, flip=_mirrors(graph, x))
    model, simulated = _model(snn, graph, steps, tuning)
    leaves = {site: leaves_of(neuron) for site, neuron in model.neurons().items()}
    named = model.module.named_parameters() if tuning.weight_rate else ()
    weights = {n: p for n, p in named if p.is_floating_point()}
    for p in weights.values():
        p.requires_grad_(True)
    groups = groups_of(model.neurons(), leaves, tuning.rate)
    wrong = _error(model, x[:_FIRST], simulated, tuning) if weights else 0.0
    groups += [group([p], tuning.weight_rate * wrong, root_mean_square(p)) for p in weights.values()]
    optimizer, schedule = descent(groups, tuning.iterations)
    state = State(leaves, weights, optimizer, schedule)
    kept = current()
    key = "" if kept.folder is None else fingerprint(snn, x, steps, tuning, torch.get_num_threads())
    done = state.restore(kept.saved(key))
    generator = torch.Generator().manual_seed(tuning.seed)
    for i, batch in enumerate(_draw(x, tuning, generator)):
        if i < done:
            continue  # what was drawn is drawn again
        for site, neuron in model.neurons().items():
            put(neuron, leaves[site])
        loss = _loss(model, batch, simulated, tuning)
        descend(loss, optimizer, schedule, f"Iteration {i}")
        kept.keep(key, lambda i=i: state.content(i + 1), i + 1, tuning.iterations)  # type: ignore[misc]
        kept.tell("tuning", i + 1, tuning.iterations, float(loss.detach()))
    neurons = copy.deepcopy(dict(snn.plan.neurons))
    for site, neuron in neurons.items():
        put(neuron, leaves[site], detach=True)
    edits = {**snn.plan.edits, **{n: p.detach().clone() for n, p in weights.items()}}
    return SpikingModel(graph, dataclasses.replace(snn.plan, neurons=neurons, edits=edits))


@torch.no_grad()
def _mirrors(graph: Graph, x: Tensor) -> bool:
    """Whether the network answers mirrored images as it answers the images."""
    if x.ndim != 4:
        return False
    same = 0
    for part in torch.split(x, 128):
        answers, mirrored = (graph.answers(image) for image in (part, part.flip(3)))
        if not are_classes(answers):
            return False
        same += int((answers.argmax(1) == mirrored.argmax(1)).sum())
    return same >= _MIRRORED * len(x)


def _model(snn: SpikingModel, graph: Graph, steps: int, tuning: Tuning) -> tuple[SpikingModel, int]:
    """What is differentiated, and for how many steps: one step where the mean of T steps can be had in one."""
    plan = snn.plan
    averaged = {site: n.averaged(steps) if n.holds("averaged") else None for site, n in plan.neurons.items()}
    found = {site: neuron for site, neuron in averaged.items() if neuron is not None}
    means = isinstance(plan.encoder, ConstantCurrent) and isinstance(plan.readout, Mean) and not tuning.anytime
    if len(found) < len(averaged) or not means:
        return SpikingModel(graph, plan), steps
    return SpikingModel(graph, dataclasses.replace(plan, neurons=found)), 1


def _orders(count: int, tuning: Tuning, generator: torch.Generator) -> Iterator[Tensor]:
    """Which samples each batch takes, in random order, all before one comes again."""
    order = torch.empty(0, dtype=torch.int64)
    size = min(tuning.batch_size, count)
    for _ in range(tuning.iterations):
        if len(order) < size:
            order = torch.cat([order, torch.randperm(count, generator=generator)])
        yield order[:size]
        order = order[size:]


def _draw(x: Tensor, tuning: Tuning, generator: torch.Generator) -> Iterator[Tensor]:
    """Batches in random order, images changed as the settings say."""
    for indices in _orders(len(x), tuning, generator):
        chosen = x[indices]
        if tuning.flip and x.ndim == 4:
            chosen = augment.flip(chosen, generator)
        if tuning.mix and x.ndim == 4:
            moved = augment.shift_images(chosen, min(x.shape[3] // 8, x.shape[2] - 1), generator)
            blended = augment.mixup(moved, generator)
            pieced = augment.cutmix(moved, generator)
            half = len(chosen) // 2
            chosen = torch.cat([blended[:half], pieced[half:]])
        yield chosen


def _products(x: Tensor, tuning: Tuning) -> AbstractContextManager[Any]:
    """In bfloat16 where that is wanted and the network is of float32."""
    wanted = tuning.bfloat16 and x.dtype == torch.float32
    return torch.autocast(x.device.type, torch.bfloat16) if wanted else nullcontext()


def _wide(x: Tensor) -> Tensor:
    return x.to(type_of_sums(x.dtype))


@torch.no_grad()
def _error(model: SpikingModel, x: Tensor, steps: int, tuning: Tuning) -> float:
    """The relative error of the last answers, |o(T) - o| / |o|, at most 1."""
    execution = model.start(x)
    with _products(x, tuning):
        outputs = execution.walk(steps, lambda node, layer, current: layer(_wide(current)))
    outputs, _ = model.plan.readout.read(_wide(outputs), 1, None)
    return min(float(relative(execution.answer(outputs[steps - 1]), model.graph.answers(x)).sqrt()), 1.0)


def _loss(model: SpikingModel, x: Tensor, steps: int, tuning: Tuning) -> Tensor:
    with torch.no_grad(), activations(model.graph) as targets:
        wanted = model.graph.answers(x)
    errors: list[Tensor] = []
    share = 1.0 if model.plan.encoder.changes else 1.0 / steps

    def emit(node: fx.Node, layer: Temporal, current: Tensor) -> Tensor:
        values: Tensor = layer(_wide(current))
        if isinstance(layer, Neuron):
            a = targets.pop(str(node.target))
            errors.append(relative(values.sum(0) * share, a))
            dead = ~(a.any(0).reshape(a.shape[1], -1).any(1) if a.ndim > 1 else a.any())  # (C,) or ()
            if bool(dead.any()):  # they are not there for better early answers, by spikes that they take back
                values = torch.where(along_channels(dead, a), values.detach(), values)
        return values

    execution = model.start(x)
    with _products(x, tuning):
        outputs = execution.walk(steps, emit)
    outputs, _ = model.plan.readout.read(_wide(outputs), 1, None)
    loss = torch.stack(errors).mean()
    last = range(steps if tuning.anytime else 1)
    for back in last:
        answer = execution.answer(outputs[steps - 1 - back])
        weight = tuning.anytime / (steps - 1) if back else 1.0
        error = relative(answer, wanted)
        if tuning.divergence and are_classes(answer):
            target = wanted.log_softmax(1)
            kl = F.kl_div(answer.log_softmax(1), target, log_target=True, reduction="batchmean")
            error = error + tuning.divergence * kl
        loss = loss + weight * error
    return loss
