"""Auto: the method for the spikes that a chip allows and the steps or the accuracy that are wanted.

It converts with each candidate on most of the calibration samples, compares the answers with the ANN's on the
rest (no labels), and takes the best. Nothing in it knows a network.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from rheobase.batches import Batches, as_batches
from rheobase.calibration.layerwise import first_samples
from rheobase.calibration.session import Progress, current, session
from rheobase.errors import ConversionWarning, DataError, SettingError
from rheobase.graph import Graph
from rheobase.intervals import wilson
from rheobase.methods._base import Method
from rheobase.methods.annealed_delta import AnnealedDelta
from rheobase.methods.differential import DifferentialCoding
from rheobase.methods.parallel import ParallelConversion
from rheobase.methods.rate import RateCoding
from rheobase.methods.scaled import Scaled, trained_sites
from rheobase.methods.signed_msat import SignedMSAT
from rheobase.methods.spike_converter import SpikeConverter
from rheobase.methods.temporal_bias import TemporalBias
from rheobase.methods.tuned import Tuned
from rheobase.neurons.alphabet import most_levels
from rheobase.observers import Max, Observer, Statistics, observe
from rheobase.plan import Plan
from rheobase.simulation import simulate
from rheobase.spiking import SpikingModel

__all__ = ["Auto", "Candidate", "Choice", "blended"]

_GRID = (1, 2, 4, 6, 8, 12, 16, 24, 32, 64)
_HELD_OUT = 256
_MIRRORED = 0.8
_WEIGHT_RATE = AnnealedDelta.weight_rate
_MOST_LEVELS = 255  # of a whole number that a real one stands for
_BEYOND = 3  # times the budget: what spends more untuned is not tuned, and where all do, no larger T is tried


@dataclass(frozen=True)
class Candidate:
    """One method, and how it did on the held-out samples.

    Attributes:
        method: what was tried.
        steps: T.
        agreement: the share of samples with the ANN's answer (classes), from 0 to 1.
        error: the relative error of the answers, |o(T) - o| / |o|.
        events: spikes a neuron and sample.
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
    """

    taken: Candidate
    tried: tuple[Candidate, ...]
    samples: int
    why: str
    met: bool = True
    blend: float = 0.0

    def __str__(self) -> str:
        rows = [("T", "agreement", "error", "events", "method")]
        rows += [
            (str(c.steps), f"{100 * c.agreement:.1f} %", f"{c.error:.3f}", f"{c.events:.2f}", repr(c.method))
            for c in self.tried
        ]
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        lines = ["  ".join([*(cell.rjust(w) for cell, w in zip(row, widths, strict=False)), row[4]]) for row in rows]
        low, high = wilson(self.taken.agreement, self.samples)
        sure = f"{100 * low:.1f} to {100 * high:.1f} % (95 % interval)"
        blended = f", {100 * self.blend:g} % of another in each" if self.blend else ""
        last = f"On {self.samples} held-out samples{blended}: {self.why} Taken: {self.taken.method!r}."
        more = "on those that the network was not trained on, of whose answers it is less sure, "
        more += "about that" if self.blend else "less"
        return "\n".join([*lines, last, f"On others like these its agreement is {sure}; {more}."])


@dataclass(frozen=True, repr=False)
class Auto(Method):
    """Chooses thresholds, neuron, coding and calibration for a constraint, and says why in ``plan.reason``.

    Warns with a `ConversionWarning` where the constraint is not met.

    Args:
        alphabet: what one spike may carry; integers and powers of two are signed where T is more than 1. A real
            number may be the threshold of signed MSAT, or a whole number of thresholds, up to 255.
        levels: magnitudes of an integer or power-of-two spike; 4 if not given.
        step_weighted: whether the receiver may weigh spikes by their step (delta coding needs it).
        causal: whether each layer must work in the same step as the one before it. Where not, binary spikes of layers
            that wait for each other are tried: fewer steps, but each layer takes them anew. Where spikes may carry
            more, they stand beside those of layers that do not wait.
        steps: T. If not given, the smallest of 1, 2, 4, ... 64 that meets ``accuracy_drop``. With an ``energy_budget``
            that nothing keeps to for T steps, fewer of them are taken.
        accuracy_drop: the share of held-out samples whose answer may differ from the ANN's, above 0 and below 1; 0.01
            if not given. What is as good as was asked for is not tuned any
            further; with steps or a budget alone, the best is asked for. Answers (N, C) with C > 1 are classes, and
            agree where the largest is the same; any other number agrees within a tenth of itself.
        energy_budget: the most events a neuron and sample that may be spent, above 0; an event counts once, whatever it
            carries. A candidate that spends more than thrice as many is not tuned, and where all do, no larger T is
            tried.
        iterations: of gradient tuning, which changes the weights too; 0 tries none.
        flip: whether tuning mirrors half of the samples left to right; of use for natural images. If not given, it
            does where the network gives at least 80 % of the mirrored calibration images the answer of the images.
        blend: how much of another sample is blended into each held-out one, at least 0 and below 1. The network was
            trained on these and is sure of them; of blended ones about as many answers change as of samples that it was
            not trained on (measured in docs/methods.md). Where those for calibration are such samples, give 0. Samples
            of whole numbers, such as words, are not blended.
        images: calibration samples to choose by, the first ones; a quarter of them, at most 256, are held out. The
            method taken then converts with all samples.

    Raises:
        SettingError: a value is outside its range.
    """

    alphabet: Literal["binary", "ternary", "integer", "power_of_two", "real"] = "ternary"
    levels: int | None = None
    step_weighted: bool = True
    causal: bool = True
    steps: int | None = None
    accuracy_drop: float | None = None
    energy_budget: float | None = None
    iterations: int = 150
    flip: bool | None = None
    blend: float = 0.15
    images: int = 1024

    def __post_init__(self) -> None:
        problems = []
        if self.alphabet not in ("binary", "ternary", "integer", "power_of_two", "real"):
            problems.append(f"alphabet is {self.alphabet!r}; it must be binary, ternary, integer, power_of_two or real")
        elif self.levels is not None and self.alphabet not in ("integer", "power_of_two"):
            problems.append(
                f"levels is {self.levels}; {self.alphabet} spikes have no levels to choose, so leave it out"
            )
        problems += [f"{n} is {v}; it must be at least {k}" for n, v, k in
                     (("steps", self.steps, 1), ("iterations", self.iterations, 0),
                      ("images", self.images, 8)) if v is not None and not v >= k]  # fmt: skip
        most = most_levels(self.alphabet == "power_of_two")
        if self.levels is not None and not 1 <= self.levels <= most:
            problems.append(f"levels is {self.levels}; it must be from 1 to {most}")
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
        if self.alphabet == "real":
            counts = RateCoding(steps=steps, levels=_MOST_LEVELS, signed=steps > 1)
            return [SignedMSAT(steps=steps, fraction=2.0), counts]
        if self.alphabet == "binary":
            return [TemporalBias(steps=steps)]
        if self.alphabet == "ternary":
            signed = TemporalBias(steps=steps, signed=True)
            return [AnnealedDelta(steps=steps, iterations=0, **biases), signed] if self.step_weighted else [signed]
        if self.alphabet == "integer":
            integers = RateCoding(steps=steps, levels=levels, signed=steps > 1)
            return [integers, TemporalBias(steps=steps, levels=levels, signed=steps > 1)]
        rate = RateCoding(steps=steps, levels=levels, powers=True, signed=True, fire=0.75)
        weighted = DifferentialCoding(steps=steps, levels=levels, **biases)
        return [weighted, rate] if self.step_weighted else [rate]

    def choose(self, graph: Graph, batches: Batches) -> Choice:
        """Try the candidates on the calibration samples.

        Raises:
            DataError: there are fewer than 4 samples.
        """
        x = first_samples(batches, self.images)
        if len(x) < 4:
            raise DataError(f"Auto needs at least 4 calibration samples to choose by, found {len(x)}; give more.")
        held = min(max(len(x) // 4, 1), _HELD_OUT)
        data, test = as_batches(torch.split(x[:-held], 128)), blended(x[-held:], self.blend)
        flip = _mirrors(graph, x) if self.flip is None else self.flip
        clip = bool(trained_sites(graph))
        tried: list[Candidate] = []
        for steps in self._grid():
            methods = [m for m in self.candidates(steps) if m.clips() or not clip]
            found = [measure(graph, data, test, m, steps) for m in methods]
            within, near = self._allowed(found), self._allowed(found, _BEYOND)
            if self.iterations and not (self._asked and within and self._enough(_best(within))):
                tunable = [c.method for c in near if isinstance(c.method, Tuned)]
                found += [measure(graph, data, test, self._tuned(method, flip), steps) for method in tunable]
            tried += found
            allowed = self._allowed(tried)
            beyond = self.steps is None and not near  # more steps spend more
            if beyond or (allowed and (self.steps is not None or self._enough(_best(allowed)))):
                break
        allowed = self._allowed(tried)
        taken = _best(allowed or [min(tried, key=lambda c: c.events)])
        met = bool(allowed) and (self._enough(taken) or not self._asked)
        return Choice(taken, tuple(tried), held, self._why(taken, allowed, tried[-1].steps, met), met, self.blend)

    @property
    def _asked(self) -> bool:
        """Whether so many answers are to be kept, and not the most that steps or a budget allow."""
        return self.accuracy_drop is not None or (self.steps is None and self.energy_budget is None)

    def _allowed(self, candidates: list[Candidate], times: float = 1) -> list[Candidate]:
        """Those within the budget, or so many times it."""
        return [c for c in candidates if self.energy_budget is None or c.events <= times * self.energy_budget]

    def _grid(self) -> Iterator[int]:
        """T to try, one after the other."""
        if self.steps is None:
            return iter(_GRID)
        fewer = [steps for steps in reversed(_GRID) if steps < self.steps and self.energy_budget is not None]
        return iter((self.steps, *fewer))

    def _enough(self, candidate: Candidate) -> bool:
        """Whether nothing better need be sought."""
        return 1 - candidate.agreement <= (self.accuracy_drop or 0.01) + 1e-9  # for rounding

    def _tuned(self, method: Tuned, flip: bool) -> Tuned:
        return dataclasses.replace(method, iterations=self.iterations, weight_rate=_WEIGHT_RATE, flip=flip)

    def _why(self, taken: Candidate, allowed: list[Candidate], last: int, met: bool) -> str:
        if not allowed:
            return f"no candidate stays within {self.energy_budget} events a neuron; the most frugal one comes nearest."
        if not met:
            tried = f"no T up to {last}" if self.steps is None else f"nothing at T = {last}"
            return f"{tried} keeps {100 - 100 * (self.accuracy_drop or 0.01):g} % of the answers."
        if self.energy_budget is not None and not (self._asked or self._enough(taken)):
            return f"within {self.energy_budget} events a neuron this agrees most with the ANN."
        if self.steps is None:
            return f"T = {taken.steps} is the first that keeps the answers wanted, and this agrees most with the ANN."
        return "it agrees most with the ANN."

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
def _mirrors(graph: Graph, x: Tensor) -> bool:
    """Whether the network answers mirrored images as it answers the images."""
    if x.ndim != 4:
        return False
    same = 0
    for part in torch.split(x, 128):
        answers, mirrored = (graph.module(image) for image in (part, part.flip(3)))
        if answers.ndim != 2 or answers.shape[1] < 2:
            return False
        same += int((answers.argmax(1) == mirrored.argmax(1)).sum())
    return same >= _MIRRORED * len(x)


def _best(candidates: list[Candidate]) -> Candidate:
    best = candidates[0]
    for candidate in candidates[1:]:
        best = candidate if candidate.better(best) else best
    return best


def _named(name: str) -> Callable[[Progress], None] | None:
    """What tells the progress of a candidate to whom the conversion tells its own."""
    tell = current().progress
    return None if tell is None else lambda at: tell(dataclasses.replace(at, what=f"{name}: {at.what}"))


def measure(graph: Graph, data: Batches, test: Tensor, method: Method, steps: int) -> Candidate:
    """Convert with a method on some samples, and compare it with the ANN on others."""
    with session(_named(f"trying {type(method).__name__} with T = {steps}")):
        plan = method.plan(graph, observe(graph, data, method.observer()))
        snn = method.refine(SpikingModel(graph, plan), graph, data)
    agree = wrong = size = events = 0.0
    with torch.no_grad():
        for x in torch.split(test, 128):
            wanted, run = graph.module(x), simulate(snn, x, steps)
            classes = wanted.ndim == 2 and wanted.shape[1] > 1
            same = run.output.argmax(1) == wanted.argmax(1) if classes else torch.isclose(run.output, wanted, rtol=0.1)
            agree += float(same.double().mean()) * len(x)
            wrong += float((run.output - wanted).double().square().sum())
            size += float(wanted.double().square().sum())
            events += sum(float(n.sum()) for n in run.spikes.values())
    neurons = sum(graph.neurons(site) for site in graph.sites) * len(test)
    return Candidate(method, steps, agree / len(test), (wrong / max(size, 1e-30)) ** 0.5, events / neurons)
