"""The tables of docs/methods.md and docs/annealed.md, from benchmarks/results/ and from the methods themselves."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from benchmarks import record
from benchmarks.best import NEAR, best_of_each_group
from benchmarks.entries import ENTRIES, PUBLISHED, TRAINED
from benchmarks.guide import TABLE, WITH_LEVELS
from benchmarks.methods import STEPS, accuracies, levels_of, shown
from rheobase.intervals import wilson

__all__ = [
    "ablations",
    "auto",
    "choices",
    "choices_trained",
    "choices_vgg16",
    "constraints",
    "depth",
    "goals",
    "held_out",
    "held_out_msat",
    "others",
    "ternary",
    "twins",
]

GOALS = "bars-resnet20-cifar10"
LAST = ("at T", "agreement", "error", "events a neuron", "SynOps", "twin", "calibration", "paper")
THEIRS = "theirs"
TERNARY = ("ternary, causal", "ternary, causal, step-weighted")
OLDER = " ‡"  # behind what was not measured again
DAGGER = " †"  # behind what was measured on a graphics processor
NETWORKS = {
    "resnet20-cifar10": "ResNet-20 on CIFAR-10",
    "vgg16-cifar10": "VGG16 with max pooling on CIFAR-10",
    "resnet20-w48-cifar100": "ResNet-20 three times as wide on CIFAR-100",
    "cnn-digits": "a small CNN on digits",
    "resnet56-digits": "ResNet-56 on digits",
}
TITLES = {**NETWORKS, WITH_LEVELS: "ResNet-20 trained with 8 levels (QCFS) on CIFAR-10"}


def goals() -> str:
    """The goals that were set for ResNet-20 on CIFAR-10, and what is reached."""
    if not record.has(GOALS):
        return "Not measured yet: `python -m benchmarks.methods --bars --images 10000`."
    result = record.read(GOALS)
    lines = ["| spikes | T | points below the ANN | goal | events a neuron | calibration | method |", "|" + "---|" * 7]
    for row in result["bars"]:
        cell = row["cell"]
        if cell is None:
            lines.append(f"| {row['group']} | {row['steps']} | not measured | {row['bar']} | | | |")
            continue
        verdict = "" if row["drop"] <= row["bar"] else " (missed)"
        lines.append(
            f"| {row['group']} | {row['steps']} | {row['drop']:.2f} | {row['bar']}{verdict} | "
            f"{cell['events_per_neuron']:.2f} | {cell['calibration_seconds']:.0f} s | "
            f"`{cell['method']}`{OLDER if _older([row]) else ''} |"
        )
    note = _note(result, next(row["cell"] for row in result["bars"] if row["cell"]))
    return "\n".join([*lines, "", f"{note} {_marked(result['bars'])}".strip()])


def choices() -> str:
    """Accuracy of each method at some numbers of steps, grouped by what a spike carries."""
    return _choices("resnet20-cifar10")


def choices_vgg16() -> str:
    """The same on VGG16 with max pooling."""
    return _choices("vgg16-cifar10")


def choices_trained() -> str:
    """What keeps to the thresholds of a network that was trained with few levels."""
    return _choices(WITH_LEVELS)


def ternary() -> str:
    """Those with ternary spikes alone, on ResNet-20."""
    return _choices("resnet20-cifar10", TERNARY)


def _choices(network: str, groups: Collection[str] | None = None) -> str:
    command = f"python -m benchmarks.methods --network {network}"
    if not record.has(f"methods-{network}"):
        return f"Not measured yet: `{command}`."
    result = record.read(f"methods-{network}")
    result["methods"] = [row for row in result["methods"] if groups is None or row["group"] in groups]
    twins = {row["levels"]: row["accuracy"] for row in result["twins"]}
    lines = []
    for group in sorted({row["group"] for row in result["methods"]}):
        rows = [row for row in result["methods"] if row["group"] == group]
        steps = [t for t in STEPS if any(t in shown(row) for row in rows)]
        theirs = PUBLISHED.get(network, {})
        known = any(row["name"] in theirs for row in rows)
        titles = ["method", *(f"T = {t}" for t in steps), *LAST, *([THEIRS] if known else [])]
        lines += [f"**{group[0].upper()}{group[1:]}**", "", f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
        for row in rows:
            more = f" {theirs.get(row['name'], '')} |" if known else ""
            lines.append(_line(row, steps, twins, result["images"]) + more)
        lines.append("")
    about = (
        "Accuracy in %. *At T*, the last one with an accuracy: its 95 % interval; agreement with the ANN in %; error: "
        "|o(T) - o| / |o|; SynOps: of one dense pass; twin: the accuracy of the ANN with as many levels above 0, at "
        "most, in parentheses."
    )
    if any(row["name"] in PUBLISHED.get(network, {}) for row in result["methods"]):
        about += (
            " *Theirs*: points below the ANN (T) that papers have for their networks of this kind, with other weights, "
            "as Table 3 of He et al. 2023 quotes them."
        )
    return "\n".join([*lines, f"{about} {_note(result, result['methods'][0]['cells'][0])}"])


def _line(row: dict[str, Any], steps: Collection[int], twins: Mapping[int, float], images: int) -> str:
    """Accuracies by T, and what else is known of the last T that is shown."""
    last, found = row["cells"][-1], shown(row)
    end = max(found)
    cells = [f"{100 * found[t]:.1f}" if t in found else "" for t in steps]
    latency = "" if last["causal"] else f" (answers after {last['end_to_end_steps'] / last['steps']:g} T)"
    operations = last["synops_by_step"][end - 1] / last["synops_of_a_dense_pass"]
    elsewhere = DAGGER if "device" in last else ""
    levels = levels_of(row, end)
    low, high = wilson(found[end], images)
    cells += [f"{end}: ±{50 * (high - low):.1f}", f"{100 * last['agreement_by_step'][end - 1]:.1f}",
              f"{last['logit_error_by_step'][end - 1]:.2f}",
              f"{last['events_per_neuron_by_step'][end - 1]:.2f}", f"{operations:.2f}",
              f"{100 * twins[levels]:.1f} ({levels})" if levels in twins else "" if levels is None else f"({levels})",
              f"{last['calibration_seconds']:.0f} s{elsewhere}", row["paper"]]  # fmt: skip
    return f"| {row['name']}{OLDER if _older([row]) else ''}{latency} | {' | '.join(cells)} |"


def calls() -> str:
    """How the rows of the tables are called."""
    steps = 97  # which no setting has, so that its places in the text are those of T
    lines = ["| row | spikes | call |", "|---|---|---|"]
    for entry in (*ENTRIES, *TRAINED):
        text = repr(entry.make(steps)).replace(str(steps), "T").replace(str(steps - 8), "T - 8")
        line = f"| {entry.name} | {entry.group} | `{text}` |"
        lines += [line] if line not in lines else []
    return "\n".join(lines)


def others() -> str:
    """The best method of each kind of spikes on all networks: points below the ANN at T."""
    if not record.has(TABLE):
        return "Not measured yet: `python -m benchmarks.methods`, and `python -m benchmarks.best` for other networks."
    found, about = {}, []
    for network, title in NETWORKS.items():
        names = [n for n in (f"methods-{network}", f"best-{network}") if record.has(n)]
        if not names:
            continue
        result = record.read(names[0])
        found[title] = {(row["group"], row["name"]): row for row in result["methods"]}
        reference = result["methods"][0]["cells"][0]["reference_accuracy"]
        low, high = wilson(reference, result["images"])
        about.append(f"{title} {100 * reference:.2f} % of {result['images']:,} test images (±{50 * (high - low):.2f})")
    titles = ["spikes", "method", *found]
    lines = [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    shown: list[dict[str, Any]] = []
    for entry, first in best_of_each_group(record.read(TABLE)["methods"]):
        of_entry = [rows.get((entry.group, entry.name)) for rows in found.values()]
        shown += [row for row in of_entry if row is not None]
        cells = [_drops(row, first) for row in of_entry]
        lines.append(f"| {entry.group} | {entry.name} | {' | '.join(cells)} |")
    before = _older(shown)
    note = f"{OLDER} in part at commits {before}, with their rule of tuning." if before else ""
    return "\n".join([*lines, "", f"Points below the ANN (T). The ANNs: {'; '.join(about)}.{note}"])


def _drops(row: dict[str, Any] | None, first: int) -> str:
    """How far a method is below the ANN at T, and at the next number of steps where that is more than a point."""
    if row is None:
        return ""
    reference, texts = row["cells"][-1]["reference_accuracy"], []
    for steps, accuracy in accuracies(row).items():
        if steps >= first and len(texts) < 2:
            texts.append(f"{100 * (reference - accuracy):.2f} ({steps})")
            if reference - accuracy <= NEAR:
                break
    return ", ".join(texts) + (OLDER if texts and _older([row]) else "")


def ablations() -> str:
    """What one change makes of annealed delta coding on ResNet-20."""
    if not record.has("ablations"):
        return "Not measured yet: `python -m benchmarks.ablations`."
    result = record.read("ablations")
    rows = [row for row in result["rows"] if row["network"] == "resnet20-cifar10"]
    lines = ["| changed | accuracy after each step, % | events a neuron | calibration |", "|---|---|---|---|"]
    for row in rows:
        curve = ", ".join(f"{100 * a:.1f}" for a in row["cell"]["accuracy_by_step"])
        mark = OLDER if _older([row]) else ""
        lines.append(f"| {row['label']}{mark} | {curve} | {row['cell']['events_per_neuron']:.2f} | "
                     f"{row['cell']['calibration_seconds']:.0f} s |")  # fmt: skip
    note = (
        f"T = {result['steps']}, {result['iterations']} iterations and 1,024 calibration images where the row does not "
        f"say otherwise. {_note({**result, 'calibration_images': 1024}, rows[0]['cell'])}"
    )
    return "\n".join([*lines, "", f"{note} {_marked(rows)}".strip()])


def depth() -> str:
    """Annealed delta coding with the same settings on other networks."""
    if not record.has("ablations"):
        return "Not measured yet: `python -m benchmarks.ablations`."
    titles = [
        "network",
        "T",
        "accuracy %",
        "the ANN's",
        "agreement with it %",
        "error of its answers %",
        "events a neuron",
    ]
    lines = [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    rows = [row for row in record.read("ablations")["rows"] if row["network"] != "resnet20-cifar10"]
    for row in rows:
        cell = row["cell"]
        changed = "" if row["label"].startswith("T =") else f", {row['label']}"
        lines.append(f"| {row['network']}{changed}{OLDER if _older([row]) else ''} | {cell['steps']} | "
                     f"{100 * cell['accuracy']:.1f} | {100 * cell['reference_accuracy']:.1f} | "
                     f"{100 * cell['agreement']:.1f} | {100 * cell['logit_error']:.1f} | "
                     f"{cell['events_per_neuron']:.2f} |")  # fmt: skip
    return "\n".join([*lines, *(["", marked] if (marked := _marked(rows)) else [])])


def held_out(kinds: str = "Parallel|Annealed") -> str:
    """What settings of calibration do to images that it sees, and to others, for methods whose text begins so."""
    result = record.read("held-out") if record.has("held-out") else {"trials": []}
    trials = [trial for trial in result["trials"] if re.match(kinds, trial["method"])]
    if not trials:
        return "Not measured yet: `python -m benchmarks.held_out`."
    titles = ["method", "other classes, others %", "calibration images %", "error, others %", "calibration images %"]
    lines = [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    for row in trials:
        seen, others = row["calibration"], row["held_out"]
        figures = [f"{100 * part[what]:.2f}" for what in ("disagreement", "error") for part in (others, seen)]
        lines.append(f"| `{row['method']}` | {' | '.join(figures)} |")
    count, least = trials[0]["held_out"]["images"], min(trial["held_out"]["disagreement"] for trial in trials)
    low, high = wilson(least, count)
    note = (
        f"{NETWORKS[result['network']]}, calibrated on {result['calibration_images']:,} training images; others are "
        f"{count:,} training images that calibration does not see. Other classes: the share whose largest answer "
        f"is not the ANN's (95 % interval of the smallest ±{50 * (high - low):.2f}); error: |o(T) - o| / |o|. "
        f"`{result['command']}`."
    )
    return "\n".join([*lines, "", note])


def held_out_msat() -> str:
    """The same for thresholds that adapt, and constant ones."""
    return held_out("CalibratedMSAT|TemporalBias")


def constraints() -> str:
    """What `Auto` takes for a constraint, and what that reaches."""
    if not record.has("constraints"):
        return "Not measured yet: `python -m benchmarks.constraints`."
    result = record.read("constraints")
    titles = ["asked", "taken", "T", "points below the ANN", "agreement %", "events a neuron", "all took"]
    lines = [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    for row in result["rows"]:
        drop = 100 * (row["reference_accuracy"] - row["accuracy"])
        warned = "" if row["met"] else " (with a warning)"
        lines.append(f"| `{row['asked']}` | `{row['taken']}`{warned} | {row['steps']} | {drop:.2f} | "
                     f"{100 * row['agreement']:.1f} | {row['events_per_neuron']:.2f} | "
                     f"{row['seconds']:.0f} s |")  # fmt: skip
    return "\n".join([*lines, "", _note(result, result["rows"][0])])


def auto() -> str:
    """`Auto` for T steps beside the most accurate other method with the same spikes at that T."""
    titles = ["network", "spikes", "T", "`Auto` %", "the best other one %", "which is"]
    lines = [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    for network, title in NETWORKS.items():
        if not record.has(f"methods-{network}"):
            continue
        rows = record.read(f"methods-{network}")["methods"]
        for own in (row for row in rows if row["name"] == "Auto"):
            alike = [row for row in rows if row["group"] == own["group"] and row is not own]
            mark = OLDER if _older([own]) else ""
            for steps, accuracy in accuracies(own).items():
                best = max((found[steps], row["name"]) for row in alike if steps in (found := accuracies(row)))
                lines.append(f"| {title} | {own['group']} | {steps} | {100 * accuracy:.1f}{mark} | "
                             f"{100 * best[0]:.1f} | {best[1]} |")  # fmt: skip
    return "\n".join(lines)


def twins() -> str:
    """The ANN with its activations quantised."""
    if not record.has(TABLE):
        return "Not measured yet: `python -m benchmarks.methods`."
    rows = record.read(TABLE)["twins"]
    lines = ["| levels above 0 | accuracy % | agreement with the ANN % |", "|---|---|---|"]
    lines += [f"| {r['levels']} | {100 * r['accuracy']:.1f} | {100 * r['agreement']:.1f} |" for r in rows]
    return "\n".join(lines)


def _older(rows: Iterable[dict[str, Any]]) -> str:
    """The commits of the cells that are marked as older, in words; nothing where none is. A row has cells, or one."""
    cells = [c for row in rows for c in (row["cells"] if "cells" in row else [row["cell"]])]
    return ", ".join(sorted({c["commit"][:7] for c in cells if c and c.get("older")}))


def _marked(rows: Iterable[dict[str, Any]]) -> str:
    """What the mark at rows of one cell means; nothing where there is none."""
    before = _older(rows)
    return f"{OLDER.strip()} at commits {before}, with the settings and the rule of tuning of then." if before else ""


def _note(result: dict[str, Any], cell: dict[str, Any]) -> str:
    low, high = wilson(cell["reference_accuracy"], result["images"])
    network = TITLES[result.get("network", "resnet20-cifar10")]
    devices = {c["device"] for row in result.get("methods", ()) for c in row["cells"] if "device" in c}
    elsewhere = f";{DAGGER} on {', '.join(sorted(devices))}, shared by ten processes" if devices else ""
    before = _older(result.get("methods", ()))
    elsewhere += f";{OLDER} in part at commits {before}, with their rule of tuning" if before else ""
    return (
        f"{network}, {result['images']:,} test images, on which the ANN has "
        f"{100 * cell['reference_accuracy']:.2f} % (95 % interval ±{50 * (high - low):.2f}); calibrated on "
        f"{result['calibration_images']:,} training images without labels. Calibration times are of one core, shared "
        f"with other work{elsewhere}. `{result['command']}`."
    )
