"""Several processes: which share of the data each of them takes, and how what they find comes together.

A process that `torchrun` started joins the others at its first evaluation or calibration, through gloo, or NCCL where
each process has a CUDA device. All processes must make the same calls in the same order.
PyTorch is imported when it is needed: the command line asks `is_first` before anything else.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from rheobase.errors import ConversionError

__all__ = ["World", "is_first", "leave", "world"]

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """The processes.

    Attributes:
        rank: the number of this one, from 0.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    def takes(self, index: int) -> bool:
        """Whether batch ``index`` is one of this process."""
        return index % self.size == self.rank

    def named(self, path: str | Path) -> Path:
        """A file for this process alone: with several, its number is appended."""
        path = Path(path)
        return path if self.size == 1 else path.with_name(f"{path.name}.{self.rank}")

    def gather(self, find: Callable[[], T]) -> list[T]:
        """What each process finds, in the order of their ranks; every process gets the whole list.

        Args:
            find: computes it, from the share of this process.

        Raises:
            ConversionError: ``find`` raised one in a process; the first one is raised in all of them, so that none
                waits for an answer that never comes.
        """
        if self.size == 1:
            return [find()]
        import torch.distributed as dist

        own: tuple[T | None, ConversionError | None]
        try:
            own = find(), None
        except ConversionError as error:
            own = None, error
        found: list[tuple[T, ConversionError | None]] = [None] * self.size  # type: ignore[list-item]
        dist.all_gather_object(found, own)
        failure = next((error for _, error in found if error is not None), None)
        if failure is None:
            return [value for value, _ in found]
        try:
            raise failure.with_traceback(None)
        finally:
            del found, own, failure  # which would keep the frames of the failed call, and be kept by them


def world() -> World:
    """The processes of this run; one alone where there is no process group and `torchrun` made none."""
    import torch
    import torch.distributed as dist

    if not dist.is_available():
        return World()
    if not dist.is_initialized():
        if not _launched():
            return World()
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
        atexit.register(leave)
    return World(dist.get_rank(), dist.get_world_size())


def leave() -> None:
    """End the process group before the interpreter does: with its threads still running, the exit may abort.

    A process that began with `world` does so at its exit. What garbage still holds of the group is let go first.
    """
    dist = sys.modules.get("torch.distributed")
    if dist is not None and dist.is_available() and dist.is_initialized():
        gc.collect()
        dist.destroy_process_group()


def is_first() -> bool:
    """Whether this process is the one that prints and writes files. It starts nothing."""
    return not _launched() or os.environ.get("RANK", "0") == "0"


def _launched() -> bool:
    """Whether `torchrun`, or what sets the same variables, started several processes."""
    return os.environ.get("WORLD_SIZE", "1") != "1" and "MASTER_ADDR" in os.environ
