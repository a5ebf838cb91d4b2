"""The tables of docs/methods.md and docs/annealed.md, from benchmarks/results/ and from the methods themselves."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from statistics import median
from typing import Any

from benchmarks import record
from benchmarks.best import NEAR, best_of_each_group
from benchmarks.entries import BARS, ENTRIES, PUBLISHED, TRAINED
from benchmarks.guide import TABLE, WITH_LEVELS
from benchmarks.markdown import heads
from benchmarks.methods import STEPS, accuracies, levels_of, near, shown
from rheobase.intervals import wilson

__all__ = [
    "ablations",
    "best",
    "choices",
    "choices_trained",
    "choices_vgg16",
    "depth",
    "goals",
    "goals_elsewhere",
    "held_out",
    "held_out_msat",
    "others",
    "take",
    "ternary",
    "twins",
]

GOALS = "bars-resnet20-cifar10"
LAST = ("at T", "agreement", "error", "events a neuron", "SynOps", "twin", "calibration", "paper")
THEIRS = "theirs"
TERNARY = ("ternary, causal", "ternary, causal, step-weighted")
_MANY = 32  # steps that are not worth a recommendation, if they are exceeded
ROUNDING = 1e-9  # of a drop in points, which is a difference of two shares
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
    titles = ["spikes", "T", "points below the ANN", "goal", "twin", "events a neuron", "calibration", "method"]
    lines = heads(titles)
    accuracy = {found["levels"]: found["accuracy"] for found in result.get("twins", ())}
    for row in result["bars"]:
        cell = row["cell"]
        if cell is None:
            lines.append(f"| {row['group']} | {row['steps']} | not measured | {row['bar']} | | | | |")
            continue
        verdict = "" if row["drop"] <= row["bar"] + ROUNDING else " (missed)"
        levels = row.get("levels")
        twin = f"{100 * (cell['reference_accuracy'] - accuracy[levels]):.2f} ({levels})" if levels in accuracy else ""
        lines.append(
            f"| {row['group']} | {row['steps']} | {row['drop']:.2f} | {row['bar']}{verdict} | {twin} | "
            f"{cell['events_per_neuron']:.2f} | {cell['calibration_seconds']:.0f} s | "
            f"`{cell['method']}`{OLDER if older_commits([row]) else ''} |"
        )
    note = footnote(result, next(row["cell"] for row in result["bars"] if row["cell"]))
    twins = "Twin: points below the ANN of itself with as many levels above 0, at most, in parentheses, and no tuning."
    return "\n".join([*lines, "", f"{twins} {note} {_marked(result['bars'])}".strip()])


def margins() -> str:
    """Goals with other seeds of tuning, and with signs alone in the first step of annealed delta coding."""
    if not record.has("margins"):
        return "Not measured yet: `python -m benchmarks.margins`."
    result = record.read("margins")
    titles = ["spikes", "T", "goal", "changed", "points below the ANN", "method"]
    lines = heads(titles)
    for row in result["rows"]:
        verdict = "" if row["drop"] <= row["bar"] + ROUNDING else " (missed)"
        cells = [row["group"], row["steps"], row["bar"], row["change"], f"{row['drop']:.2f}{verdict}"]
        lines.append(f"| {' | '.join(map(str, cells))} | `{row['cell']['method']}` |")
    return "\n".join([*lines, "", footnote(result, result["rows"][0]["cell"])])


def tuning_memory() -> str:
    """Memory of tuning end to end and layer by layer."""
    if not record.has("tuning-memory"):
        return "Not measured yet: `python -m benchmarks.tuning_memory`."
    result = record.read("tuning-memory")
    lines = heads(["network", "pass", "images", "MiB at most"])
    for row in result["rows"]:
        lines.append(f"| {row['network']} | {row['pass']} | {row['images']} | {median(row['mib']):,.0f} |")
    count = len(result["rows"][0]["mib"])
    note = (
        f"{'One run' if count == 1 else f'Medians of {count} runs'} each, in a process of its own. T = "
        f"{result['steps']}, batches of {result['batch_size']} images; peak memory above the converted network. "
        f"`{result['command']}`."
    )
    return "\n".join([*lines, "", note])


def goals_elsewhere() -> str:
    """The same goals, with the same settings, on other networks: points below the ANN."""
    elsewhere = {f"bars-{n}": title for n, title in NETWORKS.items() if f"bars-{n}" != GOALS}
    found = {title: record.read(name) for name, title in elsewhere.items() if record.has(name)}
    titles = ["spikes", "T", "goal on ResNet-20", *found]
    lines = heads(titles)
    for bar in BARS:
        drops = [
            next((r["drop"] for r in result["bars"] if (r["group"], r["steps"]) == (bar.group, bar.steps)), None)
            for result in found.values()
        ]
        cells = [
            "" if drop is None else f"{drop:.2f}{'' if drop <= bar.drop + ROUNDING else ' (above)'}" for drop in drops
        ]
        lines.append(f"| {bar.group} | {bar.steps} | {bar.drop} | {' | '.join(cells)} |")
    about = [f"{title} {_ann(result, next(r['cell'] for r in result['bars'] if r['cell']))}"
             for title, result in found.items()]  # fmt: skip
    return "\n".join([*lines, "", f"Points below the ANN. The ANNs: {'; '.join(about)}. Empty: not measured."])


def best() -> str:
    """All that is known of the best method of each kind of spikes on the networks that have no table of their own."""
    lines = []
    for network, title in NETWORKS.items():
        if record.has(f"methods-{network}") or not record.has(f"best-{network}"):
            continue
        result = record.read(f"best-{network}")
        accuracy = {found["levels"]: found["accuracy"] for found in result.get("twins", ())}
        titles = ["spikes", "method", "T", "accuracy", *LAST[1:-1]]
        lines += [f"**{title[0].upper()}{title[1:]}**", "", *heads(titles)]
        for row in result["methods"]:
            for cell in row["cells"]:
                low, high = wilson(cell["accuracy"], result["images"])
                figures = f"{100 * cell['accuracy']:.1f} ±{50 * (high - low):.1f}"
                known = _figures(cell, cell["steps"], levels_of(row, cell["steps"]), accuracy)
                lines.append(f"| {row['group']} | {row['name']}{_latency(cell)} | {cell['steps']} | {figures} | "
                             f"{' | '.join(known)} |")  # fmt: skip
        lines += ["", footnote(result, result["methods"][0]["cells"][0]), ""]
    return "\n".join(lines).strip() or "Not measured yet: `python -m benchmarks.best`."


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
        lines += [f"**{group[0].upper()}{group[1:]}**", "", *heads(titles)]
        for row in rows:
            more = f" {theirs.get(row['name'], '')} |" if known else ""
            lines.append(_line(row, steps, twins, result["images"]) + more)
        lines.append("")
    about = (
        "Accuracy in %; empty where it was within 0.1 points of the ANN with fewer steps, or where a method is not "
        "measured for so few or so many. *At T*, the last one with an accuracy: its 95 % interval; agreement with the "
        "ANN in %; error: |o(T) - o| / |o|; SynOps: of one dense pass; twin: the accuracy of the ANN with as many "
        "levels above 0, at most, in parentheses."
    )
    if any(row["name"] in PUBLISHED.get(network, {}) for row in result["methods"]):
        about += (
            " *Theirs*: points below the ANN (T) that papers have for their networks of this kind, with other weights, "
            "as Table 3 of He et al. 2023 quotes them."
        )
    return "\n".join([*lines, f"{about} {footnote(result, result['methods'][0]['cells'][0])}"])


def _line(row: dict[str, Any], steps: Collection[int], twins: Mapping[int, float], images: int) -> str:
    """Accuracies by T, and what else is known of the last T that is shown."""
    last, found = row["cells"][-1], shown(row)
    end = max(found)
    cells = [f"{100 * found[t]:.1f}" if t in found else "" for t in steps]
    low, high = wilson(found[end], images)
    cells += [f"{end}: ±{50 * (high - low):.1f}", *_figures(last, end, levels_of(row, end), twins), row["paper"]]
    return f"| {row['name']}{OLDER if older_commits([row]) else ''}{_latency(last)} | {' | '.join(cells)} |"


def _figures(cell: dict[str, Any], end: int, levels: int | None, twins: Mapping[int, float]) -> list[str]:
    """Agreement, error, events, operations, the twin and the calibration time of a cell after so many of its steps."""
    return [
        f"{100 * cell['agreement_by_step'][end - 1]:.1f}",
        f"{cell['logit_error_by_step'][end - 1]:.2f}",
        f"{cell['events_per_neuron_by_step'][end - 1]:.2f}",
        f"{cell['synops_by_step'][end - 1] / cell['synops_of_a_dense_pass']:.2f}",
        f"{100 * twins[levels]:.1f} ({levels})" if levels in twins else "" if levels is None else f"({levels})",
        _seconds(cell),
    ]


def _seconds(cell: dict[str, Any]) -> str:
    """How long the calibration took."""
    return f"{cell['calibration_seconds']:.0f} s{DAGGER if 'device' in cell else ''}"


def _latency(cell: dict[str, Any]) -> str:
    """When the answer is there, where layers wait."""
    return "" if cell["causal"] else f" (answers after {cell['end_to_end_steps'] / cell['steps']:g} T)"


def calls() -> str:
    """How the rows of the tables are called."""
    steps = 97  # which no setting has, so that its places in the text are those of T
    lines = ["| row | spikes | call |", "|---|---|---|"]
    for entry in (*ENTRIES, *TRAINED):
        text = repr(entry.make(steps)).replace(str(steps), "T").replace(str(steps - 8), "T - 8")
        line = f"| {entry.name} | {entry.group} | `{text}` |"
        lines += [line] if line not in lines else []
    return "\n".join(lines)


def take() -> str:
    """What to take for each kind of spikes: what is within a point of the ANN on ResNet-20 in the fewest steps."""
    if not record.has(TABLE):
        return "Not measured yet: `python -m benchmarks.methods`."
    names = [n for n in NETWORKS if record.has(f"methods-{n}")]
    results = {n: record.read(f"methods-{n}") for n in names}
    found = {n: {(row["group"], row["name"]): row for row in results[n]["methods"]} for n in names}
    titles = ["spikes", "take", *(f"points below the ANN (T), {NETWORKS[n]}" for n in names), "calibration"]
    lines = heads(titles)
    chosen = best_of_each_group(results[names[0]]["methods"])
    kinds = ("binary", "ternary", "integer", "power of two", "real")
    chosen.sort(key=lambda one: next(i for i, kind in enumerate(kinds) if kind in one[0].group))
    for entry, steps in chosen:
        if steps > _MANY:
            continue
        rows = [found[n].get((entry.group, entry.name)) for n in names]
        drops = [_drops(row, steps) or "not measured" for row in rows]
        cells = rows[0]["cells"] if rows[0] else []
        cell = next((c for c in cells if c["steps"] >= steps), None)
        seconds = _seconds(cell) if cell else ""
        lines.append(f"| {entry.group} | `{entry.make(steps)!r}` | {' | '.join(drops)} | {seconds} |")
    images = results[names[0]]["images"]
    about = (
        f"Chosen by ResNet-20, whose calibration is timed; what needs more than {_MANY} steps is left out. On "
        f"{images:,} test images of each: a point is {images // 100} of them, and the 95 % intervals of "
        "[the tables below](#all-methods-on-one-bench) are some ±1.2 points."
    )
    return "\n".join([*lines, "", about])


def measured(network: str) -> dict[str, Any] | None:
    """The stored result of a network: that of all methods, or of the best of each kind of spikes, or None."""
    names = [name for name in (f"methods-{network}", f"best-{network}") if record.has(name)]
    return record.read(names[0]) if names else None


def others() -> str:
    """The best method of each kind of spikes on all networks: points below the ANN at T."""
    if not record.has(TABLE):
        return "Not measured yet: `python -m benchmarks.methods`, and `python -m benchmarks.best` for other networks."
    found, about = {}, []
    for network, title in NETWORKS.items():
        result = measured(network)
        if result is None:
            continue
        found[title] = {(row["group"], row["name"]): row for row in result["methods"]}
        about.append(f"{title} {_ann(result, result['methods'][0]['cells'][0])}")
    titles = ["spikes", "method", *found]
    lines = heads(titles)
    shown: list[dict[str, Any]] = []
    for entry, first in best_of_each_group(record.read(TABLE)["methods"]):
        of_entry = [rows.get((entry.group, entry.name)) for rows in found.values()]
        shown += [row for row in of_entry if row is not None]
        cells = [_drops(row, first) for row in of_entry]
        lines.append(f"| {entry.group} | {entry.name} | {' | '.join(cells)} |")
    before = older_commits(shown)
    note = f"{OLDER} in part at commits {before}, with their rule of tuning." if before else ""
    return "\n".join(
        [*lines, "", f"Points below the ANN (T). The ANNs: {'; '.join(about)}. Empty: not measured.{note}"]
    )


def _ann(result: dict[str, Any], cell: dict[str, Any]) -> str:
    """The accuracy of the ANN that a result is about."""
    low, high = wilson(cell["reference_accuracy"], result["images"])
    accuracy, spread = 100 * cell["reference_accuracy"], 50 * (high - low)
    return f"{accuracy:.2f} % of {result['images']:,} test images (±{spread:.2f})"


def _drops(row: dict[str, Any] | None, first: int) -> str:
    """How far a method is below the ANN at T, and at the next number of steps where that is more than a point."""
    if row is None:
        return ""
    reference, texts = row["cells"][-1]["reference_accuracy"], []
    for steps, accuracy in accuracies(row).items():
        if steps >= first and len(texts) < 2:
            texts.append(f"{100 * (reference - accuracy):.2f} ({steps})")
            if near(accuracy, reference, NEAR):
                break
    return ", ".join(texts) + (OLDER if texts and older_commits([row]) else "")


def ablations() -> str:
    """What one change makes of annealed delta coding on ResNet-20."""
    if not record.has("ablations"):
        return "Not measured yet: `python -m benchmarks.ablations`."
    result = record.read("ablations")
    rows = [row for row in result["rows"] if row["network"] == "resnet20-cifar10"]
    lines = ["| changed | accuracy after each step, % | events a neuron | calibration |", "|---|---|---|---|"]
    for row in rows:
        curve = ", ".join(f"{100 * a:.1f}" for a in row["cell"]["accuracy_by_step"])
        mark = OLDER if older_commits([row]) else ""
        lines.append(f"| {row['label']}{mark} | {curve} | {row['cell']['events_per_neuron']:.2f} | "
                     f"{row['cell']['calibration_seconds']:.0f} s |")  # fmt: skip
    note = (
        f"T = {result['steps']}, {result['iterations']} iterations and 1,024 calibration images where the row does not "
        f"say otherwise. {footnote({**result, 'calibration_images': 1024}, rows[0]['cell'])}"
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
    lines = heads(titles)
    rows = [row for row in record.read("ablations")["rows"] if row["network"] != "resnet20-cifar10"]
    for row in rows:
        cell = row["cell"]
        changed = "" if row["label"].startswith("T =") else f", {row['label']}"
        lines.append(f"| {row['network']}{changed}{OLDER if older_commits([row]) else ''} | {cell['steps']} | "
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
    lines = heads(titles)
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


def twins() -> str:
    """The ANN with its activations quantised."""
    if not record.has(TABLE):
        return "Not measured yet: `python -m benchmarks.methods`."
    rows = record.read(TABLE)["twins"]
    lines = ["| levels above 0 | accuracy % | agreement with the ANN % |", "|---|---|---|"]
    lines += [f"| {r['levels']} | {100 * r['accuracy']:.1f} | {100 * r['agreement']:.1f} |" for r in rows]
    return "\n".join(lines)


def older_commits(rows: Iterable[dict[str, Any]]) -> str:
    """The commits of the cells that are marked as older, in words; nothing where none is. A row has cells, or one."""
    cells = [c for row in rows for c in (row["cells"] if "cells" in row else [row["cell"]])]
    return ", ".join(sorted({c["commit"][:7] for c in cells if c and c.get("older")}))


def _marked(rows: Iterable[dict[str, Any]]) -> str:
    """What the mark at rows of one cell means; nothing where there is none."""
    before = older_commits(rows)
    return f"{OLDER.strip()} at commits {before}, with the settings and the rule of tuning of then." if before else ""


def footnote(result: dict[str, Any], cell: dict[str, Any]) -> str:
    low, high = wilson(cell["reference_accuracy"], result["images"])
    network = TITLES[result.get("network", "resnet20-cifar10")]
    devices = {c["device"] for row in result.get("methods", ()) for c in row["cells"] if "device" in c}
    elsewhere = f";{DAGGER} on {', '.join(sorted(devices))}, shared by ten processes" if devices else ""
    before = older_commits(result.get("methods", ()))
    elsewhere += f";{OLDER} in part at commits {before}, with their rule of tuning" if before else ""
    return (
        f"{network}, {result['images']:,} test images, on which the ANN has "
        f"{100 * cell['reference_accuracy']:.2f} % (95 % interval ±{50 * (high - low):.2f}); calibrated on "
        f"{result['calibration_images']:,} training images without labels. Calibration times are of one core, shared "
        f"with other work{elsewhere}. `{result['command']}`."
    )
