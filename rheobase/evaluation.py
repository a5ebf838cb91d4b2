"""Evaluation: one pass over the data gives the curve at every step, in memory that does not grow with T."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column
from torch import Tensor, nn

from rheobase.batches import as_batches
from rheobase.curve import Curve
from rheobase.errors import DataError, SettingError
from rheobase.exits import Exit
from rheobase.simulation import stream
from rheobase.spiking import SpikingModel

__all__ = ["evaluate"]


@dataclass
class _Sums:
    """What is added up over the batches; each tensor has the shape (seeds, T)."""

    seeds: int
    steps: int
    images: int = 0
    labelled: bool = True
    classes: bool = True
    reference_correct: int = 0
    reference_square: float = 0.0
    correct: Tensor = field(init=False)
    agree: Tensor = field(init=False)
    error: Tensor = field(init=False)
    exits: Tensor = field(init=False)  # (T,), over all seeds
    spikes: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.correct = torch.zeros(self.seeds, self.steps, dtype=torch.int64)
        self.agree = torch.zeros(self.seeds, self.steps, dtype=torch.int64)
        self.error = torch.zeros(self.seeds, self.steps, dtype=torch.float64)
        self.exits = torch.zeros(self.steps, dtype=torch.int64)


@torch.no_grad()
def evaluate(
    snn: SpikingModel,
    loader: Any,
    steps: int,
    reference: nn.Module | None = None,
    *,
    seeds: Sequence[int] = (0,),
    chunk: int | None = None,
    until: Exit | None = None,
    progress: bool = False,
    description: str = "",
) -> Curve:
    """Measure a converted network after each step up to T.

    Args:
        snn: the converted network.
        loader: test data: whatever yields ``(x, y)``, dictionaries, or inputs alone.
        steps: T, at least 1.
        reference: the original network, for agreement and logit error; it is left as it is.
        seeds: a run for each, where the network is random; otherwise only the first counts. At least 0.
        chunk: steps that go through a layer at once; see `simulate`.
        until: the rule by which samples exit early: they keep their answer and leave the batch, so that the rest
            costs less. The curve then says after t steps what an inference of at most t steps gives.
        progress: whether to show a progress bar.
        description: what stands before the bar.

    Returns:
        The curve, with ``accuracy[t - 1]`` after t steps.

    Raises:
        SettingError: steps is below 1, there are no seeds, one is negative, or there is an exit rule for a
            layer-synchronous network.
        DataError: no data, outputs that are not classes although labels are given, a reference with
            other outputs, or values that are not finite.
    """
    problems = [f"steps is {steps}; it must be at least 1"] if steps < 1 else []
    problems += [] if len(seeds) else ["seeds is empty; it needs at least one"]
    problems += [f"the seed {seed} is negative" for seed in seeds if seed < 0]
    if problems:
        raise SettingError("evaluate: " + "; ".join(problems) + ".")
    used = tuple(map(int, seeds)) if snn.random else (int(seeds[0]),)
    parameter = next(snn.parameters(), torch.zeros(()))
    data = as_batches(loader, device=parameter.device, dtype=parameter.dtype)
    sums = _Sums(len(used), steps)
    with _evaluating(reference), _bar(progress, description, data.count, len(used)) as step_bar:
        for index, (x, y) in enumerate(data):
            if not bool(torch.isfinite(x).all()):
                raise DataError(f"Batch {index}: the input has NaN or infinite values. Check how the data are made.")
            answer = None if reference is None else reference(x)
            _add_reference(sums, answer, x, y, index)
            for row, seed in enumerate(used):
                exits = None
                for part in stream(snn, x, steps, chunk=chunk, generator=_generator(seed, index), until=until):
                    exits = part.exits
                    _add_chunk(sums, row, part.first_step - 1, part.answers, answer, y)
                    for site, counts in part.spikes.items():
                        at = slice(part.first_step - 1, part.first_step - 1 + len(counts))
                        total = sums.spikes.setdefault(site, torch.zeros(steps, dtype=torch.int64))
                        total[at] += counts.cpu()
                    step_bar(len(part.answers) / steps)
                if exits is not None:
                    sums.exits += exits.cpu().bincount(minlength=steps + 1)[1:]
    return _curve(snn, sums, used, reference is not None, until)


def _generator(seed: int, index: int) -> torch.Generator:
    """Random numbers of their own for each seed and batch. Torch looks at 32 bits of a seed only."""
    (mixed,) = np.random.SeedSequence(seed, spawn_key=(index,)).generate_state(1)
    return torch.Generator().manual_seed(int(mixed))


def _add_reference(sums: _Sums, answer: Any, x: Tensor, y: Tensor | None, index: int) -> None:
    sums.images += len(x)
    sums.labelled &= y is not None
    if answer is None:
        return
    if not isinstance(answer, Tensor) or not bool(torch.isfinite(answer).all()):
        found = "values that are not finite" if isinstance(answer, Tensor) else f"a {type(answer).__name__}, no tensor"
        raise DataError(f"Batch {index}: the original network gives {found}.")
    sums.reference_square += float(answer.double().square().sum())
    if y is not None and y.shape == answer.shape[:1] and answer.ndim == 2:
        sums.reference_correct += int((answer.argmax(1) == y).sum())


def _add_chunk(sums: _Sums, row: int, start: int, answers: Tensor, wanted: Tensor | None, y: Tensor | None) -> None:
    at = slice(start, start + len(answers))
    classes = answers.argmax(2) if answers.ndim == 3 and answers.shape[2] > 1 else None  # (K, N)
    sums.classes &= classes is not None
    if wanted is not None and wanted.shape != answers.shape[1:]:
        raise DataError(
            f"The original network answers in the shape {tuple(wanted.shape)} and the converted one in "
            f"{tuple(answers.shape[1:])}. Give the network that was converted, as the reference."
        )
    if y is not None:
        if classes is None or y.shape != classes.shape[1:] or y.is_floating_point():
            raise DataError(
                f"The labels have the shape {tuple(y.shape)} and type {y.dtype}, and the network's answers "
                f"the shape {tuple(answers.shape[1:])}; accuracy needs integer labels (N,) and answers (N, classes), "
                "at least 2 classes. Give data without labels for other tasks."
            )
        sums.correct[row, at] += (classes == y).sum(1).cpu()
    if wanted is not None:
        if classes is not None:
            sums.agree[row, at] += (classes == wanted.argmax(1)).sum(1).cpu()
        sums.error[row, at] += (answers - wanted).double().square().flatten(1).sum(1).cpu()


def _curve(snn: SpikingModel, sums: _Sums, seeds: tuple[int, ...], compared: bool, until: Exit | None) -> Curve:
    n = sums.images
    by_seed = (sums.correct.double() / n).tolist() if sums.labelled else None
    return Curve(
        method=snn.plan.method,
        steps=sums.steps,
        images=n,
        seeds=seeds,
        accuracy=(sums.correct.double().mean(0) / n).tolist() if sums.labelled else None,
        agreement=(sums.agree.double().mean(0) / n).tolist() if compared and sums.classes else None,
        logit_error=(sums.error.mean(0) / sums.reference_square).sqrt().tolist() if sums.reference_square else None,
        spikes={site: (total / (n * len(seeds))).tolist() for site, total in sums.spikes.items()},
        neurons={site: snn.graph.neurons(site) for site in snn.plan.neurons},
        reference_accuracy=sums.reference_correct / n if compared and sums.labelled else None,
        accuracy_by_seed=by_seed if len(seeds) > 1 else None,
        end_to_end_steps=snn.end_to_end_steps(sums.steps),
        exit_rule=None if until is None else repr(until),
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
