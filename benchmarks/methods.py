"""Every method on one bench: the same network, calibration images, test images and count of steps.

    python -m benchmarks.methods [--network resnet20-cifar10|vgg16-cifar10|resnet20-qcfs8-cifar10] [--images 2000]
        [--only TEXT]

For each method and number of steps T: accuracy, agreement with the ANN, logit error, events a neuron, synaptic
operations, latency and calibration time; beside them the quantised twins, the ANN with as many levels as the sum of T
steps has. A method goes on to more steps until it is within 0.1 points of the ANN. Calibration on training images
without labels. Finished cells are kept in runs/methods/, each with its commit, and are not repeated: remove them when
the code has changed what they measure; --keep takes over those of the stored results first. --untuned leaves out what
gradients calibrate, --most 4 goes no further than T = 4, --finished measures nothing and writes what there is.
$RHEOBASE_DATA names the folder of the data, $RHEOBASE_WEIGHTS that of resnet20-cifar10.th.

    python -m benchmarks.methods --device cuda --share 0/4

measures the first of four shares of the rows on a graphics processor, and writes nothing but their cells. What a cell
was measured on is stored in it.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import rheobase as rb
from benchmarks import options, record
from benchmarks.accuracy import shorten
from benchmarks.entries import BARS, ENTRIES, TRAINED, Entry
from benchmarks.networks import Bench, bench
from rheobase.files import write_atomically
from rheobase.methods._base import Method
from rheobase.methods.parts.tuned import Tuned
from rheobase.neurons import Alphabet, Payload
from rheobase.qcfs import ClipFloorShift
from rheobase.twin import evaluate_twin, levels_after

STEPS = (1, 2, 4, 6, 8, 16, 32, 64, 128)
ENOUGH = 0.001
TWINS = (1, 2, 3, 4, 8, 15, 16, 32)


def cell(on: Bench, method: Method, steps: int, count: int) -> dict[str, Any]:
    """One method at one T; measured once."""
    return once(cell_path(on, repr(method), steps, count), lambda: _cell(on, method, steps))


def _cell(on: Bench, method: Method, steps: int) -> dict[str, Any]:
    """One method at one T."""
    start = time.perf_counter()
    snn = rb.convert(on.model, torch.utils.data.DataLoader(on.calibration, batch_size=128), method)
    seconds = time.perf_counter() - start
    curve = rb.evaluate(snn, on.test, steps, reference=on.model)
    assert curve.accuracy is not None
    assert curve.agreement is not None
    assert curve.logit_error is not None
    origin = record.provenance(0)
    neurons = sum(curve.neurons.values())
    spikes, operations = curve.total_spikes, curve.total_operations
    alphabets = sorted({str(neuron.alphabet) for neuron in snn.plan.neurons.values()})
    content = {
        **{name: origin[name] for name in ("commit", "uncommitted_changes", "date")},
        "method": repr(method),
        **({"reason": snn.plan.reason} if snn.plan.reason else {}),
        "alphabet": ", ".join(alphabets),
        "causal": snn.causal,
        "end_to_end_steps": curve.end_to_end_steps,
        "steps": steps,
        "levels": curve.levels,
        "accuracy": curve.accuracy[-1],
        "accuracy_by_step": list(curve.accuracy),
        "agreement": curve.agreement[-1],
        "agreement_by_step": list(curve.agreement),
        "logit_error": curve.logit_error[-1],
        "logit_error_by_step": list(curve.logit_error),
        "events_per_neuron": spikes[-1] / neurons,
        "events_per_neuron_by_step": [events / neurons for events in spikes],
        "synops": operations[-1],
        "synops_by_step": operations,
        "synops_of_a_dense_pass": sum(curve.dense_operations.values()),
        "reference_accuracy": curve.reference_accuracy,
        "calibration_seconds": seconds,
        **({"device": torch.cuda.get_device_name(), "torch": torch.__version__} if on.calibration.is_cuda else {}),
    }
    return dict(shorten(content))


def once(path: Path, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What is kept in a file; where there is none yet, what is measured now, which is kept there."""
    if not path.exists():
        store(path, measure())
    return dict(json.loads(path.read_text()))


def store(path: Path, content: Any) -> None:
    """Keep a finished cell."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(content))


def cell_path(on: Bench, method: str, steps: int, count: int) -> Path:
    """Where a finished cell of the method with this ``repr`` is kept."""
    key = (on.name, on.weights, method, steps, count, len(on.calibration))
    return Path("runs/methods") / f"{hashlib.sha256(repr(key).encode()).hexdigest()[:16]}.json"


def keep(on: Bench, count: int) -> None:
    """Take over what is stored for the same network, images and calibration, but for what is marked as older.

    A network that is trained when it is needed differs from machine to machine: its weights must be the same too.
    """
    for name in (f"{kind}-{on.name}" for kind in ("methods", "bars", "best")):
        stored = record.read(name) if record.has(name) else {}
        same = (stored.get("images"), stored.get("calibration_images"), stored.get("weights", on.weights))
        if same != (count, len(on.calibration), on.weights):
            continue
        found = [c for entry in stored.get("methods", ()) for c in entry["cells"] if not c.get("older")]
        found += [content for goal in stored.get("bars", ()) if (content := goal["cell"]) and not content.get("older")]
        cells = {cell_path(on, content["method"], content["steps"], count): content for content in found}
        for content in stored.get("twins", ()):
            cells[twin_path(on, content["levels"], count)] = {"commit": stored["commit"], **content}
        take_over(cells)


def take_over(cells: Mapping[Path, Mapping[str, Any]]) -> None:
    """Keep stored cells that are not there yet."""
    for kept, content in cells.items():
        if not kept.exists():
            store(kept, content)


def near(accuracy: float, reference: float, by: float = ENOUGH) -> bool:
    """Whether an accuracy is so near to that of the ANN, or above it."""
    return reference - accuracy <= by + 1e-9  # for rounding


def levels_of(line: Mapping[str, Any], steps: int, made: Method | None = None) -> int | None:
    """The levels of the quantised twin of a row at T, at most 255; None where spikes are real numbers.

    The method is that of the entry of this group and name, if none is given.

    Older cells do not say them: they come from the words of the alphabet where all steps weigh alike, and else from a
    conversion of a small network. None where a method chose for itself what it sends, and where tuning gave a weighted
    step another weight, unless there were 255 without.
    """
    at = next((found for found in line["cells"] if found["steps"] == steps), line["cells"][-1])
    if "levels" in at and at["steps"] == steps:
        levels: int | None = at["levels"]
        return levels
    if "step-weighted" not in at["alphabet"]:
        kinds = re.findall(r"(binary|ternary|integer|power_of_two|real)(?:\((\d+)\))?", at["alphabet"])
        found = [Alphabet(Payload(kind), int(n or 1)).levels_after(steps) for kind, n in kinds]
        known = [n for n in found if n is not None]
        return min(max(known), 255) if len(known) == len(found) else None
    if made is None:
        named = (e for e in ENTRIES if (e.group, e.name) == (line["group"], line["name"]) and e.name != "Auto")
        entry = next(named, None)
        if entry is None:
            return None
        made = entry.make(steps)
    still = dataclasses.replace(made, iterations=0) if isinstance(made, Tuned) else made
    net = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.ReLU(), torch.nn.Linear(1, 2))
    torch.nn.init.ones_(net[0].weight)
    torch.nn.init.zeros_(net[0].bias)
    levels = levels_after(rb.convert(net, torch.linspace(0.1, 1, 8)[:, None], still).plan, steps)
    return levels if still == made or levels == 255 else None


def accuracies(line: Mapping[str, Any]) -> dict[int, float]:
    """The accuracy of one row of a result at each number of steps."""
    if line["fixed"]:
        curve = line["cells"][-1]["accuracy_by_step"]
        return {t: curve[t - 1] for t in STEPS if t <= len(curve)}
    return {found["steps"]: found["accuracy"] for found in line["cells"]}


def shown(line: Mapping[str, Any]) -> dict[int, float]:
    """The same up to where it is near enough to the ANN."""
    found, reference = accuracies(line), line["cells"][-1]["reference_accuracy"]
    first = next((t for t in found if near(found[t], reference)), None)
    return {t: accuracy for t, accuracy in found.items() if first is None or t <= first}


def twin_path(on: Bench, levels: int, count: int) -> Path:
    """Where a finished twin is kept."""
    return cell_path(on, f"the quantised twin of {levels} levels", 1, count)


def twin(on: Bench, levels: int, count: int) -> dict[str, Any]:
    """The ANN with activations of so many levels, with bias correction; measured once."""

    def measure() -> dict[str, Any]:
        graph, data = rb.trace(on.model, on.calibration[:2]), list(on.calibration.split(128))
        found = evaluate_twin(graph, data, on.test, levels)
        figures = {"levels": levels, "accuracy": found.accuracy, "agreement": found.agreement}
        return {"commit": record.provenance(0)["commit"], **figures}

    return once(twin_path(on, levels, count), measure)


def twins(on: Bench, levels: Iterable[int | None], count: int) -> list[dict[str, Any]]:
    """The twins of so many levels each, of those that are known."""
    return [twin(on, n, count) for n in sorted({n for n in levels if n is not None})]


def bars(on: Bench, arguments: argparse.Namespace) -> None:
    """The goals that were set, and what is reached; of what is not measured yet, what the stored result has."""
    rows = []
    older = record.read(f"bars-{on.name}")["bars"] if record.has(f"bars-{on.name}") else []
    stored = {(goal["group"], goal["steps"]): goal for goal in older}
    for bar in BARS:
        if arguments.finished and not cell_path(on, repr(bar.make(bar.steps)), bar.steps, arguments.images).exists():
            nothing = {"group": bar.group, "steps": bar.steps, "bar": bar.drop, "drop": None, "cell": None}
            rows.append(as_older(stored.get((bar.group, bar.steps), nothing)))
        elif arguments.only in bar.group:
            found = cell(on, bar.make(bar.steps), bar.steps, arguments.images)
            drop = 100 * (found["reference_accuracy"] - found["accuracy"])
            print(f"{bar.group}, T = {bar.steps}: drop {drop:.2f}, at most {bar.drop}; "
                  f"{found['calibration_seconds']:.0f} s", flush=True)  # fmt: skip
            levels = levels_of({"cells": [found]}, bar.steps, bar.make(bar.steps))
            rows.append({"group": bar.group, "steps": bar.steps, "bar": bar.drop, "drop": drop, "levels": levels,
                         "cell": found})  # fmt: skip
    if not arguments.only:
        content = {**record.provenance(0), "network": on.name, "weights": on.weights, "images": arguments.images,
                   "calibration_images": len(on.calibration), "bars": rows,
                   "twins": twins(on, (found.get("levels") for found in rows), arguments.images)}  # fmt: skip
        print(record.write(f"bars-{on.name}", content))


def as_older(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row of a stored result, with its cell marked as what is not measured again."""
    return {**row, "cell": row["cell"] and {**row["cell"], "older": True}}


def entries_for(model: torch.nn.Module) -> list[Entry]:
    """The rows of a network: those of `TRAINED` where it was trained with few levels."""
    if any(isinstance(module, ClipFloorShift) for module in model.modules()):
        return list(TRAINED)
    pools = any(isinstance(module, torch.nn.MaxPool2d) for module in model.modules())
    return [entry for entry in ENTRIES if pools or not entry.pools]


def steps_of(entry: Entry, most: int) -> tuple[int, ...]:
    """The numbers of steps that an entry is simulated for, up to so many."""
    first = entry.last if entry.fixed else entry.first
    return tuple(t for t in STEPS if first <= t <= min(entry.last, most))


def older_cells(on: Bench) -> dict[tuple[str, str], dict[int, dict[str, Any]]]:
    """What the stored table has, by group and name of the method and by the number of steps, marked as older."""
    name = f"methods-{on.name}"
    rows = record.read(name)["methods"] if record.has(name) else []
    return {(r["group"], r["name"]): {c["steps"]: {**c, "older": True} for c in r["cells"]} for r in rows}


def row(
    on: Bench,
    entry: Entry,
    at: Sequence[int],
    count: int,
    enough: float = ENOUGH,
    older: Mapping[int, dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """One method at some numbers of steps, until it is near enough.

    With older cells nothing is measured: one of them stands for a cell that is not finished, if there is one.
    """
    cells = []
    for steps in at:
        if older is not None and not cell_path(on, repr(entry.make(steps)), steps, count).exists():
            cells += [older[steps]] if steps in older else []
            continue
        last = cell(on, entry.make(steps), steps, count)
        cells.append(last)
        print(f"{entry.group}: {entry.name}, T = {steps}: {100 * last['accuracy']:.2f} %, drop "
              f"{100 * (last['reference_accuracy'] - last['accuracy']):.2f}, {last['calibration_seconds']:.0f} s",
              flush=True)  # fmt: skip
        if near(last["accuracy"], last["reference_accuracy"], enough):
            break
    return {"name": entry.name, "group": entry.group, "paper": entry.paper, "fixed": entry.fixed, "cells": cells}


def main() -> None:
    """Measure what is missing, then write the result."""
    made = options.parser(__doc__, "network", "images", "calibration", "finished", "keep", "only", "device", "share")
    made.add_argument("--bars", action="store_true", help="the goals alone, usually with --images 10000")
    made.add_argument("--untuned", action="store_true", help="without gradient calibration; nothing is written then")
    made.add_argument("--most", type=int, default=STEPS[-1], help="the largest T; nothing is written then")
    arguments = options.parse(made)
    on = bench(arguments.network, arguments.images, arguments.calibration, arguments.device)
    arguments.images = len(on.test.dataset)  # there may be fewer
    if arguments.keep:
        keep(on, arguments.images)
    if arguments.bars:
        bars(on, arguments)
        return
    entries = entries_for(on.model)
    wanted = [e for e in entries if arguments.only in f"{e.group}: {e.name}" and not (arguments.untuned and e.tuned)]
    if arguments.share:
        first, every = map(int, arguments.share.split("/"))
        wanted = wanted[first::every]
    older = older_cells(on) if arguments.finished else None
    measured = (
        row(on, e, steps_of(e, arguments.most), arguments.images, older=older and older.get((e.group, e.name), {}))
        for e in wanted
    )
    rows = [found for found in measured if found["cells"]]
    if len(wanted) < len(entries) or arguments.most < STEPS[-1]:
        return
    at_last = [levels_of(found, max(shown(found))) for found in rows]
    content = {
        **record.provenance(0), "network": on.name, "weights": on.weights, "images": arguments.images,
        "calibration_images": len(on.calibration), "methods": rows,
        "twins": twins(on, (*TWINS, *at_last), arguments.images),
    }  # fmt: skip
    print(record.write(f"methods-{on.name}", content))


if __name__ == "__main__":
    main()
