"""What a speed benchmark races: networks, simulations, the network itself, and other simulators.

Every round runs all contestants once, in turn, and the peers (`benchmarks.peers`) answer from a process of their own,
so that a ratio compares neighbours in time.
"""

from __future__ import annotations

import copy
import json
import operator
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

import rheobase as rb
from rheobase import kernels, models
from rheobase.data import calibration_subset, images
from rheobase.spiking import SpikingModel

ROOT = Path(__file__).parent.parent
STEPS = 32
NETWORKS = {"resnet20": 32, "vgg16": 32, "resnet34": 4}  # images in a batch
ANN_BATCHES = (128, 512, 2048)  # of which the ANN takes the faster
PEERS = ("SpikingJelly, step by step", "SpikingJelly, multi-step", "snnTorch", "sinabs")
NEEDED = ("torch", "numpy", "loguru", "h5py", "requests", "scipy", "matplotlib", "tqdm", "einops", "pbr", "nir")
KEEP_MEMORY = {  # as rb.keep_memory
    "MALLOC_MMAP_THRESHOLD_": str(2**29),
    "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),
    "THP_MEM_ALLOC_ENABLE": "1",
}


@dataclass
class Case:
    """A network, its calibration images and the images to simulate."""

    model: nn.Module
    calibration: list[Tensor]
    images: Tensor


def case(name: str, quick: bool) -> Case:
    count = 2 if quick else NETWORKS[name]
    if name == "resnet34":
        torch.manual_seed(0)
        return Case(models.resnet34().eval(), [torch.rand(4, 3, 224, 224) for _ in range(1 if quick else 4)],
                    torch.rand(count, 3, 224, 224))  # fmt: skip
    if name == "resnet20":
        folder = os.environ.get("RHEOBASE_WEIGHTS", "../shared/weights")
        model = models.load_akamaster(f"{folder}/resnet20-cifar10.th")
        mean, std = models.AKAMASTER_MEAN, models.AKAMASTER_STD
    else:
        found = models.load("vgg16-cifar10")
        model, mean, std = found.model, found.card.mean, found.card.std
    data = calibration_subset("cifar10", mean, std, count=100 if quick else 1000, seed=0)
    test = images("cifar10", "test", mean, std, limit=count)
    x = torch.stack([test[i][0] for i in range(count)])
    return Case(model, [x for x, _ in torch.utils.data.DataLoader(data, batch_size=100)], x)


def simulation(
    snn: SpikingModel,
    x: Tensor,
    events: kernels.Events,
    steps: int,
    backend: kernels.Backend = "auto",
    arithmetic: kernels.Arithmetic = "auto",
) -> Callable[[], dict[str, Any]]:
    def run() -> dict[str, Any]:
        snn.events, snn.backend, snn.arithmetic = events, backend, arithmetic
        start = time.perf_counter()
        done = rb.simulate(snn, x, steps)
        seconds = time.perf_counter() - start
        rate = sum(float(s.sum()) for s in done.spikes.values()) / (sum(done.neurons.values()) * steps)
        return {"seconds": seconds, "classes": done.output.argmax(1).tolist(), "rate": rate}

    return run


def compiled_ann(snn: SpikingModel, x: Tensor, steps: int) -> Callable[[], dict[str, Any]]:
    """As `ann`, through ``torch.compile``, which needs a C++ compiler; where it fails, the answer says why."""
    run = ann(snn, x, steps, wrap=torch.compile)

    def attempt() -> dict[str, Any]:
        try:
            return run()
        except Exception as error:  # noqa: BLE001 (a missing compiler raises what the one there is would not)
            return {"error": f"{type(error).__name__}: {error}"[:200]}

    return attempt


def ann(
    snn: SpikingModel,
    x: Tensor,
    steps: int,
    dtype: torch.dtype = torch.float32,
    wrap: Callable[[nn.Module], Callable[[Tensor], Tensor]] = lambda module: module,
) -> Callable[[], dict[str, Any]]:
    """The folded network, ``steps`` times on the images, in the fastest of some batches.

    A simulation sends up to 2048 samples times steps through a layer. The first call, which warms up, tries 128 images,
    512 and 2048, or as many as the steps make, three times each, and says which ``batch`` was fastest; all calls
    after it keep to that.
    """
    module = wrap(copy.deepcopy(snn.graph.module).to(dtype, memory_format=torch.channels_last))
    repeats = dict.fromkeys(max(1, min(steps, size // len(x))) for size in ANN_BATCHES)
    batches = [x.repeat(n, 1, 1, 1).to(dtype, memory_format=torch.channels_last) for n in repeats]

    @torch.no_grad()
    def seconds(batch: Tensor) -> float:
        start = time.perf_counter()
        for _ in range(steps * len(x) // len(batch)):
            module(batch)
        return time.perf_counter() - start

    def run() -> dict[str, Any]:
        if len(batches) > 1:
            tried = [[seconds(batch) for batch in batches] for _ in range(3)]  # in turn
            best = min(range(len(batches)), key=lambda i: min(times[i] for times in tried))
            batches[:] = [batches[best]]
        return {"seconds": seconds(batches[0]), "batch": len(batches[0])}

    return run


def portable(module: fx.GraphModule) -> dict[str, Any]:
    """A graph as plain values and layers of PyTorch, which a process without Rheobase can load."""
    nodes = []
    for node in module.graph.nodes:
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda n: f"%{n.name}")
        nodes.append((node.op, node.name, node.target, args, kwargs))
    called = {str(n.target) for n in module.graph.nodes if n.op == "call_module"}
    constants = {str(n.target) for n in module.graph.nodes if n.op == "get_attr"}
    return {
        "nodes": nodes,
        "layers": {path: module.get_submodule(path) for path in called},
        "constants": {path: operator.attrgetter(path)(module).detach() for path in constants},
    }


class Peers:
    """The process in which the other simulators run; ``start`` is v(0) as a share of the threshold."""

    def __init__(self, snn: SpikingModel, x: Tensor, folder: Path, start: float = 0.0) -> None:
        path = folder / "network.pt"
        thresholds = {site: neuron.threshold for site, neuron in snn.neurons().items()}
        about = {"images": x, "threads": torch.get_num_threads(), "thresholds": thresholds, "start": start}
        torch.save(about | portable(snn.graph.module), path)
        command = [str(environment()), str(ROOT / "benchmarks/peers.py"), str(path)]
        pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen(command, **pipes, text=True, env=os.environ | KEEP_MEMORY)

    def contestant(self, name: str, steps: int) -> Callable[[], dict[str, Any]]:
        def run() -> dict[str, Any]:
            assert self.process.stdin is not None
            assert self.process.stdout is not None
            self.process.stdin.write(json.dumps({"run": name, "steps": steps}) + "\n")
            self.process.stdin.flush()
            while line := self.process.stdout.readline():
                with suppress(json.JSONDecodeError):  # what a package prints is not an answer
                    return dict(json.loads(line))
            return {"error": "the process ended"}

        return run

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def environment() -> Path:
    """The interpreter of the environment with the other simulators, which is made where it is missing."""
    folder = ROOT / "runs/peers/venv"
    python, stamp = folder / "bin/python", folder / ".complete"
    if not stamp.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "-c", str(ROOT / "constraints.txt"), *NEEDED], check=True)
        subprocess.run([*pip, "--no-deps", "spikingjelly==2.0.0"], check=True)
        for package in ("snntorch", "nirtorch", "sinabs"):  # where one cannot be had, its line says so
            subprocess.run([*pip, "--no-deps", package], check=False)
        stamp.touch()
    return python


def race(contestants: dict[str, Callable[[], dict[str, Any]]], rounds: int) -> dict[str, Any]:
    """Each contestant once to warm up, then all in turn; one that fails is not asked again."""
    results: dict[str, Any] = {}
    for name, run in contestants.items():
        results[name] = {key: value for key, value in run().items() if key != "seconds"}
        results[name]["seconds"] = []
    for _ in range(rounds):
        for name, run in contestants.items():
            if "error" not in results[name]:
                results[name]["seconds"].append(run()["seconds"])
    return results


def timed(run: Callable[[], object]) -> Callable[[], dict[str, Any]]:
    def measured() -> dict[str, Any]:
        start = time.perf_counter()
        run()
        return {"seconds": time.perf_counter() - start}

    return measured
