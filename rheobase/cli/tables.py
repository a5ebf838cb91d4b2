"""Results as tables, and in a sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from rheobase.curve import Curve
from rheobase.intervals import wilson
from rheobase.spiking import SpikingModel

if TYPE_CHECKING:
    from rheobase.methods.overview import Overview
    from rheobase.training import AnnAccuracy

__all__ = [
    "ann_table",
    "comparison_table",
    "cost_table",
    "curve_table",
    "early",
    "exits",
    "grid",
    "latency",
    "method_table",
    "original",
    "plan_rows",
    "plan_table",
    "settings_table",
]


def percent(value: float | int | None, digits: int = 2) -> str:
    """A fraction as a percentage, without the sign."""
    return "-" if value is None else f"{100 * value:.{digits}f}"


def _table(title: str, columns: str) -> Table:
    table = Table(title=Text(title), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns.split("|"):
        table.add_column(column, justify="right", no_wrap=True)
    return table


def curve_table(curve: Curve) -> Table:
    """A curve at the powers of two, a row each."""
    runs = f", mean of {len(curve.seeds)} seeds" if len(curve.seeds) > 1 else ""
    leaving = curve.exit_rule is not None
    columns = "T|accuracy %|95 % interval|agreement %|spikes/image|mean rate" + "|steps/image" * leaving
    table = _table(curve.method + runs, columns)
    for row in curve.rows():
        low, high = row["accuracy_low"], row["accuracy_high"]
        table.add_row(
            str(row["steps"]),
            percent(row["accuracy"]),
            "-" if low is None else f"{percent(low, 1)} to {percent(high, 1)}",
            percent(row["agreement"]),
            f"{row['spikes']:,.0f}",
            f"{row['rate']:.4f}",
            *[f"{row['mean_steps']:.2f}"] * leaving,
        )
    return table


def comparison_table(curves: Mapping[str, Curve], width: int) -> Table:
    """The accuracy of each method at the powers of two (agreement where the data have no labels).

    Args:
        curves: a label for each curve.
        width: characters in a line; where they are too few, a label takes a line for each setting.
    """
    first = next(iter(curves.values()))
    steps = sorted({int(row["steps"] or 0) for curve in curves.values() for row in curve.rows()})
    key = "accuracy" if first.accuracy is not None else "agreement"
    narrow = max(map(len, curves)) + 7 * len(steps) >= width
    table = Table(title=f"{key} in % after T time steps", title_justify="left", title_style="bold",
                  box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=narrow)  # fmt: skip
    table.add_column("method", overflow="fold")
    for t in steps:
        table.add_column(str(t) if narrow else f"T={t}", justify="right", no_wrap=True)
    for group, members in _groups(curves).items():
        if group:
            table.add_row(Text(group, style="italic"), *[""] * len(steps))
        for label in members:
            table.add_row(_broken(label) if narrow else Text(label), *_at(curves[label], steps, key))
    return table


def method_table(found: Sequence[Overview]) -> Table:
    """What each method is: its name, and beside it a sentence, its spikes, the order of its layers and its paper."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("method", no_wrap=True)
    table.add_column("what it is; what a spike carries, whether layers work in the same step or wait, paper")
    for one in found:
        facts = ", ".join(filter(None, (one.spikes, one.layers, one.paper)))
        table.add_row(one.name, Text.assemble(one.sentence.replace("`", ""), "\n", (facts, "italic")))
    return table


def settings_table(one: Overview) -> Table:
    """Each setting of a method as it is, and what it is."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("setting", overflow="fold")
    table.add_column("what it is")
    for name, value in one.settings.items():
        table.add_row(Text(f"{name}={value}"), Text(one.explained.get(name, "").replace("`", "")))
    return table


def _at(curve: Curve, steps: Sequence[int], key: str) -> list[str]:
    """A measure after some steps; none where the answer is not that of a network."""
    found = {row["steps"]: row[key] for row in curve.rows([t for t in steps if t <= curve.steps])}
    return [percent(found.get(t) if curve.causal or t == curve.steps else None, 1) for t in steps]


def _groups(curves: Mapping[str, Curve]) -> dict[str, list[str]]:
    """The labels by what a spike may carry and whether layers wait; one group without a name where all are alike."""
    groups: dict[str, list[str]] = {}
    for label, curve in curves.items():
        order = "causal" if curve.causal else "layer-synchronous"
        spikes = curve.alphabet.removesuffix(", step-weighted")
        alike = " / " not in curve.alphabet  # then the words stand in the order of the documentation
        name = f"{spikes}, {order}{curve.alphabet[len(spikes) :]}" if alike else f"{curve.alphabet}, {order}"
        groups.setdefault(name if curve.alphabet else order, []).append(label)
    return groups if len(groups) > 1 else {"": list(curves)}


def _broken(label: str) -> Text:
    """A method with a line for each setting."""
    return Text(label.replace("(", "(\n  ", 1).replace(", ", ",\n  "))


_COSTS = {"T": 4, "end to\nend": 6, "within\n1 point\nfrom T": 7, "accuracy %\n95 %": 10, "twin %\nlevels": 6,
          "agree-\nment %": 6, "logit\nerror": 6, "events/\nneuron": 7, "SynOps/\npass": 7,
          "calibra-\ntion": 8}  # fmt: skip


def cost_table(curves: Mapping[str, Curve], width: int) -> Group:
    """What each method reaches after its last step, and what that costs.

    Args:
        curves: a label for each curve.
        width: characters in a line; where they are too few, a label takes a line of its own.
    """
    longest = max(map(len, curves))
    narrow = longest + 2 + sum(cells + 1 for cells in _COSTS.values()) > width
    parts: list[Table | Text] = [Text("after the last step", style="bold"), _cost_rows(0 if narrow else longest)]
    for group, members in _groups(curves).items():
        parts += [Text(f" {group}", style="italic")] if group else []
        for label in members:
            parts += [Text(f" {label}")] if narrow else []
            parts.append(_cost_rows(0 if narrow else longest, label, curves[label]))
    return Group(*parts)


def _cost_rows(longest: int, label: str = "method", curve: Curve | None = None) -> Table:
    """The head of `cost_table`, or one row below it; with no room for labels, the numbers alone."""
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(width=longest + 1 if longest else 3)
    for cells in _COSTS.values():
        table.add_column(justify="right", no_wrap=True, width=cells, vertical="bottom" if curve is None else "top")
    table.add_row(Text(f" {label}" if longest else ""), *(_COSTS if curve is None else _costs(curve)))
    return table


def _costs(curve: Curve) -> list[str]:
    """The cells of one row of `cost_table`."""
    accuracy, agreement, error = (
        None if values is None else values[-1] for values in (curve.accuracy, curve.agreement, curve.logit_error)
    )
    shown = "-"
    if accuracy is not None:
        low, high = curve.interval(curve.steps)
        shown = f"{percent(accuracy)}\n{percent(low, 1)}-{percent(high, 1 if high < 0.9995 else 0)}"
    same = curve.twin_agreement if accuracy is None else curve.twin_accuracy
    near: int | str = "-"
    if accuracy is not None and curve.reference_accuracy is not None:
        near = curve.latency_steps(0.01) or "never"
    dense, seconds = sum(curve.dense_operations.values()), curve.calibration_seconds
    return [
        str(curve.steps),
        str(curve.end_to_end_steps or curve.steps),
        str(near),
        shown,
        "-" if same is None else f"{percent(same)}\n{curve.levels}",
        percent(agreement),
        "-" if error is None else f"{error:.3f}" if error < 10 else f"{error:.4g}",
        f"{curve.total_spikes[-1] / sum(curve.neurons.values()):.3f}",
        f"{curve.total_operations[-1] / dense:.3f}" if dense else "-",
        "-" if seconds is None else f"{seconds:.1f} s" if seconds < 1000 else f"{seconds:.0f} s",
    ]


def ann_table(measured: Sequence[AnnAccuracy]) -> Table:
    """Trained networks, a row each: their accuracy beside the stated one."""
    table = _table("accuracy before conversion", "network|accuracy %|95 % interval|samples|stated %|reproduced")
    table.columns[0].justify = "left"
    table.columns[0].no_wrap, table.columns[0].overflow = False, "fold"
    for found in measured:
        low, high = found.interval
        table.add_row(
            Text(found.name),
            percent(found.accuracy),
            f"{percent(low)} to {percent(high)}",
            f"{found.samples:,}",
            percent(found.stated),
            "yes" if found.reproduced else "no",
        )
    return table


def plan_table(snn: SpikingModel) -> Table:
    """The neurons of each site."""
    table = _table(snn.plan.method, "site|shape|neurons|neuron|threshold|spikes")
    for column in (0, 3, 5):
        table.columns[column].justify = "left"
    for row in plan_rows(snn):
        threshold = row["threshold"]
        shown = "-" if threshold is None else " to ".join(f"{v:.4g}" for v in dict.fromkeys(threshold))
        shape = "x".join(map(str, row["shape"]))
        table.add_row(row["site"], shape, f"{row['neurons']:,}", row["neuron"], shown, row["spikes"])
    return table


def plan_rows(snn: SpikingModel) -> list[dict[str, Any]]:
    """The neurons of each site: their kind, number, and least and greatest threshold."""
    rows = []
    for site, neuron in snn.plan.neurons.items():
        inner = getattr(neuron, "neuron", neuron)  # of a wrapper such as SpikeConfidence
        threshold = getattr(inner, "threshold", None)
        rows.append({
            "site": site,
            "shape": list(snn.graph.shapes[site]),
            "neurons": snn.graph.neurons(site),
            "neuron": type(neuron).__name__ if inner is neuron else f"{type(neuron).__name__}({type(inner).__name__})",
            "threshold": None if threshold is None else [float(threshold.min()), float(threshold.max())],
            "spikes": str(neuron.alphabet),
        })  # fmt: skip
    return rows


def original(curve: Curve) -> str:
    """The accuracy of the network that was converted, in words."""
    if curve.reference_accuracy is None:
        return f"{curve.images:,} images without labels, so no accuracy: agreement with the original network instead."
    low, high = wilson(curve.reference_accuracy, curve.images)
    return (
        f"The original network answers {percent(curve.reference_accuracy)} % of {curve.images:,} images correctly "
        f"(95 % interval {percent(low, 1)} to {percent(high, 1)})."
    )


def latency(curve: Curve) -> str:
    """From which step on the accuracy is within one point of the original network's, in words."""
    if curve.accuracy is None or curve.reference_accuracy is None:
        return "no accuracy without labels"
    t = curve.latency_steps(0.01)
    if t is not None:
        return (
            f"within one point of the original from T = {t} on, {curve.total_spikes[t - 1]:,.0f} spikes/image by then"
        )
    best = max(range(curve.steps), key=curve.accuracy.__getitem__)
    there = f"{percent(curve.accuracy[-1])} % there"
    if curve.accuracy[best] > curve.accuracy[-1]:
        there += f", at best {percent(curve.accuracy[best])} % at T = {best + 1}"
    return f"not within one point of the original by T = {curve.steps} ({there})"


def exits(curve: Curve) -> str:
    """How many steps the images took with the exit rule, in words."""
    undecided = 1 - sum(curve.exits or [])
    return (
        f"{curve.exit_rule}: {curve.mean_steps[-1]:.2f} of {curve.steps} steps/image, "
        f"{curve.total_spikes[-1]:,.0f} spikes/image; {percent(undecided, 1)} % of the images never decided"
    )


def early(curve: Curve, step: int) -> str:
    """Accuracy and spikes after a step, in words."""
    (row,) = curve.rows([step])
    return f"{percent(row['accuracy'], 1)} % correct, {row['spikes']:,.0f} spikes/image"


def grid(lines: Mapping[str, str]) -> Table:
    """A line for each method."""
    table = Table.grid(padding=(0, 2))
    table.add_column(overflow="fold", max_width=40)
    table.add_column()
    for label, line in lines.items():
        table.add_row(Text(f"  {label}"), Text(line))
    return table
