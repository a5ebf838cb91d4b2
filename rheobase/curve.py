"""The measured curve of a converted network: what it gives after each step."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rheobase.errors import ConversionError, DataError, SettingError
from rheobase.files import write_atomically
from rheobase.intervals import wilson

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Curve", "draw_curves", "plot"]


@dataclass(frozen=True)
class Curve:
    """What a converted network gives after t = 1, ..., T steps; index t - 1 is step t.

    Accuracies are fractions from 0 to 1, means over the seeds. They are None where the data have
    no labels, no reference network was given, or the outputs are not classes. The logit error is
    None where the reference network gives nothing but zeros.

    With an exit rule, index t - 1 is an inference of at most t steps: who has decided by then keeps
    that answer, and sends nothing from then on.

    Attributes:
        method: the method, as its line in a results table.
        steps: T.
        images: how many samples were evaluated.
        seeds: the seeds of the runs; one where the network is not random.
        accuracy: share of samples answered correctly.
        agreement: share of samples answered as the reference network answers them.
        logit_error: root of (mean squared difference of the outputs from the reference's, divided
            by the reference's mean square).
        spikes: spikes of each site in step t, per sample.
        neurons: neurons of each site.
        operations: synaptic operations of each weighted layer that receives spikes in step t, per sample: the
            connections that leave its non-zero inputs. The layers before the first neurons are not among them.
        dense_operations: those of one pass through each of these layers with no input zero.
        reference_accuracy: share of samples that the reference network answers correctly.
        accuracy_by_seed: accuracy of each seed's run.
        end_to_end_steps: from the input to the answer after T steps; more than T where layers wait for each other,
            and then only the answer after T steps is that of a network (see `SpikingModel.end_to_end_steps`).
        exit_rule: the rule of early exit, as the line that makes it; None without one.
        exits: share of samples that decide at step t by that rule. What is missing to 1 never decides.
        causal: whether all layers work in the same step; if not, only the answer after T steps is that of a network.
            If not given, whether the end-to-end steps are T.
        alphabet: what a spike may carry, as `Alphabet` says it; all kinds, with slashes, where layers differ.
        levels: how many values above 0 the sum of a neuron's spikes can have after T steps, at most, and so the levels
            of the quantised twin; at most 255, and None where spikes are real numbers (`rheobase.twin`).
        twin_accuracy: share of samples that this twin answers correctly; None where nobody measured it.
        twin_agreement: share of samples that it answers as the reference network does.
        planned_steps: the T that the network was converted for; None where it serves any number, or in an older curve.
        calibration_seconds: how long the conversion took; None where nobody measured it, or where it went on from
            what an earlier run had done. Curves that differ in it alone are equal.
    """

    method: str
    steps: int
    images: int
    seeds: tuple[int, ...]
    accuracy: Sequence[float] | None
    agreement: Sequence[float] | None
    logit_error: Sequence[float] | None
    spikes: Mapping[str, Sequence[float]]
    neurons: Mapping[str, int]
    operations: Mapping[str, Sequence[float]] = field(default_factory=dict)
    dense_operations: Mapping[str, int] = field(default_factory=dict)
    reference_accuracy: float | None = None
    accuracy_by_seed: Sequence[Sequence[float]] | None = None
    end_to_end_steps: int | None = None
    exit_rule: str | None = None
    exits: Sequence[float] | None = None
    causal: bool | None = None
    alphabet: str = ""
    levels: int | None = None
    twin_accuracy: float | None = None
    twin_agreement: float | None = None
    planned_steps: int | None = None
    calibration_seconds: float | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.causal is None:  # a curve of before it was stored
            object.__setattr__(self, "causal", self.end_to_end_steps in (None, self.steps))

    @property
    def rate(self) -> dict[str, list[float]]:
        """Spikes per neuron of each site in step t."""
        return {site: [n / self.neurons[site] for n in spikes] for site, spikes in self.spikes.items()}

    @property
    def mean_rate(self) -> list[float]:
        """Spikes per neuron and step over all sites, from the first step to step t (or the exit before it)."""
        total = sum(self.neurons.values())
        return [spikes / (total * done) for done, spikes in zip(self.mean_steps, self.total_spikes, strict=True)]

    @property
    def mean_steps(self) -> list[float]:
        """Steps per sample of an inference of at most t steps: t, or fewer with an exit rule."""
        going, total, means = 1.0, 0.0, []
        for share in self.exits or [0.0] * self.steps:
            total += going
            means.append(total)
            going -= share
        return means

    @property
    def total_spikes(self) -> list[float]:
        """Spikes of the whole network per sample, from the first step to step t."""
        return _running(self.spikes)

    @property
    def total_operations(self) -> list[float]:
        """Synaptic operations of the whole network per sample, from the first step to step t."""
        return _running(self.operations) or [0.0] * self.steps  # where no layer gets spikes

    def cost(self, step: int) -> str:
        """Synaptic operations up to a step, in words, beside those of a dense pass through the same layers.

        Raises:
            SettingError: the curve has no such step.
        """
        if not 1 <= step <= self.steps:
            raise SettingError(f"Curve.cost({step}): the curve has {self.steps} steps.")
        total, dense = self.total_operations[step - 1], sum(self.dense_operations.values())
        return f"{total:,.0f} synaptic operations/sample, {total / max(dense, 1):.2f} of one dense pass"

    def interval(self, step: int, of: Literal["accuracy", "agreement"] = "accuracy") -> tuple[float, float]:
        """The 95 % Wilson interval of the accuracy or agreement after a step, for the number of samples.

        Raises:
            SettingError: the curve has no such step, or no accuracy or agreement.
        """
        values = self.accuracy if of == "accuracy" else self.agreement
        if values is None or not 1 <= step <= self.steps:
            missing = "the data had no labels" if of == "accuracy" else "there was no reference network"
            reason = f"no {of}: {missing}" if values is None else f"{self.steps} steps"
            raise SettingError(f"Curve.interval({step}): the curve has {reason}.")
        return wilson(values[step - 1], self.images)

    def latency_steps(self, tolerance: float = 0.01) -> int | None:
        """The step from which on the accuracy is at most `tolerance` below the reference network's.

        Returns:
            The first of those steps; None if the last step is not one.

        Raises:
            SettingError: the curve has no accuracy, or none of a reference network.
        """
        if self.accuracy is None or self.reference_accuracy is None:
            raise SettingError("Curve.latency_steps: evaluate with labels and with reference= to have accuracies.")
        wanted = self.reference_accuracy - tolerance - 1e-9  # 1e-9: for rounding
        if not self.causal:
            return self.steps if self.accuracy[-1] >= wanted else None
        below = [t for t, accuracy in enumerate(self.accuracy, 1) if accuracy < wanted]
        first = max(below, default=0) + 1
        return first if first <= self.steps else None

    def rows(self, at: Sequence[int] | None = None) -> list[dict[str, float | int | None]]:
        """The curve at some steps, by default the powers of two and T (T alone where layers wait), but none after T.

        Raises:
            SettingError: a step is below 1.
        """
        if at is not None and any(t < 1 for t in at):
            raise SettingError(f"Curve.rows: at is {list(at)}; steps are counted from 1.")
        usual = (*(2**k for k in range(30)), self.steps) if self.causal else (self.steps,)
        chosen = [t for t in at or usual if t <= self.steps]
        rows: list[dict[str, float | int | None]] = []
        for t in dict.fromkeys(chosen):
            low, high = self.interval(t) if self.accuracy is not None else (None, None)
            rows.append({
                "steps": t,
                "accuracy": None if self.accuracy is None else self.accuracy[t - 1],
                "accuracy_low": low,
                "accuracy_high": high,
                "agreement": None if self.agreement is None else self.agreement[t - 1],
                "logit_error": None if self.logit_error is None else self.logit_error[t - 1],
                "spikes": self.total_spikes[t - 1],
                "operations": self.total_operations[t - 1] if self.operations else None,
                "rate": self.mean_rate[t - 1],
                "mean_steps": self.mean_steps[t - 1],
            })  # fmt: skip
        return rows

    def __str__(self) -> str:
        lines = [self.method, f"{self.images:,} samples, {sum(self.neurons.values()):,} neurons"]
        if len(self.seeds) > 1:
            lines[-1] += f", mean of {len(self.seeds)} seeds"
        if self.reference_accuracy is not None:
            low, high = wilson(self.reference_accuracy, self.images)
            percent = f"{100 * self.reference_accuracy:.2f} % [{100 * low:.1f}, {100 * high:.1f}]"
            lines.append(f"accuracy of the original network: {percent}")
        if self.planned_steps not in (None, self.steps):
            lines.append(f"converted for T = {self.planned_steps}, and simulated for {self.steps} steps")
        if not self.causal:
            lines.append(f"layer-synchronous: T = {self.steps} takes {self.end_to_end_steps} steps from end to end")
        if self.exit_rule is not None:
            lines.append(f"early exit: {self.exit_rule}; {self.mean_steps[-1]:.2f} steps/sample")
        steps = f"  {'steps/sample':>12}" if self.exit_rule is not None else ""
        lines.append(f"{'T':>4}  {'accuracy %':>10}  {'95 % interval':>14}  {'agreement %':>11}  {'logit error':>11}"
                     f"  {'spikes/sample':>13}  {'rate':>6}{steps}")  # fmt: skip
        for row in self.rows():
            bounds = None if self.accuracy is None else self.interval(int(row["steps"] or 0))
            interval = "-" if bounds is None else f"{100 * bounds[0]:.1f} to {100 * bounds[1]:.1f}"
            lines.append(f"{row['steps']:>4}  {_percent(row['accuracy']):>10}  {interval:>14}"
                         f"  {_percent(row['agreement']):>11}  {_number(row['logit_error']):>11}"
                         f"  {row['spikes']:>13,.0f}  {row['rate']:>6.4f}"
                         + (f"  {row['mean_steps']:>12.2f}" if self.exit_rule is not None else ""))  # fmt: skip
        if self.operations:
            lines.append(f"T = {self.steps}: {self.cost(self.steps)}")
        return "\n".join(lines)

    def to_json(self, path: str | Path | None = None) -> str:
        """The curve as JSON, also written to a file if a path is given."""
        text = json.dumps(asdict(self))
        if path is not None:
            write_atomically(path, text)
        return text

    @classmethod
    def from_json(cls, text: str) -> Curve:
        """The curve that `to_json` gave.

        Raises:
            DataError: the text is something else.
        """
        try:
            values: dict[str, Any] = json.loads(text)
            return cls(**{**values, "seeds": tuple(values["seeds"])})
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(f"This is no curve in JSON, as Curve.to_json writes it: {error}.") from error

    def plot(self, path: str | Path) -> None:
        """Draw accuracy (or agreement) against the number of steps as a PNG, PDF or SVG file."""
        plot({self.method: self}, path)


def plot(curves: Mapping[str, Curve], path: str | Path, title: str = "") -> None:
    """Draw several curves in one figure, with the accuracy of the original network as a line.

    Needs matplotlib: ``pip install rheobase[plot]``.

    Args:
        curves: a label for each curve.
        path: the file; its suffix chooses the format.
        title: above the figure.

    Raises:
        ConversionError: matplotlib is not installed.
        SettingError: the suffix names no format that matplotlib writes.
        DataError: there is no curve, or one has neither accuracy nor agreement.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConversionError("Drawing a curve needs the package matplotlib: pip install 'rheobase[plot]'.") from error
    figure = Figure(figsize=(7.5, 4.6), layout="constrained")
    formats, suffix = figure.canvas.get_supported_filetypes(), Path(path).suffix
    if suffix and suffix[1:].lower() not in formats:
        accepted = ", ".join(f".{name}" for name in sorted(formats))
        raise SettingError(f"plot: {path} has the suffix {suffix}; accepted are {accepted}.")
    axes = figure.add_subplot()
    draw_curves(axes, curves)
    images = next(iter(curves.values())).images
    axes.set_title(title or f"{images:,} samples; bands are 95 % intervals", fontsize=10)
    figure.savefig(path, dpi=150)


def draw_curves(axes: Axes, curves: Mapping[str, Curve]) -> None:
    """Draw curves into the axes of a matplotlib figure; see `plot`.

    Args:
        axes: where to.
        curves: a label for each curve.

    Raises:
        DataError: there is no curve, or one has neither accuracy nor agreement.
    """
    if not curves:
        raise DataError("There is no curve to draw. Give at least one.")
    for label, curve in curves.items():
        values = curve.accuracy if curve.accuracy is not None else curve.agreement
        if values is None:
            raise DataError(f"The curve {label!r} has neither accuracy nor agreement, so there is nothing to draw.")
        steps, marker = list(range(1, curve.steps + 1)), None
        if not curve.causal:  # the answers before the last are not those of a network
            steps, values, marker = steps[-1:], values[-1:], "o"
        (line,) = axes.plot(steps, [100 * v for v in values], label=label, linewidth=1.5, marker=marker)
        low, high = zip(*(wilson(v, curve.images) for v in values), strict=True)
        band = ([100 * v for v in low], [100 * v for v in high])
        axes.fill_between(steps, *band, color=line.get_color(), alpha=0.12, linewidth=0)
    references = {c.reference_accuracy for c in curves.values() if c.reference_accuracy is not None}
    for reference in references:
        name = f"original network, {100 * reference:.2f} %"
        axes.axhline(100 * reference, color="black", linestyle=":", label=name, zorder=0.9)  # under the curves
    labelled = next(iter(curves.values())).accuracy is not None
    axes.set_xscale("log", base=2)
    ticks = [2**k for k in range(max(c.steps for c in curves.values()).bit_length())]
    axes.set_xticks(ticks, labels=[str(t) for t in ticks])
    axes.set_xlabel("time steps T")
    axes.set_ylabel("accuracy (%)" if labelled else "agreement with the original network (%)")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="lower right")


def _running(steps: Mapping[str, Sequence[float]]) -> list[float]:
    """The sums over all layers, from the first step to step t."""
    return list(itertools.accumulate(map(sum, zip(*steps.values(), strict=True))))


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
