"""What the parts of annealed delta coding are worth: one thing changed at a time, on the bench of `benchmarks.methods`.

    python -m benchmarks.ablations [--images 2000] [--threads N]

Accuracy after each step for ResNet-20 on CIFAR-10, and what depth does for other networks of the zoo. Finished cells
are kept in runs/methods/; with --finished nothing is measured, and rows without a finished cell stay as they are
stored, marked as older where the method has other settings now. Environment variables are those of
`benchmarks.methods`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch

import rheobase as rb
from benchmarks import options, record
from benchmarks.methods import as_older, cell, cell_path, once
from benchmarks.networks import Bench, bench
from rheobase.methods import AnnealedDelta

STEPS, ITERATIONS, CALIBRATION = 4, 150, 1024

CHANGES: Mapping[str, Mapping[str, Any]] = {
    "as it is": {},
    "one schedule a layer": {"per_channel": False},
    "powers of two only": {"shifts": True},
    "weights left alone": {"weight_rate": 0.0},
    "not tuned": {"iterations": 0},
    "not tuned, but biases in closed form (FTBC)": {"iterations": 0, "calibration": "temporal", "passes": 5},
    "layer by layer, weights left alone": {"iterations": 0, "layer_iterations": 60},
    "layer by layer, then end to end": {"layer_iterations": 30},
    "the last answer alone (anytime 0)": {"anytime": 0.0},
    "the divergence of the answers too": {"divergence": 0.3},
    "a quarter of the rate of weights": {"weight_rate": 0.25 * AnnealedDelta.weight_rate},
    "four times the rate of weights": {"weight_rate": 4 * AnnealedDelta.weight_rate},
    "a sign in the first step too (not doubled)": {"doubled": False},
    "positive events only (binary)": {"signed": False, "doubled": False},
    "three levels": {"levels": 3},
    "50 iterations": {"iterations": 50},
    "450 iterations": {"iterations": 450},
    "T = 1": {"steps": 1},
    "T = 2": {"steps": 2},
    "T = 8": {"steps": 8},
    "T = 8, positive events only (binary)": {"steps": 8, "signed": False, "doubled": False},
    "T = 2, a sign in the first step too": {"steps": 2, "doubled": False},
    "T = 8, a sign in the first step too": {"steps": 8, "doubled": False},
    "seed 1": {"seed": 1},
    "seed 2": {"seed": 2},
}
SEARCHED = "not tuned, but f and g by search"
FIRST, DECAY = (0.4, 0.5, 0.6, 0.7, 0.8), (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8)
SAMPLES = (64, 128, 256, 512)
NETWORKS = ("vgg16-cifar10", "resnet20-w32-cifar10", "resnet56-digits", "resnet34-random-cifar10")
DEPTH_STEPS = (4, 8)


def method(changes: Mapping[str, Any]) -> AnnealedDelta:
    """The base of the ablation, with something changed."""
    return AnnealedDelta(**{"steps": STEPS, "iterations": ITERATIONS, **changes})


def searched(on: Bench) -> Path:
    """Where the f and g are kept that make the error of the answers on calibration images least."""
    return cell_path(on, f"the schedule of {method({})!r} by search", STEPS, len(on.calibration))


def search(on: Bench) -> dict[str, float]:
    """Try all f and g."""
    x = on.calibration[:256]
    with torch.no_grad():
        wanted = on.model(x)

    def error(settings: dict[str, float]) -> float:
        snn = rb.convert(on.model, on.calibration, method({"iterations": 0, **settings}))
        return float((rb.simulate(snn, x, STEPS).output - wanted).norm() / wanted.norm())

    return min(({"first": f, "decay": g} for f in FIRST for g in DECAY), key=error)


def main() -> None:
    """Measure what is missing, then write the result."""
    arguments = options.parse(options.parser(__doc__, "images", "device", "share", "finished"))
    rows, place = [], cache(bench)  # several rows have one network and its data
    first, every = map(int, (arguments.share or "0/1").split("/"))
    turns: list[str] = []
    stored = record.read("ablations")["rows"] if arguments.finished else []

    def measure(network: str, label: str, how: AnnealedDelta, calibration: int = CALIBRATION) -> None:
        turns.append(label)
        if arguments.share and (len(turns) - 1 - first) % every:
            return
        on = place(network, arguments.images, calibration, arguments.device)
        if arguments.finished and not cell_path(on, repr(how), how.steps, len(on.test.dataset)).exists():
            before = [row for row in stored if (row["network"], row["label"]) == (network, label)]
            rows.extend(row if row["cell"]["method"] == repr(how) else as_older(row) for row in before)
            return
        found = cell(on, how, how.steps, len(on.test.dataset))
        rows.append({"network": network, "label": label, "calibration_images": len(on.calibration), "cell": found})
        print(f"{network}, {label}: {100 * found['accuracy']:.2f} %, ANN {100 * found['reference_accuracy']:.2f} %",
              flush=True)  # fmt: skip

    for label, changes in CHANGES.items():
        measure("resnet20-cifar10", label, method(changes))
    on = place("resnet20-cifar10", arguments.images, CALIBRATION, arguments.device)
    if arguments.finished and not searched(on).exists():
        rows += [row for row in stored if row["label"] == SEARCHED]
    elif not arguments.share:
        measure(on.name, SEARCHED, method({"iterations": 0, **once(searched(on), lambda: search(on))}))
    for count in SAMPLES:
        measure("resnet20-cifar10", f"{count} images", method({}), count)
    for network in NETWORKS:
        for steps in DEPTH_STEPS:
            measure(network, f"T = {steps}", method({"steps": steps}))
    for label in ("weights left alone", "not tuned"):
        measure("vgg16-cifar10", label, method(CHANGES[label]))
    if arguments.share:
        return
    content = {**record.provenance(0), "images": arguments.images, "steps": STEPS, "iterations": ITERATIONS,
               "rows": rows}  # fmt: skip
    print(record.write("ablations", content))


if __name__ == "__main__":
    main()
