"""What of the goals is chance of tuning, and what is the doubled first step.

    python -m benchmarks.margins [--images 10000] [--only TEXT] [--keep] [--finished] [--threads N]

The goals of ResNet-20 on CIFAR-10 whose tuning left them least room, with other seeds; and those of annealed delta
coding with a sign in the first step too. Finished cells are kept in runs/methods/; --keep takes over those of the
stored results first, and with --finished nothing is measured, and the finished ones alone are written.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from benchmarks import options, record
from benchmarks.entries import BARS, TERNARY, WEIGHTED, Bar
from benchmarks.methods import cell, cell_path, keep, take_over
from benchmarks.networks import bench
from rheobase.methods.parts.tuned import Tuned

NETWORK, RESULT = "resnet20-cifar10", "margins"
SEEDS = (0, 1, 2)
SEEDED = ((WEIGHTED, 6), (TERNARY, 16))
SIGNS = ((WEIGHTED, 2), (WEIGHTED, 4), (WEIGHTED, 6), (WEIGHTED, 8))
ALONE = "signs alone"


def rows() -> list[tuple[Bar, str, Tuned]]:
    """Each goal, what is changed, and the method with it."""
    goals = {(bar.group, bar.steps): bar for bar in BARS}
    found = [(goals[key], f"seed {seed}", changed(goals[key], seed=seed)) for key in SEEDED for seed in SEEDS]
    return found + [(goals[key], ALONE, changed(goals[key], doubled=False)) for key in SIGNS]


def changed(bar: Bar, **settings: Any) -> Tuned:
    """The method of a goal with other settings."""
    method = bar.make(bar.steps)
    assert isinstance(method, Tuned)
    return dataclasses.replace(method, **settings)


def main() -> None:
    """Measure what is missing, then write the result."""
    arguments = options.parse(options.parser(__doc__, "only", "keep", "finished", images={"default": 10000}))
    on = bench(NETWORK, arguments.images, 1024, "cpu")
    count = len(on.test.dataset)
    if arguments.keep:
        keep(on, count)
        stored = record.read(RESULT) if record.has(RESULT) else {}
        if stored.get("images") == count:
            take_over({cell_path(on, r["cell"]["method"], r["steps"], count): r["cell"] for r in stored["rows"]})
    found = []
    for bar, change, method in rows():
        if arguments.only not in f"{bar.group}, {change}":
            continue
        if arguments.finished and not cell_path(on, repr(method), bar.steps, count).exists():
            continue
        at = cell(on, method, bar.steps, count)
        drop = 100 * (at["reference_accuracy"] - at["accuracy"])
        print(f"{bar.group}, T = {bar.steps}, {change}: drop {drop:.2f}, at most {bar.drop}", flush=True)
        row = {"group": bar.group, "steps": bar.steps, "change": change, "bar": bar.drop, "drop": drop, "cell": at}
        found.append(row)
    if not arguments.only:
        content = {**record.provenance(0), "network": on.name, "weights": on.weights, "images": count,
                   "calibration_images": len(on.calibration), "rows": found}  # fmt: skip
        print(record.write(RESULT, content))


if __name__ == "__main__":
    main()
