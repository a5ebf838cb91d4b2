"""The compiled loop (Numba) of a layer from events and the neurons that it feeds, in one pass.

A thread takes one sample: it computes the layer for a few steps of it, and lets the neurons go on by these steps while
their currents are in the second-level cache. The kernels are those of `event_loops` and `loops`, which it calls with
tasks of its own; its list of events is used again for each image.
"""

# mypy: disable-error-code="no-untyped-call, no-any-return"

from __future__ import annotations

from functools import cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from rheobase.kernels import event_loops, loops
from rheobase.kernels.basic_loops import _fetch_add, _integers
from rheobase.kernels.compilation import compile_kernel
from rheobase.kernels.event_loops import EVENTS, FIRST, IMAGES, INPUT, OUTPUT, PLACES, PLUS, POINTERS, SCRATCH, WORKERS
from rheobase.kernels.loops import (
    COUNTS,
    CURRENT,
    NEURONS,
    POTENTIAL,
    POTENTIAL_AFTER,
    SCANNED,
    STEPS,
    STRIDE,
    VALUES,
)

__all__ = ["OWN", "SLOTS", "compiled"]

TICKET, SAMPLES, PART, EACH = range(4)  # steps in a part; neurons of a sample
STATES, MOVING, BY, OPENING = range(4, 8)  # see `chained.Scan`
LISTS, SUMS, SCAN, LAYER, SCANNING = range(8, 13)  # addresses of the kernels and of their tasks
FROM, TO = 13, 14  # bytes of an image that goes into the layer, and of one that comes out
CALLERS, AREA, ROOM = 15, 16, 17  # threads so far; where the first thread's own memory begins; bytes of each
SUMMED, LISTED, POINTED = 18, 19, 20  # bytes of its rows of sums, of places (and of events), and of pointers
SLOTS = 21
"""The int64 slots of a task: sizes and addresses."""

OWN = 8 * (event_loops.SLOTS + loops.SLOTS + 2)
"""Bytes of a thread's own memory before its rows of sums: two tasks, a counter, and where its list begins."""

_NEURON, _COUNTER = event_loops.SLOTS, event_loops.SLOTS + loops.SLOTS


@intrinsic
def _call(typing: Any, address: Any, task: Any) -> Any:
    """Call the kernel at an address."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), (ir.IntType(64).as_pointer(),))
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), (args[1],))
        return context.get_dummy_value()

    return types.none(types.int64, types.CPointer(types.int64)), generate


def _kernel(task: Any) -> None:
    own = task[AREA] + task[ROOM] * _fetch_add(_integers(task[CALLERS]), 1)
    layer, neuron, counter = _integers(own), _integers(own + 8 * _NEURON), _integers(own + 8 * _COUNTER)
    whole_layer, whole = _integers(task[LAYER]), _integers(task[SCANNING])
    for slot in range(event_loops.SLOTS):
        layer[slot] = whole_layer[slot]
    for slot in range(loops.SLOTS):
        neuron[slot] = whole[slot]
    layer[IMAGES], layer[WORKERS], layer[FIRST] = 1, own + 8 * _COUNTER, own + 8 * _COUNTER + 8
    counter[1] = 0  # its list has the events of one image
    layer[SCRATCH] = own + OWN
    layer[POINTERS] = layer[SCRATCH] + task[SUMMED]
    layer[PLACES] = layer[POINTERS] + task[POINTED]
    layer[EVENTS] = layer[PLACES] + task[LISTED]
    samples, each, steps = task[SAMPLES], task[EACH], whole[STEPS]
    neuron[SCANNED] = each
    while True:
        sample = _fetch_add(task, 1)
        if sample >= samples:
            break
        for start in range(0, steps, task[PART]):
            stop = min(start + task[PART], steps)
            for k in range(start, stop):
                image = k * samples + sample
                layer[INPUT] = whole_layer[INPUT] + image * task[FROM]
                layer[OUTPUT] = whole_layer[OUTPUT] + image * task[TO]
                layer[PLUS] = whole_layer[PLUS] + image * task[TO] if whole_layer[PLUS] else 0
                layer[event_loops.TICKET] = 0
                _call(task[LISTS], layer)
                layer[event_loops.TICKET] = counter[0] = 0
                _call(task[SUMS], layer)
            begin = 4 * sample * each
            neuron[loops.TICKET], neuron[STEPS] = 0, stop - start
            neuron[CURRENT] = whole[CURRENT] + 4 * start * whole[STRIDE] + begin
            neuron[VALUES] = whole[VALUES] + 4 * start * whole[NEURONS] + begin
            for state in range(0, 2 * task[STATES], 2):
                before, after = whole[POTENTIAL + state], whole[POTENTIAL_AFTER + state]
                neuron[POTENTIAL + state] = (after if start else before) + begin
                neuron[POTENTIAL_AFTER + state] = after + begin
            neuron[task[MOVING]] = whole[task[MOVING]] + start * task[BY]
            if task[OPENING] >= 0:
                neuron[task[OPENING]] = 0 if start else whole[task[OPENING]]
            neuron[COUNTS] = whole[COUNTS] + 8 * (start * samples + sample) if whole[COUNTS] else 0
            _call(task[SCAN], neuron)


@cache
def compiled() -> Any:
    """The C function, compiled on first use, or loaded from Numba's cache."""
    return compile_kernel(_kernel)
