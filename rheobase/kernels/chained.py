"""A layer from events that is computed together with the neurons that it feeds: a few steps of one sample at a time.

Their currents then go from one to the other in the second-level cache. A layer that may wait for its neurons is given
to `before`, and the scan inside takes it along (`together`), or has it computed first (`cpu.settle`).
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rheobase.kernels.layout import dense

__all__ = ["Launch", "Scan", "Waiting", "before", "pays", "takes", "together", "waiting"]

Launch = tuple[Any, Any, int]
"""A compiled kernel, its task, and how much there is to do."""

_IN_CACHE = 2**17  # float32 of the currents of one part, half a MiB
_WEIGHTS = 2**16  # those of a layer, which a thread reads for each image anew
_LANES, _LINE = 16, 64  # of a vector, stored whole, as in `event_loops`; bytes of a line of the cache
_NEURONS, _STEPS, _STRIDE, _PERIOD, _CURRENT, _COUNTS, _SAMPLE = 1, 2, 3, 4, 5, 20, 21  # of a scan, as in `loops`


@dataclass(eq=False)
class Waiting:
    """A layer whose output is not computed yet.

    Args:
        lists: the launch that makes lists of events.
        sums: the one that adds them up, with the same task.
        images: its input. Shape (M, H, W, C).
        output: where it writes. Shape (M, OH, OW, O).
        scratch: float32 that a thread needs for the sums of one image.
        needed: what must live until then.
        done: whether it is computed by now.
    """

    lists: Launch
    sums: Launch
    images: Tensor
    output: Tensor
    scratch: int
    needed: tuple[Any, ...]
    done: bool = False


class Scan(NamedTuple):
    """What the task of a scan has besides the first slots of `loops`.

    Args:
        states: how many tensors its state has.
        moving: a slot that grows with the steps done.
        by: how much it grows each step.
        opening: a slot that is for the first of all steps, and 0 later; -1 for none.
    """

    states: int
    moving: int
    by: int
    opening: int = -1


def pays(weight: Tensor, image: Tensor) -> bool:
    """Whether a layer and the neurons of one image of its output find all they need in the second-level cache."""
    return weight.numel() <= _WEIGHTS and image.numel() <= _IN_CACHE


_WAITING: ContextVar[Waiting | None] = ContextVar("rheobase_waiting", default=None)


@contextmanager
def before(layer: Waiting | None) -> Iterator[None]:
    """Within, the scan whose current is the layer's output computes it."""
    token = _WAITING.set(layer)
    try:
        yield
    finally:
        _WAITING.reset(token)


def waiting() -> Waiting | None:
    """The layer that is not computed yet, if there is one."""
    if torch.compiler.is_compiling():  # such a layer is not waited for
        return None
    layer = _WAITING.get()
    return None if layer is None or layer.done else layer


def takes(current: Tensor) -> bool:
    """Whether a current (K, N, ...) is the output of the layer that waits, as it lies in memory."""
    layer = waiting()
    if layer is None or dense(current)[0] is not current:
        return False
    return (current.data_ptr(), current.numel()) == (layer.output.data_ptr(), layer.output.numel())


def together(kernel: Any, task: Any, scan: Scan) -> Launch | None:
    """The launch of the layer that waits and the scan of its neurons; None where that cannot be.

    Args:
        kernel: of the scan.
        task: whose first slots are those of `loops`.
        scan: what else its task has.
    """
    layer = waiting()
    if layer is None:
        return None
    number, height, width, channels = layer.images.shape
    neurons, steps, period = task[_NEURONS], task[_STEPS], task[_PERIOD]
    samples = number // steps
    each = neurons // samples
    counted_apart = task[_COUNTS] and task[_SAMPLE] != each
    if task[_CURRENT] != layer.output.data_ptr() or task[_STRIDE] != neurons or each % period or counted_apart:
        return None
    from rheobase.kernels import chained_loops

    layer.done = True
    (lists, of_layer, _), (sums, _, work) = layer.lists, layer.sums
    summed, listed, pointed = 4 * layer.scratch, 4 * (height * width * channels + _LANES), 8 * (height * width + 1)
    room = -(-(chained_loops.OWN + summed + pointed + 2 * listed) // _LINE) * _LINE
    area = torch.empty(torch.get_num_threads(), room, dtype=torch.uint8, device="cpu")
    callers = ctypes.c_int64(0)
    chain = (ctypes.c_int64 * chained_loops.SLOTS)(0, samples, _IN_CACHE // each, each, *scan)
    chain[8:13] = [lists.address, sums.address, kernel.address, ctypes.addressof(of_layer), ctypes.addressof(task)]
    chain[13:15] = [4 * height * width * channels, 4 * each]
    chain[15:18] = [ctypes.addressof(callers), area.data_ptr(), room]
    chain[18:21] = [summed, listed, pointed]
    layer.needed += (area, callers)
    return chained_loops.compiled(), chain, work + neurons * steps
