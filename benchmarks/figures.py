"""The figure of docs/annealed.md, drawn from stored results.

    python -m benchmarks.figures

Left, all methods with ternary spikes on ResNet-20 and CIFAR-10, by T (`benchmarks.methods`); right, the accuracy after
each step of annealed delta coding for T = 4, with one of its parts left out (`benchmarks.ablations`).
"""

from __future__ import annotations

import sys
from typing import Any

from benchmarks import record
from benchmarks.best import accuracies
from benchmarks.method_tables import TABLE, TERNARY

__all__ = ["main"]

PARTS = {
    "as it is": "annealed delta coding",
    "weights left alone": "weights left alone",
    "one schedule a layer": "one schedule a layer",
    "a sign in the first step too (not doubled)": "not doubled in the first step",
    "not tuned": "not tuned",
}
LAST, LEAST = 16, 0.4  # the largest T, and the accuracy where the left panel begins
FIGURE = record.RESULTS / "ternary-resnet20-cifar10.png"


def main() -> None:
    """Draw both panels into one file; with ``--check``, as for the tables, write nothing."""
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
