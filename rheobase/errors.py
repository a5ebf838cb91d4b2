"""Every error of the library: one base class, one kind for each sort of mistake.

An error says where, what was found, what is accepted and what to do next. A check that can find
several problems collects all of them first and raises once.
"""

from __future__ import annotations

__all__ = [
    "ConversionError",
    "ConversionWarning",
    "DataError",
    "SettingError",
    "UnsupportedOperationError",
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
