"""What a simulation costs on a graphics processor: neuron scans beside SpikingJelly's, and whole networks.

    python -m benchmarks.gpu [--quick] [--rounds R] [--out FILE]

Every round runs all contestants once, in turn. SpikingJelly 2.0.0 runs in this process, with its Triton kernels
(SJ_IF_CUDA_IMPLEMENTATION=triton is set here): it must be importable, on Linux with
``pip install --no-deps spikingjelly==2.0.0 loguru``; without it its lines are missing. $RHEOBASE_WEIGHTS names the
folder with akamaster's ResNet-20, and runs/pixels/ holds the images (`benchmarks.pixels`). --quick shows that
everything runs, on any device: its numbers mean nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("SJ_IF_CUDA_IMPLEMENTATION", "triton")

import torch
from torch import Tensor

import rheobase as rb
from benchmarks import peers, record
from benchmarks.contestants import portable
from benchmarks.networks import bench
from rheobase import kernels
from rheobase.kernels import gpu
from rheobase.precision import float32_products
from rheobase.spiking import SpikingModel

STEPS = 32
NETWORKS = {"resnet20-cifar10": (1, 32, 256), "vgg16-cifar10": (1, 32, 256)}  # images in a batch
NEURONS = {"IF": rb.ConstantThreshold(), "MSAT": rb.MSAT(), "ternary": rb.DeltaCoding(steps=STEPS)}
ADAPTATION = {"alpha": 0.3, "ka": 1.0, "ki": 1.0, "c": 5.0, "v_t": -1.0, "dtt_gain": 0.5, "det_gain": 0.25}
CHUNKS = (2, 8, 32)
FOLDED = 8192  # samples times steps in one pass, at most


def timed(run: Callable[[], object], device: str, times: int = 1) -> float:
    """Seconds for a call, of so many in a row."""
    _wait(device)
    start = time.perf_counter()
    for _ in range(times):
        run()
    _wait(device)
    return (time.perf_counter() - start) / times


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def race(contestants: dict[str, Callable[[], object]], rounds: int, device: str, times: int) -> dict[str, Any]:
    """Seconds of each contestant in each round; one that fails says why."""
    results: dict[str, Any] = {}
    for name, run in contestants.items():
        try:
            timed(run, device)
            results[name] = {"seconds": []}
        except Exception as error:  # noqa: BLE001 (whatever is wrong, its line says so)
            results[name] = {"error": f"{type(error).__name__}: {error}"[:500]}
    for _ in range(rounds):
        for name, run in contestants.items():
            if "error" not in results[name]:
                results[name]["seconds"].append(timed(run, device, times))
    return results


def scans(arguments: argparse.Namespace) -> dict[str, Any]:
    """One scan of 32 steps of each family of neurons, channels last, and a copy of as many bytes."""
    device, shape = arguments.device, (2, 4, 4, 4) if arguments.quick else (64, 64, 32, 32)
    neurons = torch.Size(shape).numel()
    current = torch.randn(STEPS * shape[0], *shape[1:], device=device).to(memory_format=torch.channels_last)
    current = current.mul_(0.5).unflatten(0, (STEPS, shape[0]))
    plain = torch.randn(STEPS, *shape, device=device)  # in the order in which SpikingJelly's kernel is simplest
    zero, one = torch.zeros(shape, device=device), torch.ones((), device=device)
    each = torch.rand(1, shape[1], 1, 1, device=device) + 0.5
    row = torch.ones(STEPS, shape[1], device=device)
    target = torch.empty_like(current)
    state = zero.to(memory_format=torch.channels_last)
    counts = torch.empty(STEPS, shape[0], dtype=torch.int64, device=device)
    contestants: dict[str, Callable[[], object]] = {
        "copy": lambda: target.copy_(current),
        "IF": lambda: kernels.if_scan(current, state, one),
        "IF, a threshold a channel": lambda: kernels.if_scan(current, state, each),
        "IF, batch, channels, height, width": lambda: kernels.if_scan(plain, zero, one),
        "IF, reference": lambda: kernels.if_scan(current, state, one, backend="reference"),
        "MSAT": lambda: kernels.msat_scan(current, state, state, state, 1, one, **ADAPTATION),
        "graded, one schedule a step": lambda: kernels.graded_scan(current, state, state, row, 0.5 * row, 0 * row),
        "signed MSAT": lambda: kernels.signed_msat_scan(
            current, state, state, state, state, 1, row[:1], row[:1], row[:1], **ADAPTATION
        ),
        "IF, counting": lambda: kernels.if_scan(current, state, one, counts=counts),
        "MSAT, counting": lambda: kernels.msat_scan(current, state, state, state, 1, one, counts=counts, **ADAPTATION),
        "count": lambda: kernels.count_by_sample(current),
    }
    if not arguments.quick:
        for name in ("IF", "MSAT", "signed MSAT"):
            for block in (128, 256, 1024, 2048):
                contestants[f"{name}, blocks of {block}"] = _with_block(block, contestants[name])
    try:
        from spikingjelly.activation_based.functional.neuron import if_multi_step
        from spikingjelly.activation_based.neuron import IFNode

        node = IFNode(v_threshold=1.0, v_reset=None, step_mode="m").to(device).eval()

        def forget(run: Callable[[], object]) -> Callable[[], object]:
            return lambda: (node.reset(), run())

        contestants["SpikingJelly, function"] = lambda: if_multi_step(plain, zero, 1.0, None)
        contestants["SpikingJelly, function, channels last"] = lambda: if_multi_step(current, state, 1.0, None)
        contestants["SpikingJelly, IFNode"] = forget(lambda: node(plain))
        contestants["SpikingJelly, IFNode, channels last"] = forget(lambda: node(current))
    except ImportError as error:
        print(f"without SpikingJelly: {error}")
    with torch.no_grad():
        found = race(contestants, arguments.rounds, device, 1 if arguments.quick else 10)
    equal = _same_spikes(current, state, arguments)
    moved = {name: 8 * STEPS * neurons + _state_bytes(name, neurons) for name in found}
    return {"shape": [STEPS, *shape], "contestants": found, "bytes": moved, "same_spikes": equal}


def _with_block(block: int, run: Callable[[], object]) -> Callable[[], object]:
    def other() -> None:
        before, gpu._BLOCK = gpu._BLOCK, block
        try:
            run()
        finally:
            gpu._BLOCK = before

    return other


def _state_bytes(name: str, neurons: int) -> int:
    """What of the state must be read and written, beside the current and the values of all steps."""
    if name == "copy":
        return 0
    if name == "count":
        return -4 * STEPS * neurons  # nothing is written
    states = 4 if name.startswith("signed") else 3 if name.startswith("MSAT") else 2 if name.startswith("graded") else 1
    return 8 * states * neurons


def _same_spikes(current: Tensor, state: Tensor, arguments: argparse.Namespace) -> dict[str, bool]:
    """Whether the compiled scan and SpikingJelly's say what the reference says."""
    one = torch.ones((), device=arguments.device)
    with torch.no_grad():
        wanted = kernels.if_scan(current, state, one, backend="reference")[0]
        found = {"IF": torch.equal(kernels.if_scan(current, state, one)[0], wanted)}
        try:
            from spikingjelly.activation_based.functional.neuron import if_multi_step

            found["SpikingJelly"] = torch.equal(if_multi_step(current, state, 1.0, None)[0], wanted)
        except ImportError:
            pass
    return found


def network(name: str, images: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Image-steps a second of the ANN, of ours and of SpikingJelly, on real images and in real weights."""
    device, steps = arguments.device, 2 if arguments.quick else STEPS
    on = bench(name, 2000, 64 if arguments.quick else 1024, device)
    x = torch.stack([on.test.dataset[i][0] for i in range(images)]).to(device, memory_format=torch.channels_last)
    nets = {key: rb.convert(on.model, on.calibration.split(256), method) for key, method in NEURONS.items()}
    module = nets["IF"].graph.module.to(memory_format=torch.channels_last)
    wide = x.repeat(max(1, min(steps, FOLDED // images)), 1, 1, 1).to(memory_format=torch.channels_last)
    passes = max(1, steps * images // len(wide))

    def ann(dtype: torch.dtype | None, rounded: bool) -> Callable[[], object]:
        def run() -> None:
            automatic = nullcontext() if dtype is None else torch.autocast(device, dtype)
            with float32_products(x.device, rounded=rounded), automatic:
                for _ in range(passes):
                    module(wide)

        return run

    def ours(snn: SpikingModel, chunk: int | None = None, backend: Any = "auto", arithmetic: Any = "auto") -> Any:
        def run() -> Tensor:
            snn.backend, snn.arithmetic = backend, arithmetic
            return rb.simulate(snn, x, steps, chunk=chunk).output

        return run

    contestants: dict[str, Callable[[], object]] = {
        "ANN": ann(None, False), "ANN, TF32": ann(None, True), "ANN, bfloat16": ann(torch.bfloat16, False),
    }  # fmt: skip
    for key, snn in nets.items():
        contestants[f"{key}, reference"] = ours(snn, backend="reference")
        contestants[key] = ours(snn)
        for chunk in CHUNKS:
            if chunk * images <= FOLDED:
                contestants[f"{key}, chunks of {chunk}"] = ours(snn, chunk)
                contestants[f"{key}, chunks of {chunk}, rounded"] = ours(snn, chunk, arithmetic="rounded")
    largest = min(STEPS, FOLDED // images)
    classes = {key: ours(snn)().argmax(1) for key, snn in nets.items()}
    content = {**portable(module), "thresholds": {s: n.threshold for s, n in nets["IF"].neurons().items()}}
    try:
        for peer in ("SpikingJelly, step by step", "SpikingJelly, multi-step"):
            net = peers.convert(content, peer, steps).to(device)
            contestants[peer] = lambda net=net: peers.simulate(net, x, steps, 0.0)
            contestants[f"{peer}, TF32"] = _rounded(contestants[peer], x)
        with torch.no_grad(), float32_products(x.device, rounded=False):
            answer = peers.simulate(net, x, steps, 0.0).argmax(1)
        classes["SpikingJelly"] = answer
    except ImportError as error:
        print(f"without SpikingJelly: {error}")
    contestants[f"IF, chunks of {largest}, one CUDA graph"] = captured(nets["IF"], x, steps, largest)
    with torch.no_grad(), float32_products(x.device, rounded=False):
        found = race(contestants, arguments.rounds, device, 1)
    agree = {key: int((c == classes["IF"]).sum()) for key, c in classes.items()}
    about = {"images": images, "steps": steps, "classes_as_IF": agree} | peaks(nets["IF"], x, device)
    return about | {"contestants": found}


def _rounded(run: Callable[[], object], x: Tensor) -> Callable[[], object]:
    def rounded() -> object:
        with float32_products(x.device, rounded=True):
            return run()

    return rounded


def captured(snn: SpikingModel, x: Tensor, steps: int, chunk: int) -> Callable[[], object]:
    """All steps of a simulation as one CUDA graph, made by the first call."""
    made: dict[str, Any] = {}

    @torch.no_grad()
    def whole() -> Tensor:
        snn.backend, snn.arithmetic = "auto", "auto"
        execution = snn.start(x)
        total = execution.advance(min(chunk, steps)).sum(0)
        for first in range(chunk, steps, chunk):
            total = total + execution.advance(min(chunk, steps - first)).sum(0)
        return total

    def run() -> Tensor:
        if not made:
            whole()
            torch.cuda.synchronize()
            made["graph"] = torch.cuda.CUDAGraph()
            with torch.cuda.graph(made["graph"]):
                made["output"] = whole()
        made["graph"].replay()
        return made["output"]  # type: ignore[no-any-return]

    return run


def peaks(snn: SpikingModel, x: Tensor, device: str) -> dict[str, Any]:
    """Largest allocated memory in MiB for few and for many steps."""
    if device != "cuda":
        return {}
    found = {}
    snn.backend, snn.arithmetic = "auto", "auto"
    for steps in (32, 512):
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        rb.simulate(snn, x, steps)
        found[str(steps)] = torch.cuda.max_memory_allocated() / 2**20
    return {"peak_mib": found}


def main() -> None:
    """Measure, print a short table and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=record.RESULTS / "gpu.json")
    arguments = parser.parse_args()
    content: dict[str, Any] = {**record.provenance(0), "backends": rb.backends()}
    if arguments.device == "cuda":
        content["hardware"]["device"] = torch.cuda.get_device_name()
        content["versions"]["triton"] = __import__("triton").__version__
    content["scans"] = scans(arguments)
    _show("scans", content["scans"]["contestants"], content["scans"]["bytes"])
    content["networks"] = {}
    for name, batches in NETWORKS.items():
        for images in batches[:1] if arguments.quick else batches:
            found = network(name, images, arguments)
            content["networks"][f"{name}, {images}"] = found
            _show(f"{name}, {images} images", found["contestants"], None, images * found["steps"])
            arguments.out.write_text(json.dumps(content, indent=1) + "\n")
    print(arguments.out)


def _show(title: str, found: dict[str, Any], moved: dict[str, int] | None, count: int = 1) -> None:
    print(title, flush=True)
    for name, result in found.items():
        if "error" in result:
            print(f"  {name:<44} {result['error'][:110]}", flush=True)
            continue
        second = median(result["seconds"])
        rate = f"{moved[name] / second / 1e9:8.0f} GB/s" if moved else f"{count / second:12,.0f} image-steps a second"
        print(f"  {name:<44} {1e3 * second:9.3f} ms  {rate}", flush=True)


if __name__ == "__main__":
    main()
