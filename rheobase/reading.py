"""Reading data in several processes: each takes its share of the batches, so all must read the same ones.

A loader that shuffles in each process by itself would have samples counted twice, or never, and calibrate another
network in each. So every process keeps a hash of each batch that it reads, and they compare them after the pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor
from torch.utils.data import DistributedSampler

from rheobase.batches import Batch, Batches
from rheobase.digest import digest
from rheobase.distributed import World, world
from rheobase.errors import DataError

__all__ = ["AS_TRAINED", "Reading", "on_batch"]

T = TypeVar("T")

AS_TRAINED = (
    "Accepted: batches (N, ...) of the shape that the network was trained on. Check how the data are preprocessed."
)
_HASHED = 2**16  # elements of the inputs of a batch, about


class Reading:
    """A pass over the data that is the same in all processes. One process alone reads on as it would without.

    Iterate it within what `gather` or `alike` call, and no more than once in each.

    Args:
        data: the batches.
        own: the processes; by default those of this run.
    """

    def __init__(self, data: Batches, own: World | None = None) -> None:
        self.data = data
        self.own = world() if own is None else own
        self._read: list[str] = []

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.data) if self.own.size == 1 else self._noted()

    def _noted(self) -> Iterator[Batch]:
        self._read = []
        for sampler in _samplers(self.data.source):
            if isinstance(sampler, DistributedSampler):
                raise DataError(
                    f"The data come from a DataLoader with a {type(sampler).__name__}, which gives each process a "
                    "share of the samples, and of it each would take a share again. Accepted: a loader that gives "
                    f"each of the {self.own.size} processes all samples. Leave out the sampler."
                )
        for batch in self.data:
            self._read.append(digest([_part(batch.inputs), str(tuple(batch.inputs.shape)), batch.labels])[:16])
            yield batch

    def gather(self, find: Callable[[], T]) -> list[T]:
        """As `World.gather`, for what each process finds in its share of the batches.

        Raises:
            DataError: the processes read different batches, or a loader gives each a share; in all of them.
        """
        if self.own.size == 1:
            return [find()]
        found = self.own.gather(lambda: (find(), self._read))
        self._compare([read for _, read in found])
        return [value for value, _ in found]

    def alike(self, find: Callable[[], T]) -> T:
        """What every process finds by itself in all batches that it reads.

        Raises:
            DataError: as `gather`.
        """
        found: list[T] = []
        self.gather(lambda: found.append(find()))
        return found[0]

    def _compare(self, read: list[list[str]]) -> None:
        first = read[0]
        other = next((rank for rank, each in enumerate(read) if each != first), None)
        if other is None:
            return
        index = next((i for i, (a, b) in enumerate(zip(first, read[other], strict=False)) if a != b), None)
        if index is None:
            differs = f"process 0 read {len(first)} batches, and process {other} {len(read[other])}"
        else:
            differs = f"batch {index} of process {other} is another one than batch {index} of process 0"
        names = [type(sampler).__name__ for sampler in _samplers(self.data.source)][:1]
        source = " with a ".join([type(self.data.source).__name__, *names])
        raise DataError(
            f"The {len(read)} processes read different data: {differs}. Found: a {source}. Each process takes its "
            "share of the batches by their number, so all must read the same ones in the same order: give "
            "shuffle=False and no random augmentation, or the same seeds in all processes."
        )


@contextmanager
def on_batch(
    index: int, x: Tensor, network: str, advice: str, passes: Callable[[Exception], bool] = lambda error: False
) -> Iterator[None]:
    """Within, an error that a network raises is one of the data, told with the batch; a lack of memory is not.

    Args:
        index: of the batch.
        x: the batch.
        network: what it is called, "the network".
        advice: what to do.
        passes: whether an error is let through as it is.

    Raises:
        DataError: the network failed.
    """
    try:
        yield
    except Exception as error:
        if passes(error) or isinstance(error, torch.cuda.OutOfMemoryError) or "can't allocate memory" in str(error):
            raise
        given = f"an input of shape {tuple(x.shape)} and type {x.dtype}"
        raise DataError(f"Batch {index}: {network} fails on {given}: {error}. {advice}") from error


def _samplers(source: object) -> list[object]:
    """What chooses the samples of a data loader."""
    batched = getattr(source, "batch_sampler", None)
    found = [getattr(batched, "sampler", None), getattr(source, "sampler", None), batched]
    return [sampler for sampler in found if sampler is not None]


def _part(x: Tensor) -> Tensor:
    """Elements from all over a batch, all if they are few: an odd number apart, so at other places of each sample."""
    return x.reshape(-1)[:: x.numel() // _HASHED | 1]
