"""How far a training or a calibration is: a bar on a terminal, now and then a line in a log."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from rheobase.cli.terminal import note
from rheobase.distributed import is_first

if TYPE_CHECKING:
    from rheobase.training import Progress

__all__ = ["converting", "duration", "training_progress"]

_EVERY = 60  # seconds between two lines of a log


def duration(seconds: float) -> str:
    """A time in words, to about two figures.

    >>> duration(45), duration(1020), duration(5400)
    ('45 s', '17 min', '1 h 30 min')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


@contextmanager
def training_progress(name: str, epochs: int, show: bool) -> Iterator[Callable[[Progress], None] | None]:
    """Give a function that shows where a training is, on standard error; or None."""
    console = Console(stderr=True)
    if not show:
        yield None
    elif not console.is_terminal:
        yield _lines(name, epochs)
    else:
        from rheobase.calibration.display import bar

        with bar(console, 300) as moving:
            task = moving.add_task(name, total=None)
            yield lambda at: moving.update(
                task, completed=at.step, total=at.steps, description=f"{name}: {_where(at, epochs)}"
            )


@contextmanager
def converting(text: str, show: bool = True, state: Path | None = None, keep: bool = False) -> Iterator[None]:
    """Show on standard error what a conversion is doing.

    Args:
        text: what stands before it.
        show: whether to.
        state: folder in which a long calibration keeps where it is, until the block ends well.
        keep: whether it stays there also then.
    """
    from rheobase.calibration import session, shown

    with _told(state if show else None), session(folder=state), shown(text, show):
        yield
    if state is not None and not keep and is_first():
        shutil.rmtree(state, ignore_errors=True)


@contextmanager
def _told(state: Path | None) -> Iterator[None]:
    """Say at an interruption where the calibration can be taken up again."""
    try:
        yield
    except KeyboardInterrupt:
        if state is not None and state.exists():
            note(f"Interrupted. What is calibrated so far is in {state}; repeat the command to go on.")
        raise


def _where(at: Progress, epochs: int) -> str:
    loss = "" if math.isnan(at.loss) else f", loss {at.loss:.3f}"
    return f"pass {min(at.epoch + 1, epochs)} of {epochs}{loss}"


def _lines(name: str, epochs: int) -> Callable[[Progress], None]:
    first: tuple[float, int] | None = None
    last = time.monotonic()

    def show(at: Progress) -> None:
        nonlocal first, last
        now = time.monotonic()
        if first is None:
            first = now, at.step
        if now - last < _EVERY or at.step == first[1]:
            return
        last = now
        left = (now - first[0]) / (at.step - first[1]) * (at.steps - at.step)
        note(f"{name}: {_where(at, epochs)}, step {at.step:,} of {at.steps:,}, {duration(left)} left")

    return show
