"""Write the tables of README and docs from benchmarks/results/.

    python -m benchmarks.tables [--check]

A table stands between ``<!-- table: NAME -->`` and ``<!-- end -->``. With --check nothing is
written, and the exit status is 1 if a table differs from its result.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import auto_tables, gpu_tables, guide, method_tables, record, speed_tables, zoo_tables
from rheobase.intervals import wilson

ROOT = Path(__file__).parent.parent
STEPS = (8, 16, 32, 64, 128, 256)
ACCURACY = "accuracy-resnet20-cifar10"


def accuracy() -> str:
    """Accuracy of each method at some numbers of steps."""
    result = record.read(ACCURACY)
    first = next(iter(result["runs"].values()))["curve"]
    n, reference = first["images"], first["reference_accuracy"]
    low, high = wilson(reference, n)
    lines = [
        f"| threshold | {' | '.join(f'T = {t}' for t in STEPS)} | rate, T = 64 | first T within 1 point |",
        "|---|" + "---|" * (len(STEPS) + 2),
    ]
    for label, run in result["runs"].items():
        curve = run["curve"]
        cells = [_cell(curve, t) for t in STEPS]
        near = next((t for t, a in enumerate(curve["accuracy"], 1) if a >= reference - 0.01), None)
        lines.append(f"| {label} | {' | '.join(cells)} | {_rate(curve, 64):.4f} | {near or '-'} |")
    ann = result["ann"]
    note = (
        f"Accuracy in %. ResNet-20, CIFAR-10, the first {n:,} test images, on which the original network has "
        f"{100 * reference:.1f} % (95 % interval {100 * low:.1f} to {100 * high:.1f}; on all {ann['images']:,}: "
        f"{100 * ann['accuracy']:.2f} %). Calibrated on {result['calibration_images']:,} training images. "
        f"95 % intervals are ±{50 * (high - low):.1f} points near the original's accuracy and at most "
        f"±{100 * (wilson(0.5, n)[1] - 0.5):.1f}. A ± is the standard deviation over "
        f"{len(_random(result)['seeds'])} seeds, where a method is random. The rate is spikes per neuron and step. "
        f"`{result['command']}`."
    )
    return "\n".join([*lines, "", note])


def comparison() -> str:
    """MSAT beside the constant half of the maximum, in one sentence for each number of steps."""
    runs = record.read(ACCURACY)["runs"]
    msat, half = runs["MSAT"]["curve"], runs["constant 0.5"]["curve"]
    lines = []
    for t in STEPS:
        a, b = msat["accuracy"][t - 1], half["accuracy"][t - 1]
        apart = wilson(a, msat["images"])[0] > wilson(b, half["images"])[1]
        behind = wilson(a, msat["images"])[1] < wilson(b, half["images"])[0]
        verdict = "MSAT is ahead" if apart else "the constant is ahead" if behind else "the 95 % intervals overlap"
        lines.append(f"| {t} | {100 * a:.1f} | {100 * b:.1f} | {100 * (a - b):+.1f} | {verdict} |")
    return "\n".join(["| T | MSAT | constant 0.5 | difference | |", "|---|---|---|---|---|", *lines])


def example() -> str:
    """What the example of the README prints."""
    result = record.read("example")
    threads = result["hardware"]["cores"]
    return (
        f"```text\n{result['output'].rstrip()}\n```\n\nMeasured with {threads} thread{'s' if threads > 1 else ''}; "
        "the trained network differs a little with another number of them."
    )


def _cell(curve: dict[str, Any], t: int) -> str:
    text = f"{100 * curve['accuracy'][t - 1]:.1f}"
    by_seed = curve["accuracy_by_seed"]
    if not by_seed:
        return text
    values = [100 * row[t - 1] for row in by_seed]
    mean = sum(values) / len(values)
    deviation = (sum((v - mean) ** 2 for v in values) / (len(values) - 1)) ** 0.5
    return f"{text} ± {deviation:.1f}"


def _rate(curve: dict[str, Any], steps: int) -> float:
    total = sum(sum(spikes[:steps]) for spikes in curve["spikes"].values())
    return float(total / (steps * sum(curve["neurons"].values())))


def _random(result: dict[str, Any]) -> dict[str, Any]:
    curves = [run["curve"] for run in result["runs"].values()]
    return max(curves, key=lambda curve: len(curve["seeds"]))


TABLES: dict[str, Callable[[], str]] = {
    "accuracy": accuracy,
    "comparison": comparison,
    "example": example,
    "methods": method_tables.choices,
    "methods_vgg16": method_tables.choices_vgg16,
    "methods_trained": method_tables.choices_trained,
    "methods_ternary": method_tables.ternary,
    "methods_others": method_tables.others,
    "take": method_tables.take,
    "calls": method_tables.calls,
    "guide": guide.guide,
    "goals": method_tables.goals,
    "margins": method_tables.margins,
    "tuning_memory": method_tables.tuning_memory,
    "goals_elsewhere": method_tables.goals_elsewhere,
    "best": method_tables.best,
    "blends": auto_tables.blends,
    "auto": auto_tables.auto,
    "constraints": auto_tables.constraints,
    "twins": method_tables.twins,
    "held_out": method_tables.held_out,
    "held_out_msat": method_tables.held_out_msat,
    "ablations": method_tables.ablations,
    "depth": method_tables.depth,
    "trained": zoo_tables.trained,
    "speed": speed_tables.speed,
    "bars": speed_tables.bars,
    "bars_avx512": speed_tables.bars_avx512,
    "bars_amx": speed_tables.bars_amx,
    "speeds": speed_tables.speeds,
    "where_amx": speed_tables.where_amx,
    "in_cache_amx": speed_tables.in_cache_amx,
    "layers": speed_tables.layers,
    "layers_amx": speed_tables.layers_amx,
    "calibration": speed_tables.calibration,
    "early_exit": speed_tables.early_exit,
    "early_exit_amx": speed_tables.early_exit_amx,
    "floors": speed_tables.floors,
    "floors_amx": speed_tables.floors_amx,
    "gpu_bars": gpu_tables.gpu_bars,
    "gpu_networks": gpu_tables.gpu_networks,
}


def rendered(text: str) -> str:
    """A page with its tables made anew."""
    return re.sub(
        r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)",
        lambda match: f"{match[1]}{TABLES[match[2]]()}\n{match[3]}",
        text,
        flags=re.DOTALL,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only say whether a table is out of date")
    check = parser.parse_args().check
    stale = []
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = page.read_text()
        new = rendered(text)
        if new != text:
            stale.append(page)
            if not check:
                page.write_text(new)
    for page in stale:
        print(f"{page.relative_to(ROOT)}: {'out of date' if check else 'written'}")
    sys.exit(bool(stale) and check)


if __name__ == "__main__":
    main()
