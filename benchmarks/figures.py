"""The figures of docs/annealed.md, drawn from stored results.

    python -m benchmarks.figures

The first: left, all methods with ternary spikes on ResNet-20 and CIFAR-10, by T (`benchmarks.methods`); right, the
accuracy after each step of annealed delta coding for T = 4, with one of its parts left out (`benchmarks.ablations`).
The second, of the ablations: what the steps, the iterations, the calibration images and the depth do.
"""

from __future__ import annotations

import sys
from typing import Any

from benchmarks import record
from benchmarks.best import accuracies
from benchmarks.method_tables import TABLE, TERNARY
from rheobase.intervals import wilson

__all__ = ["main"]

PARTS = {
    "as it is": "annealed delta coding",
    "weights left alone": "weights left alone",
    "one schedule a layer": "one schedule a layer",
    "a sign in the first step too (not doubled)": "not doubled in the first step",
    "not tuned": "not tuned",
}
LAST, LEAST = 16, 0.4  # the largest T, and the accuracy where the left panel begins
FIGURE, SETTINGS = record.RESULTS / "ternary-resnet20-cifar10.png", record.RESULTS / "annealed-settings.png"
NUMBERS = {  # of settings, and the rows of the ablations that have them
    "T": {1: "T = 1", 2: "T = 2", 4: "as it is", 8: "T = 8"},
    "iterations": {50: "50 iterations", 150: "as it is", 450: "450 iterations"},
    "calibration images": {64: "64 images", 128: "128 images", 256: "256 images", 512: "512 images", 1024: "as it is"},
}
DEPTHS = {
    "vgg16-cifar10": "VGG16",
    "resnet20-cifar10": "ResNet-20",
    "resnet20-w32-cifar10": "ResNet-20, twice as wide",
    "resnet34-random-cifar10": "ResNet-34, random weights",
    "resnet56-digits": "ResNet-56, digits",
}


def main() -> None:
    """Draw both figures; with ``--check``, as for the tables, write nothing."""
    if "--check" in sys.argv[1:]:
        return
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    _methods(left)
    _parts(right)
    left.set_ylabel("accuracy (%)")
    for axes in (left, right):
        axes.set_ylim(100 * LEAST, 94)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, loc="lower right")
    figure.savefig(FIGURE, dpi=150)
    print(FIGURE)
    figure = Figure(figsize=(13, 3.6), layout="constrained")
    _settings(figure.subplots(1, 4, width_ratios=(1, 1, 1, 1.6)))
    figure.savefig(SETTINGS, dpi=150)
    print(SETTINGS)


def _methods(axes: Any) -> None:
    """A line for each method with ternary spikes: dashed where all spikes weigh the same, thick where it is ours."""
    result = record.read(TABLE)
    for row in result["methods"]:
        if row["group"] not in TERNARY or row["name"] == "Auto":
            continue
        found = {t: accuracy for t, accuracy in accuracies(row).items() if t <= LAST}
        if max(found.values(), default=0) < LEAST:
            continue
        weighted, tuned = row["group"] == TERNARY[1], row["paper"] == "ours" and "not tuned" not in row["name"]
        axes.plot(list(found), [100 * a for a in found.values()], "-" if weighted else "--", marker="o", markersize=3.5,
                  label=row["name"], linewidth=2.4 if tuned else 1.2)  # fmt: skip
    reference = result["methods"][0]["cells"][-1]["reference_accuracy"]
    axes.axhline(100 * reference, color="black", linestyle=":", label=f"the ANN, {100 * reference:.2f} %")
    axes.set_xscale("log", base=2)
    axes.set_xlim(1.8, 1.1 * LAST)
    axes.set_xticks([2, 4, 8, LAST], labels=["2", "4", "8", str(LAST)])
    axes.set_xlabel("T (dashed: all spikes of equal weight)")
    axes.set_title(f"ternary, causal methods; {result['images']:,} test images", fontsize=10)


def _settings(panels: Any) -> None:
    """The last answer by three settings, with its 95 % interval, and the agreement with the ANN by network."""
    result = record.read("ablations")
    rows = {(row["network"], row["label"]): row["cell"] for row in result["rows"]}
    *by_number, deep = panels
    for axes, (name, labels) in zip(by_number, NUMBERS.items(), strict=True):
        cells = [rows["resnet20-cifar10", label] for label in labels.values()]
        found = [100 * cell["accuracy"] for cell in cells]
        bounds = [wilson(cell["accuracy"], result["images"]) for cell in cells]
        apart = [[a - 100 * low for a, (low, _) in zip(found, bounds, strict=True)],
                 [100 * high - a for a, (_, high) in zip(found, bounds, strict=True)]]  # fmt: skip
        axes.errorbar(list(labels), found, apart, marker="o", markersize=4, capsize=3)
        axes.axhline(100 * cells[0]["reference_accuracy"], color="black", linestyle=":")
        axes.set_xscale("log", base=2)
        axes.set_xticks(list(labels), labels=[str(n) for n in labels])
        axes.minorticks_off()
        axes.set_ylim(76, 94)
        axes.set_xlabel(name)
    by_number[0].set_ylabel("accuracy (%), dotted: the ANN")
    for steps in (4, 8):
        labels = ["as it is" if (n, steps) == ("resnet20-cifar10", 4) else f"T = {steps}" for n in DEPTHS]
        agreements = [100 * rows[n, label]["agreement"] for n, label in zip(DEPTHS, labels, strict=True)]
        deep.plot(agreements, range(len(DEPTHS)), "o", label=f"T = {steps}")
    deep.set_yticks(range(len(DEPTHS)), labels=list(DEPTHS.values()))
    deep.invert_yaxis()
    deep.set_xlim(right=100.5)
    deep.set_xlabel("agreement with the ANN (%)")
    deep.legend(fontsize=8, loc="lower left")
    for axes in panels:
        axes.grid(alpha=0.3)


def _parts(axes: Any) -> None:
    """A line for each part left out: the answers after 1 to 4 steps."""
    result = record.read("ablations")
    rows = {row["label"]: row["cell"] for row in result["rows"] if row["network"] == "resnet20-cifar10"}
    for label, shown in PARTS.items():
        curve = [100 * accuracy for accuracy in rows[label]["accuracy_by_step"]]
        axes.plot(range(1, len(curve) + 1), curve, marker="o", markersize=3.5, label=shown,
                  linewidth=2.4 if label == "as it is" else 1.2)  # fmt: skip
    axes.set_xticks([1, 2, 3, 4])
    axes.set_xlabel("after step")
    axes.set_title("annealed delta coding for T = 4, one thing changed", fontsize=10)


if __name__ == "__main__":
    main()
