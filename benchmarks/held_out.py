"""What settings of calibration are worth on images that it has not seen: by these, settings are chosen.

    python -m benchmarks.held_out [--only TEXT] [--images 4000] [--threads N]

ResNet-20 on CIFAR-10 is converted with each trial on 1,024 training images, and its answers are compared with the
ANN's on these and on others of the training split, so that no test image has a say in any setting. No labels are used.
Finished cells are kept in runs/methods/, and --keep takes over those of the stored result; with --finished, the
finished ones alone are written. $RHEOBASE_WEIGHTS and $RHEOBASE_DATA are those of `benchmarks.methods`.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import rheobase as rb
from benchmarks import methods, options, record
from benchmarks.networks import Bench, bench
from benchmarks.pixels import calibration_images
from rheobase.methods import AnnealedDelta, CalibratedMSAT, ParallelConversion, TemporalBias
from rheobase.methods.parts.scaled import Scaled
from rheobase.models import AKAMASTER_MEAN, AKAMASTER_STD
from rheobase.spiking import SpikingModel

NETWORK, CALIBRATION = "resnet20-cifar10", 1024

PARALLEL = ParallelConversion(steps=8, iterations=300, weight_rate=5e-3)
ANNEALED = AnnealedDelta(steps=4, iterations=300, anytime=0.0)
SHORT = AnnealedDelta(steps=4, iterations=50, anytime=0.0)
CONSTANT, ADAPTIVE = TemporalBias(steps=8), CalibratedMSAT(steps=8)
PAPER = {"tau_mp": 0.5, "v_t": -1.0}
TUNED = {"iterations": 100, "weight_rate": 5e-3}
BIASES = {"calibration": "temporal", "passes": 5}
CHANGES: Mapping[Scaled, Sequence[Mapping[str, Any]]] = {
    PARALLEL: ({}, {"divergence": 0.3}),
    ANNEALED: ({}, {"doubled": False}, {"divergence": 0.3}, {"mix": True}, {"weight_rate": 2e-2}, BIASES),
    SHORT: ({}, BIASES),
    CONSTANT: ({}, TUNED),
    ADAPTIVE: (PAPER, {**PAPER, "v_t": 0.0}, {"tau_mp": 1.0}, {"tau_mp": 1.0, "v_t": 1.0}, {}, {"v_t": 1.0}, TUNED),
}
TRIALS = tuple(dataclasses.replace(method, **change) for method, changes in CHANGES.items() for change in changes)


def cell(on: Bench, others: Tensor, method: Scaled) -> dict[str, Any]:
    """One trial; measured once."""

    def measure() -> dict[str, Any]:
        start = time.perf_counter()
        snn = rb.convert(on.model, list(torch.split(on.calibration, 128)), method)
        return {
            "commit": record.provenance(0)["commit"],
            "method": repr(method),
            "calibration_seconds": time.perf_counter() - start,
            "held_out": compared(on, snn, others),
            "calibration": compared(on, snn, on.calibration),
        }

    return methods.once(cell_path(on, others, method), measure)


def cell_path(on: Bench, others: Tensor, method: Scaled) -> Path:
    """Where a finished trial is kept."""
    return methods.cell_path(on, f"{method!r} on images not seen", method.steps, len(others))


def keep(on: Bench, others: Tensor) -> None:
    """Take over the stored trials of so many images."""
    stored = record.read("held-out")["trials"] if record.has("held-out") else []
    trials = {repr(method): method for method in TRIALS}
    alike = [found for found in stored if found["method"] in trials and found["held_out"]["images"] == len(others)]
    methods.take_over({cell_path(on, others, trials[found["method"]]): found for found in alike})


def compared(on: Bench, snn: SpikingModel, images: Tensor) -> Mapping[str, float]:
    """How often another class has the largest answer than in the ANN, and the relative error |o(T) - o| / |o|."""
    curve = rb.evaluate(snn, list(torch.split(images, 250)), reference=on.model)
    assert curve.agreement is not None
    assert curve.logit_error is not None
    return {"images": curve.images, "disagreement": 1 - curve.agreement[-1], "error": curve.logit_error[-1]}


def unseen(on: Bench, count: int) -> Tensor:
    """Images of the training split that are not among the calibration images."""
    drawn = calibration_images("cifar10", AKAMASTER_MEAN, AKAMASTER_STD, count + 2 * len(on.calibration))
    known = {image.numpy().tobytes() for image in on.calibration}
    return torch.stack([image for image in drawn if image.numpy().tobytes() not in known][:count])


def main() -> None:
    """Measure what is missing, then write the result."""
    about = "training images that calibration does not see"
    made = options.parser(__doc__, "only", "keep", "finished", images={"default": 4000, "help": about})
    arguments = options.parse(made)
    on = bench(NETWORK, 1, CALIBRATION)
    others = unseen(on, arguments.images)
    if arguments.keep:
        keep(on, others)
    rows = []
    for method in TRIALS:
        if arguments.only not in repr(method) or (arguments.finished and not cell_path(on, others, method).exists()):
            continue
        rows.append(cell(on, others, method))
        told = " / ".join(f"{100 * rows[-1][part]['disagreement']:.2f} %" for part in ("held_out", "calibration"))
        print(f"{method!r}: {told}", flush=True)
    if not arguments.only:
        content = {**record.provenance(0), "network": NETWORK, "calibration_images": CALIBRATION, "trials": rows}
        print(record.write("held-out", content))


if __name__ == "__main__":
    main()
