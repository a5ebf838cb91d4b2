"""The table of docs/training.md: what the networks of the zoo were to reach, and what they reach."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks import record
from rheobase.intervals import wilson

ZOO = Path(__file__).parent.parent / "zoo"
GOALS: dict[str, float | None] = {  # percent, on two processor cores
    "vgg16-cifar10": 92.0,
    "vgg16-cifar100": 68.0,
    "resnet20-w48-cifar10": 93.5,
    "resnet20-w32-cifar10": None,  # 20 passes at a smaller width
    "resnet20-w48-cifar100": 70.0,
    "bilstm-imdb": 87.0,
    "m5-speech_commands": None,
}


def trained() -> str:
    """Accuracy before conversion, beside what was aimed at."""
    lines = ["| network | goal | test accuracy, % | 95 % interval | samples | time |", "|---|---|---|---|---|---|"]
    for name, goal in GOALS.items():
        card = json.loads((ZOO / f"{name}.json").read_text())
        low, high = wilson(card["accuracy"], card["test_samples"])
        missed = goal is not None and 100 * card["accuracy"] < goal
        aim = "-" if goal is None else f"{goal:g}{' (missed)' if missed else ''}"
        lines.append(row(name, aim, card["accuracy"], (low, high), f"{card['test_samples']:,}", card["seconds"]))
    folds, networks = (record.read("m5-folds")[key] for key in ("folds", "networks"))
    samples, times = sum(network["samples"] for network in networks), [n.get("training_seconds") for n in networks]
    lines.append(
        row("M5, five folds (mean)", "-", folds["mean"], (folds["low"], folds["high"]), f"{samples:,} in all",
            None if None in times else sum(times))
    )  # fmt: skip
    (wide,) = record.read("ann-resnet20-w64-cifar10")["networks"]
    lines.append(
        row("ResNet-20, width 64, CIFAR-10 (12 passes)", "-", wide["accuracy"], (wide["low"], wide["high"]),
            f"{wide['samples']:,}", wide.get("training_seconds"))
    )  # fmt: skip
    return "\n".join(lines)


def row(
    name: str, goal: str, accuracy: float, interval: tuple[float, float], samples: str, seconds: float | None
) -> str:
    low, high = interval
    time = "not stored" if seconds is None else f"{seconds / 60:.0f} min"
    return f"| {name} | {goal} | {100 * accuracy:.2f} | {100 * low:.2f} to {100 * high:.2f} | {samples} | {time} |"
