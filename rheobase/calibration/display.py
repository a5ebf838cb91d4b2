"""What is shown of a calibration on standard error: a bar on a terminal or in a notebook, now and then a log's line."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Column

from rheobase.calibration.session import Progress, session

__all__ = ["bar", "shown"]

_EVERY = 60  # seconds between two lines of a log


@contextmanager
def shown(text: str, show: bool = True) -> Iterator[None]:
    """Show what the calibrations within do.

    Args:
        text: what stands beside it.
        show: whether to.
    """
    console = Console(stderr=True, highlight=False)
    if not show:
        yield
    elif console.is_terminal or console.is_jupyter:
        with bar(console) as moving, session(_moving(moving, text)):
            yield
    else:
        with session(_lines(console, text)):
            yield


def bar(console: Console, period: float = 30) -> Bar:
    """A bar with the time that is left; a narrow terminal cuts the text before it, and no number."""
    what = Column(no_wrap=True, overflow="ellipsis", ratio=1)
    text, left = TextColumn("{task.description}", markup=False, table_column=what), TextColumn("left")
    columns = (text, BarColumn(20), TimeRemainingColumn(), left)
    return Bar(*columns, console=console, transient=True, expand=True, speed_estimate_period=period)


def _moving(moving: Bar, text: str) -> Callable[[Progress], None]:
    task = moving.add_task(text, total=None)

    def show(at: Progress) -> None:
        moving.update(task, completed=at.done, total=at.total, description=f"{at.what}{_loss(at)}: {text}")

    return show


def _lines(console: Console, text: str) -> Callable[[Progress], None]:
    last = time.monotonic()

    def show(at: Progress) -> None:
        nonlocal last
        if time.monotonic() - last >= _EVERY:
            last = time.monotonic()
            line = f"{text}: {at.what}, {at.done:,} of {at.total:,}{_loss(at)}"
            console.print(line, markup=False, soft_wrap=True)

    return show


def _loss(at: Progress) -> str:
    return "" if at.loss is None else f", loss {at.loss:.3f}"
