"""The table that guides through the methods, from the methods themselves and what they reached."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Mapping

import torch
from torch import nn

import rheobase as rb
from benchmarks import record
from benchmarks.best import NEAR
from rheobase import methods
from rheobase.methods._base import Method
from rheobase.methods.tuned import Tuned

__all__ = ["TABLE", "WITH_LEVELS", "guide"]

TABLE = "methods-resnet20-cifar10"
WITH_LEVELS = "resnet20-qcfs8-cifar10"
OWN_PASSES: dict[type[Method], str] = {
    methods.AdaFire: "levels of each layer",
    methods.COS: "potentials, in each run",
    methods.LocalBalancing: "delay",
    methods.ParallelConversion: "mean currents and rates",
    methods.SpikeNorm: "currents of the spiking network",
}


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
    lines = [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    near = _near()
    for name in sorted(methods.__all__, key=str.lower):
        cls = getattr(methods, name)
        sentence = (inspect.getdoc(cls) or "").split("\n\n")[0].replace("\n", " ")
        paper = _paper(inspect.getdoc(inspect.getmodule(cls)) or "")
        about = ("chosen", "chosen", "all that it tries") if cls is methods.Auto else _assumptions(cls())
        many = cls in (methods.Auto, methods.AdaFire)  # whose spikes differ from network to network
        found = [_fewest(near.get((name, tuned), {}), None if many else about[0]) for tuned in (False, True)]
        cells = [f"`{name}`", sentence, *about, *found, paper]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _assumptions(method: Method) -> tuple[str, str, str]:
    """The alphabet and the order of the layers, from a small conversion, and what the settings measure."""
    settings = {f.name: getattr(method, f.name) for f in dataclasses.fields(method)}
    still = dataclasses.replace(method, **({"iterations": 0} if isinstance(method, Tuned) else {}))
    net = nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 2))
    nn.init.ones_(net[0].weight)
    nn.init.zeros_(net[0].bias)
    plan = rb.convert(net, torch.rand(8, 1, generator=torch.Generator().manual_seed(0)), still).plan
    alphabets = sorted({str(neuron.alphabet) for neuron in plan.neurons.values()})
    if isinstance(method, methods.AdaFire):  # each layer has its own
        alphabets = [f"integer(1 to {method.levels})"]
    synchronous = not all(neuron.causal for neuron in plan.neurons.values())
    observer = type(method.observer()).__name__
    rules = {"MMSE": "least squared error", "Max": "maximum", "LTB": "local balancing", "Percentile": "percentile"}
    per = "channel" if settings.get("per_channel") else "layer"
    measured = [f"{rules.get(observer, observer)} a {per}"]
    passes = {"bias": "bias", "potential": "potentials", "temporal": "bias of each step"}
    measured += [passes[settings["calibration"]]] if settings.get("calibration") in passes else []
    measured += [what for cls, what in OWN_PASSES.items() if isinstance(method, cls)]
    if isinstance(method, Tuned) and method.iterations:
        measured.append("gradients" + (", weights" if method.weight_rate else ""))
    return ", ".join(alphabets), "wait" if synchronous else "in step", "; ".join(measured)


def _near() -> dict[tuple[str, bool], dict[str, list[int]]]:
    """The steps after which each class of methods, tuned or not, is within a point of the ANN, by its spikes."""
    if not (record.RESULTS / f"{TABLE}.json").exists():
        return {}
    near: dict[tuple[str, bool], dict[str, list[int]]] = {}
    rows = record.read(TABLE)["methods"]
    if (record.RESULTS / f"methods-{WITH_LEVELS}.json").exists():
        rows += [row for row in record.read(f"methods-{WITH_LEVELS}")["methods"] if row["name"] == "QCFS"]
    for row in rows:
        for cell in row["cells"]:
            name, _, settings = cell["method"].partition("(")
            cls = getattr(methods, name)
            said = re.search(r"\biterations=(\d+)", settings)
            iterations = int(said[1]) if said else getattr(cls, "iterations", 0)
            tuned = cls is methods.Auto or (issubclass(cls, Tuned) and iterations > 0)
            found = near.setdefault((name, tuned), {}).setdefault(cell["alphabet"], [])
            curve = cell["accuracy_by_step"] if row["fixed"] else [0.0] * (cell["steps"] - 1) + [cell["accuracy"]]
            found += [t for t, accuracy in enumerate(curve, 1) if accuracy >= cell["reference_accuracy"] - NEAR][:1]
    return near


def _fewest(near: Mapping[str, list[int]], alphabet: str | None) -> str:
    """The fewest of these steps, of rows with such spikes, or with any."""
    rows = [steps for spikes, steps in near.items() if alphabet in (None, spikes)]
    return str(min((t for steps in rows for t in steps), default="-")) if rows else ""


def _paper(text: str) -> str:
    """The first reference of a module's docstring, as authors and year."""
    if "Our own." in text:
        return "this project"
    found = re.search(r"([A-Z][\w'\-]+(?:(?:, | & | and )[A-Z][\w'\-]+)*(?: et al\.)? (?:19|20)\d\d)", text)
    return found[1] if found else "this project"
