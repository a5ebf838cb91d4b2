"""What each process of `test_distributed` does: python distributed_worker.py RANK SIZE FOLDER TASK."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from networks import RESIDUAL_INPUT, inputs, residual
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import rheobase as rb
from rheobase.batches import as_batches
from rheobase.calibration.confidence import measure_confidence
from rheobase.calibration.layerwise import first_samples
from rheobase.distributed import leave
from rheobase.errors import ConversionError, DataError
from rheobase.graph import trace
from rheobase.methods import SRP
from rheobase.methods.threshold_balancing import poisson_input
from rheobase.observers import Max, Moments, observe
from rheobase.quantisation import quantised_twin
from rheobase.twin import evaluate_twin

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
    found["twin"] = dataclasses.asdict(evaluate_twin(snn.graph, DATA, DATA, 3))
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


def loader(**options: Any) -> DataLoader[Any]:
    return DataLoader(TensorDataset(X, Y), batch_size=4, **options)


def mismatches() -> dict[str, str]:
    """What is said where the processes are given different data, networks or settings; "" where nothing is."""
    rank = dist.get_rank()
    net, snn = residual(), rb.convert(residual(), DATA, rb.MSAT())
    graph = trace(net, X[:2])
    seeded = [torch.Generator().manual_seed(seed) for seed in (5, rank)]
    alike, shuffled = (loader(shuffle=True, generator=generator) for generator in seeded)
    spread = loader(sampler=DistributedSampler(TensorDataset(X, Y), shuffle=False))
    fewer = DATA[: 6 - rank]
    relabelled = [*DATA[:5], (X[20:], Y[20:] + rank)]
    another = rb.convert(residual(rank), DATA, rb.MSAT())
    tries: dict[str, Callable[[], Any]] = {
        "evaluate, same shuffling": lambda: rb.evaluate(snn, alike, 2),
        "evaluate, shuffled": lambda: rb.evaluate(snn, shuffled, 2),
        "evaluate, sampler": lambda: rb.evaluate(snn, spread, 2),
        "evaluate, sampler in one": lambda: rb.evaluate(snn, spread if rank else DATA, 2),
        "evaluate, fewer": lambda: rb.evaluate(snn, fewer, 2),
        "evaluate, other labels": lambda: rb.evaluate(snn, relabelled, 2),
        "evaluate, other network": lambda: rb.evaluate(another, DATA, 2),
        "evaluate, other steps": lambda: rb.evaluate(snn, DATA, 2 + rank),
        "convert, same shuffling": lambda: rb.convert(net, alike, rb.MSAT()),
        "convert, sampler": lambda: rb.convert(net, spread, rb.MSAT()),
        "convert, shuffled": lambda: rb.convert(net, shuffled, rb.MSAT()),
        "observe, unshared": lambda: observe(graph, shuffled, Moments()),
        "first samples": lambda: first_samples(as_batches(shuffled), 10),
        "confidence": lambda: measure_confidence(snn, graph, as_batches(shuffled), graph.sites, 2),
        "Poisson": lambda: poisson_input(snn, graph, as_batches(shuffled)),
        "twin": lambda: quantised_twin(graph, observe(graph, DATA, Max()).values, 4, batches=shuffled),
    }
    found = {}
    for name, act in tries.items():
        try:
            act()
            found[name] = ""
        except ConversionError as error:
            found[name] = f"{type(error).__name__}: {error}"
    return found


TASKS: dict[str, Callable[[], Any]] = {"curves": curves, "failures": failures, "mismatches": mismatches}

if __name__ == "__main__":
    rank, size, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    torch.set_num_threads(1)
    if size > 1:
        dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=size)
    (folder / f"{rank}.json").write_text(json.dumps([TASKS[task]() for task in sys.argv[4:]]))
    leave()
