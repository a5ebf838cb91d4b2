"""The ablation of the MSAT paper (its figure 4 and table 6) on CIFAR-10 with a pretrained ResNet-20.

    python -m benchmarks.accuracy --weights resnet20-cifar10.th [--images 10000] [--steps 256]

Constant thresholds at five fractions of the maximum; MSAT with either dynamic threshold and with
both; both with spike confidence (three seeds); the paper's variant and the release's. Calibration on 1,000 training
images without labels; accuracy on the first test images; $RHEOBASE_DATA names the folder of the
data. Finished runs are kept in runs/accuracy/ and are not repeated after an interruption.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

import rheobase as rb
from benchmarks import record
from rheobase.curve import Curve, draw_curves
from rheobase.data import calibration_subset, images
from rheobase.files import write_atomically
from rheobase.intervals import wilson
from rheobase.methods._base import Method
from rheobase.models import AKAMASTER_MEAN, AKAMASTER_STD, load_akamaster

METHODS: dict[str, Method] = {
    **{f"constant {f}": rb.ConstantThreshold(fraction=f) for f in (0.2, 0.5, 0.7, 0.9, 1.0)},
    "MSAT, DTT alone": rb.MSAT(det=False),
    "MSAT, DET alone": rb.MSAT(dtt=False),
    "MSAT": rb.MSAT(),
    "MSAT with confidence": rb.MSAT(confidence=True),
    "MSAT release": rb.MSAT.release(),
}
SEEDS = (0, 1, 2)


def run(label: str, arguments: argparse.Namespace) -> None:
    """Convert and evaluate with one method, and keep the curve."""
    path = part(label, arguments)
    if path.exists():
        return
    torch.set_num_threads(arguments.threads)
    model = load_akamaster(arguments.weights)
    calibration = calibration_subset(
        "cifar10", AKAMASTER_MEAN, AKAMASTER_STD, count=arguments.calibration, seed=arguments.seed
    )
    snn = rb.convert(model, torch.utils.data.DataLoader(calibration, batch_size=100), METHODS[label])
    test = images("cifar10", "test", AKAMASTER_MEAN, AKAMASTER_STD, limit=arguments.images)
    loader = torch.utils.data.DataLoader(test, batch_size=50)
    curve = rb.evaluate(snn, loader, arguments.steps, reference=model, seeds=SEEDS)
    confidence = {s: n.probability for s, n in snn.neurons().items() if isinstance(n, rb.neurons.SpikeConfidence)}
    origin = record.provenance(arguments.seed)
    content = {
        **{key: origin[key] for key in ("commit", "uncommitted_changes", "date")},
        "method": repr(METHODS[label]),
        "confidence": confidence,
        "curve": shorten(asdict(curve)),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(content))
    print(f"{label}: done", flush=True)


def part(label: str, arguments: argparse.Namespace) -> Path:
    """Where the finished run of one method is kept."""
    weights = hashlib.sha256(Path(arguments.weights).read_bytes()).hexdigest()
    key = (repr(METHODS[label]), weights, arguments.images, arguments.steps, arguments.calibration, arguments.seed)
    return Path("runs/accuracy") / f"{hashlib.sha256(repr(key).encode()).hexdigest()[:16]}.json"


def shorten(value: Any) -> Any:
    """Numbers with six significant digits."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {k: shorten(v) for k, v in value.items()}
    return [shorten(v) for v in value] if isinstance(value, list | tuple) else value


def ann_accuracy(arguments: argparse.Namespace) -> dict[str, Any]:
    """The accuracy of the network itself on the whole test set."""
    model = load_akamaster(arguments.weights)
    test = images("cifar10", "test", AKAMASTER_MEAN, AKAMASTER_STD)
    correct = 0
    with torch.no_grad():
        for x, y in torch.utils.data.DataLoader(test, batch_size=500):
            correct += int((model(x).argmax(1) == y).sum())
    low, high = wilson(correct / len(test), len(test))
    return {"images": len(test), "accuracy": correct / len(test), "low": low, "high": high}


def draw(parts: dict[str, Any], path: Path) -> None:
    """The paper's figure 4: constant thresholds beside MSAT, and MSAT's own variants."""
    from matplotlib.figure import Figure

    curves = {label: Curve.from_json(json.dumps(part["curve"])) for label, part in parts.items()}
    constant = [label for label in curves if label.startswith("constant")]
    panels = {
        "constant fractions of the maximum, and MSAT": [*constant, "MSAT"],
        "variants of MSAT, and the maximum": [*(label for label in curves if label not in constant), "constant 1.0"],
    }
    figure = Figure(figsize=(12, 4.8), layout="constrained")
    for axes, (title, labels) in zip(figure.subplots(1, 2, sharey=True), panels.items(), strict=True):
        draw_curves(axes, {label: curves[label] for label in labels})
        axes.set_title(title, fontsize=10)
    images = curves["MSAT"].images
    figure.suptitle(f"ResNet-20 on CIFAR-10, first {images:,} test images; bands are 95 % intervals", fontsize=11)
    figure.savefig(path, dpi=130)


def main() -> None:
    """Run what is missing, then write the result and the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    folder = os.environ.get("RHEOBASE_WEIGHTS", "../shared/weights")
    parser.add_argument("--weights", default=f"{folder}/resnet20-cifar10.th", help="akamaster's ResNet-20")
    parser.add_argument("--images", type=int, default=1000, help="the first test images")
    parser.add_argument("--calibration", type=int, default=1000, help="training images, without labels")
    parser.add_argument("--steps", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0, help="of the choice of calibration images")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="methods measured at the same time")
    parser.add_argument("--threads", type=int, default=1, help="of each worker")
    arguments = parser.parse_args()
    origin = record.provenance(arguments.seed)
    ann = ann_accuracy(arguments)
    print(f"ANN: {100 * ann['accuracy']:.2f} % on {ann['images']:,} test images", flush=True)
    slowest_first = sorted(METHODS, key=lambda label: (getattr(METHODS[label], "confidence", False), label[0] == "M"))
    with multiprocessing.get_context("spawn").Pool(arguments.workers, maxtasksperchild=1) as pool:
        pool.starmap(run, [(label, arguments) for label in reversed(slowest_first)], chunksize=1)
    parts = {label: json.loads(part(label, arguments).read_text()) for label in METHODS}
    name = "accuracy-resnet20-cifar10"
    if (arguments.images, arguments.steps) != (1000, 256):
        name += f"-{arguments.images}-{arguments.steps}"
    path = record.write(name, {**origin, "ann": ann, "calibration_images": arguments.calibration, "runs": parts})
    draw(parts, path.with_suffix(".png"))
    print(path)


if __name__ == "__main__":
    main()
