"""The best method of each kind of spikes, on other networks with the same settings.

    python -m benchmarks.best --network resnet20-w48-cifar100 [--images 2000] [--only TEXT] [--keep] [--finished]

The best of a group is the method that was within a point of the ANN in the fewest steps T on ResNet-20 and CIFAR-10,
and of several the most accurate one (`benchmarks.methods` must have been run); where none was, the one that came
nearest. It is measured at that T, and at the next one of the table where it is more than a point below the ANN; and
`Auto` for such spikes at that T, where the table has it.
Finished cells are kept in runs/methods/; --keep takes over those of the stored results first, and with --finished
nothing is measured, and the finished ones alone are written. Networks are those of the zoo, `cnn-digits` and
`resnet56-digits`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import options, record
from benchmarks.entries import ENTRIES, Entry
from benchmarks.methods import STEPS, accuracies, keep, levels_of, near, row, twins
from benchmarks.networks import bench

__all__ = ["NEAR", "SOURCE", "best_of_each_group"]

SOURCE = "methods-resnet20-cifar10"
NEAR = 0.01


def best_of_each_group(rows: Sequence[Mapping[str, Any]]) -> list[tuple[Entry, int]]:
    """The entry of each group that needs the fewest steps, and these steps."""
    taken: dict[str, tuple[tuple[float, float], Entry, int]] = {}
    entries = {(entry.group, entry.name): entry for entry in ENTRIES if entry.name != "Auto"}
    for line in rows:
        entry = entries.get((line["group"], line["name"]))
        if entry is None or not line["cells"]:
            continue
        reference = line["cells"][-1]["reference_accuracy"]
        for steps, accuracy in accuracies(line).items():
            rank = (-float(steps), accuracy) if near(accuracy, reference, NEAR) else (-float("inf"), accuracy)
            if entry.group not in taken or rank > taken[entry.group][0]:
                taken[entry.group] = (rank, entry, steps)
    return [(entry, steps) for _, entry, steps in taken.values()]


def main() -> None:
    """Measure what is missing, then write the result."""
    made = options.parser(
        __doc__, "images", "calibration", "only", "keep", "finished", "device", network={"required": True}
    )
    arguments = options.parse(made)
    chosen = best_of_each_group(record.read(SOURCE)["methods"])
    on = bench(arguments.network, arguments.images, arguments.calibration, arguments.device)
    count = len(on.test.dataset)
    if arguments.keep:
        keep(on, count)
    at = [(e, [t for t in STEPS if t >= first][:2]) for e, first in chosen]
    automatic = {entry.group: entry for entry in ENTRIES if entry.name == "Auto"}
    at += [(automatic[e.group], [first]) for e, first in chosen if e.group in automatic]
    wanted = [(e, steps) for e, steps in at if arguments.only in f"{e.group}: {e.name}"]
    older: dict[int, dict[str, Any]] | None = {} if arguments.finished else None
    rows = [row(on, e, steps, count, NEAR, older) for e, steps in wanted]
    rows = [line for line in rows if line["cells"]]
    if not arguments.only:
        content = {**record.provenance(0), "network": on.name, "weights": on.weights, "images": count,
                   "calibration_images": len(on.calibration), "methods": rows,
                   "twins": twins(on, (levels_of(line, c["steps"]) for line in rows for c in line["cells"]), count),
                   }  # fmt: skip
        print(record.write(f"best-{on.name}", content))


if __name__ == "__main__":
    main()
