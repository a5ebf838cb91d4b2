"""What the command line says: results on standard output, notes and errors on standard error."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console
from rich.text import Text

from rheobase.errors import ConversionError

__all__ = ["DEBUG", "console_width", "failing_cleanly", "note", "say", "waiting"]

DEBUG = "rheobase.debug"  # the key of --debug in a context's meta


_TEXT_WIDTH = 100  # longer lines are hard to read


def say(text: Any = "", style: str = "", wrap: bool = True) -> None:
    """Print a paragraph or a table on standard output."""
    console = Console(highlight=False)
    if not isinstance(text, str):
        console.print(text)
    elif wrap:
        console.print(Text(text, style), width=min(console.width, _TEXT_WIDTH))
    else:
        console.print(Text(text, style), soft_wrap=True)


def console_width() -> int:
    """Characters in a line of standard output."""
    return Console().width


def note(text: str) -> None:
    """Print something that is no result, on standard error."""
    _to_stderr(Text(text))


def _to_stderr(text: Text) -> None:
    """Wrapped at words on a terminal; in a log, a line stays one line."""
    console = Console(stderr=True, highlight=False)
    console.print(text, soft_wrap=not console.is_terminal)


@contextmanager
def waiting(text: str, show: bool = True) -> Iterator[None]:
    """Show on a terminal what is being done, while it is."""
    if not show:
        yield
        return
    with Console(stderr=True).status(Text(text)):
        yield


@contextmanager
def failing_cleanly(meta: Mapping[str, Any]) -> Iterator[None]:
    """Print a `ConversionError` as one message and exit with 2; show warnings without their source line."""

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        _to_stderr(Text.assemble(("warning: ", "bold yellow"), str(message)))

    with warnings.catch_warnings():
        warnings.showwarning = show
        try:
            yield
        except ConversionError as error:
            if meta.get(DEBUG):
                traceback.print_exception(error)
            _to_stderr(Text.assemble(("error: ", "bold red"), str(error)))
            raise typer.Exit(2) from error
