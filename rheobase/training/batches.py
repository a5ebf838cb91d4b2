"""Batches as a pure function of seed and step, so that a training can go on from any step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rheobase.data import StoredImages

__all__ = ["Samples", "ShuffledBatches"]


@dataclass(frozen=True)
class Samples:
    """Inputs and labels, in memory or as images that are decoded when they are asked for.

    Args:
        inputs: A tensor, or `rheobase.data.StoredImages`.
        labels: A tensor.
        drawn: Whether a training takes random parts of stored images, and not their centres.

    Shape:
        inputs uint8 (N, C, H, W) for images, float32 (N, C, L) for waveforms, int64 (N, L) for tokens;
        labels int64 (N,).
    """

    inputs: Tensor | StoredImages
    labels: Tensor
    drawn: bool = False

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.labels)

    def first(self, count: int | None) -> Samples:
        """The first samples only, or all."""
        inputs = self.inputs[:count] if isinstance(self.inputs, Tensor) else self.inputs.first(count)
        return Samples(inputs, self.labels[:count], self.drawn)


class ShuffledBatches:
    """The batches of an epoch in random order, from the current step on; without an incomplete last one.

    The order of epoch e depends on the seed and e only. Where an epoch begins in the middle, after a resume,
    the batches are those that an uninterrupted run would have seen from there on.

    Args:
        samples: The training samples.
        size: Samples in a batch, over all processes.
        seed: Of the order.
        step: Says how many steps have been done.
        process: Gives the rank of this process and the number of processes, each of which takes its own
            part of every batch.
    """

    def __init__(
        self,
        samples: Samples,
        size: int,
        seed: int,
        step: Callable[[], int],
        process: Callable[[], tuple[int, int]] = lambda: (0, 1),
    ) -> None:
        self.samples, self.size, self.seed, self._step = samples, min(size, len(samples)), seed, step
        self._process = process

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return len(self.samples) // self.size

    def rows(self, step: int) -> Tensor:
        """Which samples are in the batch of a step, over all processes."""
        epoch, index = divmod(step, len(self))
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        order = torch.randperm(len(self.samples), generator=generator)
        return order[index * self.size : (index + 1) * self.size]

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Give the batches from the current step to the end of its epoch."""
        first = self._step()
        steps = range(first, first - first % len(self) + len(self))
        if isinstance(self.samples.inputs, Tensor):
            yield from map(self._batch, steps)
            return
        with ThreadPoolExecutor(1) as ahead:  # which decodes the next batch while this one is computed with
            waiting = ahead.submit(self._batch, first)
            for step in steps:
                batch = waiting.result()
                if step + 1 in steps:
                    waiting = ahead.submit(self._batch, step + 1)
                yield batch

    def _batch(self, step: int) -> tuple[Tensor, Tensor]:
        """What this process takes of the batch of a step; random parts depend on the seed, step and process only."""
        rank, world = self._process()
        rows, inputs = self.rows(step)[rank::world], self.samples.inputs
        if self.samples.drawn and not isinstance(inputs, Tensor):
            generator = torch.Generator().manual_seed(((self.seed * 1_000_003 + step) * 1024 + rank) ^ 0x5EED)
            return inputs.draw(rows, generator), self.samples.labels[rows]
        return inputs[rows], self.samples.labels[rows]

    def state_dict(self) -> dict[str, Any]:
        """Say to Lightning that this loader can go on in the middle of an epoch; the step is all it needs."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Do nothing: the step is known to the trainer."""
