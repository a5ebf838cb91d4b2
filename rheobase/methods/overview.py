"""What each published method is, from the methods themselves: for lists of them."""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

import docstring_parser
import torch
from docstring_parser import Docstring, DocstringStyle
from torch import nn
from torch.nn.utils import skip_init

from rheobase import methods
from rheobase.batches import as_batches
from rheobase.errors import ConversionWarning, SettingError
from rheobase.graph import trace
from rheobase.methods._base import Method
from rheobase.methods.parse import presets
from rheobase.observers import observe

__all__ = ["CHOSEN", "Overview", "overview", "published"]

_OURS = "this project"
CHOSEN = "chosen"
"""Said of what a method decides for each network."""


@dataclass(frozen=True)
class Overview:
    """What is known of a method without a network.

    Attributes:
        name: of its class.
        sentence: what it is.
        description: what its class says of it: the equation, and what it assumes.
        settings: its arguments, as they are written.
        explained: what each argument is, also those of the classes that it derives from.
        spikes: what one of them may carry.
        layers: "in step", "wait" where each layer waits until the one before it has taken all steps, or `CHOSEN`.
        presets: the class methods that make it with other settings.
        paper: the first reference of its module: authors, or where it appeared, and year. Else "this project", or
            nothing for a method of another one.
        notes: what its module says: the references, and where it departs from them.
    """

    name: str
    sentence: str
    description: str
    settings: Mapping[str, str]
    explained: Mapping[str, str]
    spikes: str
    layers: str
    presets: tuple[str, ...]
    paper: str
    notes: str


def published() -> list[type[Method]]:
    """The classes of `rheobase.methods`, by their names."""
    return [getattr(methods, name) for name in sorted(methods.__all__, key=str.lower)]


def overview(method: Method | type[Method]) -> Overview:
    """What is known of a method, from its documentation and from its plan for a network of one neuron.

    Args:
        method: with the settings that its spikes are to be told for, or a class, for the default settings.

    >>> from rheobase.methods import SpikeConverter
    >>> found = overview(SpikeConverter)
    >>> found.spikes, found.layers, found.paper
    ('binary, step-weighted', 'wait', 'Liu et al. 2022')
    """
    kind = method if isinstance(method, type) else type(method)
    own = _parsed(kind)
    sentence = " ".join((own.short_description or "").split())
    made = method() if isinstance(method, type) else method
    settings = {name: repr(getattr(made, name)) for name in inspect.signature(kind).parameters}
    spikes, layers = _sent(made) if kind.resolve is Method.resolve else (CHOSEN, CHOSEN)
    spikes = made.spikes() or spikes
    notes = inspect.getdoc(inspect.getmodule(kind)) or ""
    paper = _paper(notes)
    paper = "" if paper == _OURS and not kind.__module__.startswith("rheobase.") else paper
    return Overview(
        name=kind.__name__,
        sentence=sentence,
        description=own.description or "",
        settings=settings,
        explained=_explained(kind, settings),
        spikes=spikes,
        layers=layers,
        presets=tuple(presets(kind)),
        paper=paper,
        notes=notes,
    )


@cache
def _parsed(kind: type) -> Docstring:
    """The documentation of a class, without that of the classes that it derives from."""
    return docstring_parser.parse(inspect.cleandoc(vars(kind).get("__doc__") or ""), DocstringStyle.GOOGLE)


def _explained(kind: type, settings: Iterable[str]) -> dict[str, str]:
    """What the nearest class that tells of a setting says of it; a setting that none tells of is left out."""
    found: dict[str, str] = {}
    for base in kind.__mro__[:-1]:  # the last is object
        for param in _parsed(base).params:
            found.setdefault(param.arg_name, " ".join((param.description or "").split()))
    return {name: found[name] for name in settings if name in found}


def _sent(method: Method) -> tuple[str, str]:
    """The alphabet, and whether layers wait, of a plan for a small network."""
    first, last = (skip_init(nn.Linear, 1, outputs) for outputs in (1, 2))  # type: ignore[no-untyped-call]
    for layer in (first, last):  # no random numbers are drawn
        nn.init.ones_(layer.weight)
        nn.init.zeros_(layer.bias)
    x = torch.linspace(0.1, 1, 8, dtype=first.weight.dtype)[:, None]
    graph, data = trace(nn.Sequential(first, nn.ReLU(), last).eval(), x), as_batches(x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConversionWarning)
        statistics = observe(graph, data, method.observer())
        try:
            plan = method.plan(graph, statistics)
        except SettingError:  # its settings name sites of another network
            plan = type(method)().plan(graph, statistics)
    alphabets = sorted({str(neuron.alphabet) for neuron in plan.neurons.values()})
    return ", ".join(alphabets), "in step" if all(neuron.causal for neuron in plan.neurons.values()) else "wait"


def _paper(text: str) -> str:
    """The first reference of a module's docstring, as authors and year."""
    if "Our own." in text:
        return _OURS
    found = re.search(r"([A-Z][\w'\-]+(?:(?:, | & | and )[A-Z][\w'\-]+)*(?: et al\.)? (?:19|20)\d\d)", text)
    return found[1] if found else _OURS
