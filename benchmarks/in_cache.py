"""What kernels would save were their data in the second-level cache: a part of `benchmarks.speed`.

Neurons that are computed in one pass with the layer before them find their currents there (`rheobase.kernels.chained`);
a layer that got its spikes while they are there would make its list of events from there. What a kernel takes for a
small chunk, which it is given again and again, says how much this can be worth at most.
"""

from __future__ import annotations

import argparse
import ctypes
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any
from unittest import mock

import torch
from torch import nn

from benchmarks.contestants import STEPS
from benchmarks.where import EVENTS, NEURONS, kind_of
from rheobase import kernels
from rheobase.kernels import cpu, event_loops

__all__ = ["in_cache", "repeated"]

LAYERS = ((16, 32), (32, 16), (64, 8))  # channels, height and width: ResNet-20
DENSITY = 0.1
SMALL = 2**17  # float32, half a MiB
IMAGES = 32


def in_cache(arguments: argparse.Namespace) -> dict[str, Any]:
    """Nanoseconds an element of lists of events, of sums of events and of IF, on one thread; medians of the rounds."""
    rows = []
    for channels, size in LAYERS:
        neurons = channels * size * size
        small, large = SMALL // neurons, STEPS * (2 if arguments.quick else IMAGES)
        taken: dict[tuple[bool, str], list[float]] = {}
        for _ in range(2 * arguments.rounds):
            for samples, times in ((large, 1), (small, large // small)):
                with torch.inference_mode(), repeated(times) as clock:
                    _layer_and_neuron(channels, size, samples)
                for what, seconds in clock.items():
                    each = 1e9 * seconds / (samples * times * neurons)
                    taken.setdefault((samples == small, what), []).append(each)
        for what in {what: None for _, what in taken}:
            row = {"layer": [channels, size], "what": what, "whole": median(taken[False, what])}
            rows.append(row | {"in_cache": median(taken[True, what])})
    return {"rows": rows, "density": DENSITY, "images": IMAGES, "steps": STEPS, "mib": 4 * SMALL / 2**20}


def _layer_and_neuron(channels: int, size: int, samples: int) -> None:
    """One layer and its neurons, on random spikes; so many samples, each one step."""
    layer = kernels.EventLayer(nn.Conv2d(channels, channels, 3, padding=1))
    x = (torch.rand(samples, channels, size, size) < DENSITY).float().to(memory_format=torch.channels_last)
    current = layer(x, "always", known=kernels.KnownInput(counts=x.flatten(1).count_nonzero(1))).unsqueeze(1)
    kernels.if_scan(current, torch.zeros_like(current[0]), torch.tensor(1.0), overwrite=True, backend="cpu")


@contextmanager
def repeated(times: int) -> Iterator[dict[str, float]]:
    """While this is open, a kernel runs so many times, on one thread; the seconds of each kind, but for a first run."""
    clock: dict[str, float] = {}

    def launch(kernel: Any, task: Any, _work: int) -> None:
        what = kind_of(kernel) or NEURONS
        clock[what] = 0.0
        for run in range(times + 1):
            task[event_loops.TICKET] = 0
            if what == EVENTS:  # the thread begins with its own memory anew
                ctypes.c_int64.from_address(task[event_loops.WORKERS]).value = 0
            start = time.perf_counter()
            kernel.ctypes(task)
            if run > 0:
                clock[what] += time.perf_counter() - start

    with mock.patch.object(cpu, "launch", launch):
        yield clock
