"""Objects by the place they are defined in: ``package.module:name`` or ``path/file.py:name``."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from rheobase.errors import SettingError

__all__ = ["import_place", "locate"]

_ACCEPTED = "accepted are package.module:name and path/file.py:name"


def locate(text: str) -> Any:
    """The object that a text names.

    Args:
        text: ``package.module:name`` or ``path/file.py:name``.

    Raises:
        SettingError: there is no such module, file or name, or importing it fails.

    >>> locate("rheobase.models:resnet20").__name__
    'resnet20'
    """
    place, colon, name = text.rpartition(":")
    if not (colon and place and name):
        raise SettingError(f"{text!r} names no object; {_ACCEPTED}.")
    module = import_place(place)
    if not hasattr(module, name):
        own = [n for n, v in vars(module).items() if getattr(v, "__module__", "") == module.__name__ and n[0] != "_"]
        found = f"it defines {', '.join(own)}" if own else "it defines nothing public"
        raise SettingError(f"{text!r}: {place} has no {name!r}; {found}.")
    return getattr(module, name)


def import_place(place: str) -> ModuleType:
    """The module with a dotted name, or of a Python file. A file is run once, however often it is named.

    Raises:
        SettingError: there is no such module or file, or running it raises.
    """
    path = Path(place).expanduser()
    is_file = path.suffix == ".py"
    if is_file and not path.is_file():
        raise SettingError(f"{place!r}: there is no file {path.absolute()}; {_ACCEPTED}.")
    try:
        return _run(path.resolve()) if is_file else importlib.import_module(place)
    except Exception as error:
        what = f"running it raised {type(error).__name__}: {error}"
        if isinstance(error, ModuleNotFoundError) and (error.name or "") in (place, place.split(".", maxsplit=1)[0]):
            what = f"there is no module {error.name!r} here"
        raise SettingError(f"{place!r} cannot be imported: {what}. Here, {_ACCEPTED}.") from error


def _run(path: Path) -> ModuleType:
    """The file as a module named after it, so that what it defines is found again by name."""
    name = path.stem
    if name in sys.modules and not _is_from(sys.modules[name], path):  # another module has that name
        name = f"{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with _siblings_of(path):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _is_from(module: ModuleType, path: Path) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and Path(file).resolve() == path


@contextmanager
def _siblings_of(path: Path) -> Iterator[None]:
    """Let a file import those beside it, as it can when it is run as a script."""
    folder = str(path.parent)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
