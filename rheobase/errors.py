"""Every error of the library: one base class, one kind for each sort of mistake.

An error says where, what was found, what is accepted and what to do next. A check that can find
several problems collects all of them first and raises once.
"""

from __future__ import annotations

from numbers import Integral, Real
from typing import TypeGuard

__all__ = [
    "ConversionError",
    "ConversionWarning",
    "DataError",
    "SettingError",
    "UnsupportedOperationError",
    "is_whole",
    "miscounted",
    "miscounts",
    "mismeasured",
    "mistyped",
    "nonpositive",
]


class ConversionError(ValueError):
    """A network, setting or data set cannot be used as it is; the message says what to do."""


class UnsupportedOperationError(ConversionError):
    """The network contains operations that have no spiking form; the message lists all of them."""


class SettingError(ConversionError):
    """A parameter has a value outside its range, or two parameters contradict each other."""


class DataError(ConversionError):
    """The data are empty, malformed, not finite, or do not fit the network."""


class ConversionWarning(UserWarning):
    """The conversion goes on, but something about it deserves a look (a dead site, say)."""


def is_whole(value: object) -> TypeGuard[int]:
    """Whether it is a whole number, of Python or NumPy; yes and no are none."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def miscounted(name: str, value: object, least: int = 1) -> list[str]:
    """What is wrong with a count, for a message: nothing where it is a whole number of at least ``least``.

    >>> miscounted("steps", 0), miscounted("steps", 4)
    (['steps is 0; it must be at least 1'], [])
    """
    if not is_whole(value):
        return [f"{name} is {value!r}; it must be a whole number of at least {least}"]
    return [] if value >= least else [f"{name} is {value}; it must be at least {least}"]


def miscounts(settings: object, *names: str, least: int = 1) -> list[str]:
    """What is wrong with counts that are attributes of these names."""
    return [problem for name in names for problem in miscounted(name, getattr(settings, name), least)]


def nonpositive(name: str, value: float) -> list[str]:
    """What is wrong with a quantity that must be greater than 0, and finite."""
    return [] if 0 < value < float("inf") else [f"{name} is {value}; it must be greater than 0"]


def mismeasured(name: str, value: object, bounds: str, least: float, most: float) -> list[str]:
    """What is wrong with a quantity: nothing where it is a number from ``least`` to ``most``, which are ``bounds``."""
    number = isinstance(value, Real) and not isinstance(value, bool)
    return [] if number and least <= value <= most else [f"{name} is {value!r}; it must be {bounds}"]  # type: ignore[operator]


def mistyped(name: str, value: object, kind: type, called: str) -> list[str]:
    """What is wrong with a setting that must be of a class, which users call so, or None."""
    wrong = value is not None and not isinstance(value, kind)
    return [f"{name} is {value!r}; it must be a {called}, or None"] if wrong else []
