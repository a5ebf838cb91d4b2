"""Output files: never replaced unasked, never left half written."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rheobase import __version__
from rheobase.curve import Curve, plot
from rheobase.distributed import is_first
from rheobase.errors import SettingError
from rheobase.files import replacing

__all__ = ["curve_files", "curves_json", "refuse_existing", "write_atomically", "write_curves"]


def refuse_existing(force: bool, *paths: Path) -> None:
    """Raise before the work begins if a file is there already and may not be replaced, or cannot be written.

    Raises:
        SettingError: a file exists and `force` is false, or `path` is a folder or in none that can be written to.
    """
    if not is_first():
        return
    existing = [str(path) for path in paths if os.path.lexists(path)]
    if existing and not force:
        raise SettingError(f"{' and '.join(existing)} exists already; give another --output, or --force to replace it.")
    for path in paths:
        _refuse_unwritable(path)


def _refuse_unwritable(path: Path) -> None:
    """Raise if `write_atomically` could not write a file; its folder need not exist, and nothing is left in it."""
    if path.is_dir():
        raise SettingError(f"{path} is a folder, no file; give another --output.")
    parent = next(folder for folder in path.absolute().parents if os.path.lexists(folder))
    if not parent.is_dir():
        raise SettingError(f"{parent.name} is a file, no folder; give another --output.")
    try:
        TemporaryDirectory(prefix=f".{path.name}.", dir=parent).cleanup()
    except OSError as error:
        raise SettingError(f"{path} cannot be written ({error.strerror}); give another --output.") from error


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let a function write a file; an old file stays whole if it fails. Of several processes the first one writes.

    Raises:
        SettingError: the folder cannot be written to.
    """
    if not is_first():
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as place:
            write(place)
    except OSError as error:
        raise SettingError(f"{path} cannot be written ({error.strerror}); give another --output.") from error


def curve_files(folder: Path) -> tuple[Path, Path]:
    """The two files that `write_curves` writes."""
    return folder / "curve.json", folder / "curve.png"


def curves_json(curves: Mapping[str, Curve], facts: Mapping[str, Any]) -> str:
    """Several curves and how they were made, as JSON; ``Curve.from_json(json.dumps(entry))`` reads one."""
    shared = {"rheobase": __version__, **facts}
    return json.dumps({**shared, "curves": {label: asdict(curve) for label, curve in curves.items()}}, default=str)


def write_curves(folder: Path, curves: Mapping[str, Curve], facts: Mapping[str, Any], title: str = "") -> None:
    """Write ``curve.json`` and ``curve.png``."""
    numbers, figure = curve_files(folder)
    write_atomically(numbers, lambda path: path.write_text(curves_json(curves, facts)))
    write_atomically(figure, lambda path: plot(curves, path, title))
