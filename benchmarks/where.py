"""Where the time of a simulation goes: a part of `benchmarks.speed`."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from statistics import median
from typing import Any
from unittest import mock

import rheobase as rb
from benchmarks.contestants import NETWORKS, STEPS, case
from rheobase.execution import Execution
from rheobase.kernels import cpu
from rheobase.kernels.events import EventLayer
from rheobase.neurons import CumulativeMaxPool, Neuron
from rheobase.program import Bare

__all__ = ["EVENTS", "LISTS", "METHODS", "NEURONS", "kind_of", "measured", "where"]

METHODS = {"IF": rb.ConstantThreshold(), "MSAT": rb.MSAT(), "ternary": rb.DeltaCoding(steps=STEPS)}
LISTS, EVENTS, LAYERS, NEURONS, POOLS, SUMS = "lists", "events", "layers", "neurons", "pools", "sums"
CHAINED = "chained"  # a layer from events in one pass with its neurons
Clock = dict[str, float]


def where(arguments: argparse.Namespace) -> dict[str, Any]:
    """Seconds of a simulation in the lists of events, in what is summed up from them, in layers, neurons, max
    poolings and sums, and in all; medians of the rounds. ``layers`` has the first two in it, and ``neurons`` the layers
    that are computed together with them, ``chained``."""
    rows = []
    for name in NETWORKS:
        given, steps = case(name, arguments.quick), 4 if arguments.quick else STEPS
        for method, settings in METHODS.items():
            snn = rb.convert(given.model, given.calibration, settings)
            rb.simulate(snn, given.images, steps)
            clocks = []
            for _ in range(arguments.rounds):
                with measured() as clock:
                    start = time.perf_counter()
                    rb.simulate(snn, given.images, steps)
                    clock["all"] = time.perf_counter() - start
                clocks.append(clock)
            seconds = {what: median(clock[what] for clock in clocks) for what in clocks[0]}
            rows.append({"network": name, "method": method, "images": len(given.images), "steps": steps, **seconds})
    return {"rows": rows}


@contextmanager
def measured() -> Iterator[Clock]:
    """The seconds that each kind of work takes while this is open."""
    clock = dict.fromkeys((LISTS, EVENTS, CHAINED, LAYERS, NEURONS, POOLS, SUMS), 0.0)

    places: list[tuple[Any, str, Callable[..., str | None]]] = [
        (cpu, "launch", lambda kernel, *_: kind_of(kernel)),
        (EventLayer, "__call__", lambda *_: LAYERS),
        (Bare, "__call__", lambda layer, *_: None if layer._events else LAYERS),
        (Neuron, "forward", lambda *_: NEURONS),
        (CumulativeMaxPool, "forward", lambda *_: POOLS),
        (Execution, "_sum", lambda *_: SUMS),
    ]
    with ExitStack() as stack:
        for owner, name, kind in places:
            stack.enter_context(mock.patch.object(owner, name, _timed(getattr(owner, name), kind, clock)))
        yield clock


def kind_of(kernel: Any) -> str | None:
    """What a compiled kernel of a layer does; None for any other, such as that of neurons alone."""
    name = kernel.native_name
    kinds = {"_compressed": LISTS, "_gathered": EVENTS, "_scattered": EVENTS, "chained": CHAINED}
    return next((kind for part, kind in kinds.items() if part in name), None)


def _timed(function: Callable[..., Any], kind: Callable[..., str | None], clock: Clock) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        done = function(*args, **kwargs)
        what = kind(*args)
        if what is not None:
            clock[what] += time.perf_counter() - start
        return done

    return run
