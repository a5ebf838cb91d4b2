"""What a conversion method is: three questions, answered one after the other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import MISSING, fields
from functools import cache, wraps
from types import NoneType
from typing import Any, ClassVar, get_args, get_type_hints

import numpy as np

from rheobase.batches import Batches
from rheobase.errors import SettingError, is_whole, mismeasured
from rheobase.graph import Graph
from rheobase.observers import Observer, Statistics
from rheobase.plan import Plan
from rheobase.spiking import SpikingModel

__all__ = ["Method"]


class Method(ABC):
    """A conversion method; subclasses are frozen dataclasses whose fields are its hyper-parameters.

    ``repr(method)`` is its line in a results table, and the same text names it on the command line:
    the hyper-parameters that differ from their defaults. Subclasses need ``@dataclass(frozen=True,
    repr=False)`` for it.
    """

    measures: ClassVar[str] = ""
    """What else calibration finds out than its settings say, such as "levels of each layer"; for lists of methods."""

    def __init_subclass__(cls, **options: Any) -> None:
        """The checks of a class compare numbers: what is none is told before."""
        super().__init_subclass__(**options)
        if "__post_init__" in cls.__dict__:
            cls.__post_init__ = _after_kinds(cls.__post_init__)  # type: ignore[method-assign, assignment]

    def __post_init__(self) -> None:
        """Check the kinds of all numbers, and of what is yes or no.

        Raises:
            SettingError: one is of another kind; all are listed.
        """
        _check_kinds(self)
        check = getattr(super(), "__post_init__", None)  # of a class beside this one
        if check is not None:
            check()

    def __repr__(self) -> str:
        changed = []
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if field.default is MISSING or value != field.default:
                changed.append(f"{field.name}={value!r}")
        return f"{type(self).__name__}({', '.join(changed)})"

    def resolve(self, graph: Graph, batches: Batches) -> tuple[Method, str]:
        """The method that is to be used, and why; a method is itself, unless it chooses among others."""
        return self, ""

    def total_steps(self) -> int | None:
        """The steps that a network so converted is to be simulated for, or None where it serves any number of them."""
        return getattr(self, "steps", None)

    def spikes(self) -> str | None:
        """What a spike may carry, for lists of methods, where the neurons of its plan do not tell."""
        return None

    def clips(self) -> bool:
        """Whether neurons send at most the threshold that a site was trained with (`rheobase.qcfs`).

        `rheobase.convert` refuses a network that was trained so where they do not.
        """
        return False

    @abstractmethod
    def observer(self) -> Observer:
        """What to measure at each site of the ANN, on the calibration data."""

    @abstractmethod
    def plan(self, graph: Graph, statistics: Statistics) -> Plan:
        """Decide the neurons of each site. Changes nothing."""

    def refine(self, snn: SpikingModel, graph: Graph, batches: Batches) -> SpikingModel:
        """Improve the converted network with calibration data; by default it stays as it is."""
        return snn


@cache
def _plain_fields(cls: type) -> dict[str, set[type]]:
    """The fields that hold whole numbers, numbers, yes or no, or None, and nothing else."""
    hints = {name: set(get_args(hint)) or {hint} for name, hint in get_type_hints(cls).items()}
    return {
        name: kinds for name, kinds in hints.items() if kinds <= {int, float, bool, NoneType} and kinds != {NoneType}
    }


def _check_kinds(method: Method) -> None:
    for field in fields(method):  # type: ignore[arg-type]
        value = getattr(method, field.name)
        if isinstance(value, np.generic):  # which is written in another way, and not at all in JSON
            object.__setattr__(method, field.name, value.item())
    problems: list[str] = []
    kinds, infinite = _plain_fields(type(method)), float("inf")
    for name in [field.name for field in fields(method) if field.name in kinds]:  # type: ignore[arg-type]
        value = getattr(method, name)
        if value is None and NoneType in kinds[name]:
            continue
        if bool in kinds[name]:
            problems += [] if isinstance(value, bool) else [f"{name} is {value!r}; it must be True or False"]
        elif float in kinds[name]:
            problems += mismeasured(name, value, "a number", -infinite, infinite) if value == value else []
        elif not is_whole(value):
            problems.append(f"{name} is {value!r}; it must be a whole number")
    if problems:
        raise SettingError(f"{type(method).__name__}: " + "; ".join(problems) + ".")


def _after_kinds(check: Callable[[Any], None]) -> Callable[[Any], None]:
    @wraps(check)
    def checked(self: Any) -> None:
        _check_kinds(self)
        check(self)

    return checked
