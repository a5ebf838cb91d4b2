"""Methods from text: ``MSAT.resnet20(confidence=True)``, as on the command line and in results tables."""

from __future__ import annotations

import ast
import difflib
import inspect
import re
from typing import Any

from rheobase import methods
from rheobase.errors import ConversionError, SettingError
from rheobase.locate import import_place
from rheobase.methods._base import Method

__all__ = ["parse_method", "presets"]

_PLACE = re.compile(r"(?P<place>.*?\.py|[\w.]+):(?P<call>.*)", re.DOTALL)
_PREFIXES = ("rb", "rheobase", "methods")  # so that a line copied from a program works too


def parse_method(text: str) -> Method:
    """The method that a text describes; ``parse_method(repr(method)) == method``. Nothing in it is executed.

    Args:
        text: a class of `rheobase.methods` or one of its presets, with or without arguments, which are
            literals; or ``path/file.py:ClassName(...)`` (or ``package.module:ClassName(...)``) for a
            method of your own.

    Raises:
        SettingError: there is no such method, preset or hyper-parameter, or a value is not accepted.

    >>> parse_method("ConstantThreshold(fraction=0.5)")
    ConstantThreshold(fraction=0.5)
    >>> parse_method("MSAT.vgg16").alpha
    0.03
    """
    match = _PLACE.fullmatch(text.strip())
    known = _published() if match is None else _defined(match["place"])
    call = text.strip() if match is None else match["call"].strip()
    names, arguments, settings = _read(text, call)
    while match is None and len(names) > 1 and names[0] in _PREFIXES:
        names = names[1:]
    kind = known.get(names[0])
    if kind is None or len(names) > 2 or (len(names) == 2 and names[1] not in presets(kind)):
        place = "" if match is None else f" in {match['place']}"
        raise SettingError(
            f"There is no method {'.'.join(names)!r}{place}. {_close('.'.join(names), known)}"
            f"{_accepted(known, own=match is not None)}"
        )
    try:
        made = (kind if len(names) == 1 else getattr(kind, names[1]))(*arguments, **settings)
    except ConversionError:
        raise
    except (TypeError, ValueError) as error:
        reason = str(error).replace(".__init__()", "")
        raise SettingError(f"Method {text!r}: {reason}. Its settings are {_settings(kind)}.") from error
    if not isinstance(made, Method):
        raise SettingError(f"Method {text!r}: {'.'.join(names)} gives a {type(made).__name__}, no method.")
    return made


def _published() -> dict[str, type[Method]]:
    return _methods({name: getattr(methods, name) for name in methods.__all__})


def _defined(place: str) -> dict[str, type[Method]]:
    module = import_place(place)
    return _methods({n: v for n, v in vars(module).items() if not n.startswith("_")})


def _methods(names: dict[str, Any]) -> dict[str, type[Method]]:
    return {n: v for n, v in names.items() if inspect.isclass(v) and issubclass(v, Method) and v is not Method}


def presets(kind: type[Method]) -> list[str]:
    """The public class methods, in the order of their definition."""
    found = [n for base in reversed(kind.__mro__) for n, v in vars(base).items() if isinstance(v, classmethod)]
    return [name for name in dict.fromkeys(found) if not name.startswith("_")]


def _settings(kind: type[Method]) -> str:
    return ", ".join(f"{p.name}={p.default!r}" for p in inspect.signature(kind).parameters.values()) or "none"


def _names(known: dict[str, type[Method]]) -> list[str]:
    """The methods and their presets, as they are written."""
    return [".".join((n, *p)) for n, kind in known.items() for p in ((), *((q,) for q in presets(kind)))]


def _close(name: str, known: dict[str, type[Method]]) -> str:
    lower = {known_name.lower(): known_name for known_name in _names(known)}
    found = difflib.get_close_matches(name.lower(), lower, n=1)
    return f"Did you mean {lower[found[0]]}? " if found else ""


def _accepted(known: dict[str, type[Method]], own: bool) -> str:
    found = [f"{name}(...)" for name in _names(known)]
    hint = "" if own else " For a method of your own, give path/file.py:ClassName(...)."
    return f"Accepted: {', '.join(found) or 'nothing, for it defines no subclass of Method'}.{hint}"


def _read(text: str, call: str) -> tuple[list[str], list[Any], dict[str, Any]]:
    """The dotted name, the arguments and the keyword arguments of a call."""
    try:
        node = ast.parse(call, mode="eval").body
        name, arguments, keywords = node, [], []
        if isinstance(node, ast.Call):
            name, arguments, keywords = node.func, node.args, node.keywords
        names: list[str] = []
        while isinstance(name, ast.Attribute):
            names.insert(0, name.attr)
            name = name.value
        if not isinstance(name, ast.Name) or any(keyword.arg is None for keyword in keywords):
            raise ValueError
        settings = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in keywords}
        return [name.id, *names], [ast.literal_eval(argument) for argument in arguments], settings
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise SettingError(
            f"Method {text!r} cannot be read. Accepted is a name with literal values, such as MSAT, "
            "'MSAT.resnet20(confidence=True)' or 'ConstantThreshold(fraction=0.5)' (in a shell, with the quotes)."
        ) from error
