"""What each process of `test_distributed` does: python distributed_worker.py RANK SIZE FOLDER TASK."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from networks import RESIDUAL_INPUT, inputs, residual

import rheobase as rb
from rheobase.errors import DataError
from rheobase.methods import SRP

X = inputs(RESIDUAL_INPUT, 22, seed=3).float()
Y = torch.arange(22) % 5
DATA = [(X[i : i + 4], Y[i : i + 4]) for i in range(0, 22, 4)]  # 6 batches, the last one smaller


def curves() -> dict[str, Any]:
    """Curves and thresholds of several methods, one of them random, one with an exit rule."""
    found: dict[str, Any] = {}
    methods = (rb.MSAT(), rb.ConstantThreshold(percentile=99.0, per_channel=True), rb.RateCoding(steps=4), SRP(steps=4))
    for method in methods:
        net = residual()
        snn = rb.convert(net, DATA, method)
        curve = rb.evaluate(snn, DATA, 4, reference=net, seeds=(0, 3))
        thresholds = {site: neuron.threshold.tolist() for site, neuron in snn.plan.neurons.items()}
        found[repr(method)] = [json.loads(curve.to_json()), thresholds]
    snn = rb.convert(residual(), DATA, rb.MSAT())
    found["exit"] = json.loads(rb.evaluate(snn, DATA, 6, until=rb.Exit("margin", 0.1)).to_json())
    return found


def failures() -> list[str]:
    """What is said where one batch is not finite, in evaluation and in calibration."""
    broken = [(x if i != 3 else x * torch.nan, y) for i, (x, y) in enumerate(DATA)]
    snn = rb.convert(residual(), DATA, rb.MSAT())
    found = []
    for act in (lambda: rb.evaluate(snn, broken, 2), lambda: rb.convert(residual(), broken, rb.MSAT())):
        try:
            act()
        except DataError as error:
            found.append(str(error))
    return found


TASKS: dict[str, Callable[[], Any]] = {"curves": curves, "failures": failures}

if __name__ == "__main__":
    rank, size, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    torch.set_num_threads(1)
    if size > 1:
        dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=size)
    (folder / f"{rank}.json").write_text(json.dumps([TASKS[task]() for task in sys.argv[4:]]))
    if size > 1:
        dist.destroy_process_group()
