"""Whose the memory of a network's layers is: they have one, so a network can be in one run at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rheobase.errors import ConversionError

__all__ = ["Ownership"]


class Ownership:
    """The run that has begun last owns the memory; an earlier one that goes on is told so.

    Threads take turns: none begins a run while another one computes a chunk of steps. A copy of a network has a
    memory of its own, which no run owns yet.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._owner: object = None

    def __reduce__(self) -> tuple[type[Ownership], tuple[()]]:
        return type(self), ()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Within, no other thread begins a run or goes on with one."""
        with self._lock:
            yield

    def claim(self) -> object:
        """The token of a run that begins."""
        with self._lock:
            self._owner = object()
            return self._owner

    @contextmanager
    def going_on(self, run: object) -> Iterator[None]:
        """A turn in which the memory is that of a run, also at the end.

        Args:
            run: its token.

        Raises:
            ConversionError: another run has begun.
        """
        with self._lock:
            self._check(run)
            yield
            self._check(run)

    def _check(self, run: object) -> None:
        if self._owner is not run:
            raise ConversionError(
                "This simulation cannot go on: the network was reset, or another simulation of it has begun, and its "
                "neurons hold the state of one. Finish the first before the second, or give each a network of its "
                "own, copy.deepcopy(snn)."
            )
