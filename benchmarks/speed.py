"""What a simulation costs beside the network itself, and beside other simulators.

    python -m benchmarks.speed [--quick] [--threads N] [--rounds R] [--part NAME ...] [--result speed-avx512]

Every round runs all contestants once, in turn, and the peers (`benchmarks.peers`) answer from a process of their
own, so that a ratio compares neighbours in time. $RHEOBASE_WEIGHTS names the folder with akamaster's ResNet-20,
$RHEOBASE_DATA the folder of CIFAR-10. Finished parts are kept in runs/speed/ and not repeated after an
interruption; the environment of the peers is made in runs/peers/. With --part the other parts of the stored result
stay, each with the commit and the date of its own. --result names the stored result, one for each processor. --quick
shows that everything runs, and stores nothing: its numbers mean little.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch
from torch import Tensor, nn

import rheobase as rb
from benchmarks import conversions, record
from benchmarks.accuracy import shorten
from benchmarks.contestants import NETWORKS, PEERS, ROOT, STEPS, Peers, ann, case, compiled_ann, race, simulation, timed
from benchmarks.in_cache import in_cache
from benchmarks.where import METHODS as NEURONS
from benchmarks.where import where
from rheobase import kernels, models
from rheobase.data import images
from rheobase.kernels import integer
from rheobase.kernels.processor import multiplies_bfloat16
from rheobase.methods import AnnealedDelta, DifferentialCoding, RateCoding
from rheobase.spiking import SpikingModel

RECIPE = rb.ConstantThreshold(percentile=99.9, per_channel=True, initial_potential=0.5)
OURS = (
    RateCoding(steps=1, levels=15),
    DifferentialCoding(steps=4),
    AnnealedDelta(steps=5, iterations=400, anytime=0.0),
)
LAYERS = (  # channels, outputs, height and width
    (16, 16, 32), (32, 32, 16), (64, 64, 8), (64, 64, 32), (128, 128, 16), (256, 256, 8), (512, 512, 4), (512, 512, 2),
)  # fmt: skip
GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": str(2**20)}
SOURCES = ("speed", "conversions", "contestants", "peers", "where", "in_cache")  # whose change makes a part anew
DENSITIES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8)


def network(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """All contestants on one network: seconds of each round, the classes they find, the rate of spikes."""
    given, steps = case(name, arguments.quick), 4 if arguments.quick else STEPS
    x = given.images
    nets = {name: rb.convert(given.model, given.calibration, method) for name, method in NEURONS.items()}
    folder = ROOT / "runs/speed"
    peers = Peers(nets["IF"], x, folder)
    contestants = {"ANN": ann(nets["IF"], x, steps)}
    if multiplies_bfloat16():  # others take minutes for a pass
        contestants["ANN, bfloat16"] = ann(nets["IF"], x, steps, torch.bfloat16)
    contestants["ANN, torch.compile"] = compiled_ann(nets["IF"], x, steps)
    for neuron, snn in nets.items():
        contestants[f"{neuron}, reference"] = simulation(snn, x, "never", steps, "reference", "float")
        contestants[f"{neuron}, dense float32"] = simulation(snn, x, "never", steps, arithmetic="float")
        contestants[f"{neuron}, dense"] = simulation(snn, x, "never", steps)
        contestants[f"{neuron}, events"] = simulation(snn, x, "auto", steps)
        contestants[f"{neuron}, rounded"] = simulation(snn, x, "auto", steps, arithmetic="rounded")
    for neuron in ("MSAT", "ternary"):  # their spikes are no whole numbers of one unit, so that these are nothing new
        del contestants[f"{neuron}, dense"], contestants[f"{neuron}, rounded"]
    contestants |= {peer: peers.contestant(peer, steps) for peer in PEERS}
    rounds = race(contestants, arguments.rounds)
    peers.close()
    return {"images": len(x), "steps": steps, "rounds": rounds} | size(nets["IF"], x[:1])


def latency(arguments: argparse.Namespace) -> dict[str, Any]:
    """What an image takes until the accuracy is within a point of the ANN's, in steps that the first test images need.

    SpikingJelly's best recipe (99.9 % of each channel, half a threshold at the start) against methods of ours; the
    recipe's steps come from our simulation of it, which fires alike.
    """
    given, quick = case("resnet20", arguments.quick), arguments.quick
    mean, std = models.AKAMASTER_MEAN, models.AKAMASTER_STD
    test = images("cifar10", "test", mean, std, limit=20 if quick else None)
    loader = torch.utils.data.DataLoader(test, batch_size=50)
    recipe = rb.convert(given.model, given.calibration, RECIPE)
    curves = {"SpikingJelly": rb.evaluate(recipe, loader, 4 if quick else 64, reference=given.model)}
    found: dict[str, Any] = {"SpikingJelly": curves["SpikingJelly"].latency_steps()}
    peers = Peers(recipe, given.images, ROOT / "runs/speed", start=RECIPE.initial_potential)
    contestants = {
        f"SpikingJelly, {mode}": peers.contestant(f"SpikingJelly, {mode}", found["SpikingJelly"] or 4)
        for mode in ("step by step", "multi-step")
    }
    for method in OURS:
        snn, name = rb.convert(given.model, given.calibration, method), repr(method)
        curves[name] = rb.evaluate(snn, loader, method.steps, reference=given.model)
        found[name] = method.steps
        contestants[name] = simulation(snn, given.images, "auto", method.steps)
    rounds = race(contestants, arguments.rounds)
    peers.close()
    accuracy = {name: None if c.accuracy is None else c.accuracy[-1] for name, c in curves.items()}
    reference = curves["SpikingJelly"].reference_accuracy
    about = {"tested": curves["SpikingJelly"].images, "accuracy": accuracy, "reference_accuracy": reference}
    at = curves["SpikingJelly"].accuracy
    if at is not None and found["SpikingJelly"]:
        accuracy["SpikingJelly"] = at[found["SpikingJelly"] - 1]
    return {"images": len(given.images), "found": found, "rounds": rounds} | about


def size(snn: SpikingModel, x: Tensor) -> dict[str, int]:
    """Multiply-adds and neurons for one image, and numbers in the weights."""
    macs = 0

    def count(layer: nn.Module, _: Any, output: Tensor) -> None:
        nonlocal macs
        assert isinstance(layer.weight, Tensor)
        macs += output.numel() * layer.weight[0].numel()

    module = copy.deepcopy(snn.graph.module)
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count)
    with torch.no_grad():
        module(x)
    neurons = sum(snn.graph.neurons(site) for site in snn.plan.neurons)
    return {"macs": macs, "neurons": neurons, "weights": sum(p.numel() for p in module.parameters())}


def machine(arguments: argparse.Namespace) -> dict[str, Any]:
    """The rates that floors are computed from: of multiply-adds, and of a copy out of cache.

    Multiply-adds go at the rate of a large convolution or a large matrix product, whichever is faster.
    """
    n, count = (256, 2**20) if arguments.quick else (2048, 2**26)
    images, width, side = (4, 64, 16) if arguments.quick else (64, 256, 16)
    layer = torch.nn.Conv2d(width, width, 3, padding=1, bias=False).to(memory_format=torch.channels_last)
    x = torch.rand(images, width, side, side).to(memory_format=torch.channels_last)
    a, b, source, target = torch.rand(n, n), torch.rand(n, n), torch.rand(count), torch.rand(count)
    runs = {
        "product": timed(lambda: a @ b), "convolution": timed(lambda: layer(x)),
        "copy": timed(lambda: target.copy_(source)),
    }  # fmt: skip
    with torch.no_grad():
        times = race(runs, 3 * arguments.rounds)
    product = [2e-9 * n**3 / s for s in times["product"]["seconds"]]
    convolution = [2e-9 * 9 * width * x.numel() / s for s in times["convolution"]["seconds"]]
    return {
        "gflops": max(product, convolution, key=median),
        "gflops_of_a_product": product,
        "gflops_of_a_convolution": convolution,
        "gbytes": [8e-9 * count / s for s in times["copy"]["seconds"]],
    }


def density(arguments: argparse.Namespace) -> dict[str, Any]:
    """VGG16 with the fraction of the maximum as threshold that makes one neuron in twenty fire in a step."""
    given, steps = case("vgg16", arguments.quick), 4 if arguments.quick else STEPS
    low, high = 0.05, 1.0
    for _ in range(2 if arguments.quick else 7):
        fraction = (low * high) ** 0.5
        snn = rb.convert(given.model, given.calibration, rb.ConstantThreshold(fraction=fraction))
        rate = simulation(snn, given.images, "auto", steps)()["rate"]
        low, high = (low, fraction) if rate < 0.05 else (fraction, high)
    contestants = {
        "ANN": ann(snn, given.images, steps),
        "IF, dense float32": simulation(snn, given.images, "never", steps, arithmetic="float"),
        "IF, dense": simulation(snn, given.images, "never", steps),
        "IF, events": simulation(snn, given.images, "auto", steps),
    }
    rounds = race(contestants, arguments.rounds)
    return {"images": len(given.images), "steps": steps, "fraction": fraction, "rounds": rounds}


def layers(arguments: argparse.Namespace) -> dict[str, Any]:
    """3x3 convolutions on random spikes: seconds of the dense layer, in float32 and whole numbers, and of events."""
    rows, code = [], kernels.Code(torch.ones(()), 1, signed=False)
    for channels, outputs, size in LAYERS[:2] if arguments.quick else LAYERS:
        layer = nn.Conv2d(channels, outputs, 3, padding=1).to(memory_format=torch.channels_last).eval()
        by_events = kernels.EventLayer(layer)
        samples = max(16, min(128, 2**21 // (channels * size * size)))
        for rate in DENSITIES:
            x = (torch.rand(samples, channels, size, size) < rate).float().to(memory_format=torch.channels_last)
            known = kernels.KnownInput(code, x.flatten(1).count_nonzero(1))
            contestants = {
                "dense": timed(lambda layer=layer, x=x: layer(x)),
                "events": timed(lambda by_events=by_events, x=x, known=known: by_events(x, "always", "float", known)),
            }
            if rate == DENSITIES[0] and integer.unavailable() is None:  # what they take does not depend on the density
                whole = integer.IntegerLayer(layer)
                contestants["whole numbers"] = timed(lambda whole=whole, x=x: whole(x, code))
                rough = integer.IntegerLayer(layer)
                contestants["rounded"] = timed(lambda rough=rough, x=x: rough(x, code, rounded=True))
            with torch.no_grad():
                rounds = race(contestants, 5 * arguments.rounds)
            chosen = by_events.event_cost(samples, (size, size), int(x.count_nonzero())) < by_events.dense_cost(
                samples, (size, size)
            )
            about = {"layer": [samples, channels, outputs, size], "density": rate, "chosen": chosen}
            rows.append(about | {name: result["seconds"] for name, result in rounds.items()})
    return {"rows": rows}


def memory(arguments: argparse.Namespace) -> dict[str, Any]:
    """Peak memory of processes that do nothing but simulate ResNet-20, for few and for many steps.

    ``peak_mib`` is with `keep_memory`, and has the gaps between kept tensors in it; ``needed_mib`` is where each tensor
    of more than a MiB comes from the system and goes back to it, so that it is what the simulation holds at a time.
    """
    given, folder = case("resnet20", arguments.quick), ROOT / "runs/speed"
    rb.convert(given.model, given.calibration, NEURONS["IF"]).save(folder / "memory.rheobase")
    torch.save((given.model.state_dict(), given.images), folder / "memory.pt")
    found: dict[str, dict[str, list[float]]] = {"peak_mib": {}, "needed_mib": {}}
    for _ in range(1 if arguments.quick else 3):
        for steps in (32, 64) if arguments.quick else (32, 512):
            command = [sys.executable, "-m", "benchmarks.speed", "--peak", str(steps)]
            command += ["--threads", str(arguments.threads)]
            for what, peaks in found.items():
                more, settings = ([], {}) if what == "peak_mib" else (["--give-back"], GIVE_BACK)
                done = subprocess.run(
                    [*command, *more], check=True, capture_output=True, text=True, cwd=ROOT, env=os.environ | settings
                )
                peaks.setdefault(str(steps), []).append(float(done.stdout.split()[-1]))
    return {"images": len(given.images)} | found


def peak(steps: int) -> None:
    """Print the largest resident memory, in MiB, of a simulation in this process."""
    folder = ROOT / "runs/speed"
    weights, x = torch.load(folder / "memory.pt")
    model = models.resnet20().eval()
    model.load_state_dict(weights)
    rb.simulate(rb.load(folder / "memory.rheobase", model), x, steps)
    print(record.peak_mib())


PARTS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    **{name: lambda arguments, name=name: network(name, arguments) for name in NETWORKS},
    "latency": latency,
    "density": density,
    "calibration": conversions.calibration,
    "preset": conversions.preset,
    "exit": conversions.early_exit,
    "layers": layers,
    "where": where,
    "in_cache": in_cache,
    "memory": memory,
    "machine": machine,
}


def finished(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """A part, from its file where there is one."""
    sources = [
        *sorted((ROOT / "rheobase").rglob("*.py")),
        *(Path(__file__).with_name(f"{name}.py") for name in SOURCES),
    ]
    code = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
    origin = record.provenance(0)
    key = repr(
        (name, arguments.quick, arguments.threads, arguments.rounds, code, origin["versions"], origin["hardware"])
    )
    path = ROOT / "runs/speed" / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:12]}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        torch.manual_seed(0)
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
        about = origin | {"threads": arguments.threads, "load_before": load}
        content = shorten(about | PARTS[name](arguments))
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(content))
        partial.replace(path)
    return dict(json.loads(path.read_text()))


def summary(part: dict[str, Any]) -> str:
    """Milliseconds for one image and step, quartiles over the rounds, and the ratio to the ANN of the same round."""
    lines = []
    if "found" in part or "rule" in part:
        runs = {
            name: {k: v for k, v in result.items() if k != "classes"} for name, result in part.get("rounds", {}).items()
        }
        return json.dumps(part | {"rounds": runs})
    beside = part.get("rounds", {}).get("ANN", {}).get("seconds")
    for name, result in part.get("rounds", {}).items():
        if len(result["seconds"]) < 2:
            lines.append(f"  {name:<28} {result.get('error', 'one round')}")
            continue
        low, middle, high = quantiles([1e3 * s / (part["images"] * part["steps"]) for s in result["seconds"]], n=4)
        lines.append(f"  {name:<28}{middle:8.3f} ms [{low:.3f} {high:.3f}]")
        if beside is not None:
            ratio = quantiles([a / b for a, b in zip(result["seconds"], beside, strict=True)], n=4)
            lines[-1] += f"   {ratio[1]:.2f} ANN"
    return "\n".join(lines) or json.dumps(part)[:400]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few steps of everything, to see that it runs")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, help="default 7, or 2 with --quick")
    parser.add_argument("--part", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--result", default="speed", help="the name of the stored result")
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)  # what `memory` calls
    parser.add_argument("--give-back", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.rounds = arguments.rounds or (2 if arguments.quick else 7)
    torch.set_num_threads(arguments.threads)
    if not arguments.give_back:
        rb.keep_memory()
    if arguments.peak is not None:
        peak(arguments.peak)
        return
    origin = record.provenance(0) | {"threads": arguments.threads}
    parts: dict[str, Any] = {}
    stored = {} if arguments.quick or set(arguments.part) == set(PARTS) else _kept(arguments.result, origin)
    for name in arguments.part:
        parts[name] = finished(name, arguments)
        print(f"{name}\n{summary(parts[name])}", flush=True)
    if arguments.quick:
        print("Nothing was stored: --quick.")
        return
    result = origin | stored
    print(record.write(arguments.result, result | {"parts": result.get("parts", {}) | parts}))


def _kept(name: str, origin: dict[str, Any]) -> dict[str, Any]:
    """The stored result, whose other parts stay as they were measured; on another machine it is no use.

    One that does not say which instructions its processor had is of another machine: nobody can know.
    """
    if not record.has(name):
        return {}
    stored = record.read(name)
    for what in ("hardware", "threads"):
        if stored[what] != origin[what]:
            sys.exit(
                f"{name}.json was measured with {what} {stored[what]}, and this is {origin[what]}: measure all parts, "
                "or give another --result."
            )
    return stored


if __name__ == "__main__":
    main()
