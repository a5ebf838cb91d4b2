"""What `rb.Auto` makes of a constraint: the T and the method that it takes, and what they reach on test images.

    python -m benchmarks.constraints [--network resnet20-cifar10] [--images 2000] [--only TEXT] [--keep] [--finished]

Finished rows are kept in runs/methods/ and not repeated; --keep takes over those of the stored result first; with
--finished nothing is measured: what is not finished is taken from the stored result, and marked as older. Beside the
accuracy stands that of the ANN on the same images; `Auto` itself sees calibration images alone.
"""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import Any

import rheobase as rb
from benchmarks import options, record
from benchmarks.methods import cell_path, once, take_over
from benchmarks.networks import Bench, bench

__all__ = ["ASKED"]

ASKED = (
    rb.Auto(),
    rb.Auto(accuracy_drop=0.05),
    rb.Auto(energy_budget=1.5),
    rb.Auto(steps=8, energy_budget=1.5),
    rb.Auto("binary", step_weighted=False, causal=False, accuracy_drop=0.05),
    rb.Auto("integer", levels=15, accuracy_drop=0.03),
    rb.Auto("power_of_two", accuracy_drop=0.03),
    rb.Auto("power_of_two", steps=4, energy_budget=1.0),
)


def row(on: Bench, asked: rb.Auto) -> dict[str, Any]:
    """One constraint."""
    start = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", rb.ConversionWarning)
        snn = rb.convert(on.model, list(on.calibration.split(128)), asked)
    seconds = time.perf_counter() - start
    curve = rb.evaluate(snn, on.test, reference=on.model)
    assert curve.accuracy is not None
    assert curve.agreement is not None
    return {
        "commit": record.provenance(0)["commit"],
        "asked": repr(asked),
        "taken": snn.plan.method,
        "steps": curve.steps,
        "met": not any(issubclass(w.category, rb.ConversionWarning) for w in caught),
        "why": snn.plan.reason,
        "accuracy": curve.accuracy[-1],
        "reference_accuracy": curve.reference_accuracy,
        "agreement": curve.agreement[-1],
        "events_per_neuron": curve.total_spikes[-1] / sum(curve.neurons.values()),
        "seconds": seconds,
    }


def place(on: Bench, asked: str, count: int) -> Path:
    """Where the finished row of a constraint is kept."""
    return cell_path(on, f"what {asked} takes", 0, count)


def keep(on: Bench, count: int) -> None:
    """Take over the stored rows of the same network and images."""
    stored = record.read("constraints") if record.has("constraints") else {"rows": []}
    known = (stored.get("network"), stored.get("images"), stored.get("calibration_images"))
    weights = stored.get("weights", on.weights)  # which digits have from the machine that they are trained on
    if (*known, weights) == (on.name, count, len(on.calibration), on.weights):
        take_over({place(on, r["asked"], count): r for r in stored["rows"] if not r.get("older")})


def older_rows(on: Bench) -> dict[str, dict[str, Any]]:
    """The stored rows of a network by what was asked, marked as what is not measured again."""
    stored = record.read("constraints") if record.has("constraints") else {}
    return {r["asked"]: {**r, "older": True} for r in stored.get("rows", ()) if stored["network"] == on.name}


def main() -> None:
    """Measure what is missing, then write the result."""
    arguments = options.parse(options.parser(__doc__, "network", "images", "calibration", "only", "keep", "finished"))
    on = bench(arguments.network, arguments.images, arguments.calibration)
    if arguments.keep:
        keep(on, arguments.images)
    rows, older = [], older_rows(on)
    for asked in ASKED:
        path = place(on, repr(asked), arguments.images)
        if arguments.finished and not path.exists():
            rows += [older[repr(asked)]] if repr(asked) in older else []
            continue
        if arguments.only not in repr(asked):
            continue
        rows.append(once(path, lambda asked=asked: row(on, asked)))  # type: ignore[misc]
        print(f"{asked!r}: {rows[-1]['taken']}, {100 * rows[-1]['accuracy']:.2f} %, "
              f"{rows[-1]['events_per_neuron']:.2f} events, {rows[-1]['seconds']:.0f} s", flush=True)  # fmt: skip
    if not arguments.only:
        content = {**record.provenance(0), "network": on.name, "weights": on.weights, "images": arguments.images,
                   "calibration_images": len(on.calibration), "rows": rows}  # fmt: skip
        print(record.write("constraints", content))


if __name__ == "__main__":
    main()
