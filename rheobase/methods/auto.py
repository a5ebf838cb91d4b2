"""Auto: the method for the spikes that a chip allows and the steps or the accuracy that are wanted.

It converts with each candidate on most of the calibration samples, compares the answers with the ANN's on the
rest (no labels), and takes the best. Nothing in it knows a network.
"""

from __future__ import annotations

import dataclasses
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from rheobase.batches import Batches, as_batches
from rheobase.calibration.layerwise import first_samples
from rheobase.calibration.session import Progress, current, session
from rheobase.errors import ConversionWarning, DataError, SettingError, miscounts
from rheobase.graph import Graph, are_classes
from rheobase.intervals import wilson
from rheobase.methods._base import Method
from rheobase.methods.annealed_delta import AnnealedDelta
from rheobase.methods.differential import DifferentialCoding
from rheobase.methods.parallel import ParallelConversion
from rheobase.methods.parts.scaled import Scaled
from rheobase.methods.parts.tuned import Tuned
from rheobase.methods.rate import RateCoding
from rheobase.methods.signed_msat import SignedMSAT
from rheobase.methods.snnc import SNNC
from rheobase.methods.spike_converter import SpikeConverter
from rheobase.methods.temporal_bias import TemporalBias
from rheobase.neurons.alphabet import mislevelled
from rheobase.observers import Max, Observer, Statistics, observe
from rheobase.plan import Plan
from rheobase.qcfs import trained_thresholds
from rheobase.simulation import simulate
from rheobase.spiking import SpikingModel

__all__ = ["Auto", "Candidate", "Choice", "blended"]

_LOG = logging.getLogger(__name__)
_GRID = (1, 2, 4, 6, 8, 12, 16, 24, 32, 64)
_HELD_OUT = 256
_MANY = 8  # held-out samples, by which an order can be told
_WEIGHT_RATE = AnnealedDelta.weight_rate
_MOST_LEVELS = 255  # of a whole number that a real one stands for
_FAR = 10  # times the drop asked for: tuning left an eighth of the other answers at best (docs/methods.md)
_BEYOND, _CLOSE = 3, 1.5  # times the budget: where all spend more, no larger T is tried; what does is not tuned


@dataclass(frozen=True)
class Candidate:
    """One method, and how it did on the held-out samples.

    Attributes:
        method: what was tried.
        steps: T.
        agreement: the share of samples with the ANN's answer (classes), from 0 to 1.
        error: the relative error of the answers, |o(T) - o| / |o|.
        events: spikes a neuron and sample, of held-out samples without a blend.
    """

    method: Method
    steps: int
    agreement: float
    error: float
    events: float

    def better(self, other: Candidate) -> bool:
        """Whether it agrees more with the ANN, or as much with a smaller error."""
        return (self.agreement, -self.error) > (other.agreement, -other.error)


@dataclass(frozen=True)
class Choice:
    """What `Auto` tried and took; its text is the table.

    Attributes:
        taken: the candidate that was taken.
        tried: all of them, in order.
        samples: how many were held out.
        why: it was taken.
        met: whether it keeps to all that was asked for.
        blend: how much of another sample was in each of them.
        classes: whether the answers are classes, so that what agrees is a count of samples.
    """

    taken: Candidate
    tried: tuple[Candidate, ...]
    samples: int
    why: str
    met: bool = True
    blend: float = 0.0
    classes: bool = True

    def __str__(self) -> str:
        rows = [("T", "agreement", "error", "events a neuron", "method")]
        rows += [
            (str(c.steps), f"{100 * c.agreement:.1f} %", f"{c.error:.3f}", f"{c.events:.2f}", repr(c.method))
            for c in self.tried
        ]
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        lines = ["  ".join([*(cell.rjust(w) for cell, w in zip(row, widths, strict=False)), row[4]]) for row in rows]
        blended = f", {100 * self.blend:g} % of another in each" if self.blend else ""
        last = f"On {self.samples} held-out samples{blended}: {self.why} Taken: {self.taken.method!r}."
        if not self.classes:
            return "\n".join([*lines, last])
        low, high = wilson(self.taken.agreement, self.samples)
        sure = f"{100 * low:.1f} to {100 * high:.1f} % (95 % interval"
        sure += f" of one; the best of {len(self.tried)} may be less)" if len(self.tried) > 1 else ")"
        more = "on those that the network was not trained on, of whose answers it is less sure, "
        more += "about that" if self.blend else "less"
        return "\n".join([*lines, last, f"On others like these its agreement is {sure}; {more}."])


@dataclass(frozen=True, repr=False)
class Auto(Method):
    """Chooses thresholds, neuron, coding and calibration for a constraint, and says why in ``plan.reason``.

    Warns with a `ConversionWarning` where the constraint is not met. It may take many minutes: each candidate is logged
    at the level INFO, and `rheobase.calibration.session` tells how far its tuning is.

    Args:
        alphabet: what one spike may carry. A real number may be the threshold of signed MSAT, or a whole number of
            thresholds, up to 255.
        levels: magnitudes of an integer or power-of-two spike; 4 if not given.
        step_weighted: whether the receiver may weigh spikes by their step (delta coding needs it).
        signed: whether integers and powers of two may be negative.
        causal: whether each layer must work in the same step as the one before it. Where not, binary spikes of layers
            that wait for each other are tried: fewer steps, but each layer takes them anew. Where spikes may carry
            more, they stand beside those of layers that do not wait.
        steps: T. If not given, the smallest of 1, 2, 4, 6, 8, 12, 16, 24, 32 and 64 that meets ``accuracy_drop``. With
            an ``energy_budget``, fewer of them where T spend more.
        accuracy_drop: the share of held-out samples whose answer may differ from the ANN's, above 0 and below 1; 0.01
            if not given. What keeps as many is not tuned, unless there
            are steps and no ``accuracy_drop``: then the best is asked for. Where more steps can be had, what differs in
            more than 10 times as many is not tuned either. Answers (N, C) with C > 1 are classes, and
            agree where the largest is the same; any other number agrees within a tenth of itself.
        energy_budget: the most events a neuron and sample that may be spent, above 0, as counted on the held-out
            samples without a blend; an event counts once, whatever it carries. What spends half as many again is not
            tuned, and where all spend thrice as many, no larger T is tried. A budget alone asks for the fewest steps
            that keep 99 % of the answers within it, or else for the best within it.
        iterations: of gradient tuning, which changes the weights too; 0 tries none.
        flip: whether tuning mirrors half of the samples left to right; see `rheobase.calibration.Tuning`.
        blend: how much of another sample is blended into each held-out one, at least 0 and below 1. The network was
            trained on these and is sure of them; of blended ones about as many answers change as of samples that it was
            not trained on (measured in docs/methods.md). Where those for calibration are such samples, give 0. Integer
            tensors, such as words, are not blended.
        images: calibration samples to choose by, the first ones; a quarter of them, at most 256, are held out. The
            method taken then converts with all samples.
        doubled: whether in the first step of delta coding, where nothing can be taken back, a ternary event may be one
            or two thresholds instead of a sign (and an integer twice as large); see `rheobase.neurons.GradedIF`.

    Raises:
        SettingError: a value is outside its range.
    """

    measures: ClassVar[str] = "all that it tries"

    alphabet: Literal["binary", "ternary", "integer", "power_of_two", "real"] = "ternary"
    levels: int | None = None
    step_weighted: bool = True
    signed: bool = True
    causal: bool = True
    steps: int | None = None
    accuracy_drop: float | None = None
    energy_budget: float | None = None
    iterations: int = 150
    flip: bool | None = None
    blend: float = 0.15
    images: int = 1024
    doubled: bool = True

    def __post_init__(self) -> None:
        problems = []
        if self.alphabet not in ("binary", "ternary", "integer", "power_of_two", "real"):
            problems.append(f"alphabet is {self.alphabet!r}; it must be binary, ternary, integer, power_of_two or real")
        elif self.levels is not None and self.alphabet not in ("integer", "power_of_two"):
            problems.append(
                f"levels is {self.levels}; {self.alphabet} spikes have no levels to choose, so leave it out"
            )
        problems += [] if self.steps is None else miscounts(self, "steps")
        problems += miscounts(self, "iterations", least=0) + miscounts(self, "images", least=8)
        if not self.signed and self.alphabet in ("binary", "ternary", "real"):
            problems.append(f"signed is False; it is for integers and powers of two, not for {self.alphabet} spikes")
        if self.levels is not None:
            problems += mislevelled("levels", self.levels, self.alphabet == "power_of_two")
        if self.accuracy_drop is not None and not 0 < self.accuracy_drop < 1:
            problems.append(f"accuracy_drop is {self.accuracy_drop}; it must be above 0 and below 1, such as 0.01")
        if not 0 <= self.blend < 1:
            problems.append(f"blend is {self.blend}; it must be at least 0 and below 1")
        if self.energy_budget is not None and not self.energy_budget > 0:
            problems.append(f"energy_budget is {self.energy_budget}; it must be above 0")
        if problems:
            raise SettingError("Auto: " + "; ".join(problems) + ".")

    def candidates(self, steps: int) -> list[Scaled]:
        """What is tried for T steps, without gradient tuning; it needs no biases where that follows."""
        if self.causal:
            return self._in_step(steps)
        together: list[Scaled] = [ParallelConversion(steps=steps)]
        together += [SpikeConverter(steps=steps)] if self.step_weighted else []
        return together if self.alphabet == "binary" else [*self._in_step(steps), *together]

    def _in_step(self, steps: int) -> list[Scaled]:
        """Those whose layers do not wait for each other."""
        levels = self.levels or 4
        biases: dict[str, Any] = {} if self.iterations else {"calibration": "temporal", "passes": 5}
        weighted = self.step_weighted and self.signed
        if self.alphabet == "real":
            return [
                SignedMSAT(steps=steps, fraction=2.0),
                RateCoding(steps=steps, levels=_MOST_LEVELS, signed=steps > 1),
            ]
        if self.alphabet == "binary":
            alone = [] if self.iterations else [SNNC.advanced(steps=steps)]  # often better where nothing is tuned
            return [TemporalBias(steps=steps), *alone]
        if self.alphabet == "ternary":
            delta = [AnnealedDelta(steps=steps, iterations=0, doubled=self.doubled, **biases)] if weighted else []
            return [*delta, TemporalBias(steps=steps, signed=True)]
        if self.alphabet == "integer":
            own: dict[str, Any] = {"levels": levels, "doubled": self.doubled, **biases}
            delta = [AnnealedDelta(steps=steps, iterations=0, **own)] if weighted else []
            counts: dict[str, Any] = {"steps": steps, "levels": levels, "signed": self.signed and steps > 1}
            return [*delta, RateCoding(**counts), TemporalBias(**counts)]
        changes = [DifferentialCoding(steps=steps, levels=levels, **biases)] if weighted else []
        return [*changes, RateCoding(steps=steps, levels=levels, powers=True, signed=self.signed, fire=0.75)]

    def choose(self, graph: Graph, batches: Batches) -> Choice:
        """Try the candidates on the calibration samples.

        Raises:
            DataError: there are fewer than 4 samples.
        """
        x = first_samples(batches, self.images)
        if len(x) < 4:
            raise DataError(f"Auto needs at least 4 calibration samples to choose by, found {len(x)}; give more.")
        held = min(max(len(x) // 4, 1), _HELD_OUT)
        share = self.blend if held > 1 and x.is_floating_point() else 0.0
        data, plain = as_batches(list(torch.split(x[:-held], 128))), x[-held:]
        classes = _classes(graph, x)
        if classes is not None and _sorted(classes, held):
            warnings.warn(
                f"Auto: the last {held} of the {len(x)} calibration samples, by which it chooses, are mostly of "
                "classes that the others lack. Give samples in random order, such as a DataLoader with shuffle=True.",
                ConversionWarning,
                stacklevel=4,
            )
        measured = partial(measure, graph, data, plain, blended(plain, share))
        clip = bool(trained_thresholds(graph.module, graph.sites))
        best_asked = self.steps is not None and self.accuracy_drop is None
        tried: list[Candidate] = []
        for steps in self._grid():
            methods = [m for m in self.candidates(steps) if m.clips() or not clip]
            found = [measured(m, steps) for m in methods]
            tried += found
            within = self._allowed(found)
            if self.iterations and (best_asked or not any(map(self._enough, within))):
                near = [c for c in self._allowed(found, _CLOSE) if self._within_reach(c)]
                tunable = [c.method for c in near if isinstance(c.method, Tuned)]
                tried += [measured(self._tuned(method), steps) for method in tunable]
            enough = any(map(self._enough, self._allowed(tried)))
            if self.steps is None and (enough or not self._allowed(found, _BEYOND)):
                break
            if self.steps is not None and (len(within) == len(found) or (enough and not best_asked)):
                break  # fewer steps spend less, and keep less
        allowed = self._allowed(tried)
        taken = _best(allowed or [min(tried, key=lambda c: c.events)])
        asked = self.accuracy_drop is not None or (self.steps is None and self.energy_budget is None)
        met = bool(allowed) and (self._enough(taken) or not asked)
        why = self._why(taken, tried, met)
        if asked and self._drop() * held < 1 - 1e-9:
            why += f" One of {held} samples is more than {100 * self._drop():g} %: more of them could tell."
        return Choice(taken, tuple(tried), held, why, met, share, classes is not None)

    def _allowed(self, candidates: list[Candidate], times: float = 1) -> list[Candidate]:
        """Those within the budget, or so many times it."""
        return [c for c in candidates if self.energy_budget is None or c.events <= times * self.energy_budget]

    def _grid(self) -> Iterator[int]:
        """T to try, one after the other."""
        if self.steps is None:
            return iter(_GRID)
        fewer = [steps for steps in reversed(_GRID) if steps < self.steps and self.energy_budget is not None]
        return iter((self.steps, *fewer))

    def _drop(self) -> float:
        """The share of answers that may differ."""
        return self.accuracy_drop or 0.01

    def _enough(self, candidate: Candidate, times: float = 1) -> bool:
        """Whether nothing better need be sought: it keeps the answers asked for, or all but so many times the rest."""
        return 1 - candidate.agreement <= times * self._drop() + 1e-9  # for rounding

    def _within_reach(self, candidate: Candidate) -> bool:
        """Whether tuning may make it good enough, or nothing better will come: more steps, or the best of a budget."""
        last = self.steps is not None or self.energy_budget is not None or candidate.steps == _GRID[-1]
        return last or self._enough(candidate, _FAR)

    def _tuned(self, method: Tuned) -> Tuned:
        return dataclasses.replace(method, iterations=self.iterations, weight_rate=_WEIGHT_RATE, flip=self.flip)

    def _why(self, taken: Candidate, tried: list[Candidate], met: bool) -> str:
        within = "" if self.energy_budget is None else f" within {self.energy_budget:g} events a neuron"
        share, most = 100 - 100 * self._drop(), max(c.steps for c in tried)
        if not self._allowed(tried):
            return f"no candidate stays{within}; the most frugal one comes nearest."
        if not met:
            where = f"at T = {self.steps}" if self.steps is not None and not within else f"up to T = {most}"
            return f"nothing {where} keeps {share:g} % of the answers{within}."
        if self.steps is None and self._enough(taken):
            return (
                f"T = {taken.steps} is the first that keeps {share:g} % of the answers{within}, and this agrees most "
                "with the ANN."
            )
        return f"up to T = {most}, this agrees most with the ANN{within}." if within else "it agrees most with the ANN."

    def resolve(self, graph: Graph, batches: Batches) -> tuple[Method, str]:
        choice = self.choose(graph, batches)
        if not choice.met:
            more = "Allow a larger energy_budget, a larger accuracy_drop, more steps or another alphabet."
            warnings.warn(f"{self!r}: {choice.why} {more}", ConversionWarning, stacklevel=3)
        return choice.taken.method, str(choice)

    def observer(self) -> Observer:
        return Max()

    def plan(self, graph: Graph, statistics: Statistics) -> Plan:
        raise SettingError("Auto makes no plan of its own; use rheobase.convert, or the method that Auto.choose takes.")


def blended(x: Tensor, share: float) -> Tensor:
    """Samples with a share of the next one in each, as unsure as unseen ones; whole numbers stay. Shape (N, ...)."""
    return torch.lerp(x, x.roll(1, 0), share) if share and x.is_floating_point() else x


@torch.no_grad()
def _classes(graph: Graph, x: Tensor) -> Tensor | None:
    """The classes that the ANN finds, shape (N,), or None where its answers are no classes."""
    found = []
    for part in torch.split(x, 128):
        answers = graph.answers(part)
        if not are_classes(answers):
            return None
        found.append(answers.argmax(1))
    return torch.cat(found)


def _sorted(classes: Tensor, held: int) -> bool:
    """Whether many more of the last samples are of classes that the others lack than in random order."""

    def unseen(order: Tensor) -> float:
        return 1 - float(torch.isin(order[-held:], order[:-held]).double().mean())

    shuffled = classes[torch.randperm(len(classes), generator=torch.Generator().manual_seed(0))]
    return held >= _MANY and unseen(classes) > unseen(shuffled) + 0.5


def _best(candidates: list[Candidate]) -> Candidate:
    best = candidates[0]
    for candidate in candidates[1:]:
        best = candidate if candidate.better(best) else best
    return best


def _named(name: str) -> Callable[[Progress], None] | None:
    """What tells the progress of a candidate to whom the conversion tells its own."""
    tell = current().progress
    return None if tell is None else lambda at: tell(dataclasses.replace(at, what=f"{name}: {at.what}"))


def measure(graph: Graph, data: Batches, plain: Tensor, test: Tensor, method: Method, steps: int) -> Candidate:
    """Convert with a method on some samples, count its events on others, and compare it with the ANN on those blended.

    Blended samples have weaker features, and so fewer events.
    """
    with session(_named(f"trying {type(method).__name__} with T = {steps}")), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConversionWarning)  # the conversion with all samples warns of what is taken
        plan = method.plan(graph, observe(graph, data, method.observer()))
        snn = method.refine(SpikingModel(graph, plan), graph, data)
    agree = wrong = size = events = 0.0
    with torch.no_grad():
        for x, original in zip(torch.split(test, 128), torch.split(plain, 128), strict=True):
            wanted, run = graph.answers(x), simulate(snn, x, steps)
            counted = run if plain is test else simulate(snn, original, steps)
            one = are_classes(wanted)
            same = run.output.argmax(1) == wanted.argmax(1) if one else torch.isclose(run.output, wanted, rtol=0.1)
            agree += float(same.double().mean()) * len(x)
            wrong += float((run.output - wanted).double().square().sum())
            size += float(wanted.double().square().sum())
            events += sum(float(n.sum()) for n in counted.spikes.values())
    neurons = sum(graph.neurons(site) for site in graph.sites) * len(test)
    found = Candidate(method, steps, agree / len(test), (wrong / max(size, 1e-30)) ** 0.5, events / neurons)
    _LOG.info("T = %d: %.1f %% agreement, %r", steps, 100 * found.agreement, method)
    return found
