"""Evaluation: one pass over the data gives the curve at every step, in memory that does not grow with T."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from rheobase.batches import as_batches
from rheobase.curve import Curve
from rheobase.errors import DataError, SettingError
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
    reference_correct: int = 0
    reference_square: float = 0.0
    correct: Tensor = field(init=False)
    agree: Tensor = field(init=False)
    error: Tensor = field(init=False)
    spikes: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.correct = torch.zeros(self.seeds, self.steps, dtype=torch.int64)
        self.agree = torch.zeros(self.seeds, self.steps, dtype=torch.int64)
        self.error = torch.zeros(self.seeds, self.steps, dtype=torch.float64)


@torch.no_grad()
def evaluate(
    snn: SpikingModel,
    loader: Any,
    steps: int,
    reference: nn.Module | None = None,
    *,
    seeds: Sequence[int] = (0,),
    chunk: int | None = None,
    progress: bool = False,
    description: str = "",
) -> Curve:
    """Measure a converted network after each step up to T.

    Args:
        snn: the converted network.
        loader: test data: whatever yields ``(x, y)``, dictionaries, or inputs alone.
        steps: T, at least 1.
        reference: the original network, for agreement and logit error; it is left as it is.
        seeds: a run for each, where the network is random; otherwise only the first counts.
        chunk: steps that go through a layer at once; see `simulate`.
        progress: whether to show a progress bar.
        description: what stands before the bar.

    Returns:
        The curve, with ``accuracy[t - 1]`` after t steps.

    Raises:
        SettingError: steps is below 1, or there are no seeds.
        DataError: no data, outputs that are not classes although labels are given, or values that
            are not finite.
    """
    if steps < 1 or not seeds:
        raise SettingError(f"evaluate: steps is {steps} and seeds is {seeds}; both need at least one.")
    used = tuple(seeds) if snn.random else tuple(seeds)[:1]
    parameter = next(snn.graph.module.parameters())
    data = as_batches(loader, device=parameter.device, dtype=parameter.dtype)
    sums = _Sums(len(used), steps)
    with _evaluating(reference), _bar(progress, description, data.count, len(used)) as step_bar:
        for index, (x, y) in enumerate(data):
            answer = None if reference is None else reference(x)
            _add_reference(sums, answer, x, y, index)
            for row, seed in enumerate(used):
                generator = torch.Generator().manual_seed((seed << 32) + index)
                for part in stream(snn, x, steps, chunk=chunk, generator=generator):
                    _add_chunk(sums, row, part.first_step - 1, part.answers, answer, y)
                    for site, counts in part.spikes.items():
                        at = slice(part.first_step - 1, part.first_step - 1 + len(counts))
                        total = sums.spikes.setdefault(site, torch.zeros(steps, dtype=torch.int64))
                        total[at] += counts.cpu()
                    step_bar(len(counts) / steps)
    return _curve(snn, sums, used, reference is not None)


def _add_reference(sums: _Sums, answer: Tensor | None, x: Tensor, y: Tensor | None, index: int) -> None:
    sums.images += len(x)
    sums.labelled &= y is not None
    if answer is None:
        return
    if not bool(torch.isfinite(answer).all()):
        raise DataError(f"Batch {index}: the original network gives values that are not finite.")
    sums.reference_square += float(answer.double().square().sum())
    if y is not None and answer.ndim == 2:
        sums.reference_correct += int((answer.argmax(1) == y).sum())


def _add_chunk(sums: _Sums, row: int, start: int, answers: Tensor, wanted: Tensor | None, y: Tensor | None) -> None:
    at = slice(start, start + len(answers))
    classes = answers.argmax(2) if answers.ndim == 3 else None  # (K, N)
    if y is not None:
        if classes is None or y.shape != classes.shape[1:]:
            raise DataError(
                f"The labels have the shape {tuple(y.shape)} and the network's answers {tuple(answers.shape[1:])}; "
                "accuracy needs labels (N,) and answers (N, classes). Give data without labels for other tasks."
            )
        sums.correct[row, at] += (classes == y).sum(1).cpu()
    if wanted is not None:
        if classes is not None:
            sums.agree[row, at] += (classes == wanted.argmax(1)).sum(1).cpu()
        sums.error[row, at] += (answers - wanted).double().square().flatten(1).sum(1).cpu()


def _curve(snn: SpikingModel, sums: _Sums, seeds: tuple[int, ...], compared: bool) -> Curve:
    n = sums.images
    by_seed = (sums.correct / n).tolist() if sums.labelled else None
    return Curve(
        method=snn.plan.method,
        steps=sums.steps,
        images=n,
        seeds=seeds,
        accuracy=(sums.correct.double().mean(0) / n).tolist() if sums.labelled else None,
        agreement=(sums.agree.double().mean(0) / n).tolist() if compared else None,
        logit_error=(sums.error.mean(0) / sums.reference_square).sqrt().tolist() if compared else None,
        spikes={site: (total / (n * len(seeds))).tolist() for site, total in sums.spikes.items()},
        neurons={site: snn.graph.neurons(site) for site in snn.plan.neurons},
        reference_accuracy=sums.reference_correct / n if compared and sums.labelled else None,
        accuracy_by_seed=by_seed if len(seeds) > 1 else None,
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
    """A progress bar over batches; gives a function that advances it by a fraction of one."""
    if not show:
        yield lambda fraction: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True) as progress:
        task = progress.add_task(description or "evaluate", total=None if batches is None else batches * runs)
        done = 0.0

        def advance(fraction: float) -> None:
            nonlocal done
            done += fraction
            progress.update(task, completed=round(done, 3) if fraction else done)

        yield advance
