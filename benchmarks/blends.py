"""Which images `rb.Auto` should judge by: those held out of the calibration, or blends of them.

    python -m benchmarks.blends [--network NAME ...] [--images 2000] [--threads N]

A network is sure of what it was trained on, so that a conversion changes fewer of its answers there than on test
images. Each method converts on some training images; the share of answers that stay the ANN's is measured on others,
on these with some of another blended into each, and on test images. Networks that are not named keep their stored rows.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

import rheobase as rb
from benchmarks import options, record
from benchmarks.networks import Bench, bench
from rheobase.methods import AnnealedDelta, DifferentialCoding, ParallelConversion, RateCoding, TemporalBias
from rheobase.methods.auto import blended
from rheobase.methods.parts.scaled import Scaled

__all__ = ["SHARES", "judged"]

NETWORKS = ("resnet20-cifar10", "vgg16-cifar10", "cnn-digits", "resnet56-digits")
HELD_OUT, SHARES = 256, (0.0, 0.1, 0.15, 0.2, 0.3)
METHODS: tuple[Scaled, ...] = (
    AnnealedDelta(steps=4, iterations=0),
    AnnealedDelta(steps=4, iterations=100),
    AnnealedDelta(steps=6, iterations=100),
    TemporalBias(steps=1, levels=4),
    TemporalBias(steps=2, levels=4, signed=True),
    TemporalBias(steps=8, signed=True),
    RateCoding(steps=1, levels=15),
    ParallelConversion(steps=8),
    ParallelConversion(steps=16),
    DifferentialCoding(steps=3),
)


def row(on: Bench, method: Scaled) -> dict[str, Any]:
    """One method on one network: the share of answers that are the ANN's, on all kinds of images."""
    snn = rb.convert(on.model, list(on.calibration[:-HELD_OUT].split(128)), method)

    def agreement(images: Any) -> float:
        found = rb.evaluate(snn, images, method.steps, reference=on.model).agreement
        assert found is not None
        return found[-1]

    held: Tensor = on.calibration[-HELD_OUT:]
    found = [agreement(list(blended(held, share).split(128))) for share in SHARES]
    print(f"{on.name} {method!r}: {' '.join(f'{100 * a:.1f}' for a in found)}", flush=True)
    return {
        "commit": record.provenance(0)["commit"], "network": on.name, "method": repr(method),
        "held_out": HELD_OUT, "test_images": len(on.test.dataset),
        "shares": list(SHARES), "agreement": found, "agreement_on_test_images": agreement(on.test),
    }  # fmt: skip


def judged(rows: list[dict[str, Any]]) -> dict[str, list[float]]:
    """Agreement on each kind of held-out images less that on test images, the mean over methods, by network."""
    apart: dict[str, list[list[float]]] = {}
    for found in rows:
        apart.setdefault(found["network"], []).append(
            [a - found["agreement_on_test_images"] for a in found["agreement"]]
        )
    return {network: [sum(column) / len(column) for column in zip(*of, strict=True)] for network, of in apart.items()}


def main() -> None:
    """Measure, then write the result."""
    arguments = options.parse(options.parser(__doc__, "images", network={"nargs": "+", "default": NETWORKS}))
    stored = record.read("blends")["rows"] if record.has("blends") else []
    rows = [found for found in stored if found["network"] not in arguments.network]
    for network in arguments.network:
        on = bench(network, arguments.images, 1024)
        rows += [row(on, method) for method in METHODS]
    print(record.write("blends", {**record.provenance(0), "rows": rows}))


if __name__ == "__main__":
    main()
