"""Memory of gradient calibration end to end and layer by layer, as networks grow.

    python -m benchmarks.tuning_memory [--rounds 3] [--threads N]

Each pass tunes annealed delta coding with T = 8, in batches of 8 images, in a process of its own: its peak memory above
what the converted network holds. Finished rows are kept in runs/tuning-memory/. Environment variables are those of
`benchmarks.methods`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch

import rheobase as rb
from benchmarks import record
from benchmarks.methods import once
from benchmarks.networks import bench
from rheobase import models
from rheobase.calibration import Tuning, tune, tune_layers
from rheobase.calibration.layerwise import samples
from rheobase.methods import AnnealedDelta

NETWORKS = ("resnet20-cifar10", "vgg16-cifar10", "resnet34-imagenet")
PASSES = {"end to end": tune, "layer by layer": tune_layers}
STEPS, BATCH, ITERATIONS = 8, 8, 2
IMAGES = 1024  # where they fit; layer by layer, fewer where the currents of one layer would take more than 1 GiB


def network(name: str) -> tuple[torch.nn.Module, torch.Tensor]:
    """The network and calibration images; those of 224 pixels are random, and so are the weights there."""
    if name == "resnet34-imagenet":
        torch.manual_seed(0)
        return models.resnet34().eval(), torch.rand(64, 3, 224, 224)
    on = bench(name, 1, IMAGES)
    return on.model, on.calibration


def measure(name: str, which: str) -> dict[str, Any]:
    """One pass in this process."""
    model, x = network(name)
    graph = rb.trace(model, x[:2])
    snn = rb.convert(model, x[:32], AnnealedDelta(steps=STEPS, iterations=0))
    rb.simulate(snn, x[:2], STEPS)
    before = record.peak_mib()
    PASSES[which](snn, graph, x, STEPS, Tuning(ITERATIONS, BATCH))
    used = len(samples(graph, x, STEPS, IMAGES)) if which == "layer by layer" else len(x)
    return {"mib": record.peak_mib() - before, "images": used}


def row(name: str, which: str, rounds: int, threads: int) -> dict[str, Any]:
    """One pass in processes of its own."""
    command = [sys.executable, "-m", "benchmarks.tuning_memory", "--threads", str(threads), "--one", name, which]
    done = [subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True) for _ in range(rounds)]
    runs = [json.loads(one.stdout.splitlines()[-1]) for one in done]
    commit, mib = record.provenance(0)["commit"], [run["mib"] for run in runs]
    return {"commit": commit, "network": name, "pass": which, "images": runs[0]["images"], "mib": mib}


def main() -> None:
    """Measure all in processes of their own, then write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--finished", action="store_true", help="measure nothing, write what there is")
    parser.add_argument("--one", nargs=2, metavar=("NETWORK", "PASS"), help="one of them, in this process")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.one:
        print(json.dumps(measure(*arguments.one)))
        return
    rows = []
    for name in NETWORKS:
        for which in PASSES:
            kept = Path("runs/tuning-memory") / f"{name}, {which}, {arguments.rounds}.json"
            if arguments.finished and not kept.exists():
                continue
            rows.append(once(kept, partial(row, name, which, arguments.rounds, arguments.threads)))
            print(rows[-1], flush=True)
    content = {**record.provenance(0), "steps": STEPS, "batch_size": BATCH, "images": IMAGES, "rows": rows}
    print(record.write("tuning-memory", content))


if __name__ == "__main__":
    main()
