"""What a neuron costs: fused scans, and gradients, beside a convolution of equal size and beside plain PyTorch.

    python -m benchmarks.kernels [--threads N] [--steps K] [--rounds R] [--name NAME]

Every round runs all contestants once, in turn, so that a ratio compares neighbours in time. With one thread
the clock is the thread's processor time, which other programs on the machine do not disturb.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from statistics import quantiles
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import conv2d, relu

from benchmarks import record
from rheobase import kernels

LAYERS = ((64, 16, 32), (64, 32, 16), (64, 64, 8))  # images, channels, height and width: ResNet-20
MSAT: dict[str, Any] = {"alpha": 0.3, "ka": 1.0, "ki": 1.0, "c": 5.0, "v_t": -1.0, "dtt_gain": 0.5, "det_gain": 0.25}
BDETT: dict[str, Any] = {"eta": 0.3, "psi": 4.0, "rest": 0.0, "a": 0.0, "c": 5.0}
BASELINE = "convolution 3x3"
Rows = list[Tensor]
"""Threshold, lowest level that fires and offset of each channel, (1, C)."""


def contestants(images: int, channels: int, size: int, steps: int) -> dict[str, Callable[[], object]]:
    """What to time. Each handles images x channels x size x size neurons for ``steps`` steps."""
    last = torch.channels_last
    x = torch.rand(steps * images, channels, size, size).to(memory_format=last)
    weight = torch.randn(channels, channels, 3, 3).to(memory_format=last)
    scratch = torch.randn(steps * images, channels, size, size).to(memory_format=last)
    current = scratch.clone().view(steps, images, channels, size, size)
    scratch = scratch.view(current.shape)
    v = torch.zeros(images, channels, size, size).to(memory_format=last)
    mean, before, threshold = torch.zeros_like(v), torch.zeros_like(v), torch.tensor(0.7)
    parameters = [torch.full((1, channels), value) for value in (0.7, 0.5, 0.0)]
    spikes = kernels.if_scan(current, v, threshold)[0]

    def fire(backend: kernels.Backend, overwrite: bool = False) -> object:
        x = scratch if overwrite else current
        return kernels.if_scan(x, v, threshold, overwrite=overwrite, backend=backend)

    def adapt(backend: kernels.Backend, **options: Any) -> object:
        x = scratch if "overwrite" in options else current
        return kernels.msat_scan(x, v, mean, before, 8, threshold, **MSAT, **options, backend=backend)

    def follow(backend: kernels.Backend) -> object:
        return kernels.bdett_scan(current, v, mean, before, 8, threshold, **BDETT, backend=backend)

    def take_back(x: Tensor, rows: Rows, backend: kernels.Backend) -> Tensor:
        return kernels.signed_msat_scan(x, v, v, mean, before, 8, *rows, **MSAT, backend=backend)[0]

    def grade(x: Tensor, rows: Rows, backend: kernels.Backend) -> Tensor:
        return kernels.graded_scan(x, v, v, *rows, backend=backend)[0]

    def rise(x: Tensor, rows: Rows, backend: kernels.Backend) -> Tensor:
        return kernels.msat_scan(x, v, mean, before, 8, rows[0].view(-1, 1, 1), **MSAT, backend=backend)[0]

    def tune(scan: Callable[[Tensor, Rows, kernels.Backend], Tensor], backend: kernels.Backend) -> object:
        """Forward and backward."""
        x, *rows = (tensor.detach().requires_grad_() for tensor in (current, *parameters))
        with torch.enable_grad():
            return torch.autograd.grad(scan(x, rows, backend), (x, *rows), scratch, allow_unused=True)

    return {
        BASELINE: lambda: conv2d(x, weight, padding=1),
        "relu": lambda: relu(x),
        "IF": lambda: fire("cpu"),
        "IF, overwriting": lambda: fire("cpu", overwrite=True),
        "IF, reference": lambda: fire("reference"),
        "MSAT": lambda: adapt("cpu"),
        "MSAT, overwriting": lambda: adapt("cpu", overwrite=True),
        "MSAT, reference": lambda: adapt("reference"),
        "MSAT, rounded": lambda: adapt("cpu", payload=4),
        "MSAT, rounded, reference": lambda: adapt("reference", payload=4),
        "BDETT": lambda: follow("cpu"),
        "BDETT, reference": lambda: follow("reference"),
        "signed MSAT": lambda: take_back(current, parameters, "cpu"),
        "signed MSAT, reference": lambda: take_back(current, parameters, "reference"),
        "tuning graded": lambda: tune(grade, "cpu"),
        "tuning signed MSAT": lambda: tune(take_back, "cpu"),
        "tuning signed MSAT, reference": lambda: tune(take_back, "reference"),
        "tuning MSAT": lambda: tune(rise, "cpu"),
        "tuning MSAT, reference": lambda: tune(rise, "reference"),
        "count": lambda: kernels.count_nonzero(spikes, backend="cpu"),
        "count, reference": lambda: kernels.count_nonzero(spikes, backend="reference"),
    }


def measure(layer: tuple[int, int, int], steps: int, rounds: int) -> list[dict[str, Any]]:
    """Quartiles of nanoseconds per neuron and step, and of the ratio to the convolution of the same round."""
    images, channels, size = layer
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    runs = contestants(*layer, steps)
    for run in runs.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start = clock()
            run()
            times[name].append((clock() - start) / (images * channels * size * size * steps) * 1e9)
    return [
        {
            "layer": list(layer),
            "name": name,
            "nanoseconds": quantiles(taken, n=4),
            "ratio": quantiles([a / b for a, b in zip(taken, times[BASELINE], strict=True)], n=4),
            "fastest": min(taken),
        }
        for name, taken in times.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--threads", type=int, default=1, help="1 also chooses the processor-time clock")
    parser.add_argument("--steps", type=int, default=4, help="K, steps in one scan")
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--name", help="also write the numbers to benchmarks/results/NAME.json")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    about = record.provenance(arguments.seed) | {
        "clock": "processor time of the thread" if arguments.threads == 1 else "wall",
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "backends": kernels.backends(),
        "steps": arguments.steps,
        "rounds": arguments.rounds,
    }
    print(json.dumps(about, indent=1))
    results = []
    with torch.no_grad():
        for layer in LAYERS:
            print("{} x {} x {}²".format(*layer) + ": ns per neuron and step, ratio to the convolution [quartiles]")
            for row in measure(layer, arguments.steps, arguments.rounds):
                low, middle, high = row["nanoseconds"]
                ratio = "{1:8.2f} [{0:.2f} {2:.2f}]".format(*row["ratio"])
                print(f"  {row['name']:<30}{middle:8.2f} [{low:.2f} {high:.2f}] {ratio}")
                results.append(row)
    if arguments.name is not None:
        print(record.write(arguments.name, about | {"results": results}))


if __name__ == "__main__":
    main()
