"""Evaluation: one pass over the data gives the curve at every step, in memory that does not grow with T."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Sized
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column
from torch import Tensor, nn

from rheobase.batches import batches_for
from rheobase.curve import Curve
from rheobase.errors import ConversionError, DataError, SettingError, miscounted, mistyped
from rheobase.exits import Exit
from rheobase.precision import float32_products
from rheobase.reading import Reading, on_batch
from rheobase.resume import Stored, identity
from rheobase.simulation import stream, total_steps
from rheobase.spiking import SpikingModel
from rheobase.sums import Sums
from rheobase.twin import levels_after

__all__ = ["evaluate"]


@torch.no_grad()
def evaluate(
    snn: SpikingModel,
    loader: Any,
    steps: int | None = None,
    reference: nn.Module | None = None,
    *,
    seeds: Sequence[int] = (0,),
    chunk: int | None = None,
    until: Exit | None = None,
    resume: str | Path | None = None,
    progress: bool = False,
    description: str = "",
) -> Curve:
    """Measure a converted network after each step up to T.

    Args:
        snn: the converted network.
        loader: test data: whatever yields ``(x, y)``, dictionaries, or inputs alone.
        steps: T, at least 1. If not given, the T that the network was converted for (`Plan.steps`).
        reference: the original network, for agreement and logit error; it is left as it is.
        seeds: a run for each, where the network is random; otherwise only the first counts. At least 0.
        chunk: steps that go through a layer at once; see `simulate`.
        until: the rule by which samples exit early: they keep their answer and leave the batch, so that the rest
            costs less. The curve then says after t steps what an inference of at most t steps gives.
        resume: a file for the sums so far; with several processes each appends its number. If it exists, the evaluation
            goes on from the batches that it holds, and the curve is, number by number, that of an evaluation in one
            go. It stays when all is done.
        progress: whether to show a progress bar.
        description: what stands before the bar.

    Under `torchrun` each process takes its share of the batches, and all get the same curve, number by number that
    of one process (`rheobase.distributed`).

    Returns:
        The curve, with ``accuracy[t - 1]`` after t steps.

    Raises:
        SettingError: the network is not converted, the reference is no network, steps is below 1, or not given where
            the network was converted for any number of them, there are no seeds, one is negative, or there is an exit
            rule for a layer-synchronous network; or the file of `resume` is of another evaluation (what differs is
            listed).
        DataError: no data, outputs that are not classes although labels are given, a reference with
            other outputs, values that are not finite, or other data than the file of `resume` was begun with; or
            under `torchrun` the processes read different batches.
        ConversionError: under `torchrun`, the processes have different networks or settings.
    """
    steps = total_steps(snn, steps, "evaluate")
    problems = miscounted("steps", steps) + ([] if chunk is None else miscounted("chunk", chunk))
    if isinstance(seeds, str) or not isinstance(seeds, Sized):
        problems += [f"seeds is {seeds!r}; it must be a list of whole numbers"]
    else:
        problems += [] if len(seeds) else ["seeds is empty; it needs at least one"]
        problems += [problem for seed in seeds for problem in miscounted("a seed", seed, 0)]
    problems += mistyped("until", until, Exit, "rheobase.Exit")
    if reference is not None and not isinstance(reference, nn.Module):
        problems += [f"reference is {reference!r}; it must be the original network, an nn.Module, or None"]
    if resume is not None and not isinstance(resume, str | Path):
        problems += [f"resume is {resume!r}; it must be the path of a file, or None"]
    if problems:
        raise SettingError("evaluate: " + "; ".join(problems) + ".")
    used = tuple(map(int, seeds)) if snn.random else (int(seeds[0]),)
    data = batches_for(loader, snn)
    read = Reading(data)
    own = read.own

    def identified() -> dict[str, Any]:
        return identity(snn, reference, steps=steps, seeds=used, chunk=chunk, until=until, own=own)

    if own.size > 1:
        _check_alike(own.gather(identified))
    with _evaluating(reference), _bar(progress and own.rank == 0, description, data.count, len(used)) as step_bar:

        def add(sums: Sums, index: int, x: Tensor, y: Tensor | None) -> None:
            if not bool(torch.isfinite(x).all()):
                raise DataError(f"Batch {index}: the input has NaN or infinite values. Check how the data are made.")
            answer = None if reference is None else _answer(reference, x, index)
            sums.add_batch(answer, x, y, index)
            for row, seed in enumerate(used):
                exits = None
                for part in stream(
                    snn, x, steps, chunk=chunk, generator=_generator(seed, index), until=until, operations=True
                ):
                    exits = part.exits
                    sums.add_answers(row, part.first_step, part.answers, answer, y)
                    sums.add_activity(part.first_step, part.spikes, part.operations)
                    step_bar(len(part.answers) / steps)
                if exits is not None:
                    sums.add_exits(exits)

        def share() -> Sums:
            stored = None
            if resume is not None:
                stored = Stored(own.named(resume), identified(), Sums(len(used), steps))
            sums, batches = Sums(len(used), steps) if stored is None else stored.sums, 0
            for index, (x, y) in enumerate(read):
                batches = index + 1
                if (stored is not None and stored.done(index, x, y)) or not own.takes(index):
                    step_bar(len(used))
                    continue
                add(sums, index, x, y)
                if stored is not None:
                    stored.write(batches)
            if stored is not None:
                stored.write(batches, last=True)
            return sums

        sums = Sums.total(read.gather(share))
    return _curve(snn, sums, used, reference is not None, until)


def _answer(reference: nn.Module, x: Tensor, index: int) -> Any:
    """What the original network says to a batch."""
    advice = "Give the network that was converted."
    with on_batch(index, x, "the reference network", advice), float32_products(x.device, rounded=False):
        return reference(x)


def _check_alike(identities: Sequence[dict[str, Any]]) -> None:
    """That all processes evaluate the same, by what `identity` says in each of them."""
    first = identities[0]
    for rank, other in enumerate(identities):
        names = [name for name in first if name != "process" and first[name] != other[name]]
        if names:
            lines = "\n".join(
                f"  {name}: {first[name]} in process 0, {other[name]} in process {rank}" for name in names
            )
            raise ConversionError(
                f"evaluate: the {len(identities)} processes evaluate different things. They differ in\n{lines}\n"
                "Give all of them the same network, data and settings. Where a conversion does not repeat exactly, as "
                "may be on GPUs, convert in one process and SpikingModel.save, and rheobase.load in all."
            )


def _generator(seed: int, index: int) -> torch.Generator:
    """Random numbers of their own for each seed and batch. Torch looks at 32 bits of a seed only."""
    (mixed,) = np.random.SeedSequence(seed, spawn_key=(index,)).generate_state(1)
    return torch.Generator().manual_seed(int(mixed))


def _curve(snn: SpikingModel, sums: Sums, seeds: tuple[int, ...], compared: bool, until: Exit | None) -> Curve:
    n = sums.images
    by_seed = (sums.correct.double() / n).tolist() if sums.labelled else None
    return Curve(
        method=snn.plan.method,
        steps=sums.steps,
        images=n,
        seeds=seeds,
        accuracy=(sums.correct.double().mean(0) / n).tolist() if sums.labelled else None,
        agreement=(sums.agree.double().mean(0) / n).tolist() if compared and sums.classes else None,
        logit_error=sums.logit_error(),
        spikes={site: (total / (n * len(seeds))).tolist() for site, total in sums.spikes.items()},
        operations={layer: (total / (n * len(seeds))).tolist() for layer, total in sums.operations.items()},
        dense_operations=snn.dense_operations(),
        neurons={site: snn.graph.neurons(site) for site in snn.plan.neurons},
        reference_accuracy=sums.reference_correct / n if compared and sums.labelled else None,
        accuracy_by_seed=by_seed if len(seeds) > 1 else None,
        end_to_end_steps=snn.end_to_end_steps(sums.steps),
        exit_rule=None if until is None else repr(until),
        causal=snn.causal,
        alphabet=" / ".join(sorted({str(neuron.alphabet) for neuron in snn.neurons().values()})),
        levels=levels_after(snn.plan, sums.steps),
        planned_steps=snn.plan.steps,
        exits=None if until is None else (sums.exits.double() / (n * len(seeds))).tolist(),
    )


@contextmanager
def _evaluating(model: nn.Module | None) -> Iterator[None]:
    """Evaluation mode, and afterwards each module's own flag again."""
    flags = [] if model is None else [(m, m.training) for m in model.modules()]
    try:
        if model is not None:
            model.eval()
        yield
    finally:
        for module, training in flags:
            module.training = training


@contextmanager
def _bar(show: bool, description: str, batches: int | None, runs: int) -> Iterator[Any]:
    """A progress bar over batches, on standard error; gives a function that advances it by a fraction of one."""
    if not show:
        yield lambda fraction: None
        return
    name = Column(no_wrap=True, overflow="ellipsis", max_width=40)
    columns = (
        *(TextColumn("{task.description}", markup=False, table_column=name), BarColumn(), MofNCompleteColumn()),
        *(TextColumn("batches,"), TimeRemainingColumn(), TextColumn("left")),
    )
    console = Console(stderr=True)
    with Progress(*columns, transient=True, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(description or "evaluate", total=None if batches is None else batches * runs)
        done = 0.0

        def advance(fraction: float) -> None:
            nonlocal done
            done += fraction
            progress.update(task, completed=round(done, 3))

        yield advance
