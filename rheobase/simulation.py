"""Simulation: the only loop over time."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from rheobase import kernels
from rheobase.errors import DataError, SettingError, miscounted, mistyped
from rheobase.exits import Exit
from rheobase.neurons._base import select
from rheobase.spiking import SpikingModel

__all__ = ["CHUNK_RULE", "Chunk", "Run", "simulate", "stream", "total_steps"]

_FOLDED_BATCH = 128  # samples times steps in one pass through a layer, when the chunk is chosen here, at least
_WIDE_BATCH, _LARGEST = 2048, 2**28  # and at most; while the largest value of a pass has no more bytes
_CHUNK = 32  # steps in one pass, at most: with few samples, memory would grow with T until the batch is full
_LEAVING = 4  # steps in one pass, at least, where samples may leave: of one alone, a chunk costs more than it saves
_DEVICE_BATCH, _DEVICE_SHARE = 8192, 64  # with TF32 on a CUDA device; the largest value has that part of its memory
CHUNK_RULE = (
    f"{_FOLDED_BATCH} to {_WIDE_BATCH} samples times steps, {_CHUNK} steps, {_LARGEST} bytes; {_LEAVING} from where "
    "samples may exit; "
    f"{_DEVICE_BATCH} and 1/{_DEVICE_SHARE} of a device"
)
"""How a chunk is chosen here; with other constants the sums of floats are rounded otherwise."""


@dataclass(frozen=True, eq=False)
class Chunk:
    """What happened in K consecutive steps.

    Attributes:
        first_step: t of the first of them, counted from 1.
        answers: the network's answer after each step: read-out and final functions. Shape (K, N, ...).
        spikes: how many spikes each site sent in each step, over all samples. Shape (K,).
        operations: how many synaptic operations they cost each weighted layer, over all samples: connections that
            leave its inputs that are not zero; empty where they are not counted. Shape (K,).
        values: what the recorded sites emitted. Shape (K, N, ...).
        exits: with an exit rule, the step at which each sample has decided so far, 0 where it has not. From that
            step on its answer stays, and its spikes are not counted. Shape (N,).
    """

    first_step: int
    answers: Tensor
    spikes: Mapping[str, Tensor]
    operations: Mapping[str, Tensor]
    values: Mapping[str, Tensor]
    exits: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Run:
    """A simulation of one batch.

    Attributes:
        steps: T.
        output: the answer after T steps. Shape (N, ...).
        spikes: spikes of each site in each step, over all samples; index t - 1 is step t. Shape (T,).
        operations: synaptic operations of each weighted layer that receives spikes, in each step. Shape (T,).
        values: what the recorded sites emitted. Shape (T, N, ...).
        neurons: how many neurons each site has, over all samples.
        exits: with an exit rule, the step at which each sample decided, 0 where it never did. Shape (N,).
    """

    steps: int
    output: Tensor
    spikes: Mapping[str, Tensor]
    operations: Mapping[str, Tensor]
    values: Mapping[str, Tensor]
    neurons: Mapping[str, int]
    exits: Tensor | None = None

    @property
    def mean_steps(self) -> float:
        """Steps per sample: T, or fewer with an exit rule."""
        if self.exits is None:
            return float(self.steps)
        return float(self.exits.masked_fill(self.exits == 0, self.steps).double().mean())

    @property
    def rates(self) -> dict[str, float]:
        """Spikes per neuron and step of each site, over the steps until each sample's exit."""
        return {s: float(n.sum()) / (self.neurons[s] * self.mean_steps) for s, n in self.spikes.items()}

    def __str__(self) -> str:
        width = max(4, *(len(site) for site in self.spikes))
        lines = [f"{self.steps} steps", f"{'site':<{width}}  {'spikes':>12}  {'rate':>7}"]
        lines += [f"{s:<{width}}  {int(n.sum()):>12,}  {self.rates[s]:>7.4f}" for s, n in self.spikes.items()]
        return "\n".join(lines)


def total_steps(snn: SpikingModel, steps: int | None, what: str) -> int:
    """The number of steps that is given, or the one that the network was converted for.

    Raises:
        SettingError: there is neither, or the network is not converted; ``what`` is what was asked for, a verb.
    """
    if not isinstance(snn, SpikingModel):
        raise SettingError(f"{what}: a {type(snn).__name__} cannot be {what}d; convert it with rheobase.convert.")
    found = snn.plan.steps if steps is None else steps
    if found is None:
        raise SettingError(f"{what}: steps is not given, and {snn.plan.method} is for any number; give it, such as 64.")
    return found


def stream(
    snn: SpikingModel,
    x: Tensor,
    steps: int | None = None,
    *,
    chunk: int | None = None,
    record: Collection[str] = (),
    generator: torch.Generator | None = None,
    until: Exit | None = None,
    operations: bool = False,
) -> Iterator[Chunk]:
    """Simulate a batch from its reset on, and give each chunk of steps as it is done.

    Args:
        snn: the converted network; it is reset, and can be in one simulation at a time.
        x: the input. Shape (N, ...).
        steps: T, at least 1. If not given, the T that the network was converted for (`Plan.steps`).
        chunk: K, how many steps go through a layer at once; it changes the speed, and the result
            by no more than rounding. By default as many as make a batch of 2048, or down to 128 where that would
            take much memory, and at most 32; with an exit rule, after its first step, as many as make a batch of 128,
            and at least 4. On a CUDA device with ``arithmetic="rounded"``, as many as make a batch of 8192. In a
            layer-synchronous network all T steps go through at once; on a CPU, unless T is given here or the network
            is random, samples then go in groups of about 128 / T.
        record: sites whose emitted values are wanted.
        generator: for what is random in the network.
        until: the rule by which samples exit early. Those that have decided leave the batch after their chunk, so
            that later chunks compute the others alone; a smaller chunk saves more. Each sample decides at the same
            step and in the same way as if all had gone on.
        operations: whether synaptic operations are counted, which takes some time.

    Yields:
        Chunks of at most K steps; memory does not grow with T, except in layer-synchronous networks.

    Raises:
        SettingError: the network is not converted, a setting is of another kind, steps or chunk is below 1, steps
            is not given and the network was converted for any number of them, a recorded site does not exist, the
            network is layer-synchronous and the chunk is not T, or there is an exit rule for such a network or for a
            record.
        DataError: the input is empty, no dense tensor, not finite, or does not fit the network, or there is an exit
            rule and the answers are not classes.
        ConversionError: the network was reset, or another simulation of it has begun, before this one was done.
    """
    steps = total_steps(snn, steps, "simulate")
    problems = miscounted("steps", steps) + ([] if chunk is None else miscounted("chunk", chunk))
    problems += mistyped("until", until, Exit, "rheobase.Exit")
    problems += mistyped("generator", generator, torch.Generator, "torch.Generator")
    if isinstance(record, str) or not isinstance(record, Collection):
        problems += [f"record is {record!r}; it must be a list of sites"]
        record = ()
    unknown = [site for site in record if site not in snn.plan.neurons]
    problems += [f"record names {unknown}; the sites are {list(snn.plan.neurons)}"] if unknown else []
    if not snn.causal and chunk not in (None, steps):
        problems += [f"chunk is {chunk}, and this network is layer-synchronous: it must be all {steps} steps, or None"]
    if until is not None and not snn.causal:
        why = "this network is layer-synchronous, so no answer comes before the last step"
        problems.append(f"{until} cannot be used: {why}; leave it out")
    if until is not None and record:
        problems += ["record keeps every sample to the last step, and an exit rule does not; give one of the two"]
    if problems:
        raise SettingError("simulate: " + "; ".join(problems) + ".")
    if not isinstance(x, Tensor) or x.layout != torch.strided:
        raise DataError(f"simulate: the input is {_kind(x)}; give a dense tensor, torch.as_tensor(...).")
    if x.ndim == 0 or len(x) == 0 or not bool(torch.isfinite(x).all()):
        found = f"the shape {tuple(x.shape)}" if x.ndim == 0 or len(x) == 0 else "NaN or infinite values"
        raise DataError(f"simulate: the input has {found}; it must hold at least one sample, and finite values.")
    fast = x.is_cuda and snn.arithmetic == "rounded"
    memory = torch.cuda.get_device_properties(x.device).total_memory if fast else None
    size = (chunk or _at_once(len(x), snn.program.largest, memory)) if snn.causal else steps
    groups = -(-len(x) // max(1, _FOLDED_BATCH // steps))
    if groups > 1 and chunk is None and x.device.type == "cpu" and not (snn.causal or snn.random):
        parts = x.tensor_split(groups)
        yield _joined([next(stream(snn, p, steps, chunk=steps, record=record, operations=operations)) for p in parts])
        return
    execution = snn.start(x, generator)
    leaving = None if until is None else _Leaving(until, x)
    layers = [str(node.target) for node in snn.program.synapses] if operations else []
    state: Any = None
    done = 0
    while done < steps:
        width = size if until is None or chunk else _before_exits(len(x), size, until.first_step - done)
        first, k = done + 1, min(width, steps - done)
        done += k
        if leaving is not None and not len(leaving.rows):
            yield leaving.silence(first, k, snn.plan.neurons, layers)
            continue
        spikes: dict[str, Tensor] = {}
        costs: dict[str, Tensor] = {}
        values: dict[str, Tensor] = {}

        def on_spikes(
            site: str,
            emitted: Tensor,
            counts: Tensor,
            spikes: dict[str, Tensor] = spikes,
            values: dict[str, Tensor] = values,
        ) -> None:
            spikes[site] = counts.sum(1) if leaving is None else counts
            if site in record:
                values[site] = emitted

        def on_inputs(node: fx.Node, received: Tensor, costs: dict[str, Tensor] = costs) -> None:
            layer, weights = str(node.target), snn.program.fan_out(node)
            weigh = kernels.weigh if leaving is None else kernels.weigh_by_sample
            count = weigh(received, weights, backend=snn.backend)
            costs[layer] = costs[layer] + count if layer in costs else count

        outputs = execution.advance(k, on_spikes, on_inputs if operations else None)
        read, state = snn.plan.readout.read(outputs, first, state)
        answers = torch.stack([execution.answer(a) for a in read])
        if leaving is None:
            yield Chunk(first, answers, spikes, costs, values)
            continue
        part, stay = leaving.chunk(first, answers, spikes, costs)
        if 0 < len(stay) < answers.shape[1]:
            execution.keep(stay)
            state = select(state, stay)
        yield part


def _kind(x: object) -> str:
    return f"a tensor of layout {x.layout}" if isinstance(x, Tensor) else f"a {type(x).__name__}"


def _at_once(samples: int, largest: int, memory: int | None) -> int:
    """How many steps go through a layer at once.

    Args:
        samples: N.
        largest: numbers in the largest value of one sample and step.
        memory: of a device that is faster with more, in bytes.
    """
    most, room = (_WIDE_BATCH, _LARGEST) if memory is None else (_DEVICE_BATCH, memory // _DEVICE_SHARE)
    folded = max(_FOLDED_BATCH, min(most, room // (4 * largest)))
    return max(1, min(_CHUNK, folded // samples))


def _before_exits(samples: int, size: int, ahead: int) -> int:
    """How many steps go through a layer at once where ``ahead`` of them come before any sample has left: those, or few.

    Args:
        samples: N.
        size: the most.
        ahead: up to the first step whose answer counts, with it.
    """
    few = min(_CHUNK, max(_LEAVING, _FOLDED_BATCH // samples))
    return min(size, ahead) if ahead > few else few


def _joined(groups: list[Chunk]) -> Chunk:
    """What happened in the same steps, for the samples of all groups."""
    first = groups[0]
    return Chunk(
        first.first_step,
        torch.cat([group.answers for group in groups], 1),
        {site: torch.stack([group.spikes[site] for group in groups]).sum(0) for site in first.spikes},
        {layer: torch.stack([group.operations[layer] for group in groups]).sum(0) for layer in first.operations},
        {site: torch.cat([group.values[site] for group in groups], 1) for site in first.values},
    )


class _Leaving:
    """Who has left a batch, with which answer.

    Args:
        rule: of their exit.
        x: the batch. Shape (N, ...).

    Attributes:
        rows: the samples that are left. Shape (n,).
        exits: the step at which each sample decided, 0 while it has not. Shape (N,).
    """

    def __init__(self, rule: Exit, x: Tensor) -> None:
        self.rule = rule
        self.rows = torch.arange(len(x), device=x.device)
        self.exits = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        self._answers: Tensor | None = None  # the last one of each sample, (N, C)

    def chunk(
        self, first: int, answers: Tensor, spikes: Mapping[str, Tensor], operations: Mapping[str, Tensor]
    ) -> tuple[Chunk, Tensor]:
        """What K steps of the samples that are left mean for all; and the places of those that stay.

        Shape: answers (K, n, C), spikes and operations (K, n).
        """
        k = len(answers)
        met = self.rule.met(answers, first)  # (K, n)
        decided = met.any(0)
        last = torch.where(decided, met.int().argmax(0), k - 1)  # the place of the last step that counts, (n,)
        places = torch.arange(k, device=answers.device)[:, None]
        held = torch.minimum(places, last)[..., None].expand_as(answers)
        before = answers[0] if self._answers is None else self._answers
        full = before.expand(k, *before.shape).clone()
        full[:, self.rows] = answers.gather(0, held)
        self._answers = full[-1]
        self.exits[self.rows[decided]] = first + last[decided]
        stay = (~decided).nonzero().flatten()
        self.rows = self.rows[stay]
        counts, costs = (
            {name: (count * (places <= last)).sum(1) for name, count in found.items()} for found in (spikes, operations)
        )
        return Chunk(first, full, counts, costs, {}, self.exits.clone()), stay

    def silence(self, first: int, k: int, sites: Collection[str], layers: Collection[str]) -> Chunk:
        """K steps after the last sample has left."""
        assert self._answers is not None
        nothing = torch.zeros(k, dtype=torch.int64, device=self._answers.device)
        answers = self._answers.expand(k, *self._answers.shape)
        return Chunk(first, answers, dict.fromkeys(sites, nothing), dict.fromkeys(layers, nothing), {}, self.exits)


@torch.no_grad()
def simulate(
    snn: SpikingModel,
    x: Tensor,
    steps: int | None = None,
    *,
    record: Collection[str] = (),
    chunk: int | None = None,
    generator: torch.Generator | None = None,
    until: Exit | None = None,
    operations: bool = False,
) -> Run:
    """Simulate a batch for T steps, those that the network was converted for if none are given.

    The arguments and errors are those of `stream`.

    Returns:
        The run. Memory grows with T by the recorded sites only.
    """
    steps = total_steps(snn, steps, "simulate")
    spikes: dict[str, Tensor] = {}
    costs: dict[str, Tensor] = {}
    values: dict[str, list[Tensor]] = {}
    output, exits = x, None  # there is at least one step, so the output is replaced
    for part in stream(
        snn, x, steps, chunk=chunk, record=record, generator=generator, until=until, operations=operations
    ):
        for totals, counted in ((spikes, part.spikes), (costs, part.operations)):
            for name, counts in counted.items():
                total = totals.setdefault(name, counts.new_zeros(steps))
                total[part.first_step - 1 : part.first_step - 1 + len(counts)] = counts
        for site, emitted in part.values.items():
            values.setdefault(site, []).append(emitted)
        output, exits = part.answers[-1], part.exits
    neurons = {s: snn.graph.neurons(s) * x.shape[0] for s in snn.plan.neurons}
    recorded = {site: torch.cat(emitted) for site, emitted in values.items()}
    return Run(steps, output, spikes, costs, recorded, neurons, exits)
