"""Why a data set or one of its rows could not be read: the innermost exception, in a few words."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["first_line", "innermost", "quiet", "reason"]

_ADDRESS = re.compile(r"\s*'?<_io\.BytesIO object at 0x[0-9a-f]+>'?")


def reason(error: BaseException) -> str:
    """The kind and the first line of what an exception goes back to, through causes and contexts.

    >>> try:
    ...     try:
    ...         raise EOFError("the file ends in the middle")
    ...     except EOFError as inner:
    ...         raise RuntimeError("an error occurred") from inner
    ... except RuntimeError as outer:
    ...     print(reason(outer))
    EOFError: the file ends in the middle
    """
    error = innermost(error)
    text = _ADDRESS.sub("", first_line(error))
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def innermost(error: BaseException) -> BaseException:
    """What an exception goes back to, through causes and contexts."""
    seen = {id(error)}
    while (inner := _inner(error)) is not None and id(inner) not in seen:
        seen.add(id(inner))
        error = inner
    return error


def first_line(error: BaseException) -> str:
    """What an exception itself says, without its further lines."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "")


def _inner(error: BaseException) -> BaseException | None:
    return error.__cause__ or (None if error.__suppress_context__ else error.__context__)


@contextmanager
def quiet(datasets: Any) -> Iterator[list[str]]:
    """Neither progress bars nor logged errors of `datasets`: only the command line prints. Gives those errors."""
    log = logging.getLogger("datasets")
    shown, before = datasets.is_progress_bar_enabled(), log.handlers
    catcher = _Catcher(before)
    datasets.disable_progress_bars()
    log.handlers = [catcher]
    try:
        yield catcher.errors
    finally:
        log.handlers = before
        if shown:
            datasets.enable_progress_bars()


class _Catcher(logging.Handler):
    """Keeps errors, and hands all else to the handlers there were."""

    def __init__(self, others: list[logging.Handler]) -> None:
        super().__init__()
        self.errors: list[str] = []
        self._others = others

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR:
            self.errors.append(record.getMessage())
            return
        for handler in self._others:
            if record.levelno >= handler.level:
                handler.handle(record)
