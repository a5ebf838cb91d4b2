"""The table that guides through the methods, from the methods themselves and what they reached."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

from benchmarks import record
from benchmarks.best import NEAR
from benchmarks.markdown import heads
from benchmarks.methods import accuracies
from benchmarks.methods import near as is_near
from rheobase import methods
from rheobase.methods._base import Method
from rheobase.methods.overview import CHOSEN, overview, published
from rheobase.methods.parts.tuned import Tuned

__all__ = ["TABLE", "WITH_LEVELS", "guide"]

TABLE = "methods-resnet20-cifar10"
WITH_LEVELS = "resnet20-qcfs8-cifar10"


def guide() -> str:
    """Each published method: what it is, what it sends and needs, and when it reaches the ANN on ResNet-20."""
    titles = [
        "method",
        "what it is",
        "a spike",
        "layers",
        "measured in calibration",
        "T within a point",
        "tuned",
        "paper",
    ]
    lines = heads(titles)
    near = _near()
    for cls in published():
        about = overview(cls)
        one = None if CHOSEN in about.layers or cls().spikes() else about.spikes  # or they differ by network
        found = [_fewest(near.get((about.name, tuned), {}), one) for tuned in (False, True)]
        measured = _measured(cls())
        cells = [f"`{about.name}`", about.sentence, about.spikes, about.layers, measured, *found, about.paper]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _measured(method: Method) -> str:
    """What calibration measures with these settings."""
    if type(method).resolve is not Method.resolve:  # it chooses among others
        return method.measures
    settings = {f.name: getattr(method, f.name) for f in dataclasses.fields(method)}
    observer = type(method.observer()).__name__
    rules = {"MMSE": "least squared error", "Max": "maximum", "LTB": "local balancing", "Percentile": "percentile"}
    per = "channel" if settings.get("per_channel") else "layer"
    measured = [f"{rules.get(observer, observer)} a {per}"]
    passes = {"bias": "bias", "potential": "potentials", "temporal": "bias of each step"}
    measured += [passes[settings["calibration"]]] if settings.get("calibration") in passes else []
    measured += [method.measures] if method.measures else []
    if isinstance(method, Tuned) and method.iterations:
        measured.append("gradients" + (", weights" if method.weight_rate else ""))
    return "; ".join(measured)


def _near() -> dict[tuple[str, bool], dict[str, list[int]]]:
    """The steps after which each class of methods, tuned or not, is within a point of the ANN, by its spikes."""
    if not record.has(TABLE):
        return {}
    near: dict[tuple[str, bool], dict[str, list[int]]] = {}
    rows = record.read(TABLE)["methods"]
    if record.has(f"methods-{WITH_LEVELS}"):
        rows += [row for row in record.read(f"methods-{WITH_LEVELS}")["methods"] if row["name"] == "QCFS"]
    for row in rows:
        for cell in row["cells"]:
            name, _, settings = cell["method"].partition("(")
            cls = getattr(methods, name)
            if cls is methods.Auto and not re.fullmatch(r"(steps=\d+)?\)", settings):
                continue  # it chose among others than with its default settings
            said = re.search(r"\biterations=(\d+)", settings)
            iterations = int(said[1]) if said else getattr(cls, "iterations", 0)
            tuned = cls is methods.Auto or (issubclass(cls, Tuned) and iterations > 0)
            found = near.setdefault((name, tuned), {}).setdefault(cell["alphabet"], [])
            steps = accuracies(row) if row["fixed"] else {cell["steps"]: cell["accuracy"]}
            found += [t for t, accuracy in steps.items() if is_near(accuracy, cell["reference_accuracy"], NEAR)]
    return near


def _fewest(near: Mapping[str, list[int]], alphabet: str | None) -> str:
    """The fewest of these steps, of rows with such spikes, or with any."""
    rows = [steps for spikes, steps in near.items() if alphabet in (None, spikes)]
    return str(min((t for steps in rows for t in steps), default="-")) if rows else ""
