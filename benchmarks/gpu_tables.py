"""The tables of docs/performance.md that come from a graphics processor, from benchmarks/results/gpu.json."""

from __future__ import annotations

from statistics import median
from typing import Any

from benchmarks import record
from benchmarks.markdown import heads
from benchmarks.speed_tables import spread, verdict

TITLES = {"resnet20-cifar10": "ResNet-20", "vgg16-cifar10": "VGG16"}
ROWS = {
    "ANN": "ANN",
    "ANN, TF32": "ANN, TF32",
    "IF, reference": "IF, reference",
    "IF": "IF",
    "IF, chunks of 32": "IF, 32 steps in a chunk",
    "IF, chunks of 32, rounded": "IF, 32 steps in a chunk, TF32",
    "IF, chunks of 32, one CUDA graph": "IF, 32 steps in a chunk, one CUDA graph",
    "MSAT, chunks of 32": "MSAT, 32 steps in a chunk",
    "MSAT, chunks of 32, rounded": "MSAT, 32 steps in a chunk, TF32",
    "ternary, chunks of 32": "ternary, 32 steps in a chunk",
    "SpikingJelly, step by step": "SpikingJelly, step by step",
    "SpikingJelly, multi-step": "SpikingJelly, multi-step",
    "SpikingJelly, multi-step, TF32": "SpikingJelly, multi-step, TF32",
}


def gpu_bars() -> str:
    """The two bars for a graphics processor, and memory there."""
    result = record.read("gpu")
    scans = result["scans"]["contestants"]
    lines = ["| measure | bar | measured |", "|---|---|---|"]
    for ours, peer, layout in (
        ("IF, batch, channels, height, width", "SpikingJelly, function", "contiguous"),
        ("IF", "SpikingJelly, function, channels last", "channels last"),
        ("IF, batch, channels, height, width", "SpikingJelly, IFNode", "contiguous, its module"),
        ("IF", "SpikingJelly, IFNode, channels last", "channels last, its module"),
    ):
        ratio = _ratios(scans, peer, ours)
        lines.append(
            f"| IF scan against SpikingJelly's Triton backend, {layout} | at least 1.5 | "
            f"{spread(ratio)}{verdict(median(ratio) >= 1.5)} |"
        )
    for name in ("IF", "graded, one schedule a step", "MSAT", "signed MSAT"):
        share = [
            result["scans"]["bytes"][name] / a / (result["scans"]["bytes"]["copy"] / b)
            for a, b in zip(scans[name]["seconds"], scans["copy"]["seconds"], strict=True)
        ]
        lines.append(
            f"| bytes a second against a copy, {name} | at least 70 % | "
            f"{100 * median(share):.0f} %{verdict(median(share) >= 0.7)} |"
        )
    for key, found in result["networks"].items():
        network, _, images = key.partition(", ")
        growth = found["peak_mib"]["512"] / found["peak_mib"]["32"]
        lines.append(
            f"| peak memory, T = 512 against T = 32, {TITLES[network]}, {images} images | at most 1.05 | "
            f"{growth:.3f}{verdict(growth <= 1.05)} |"
        )
    copy = result["scans"]["bytes"]["copy"] / median(scans["copy"]["seconds"]) / 1e9
    shape = " × ".join(map(str, result["scans"]["shape"]))
    note = (
        f"Currents of {shape} (steps, samples, channels, height, width), float32; a copy moves {copy:,.0f} GB/s. "
        f"Medians over {len(scans['copy']['seconds'])} rounds of 10 launches; ratios are within a round [quartiles]. "
        f"{_machine(result)}"
    )
    return "\n".join([*lines, "", note])


def gpu_networks() -> str:
    """Image-steps a second on a graphics processor."""
    result = record.read("gpu")
    networks = result["networks"]
    titles = [f"{TITLES[key.partition(', ')[0]]}, {key.partition(', ')[2]}" for key in networks]
    lines = heads(["", *titles])
    for name, title in ROWS.items():
        cells = []
        for found in networks.values():
            run = found["contestants"].get(name, {})
            steps = found["images"] * found["steps"]
            cells.append(f"{steps / median(run['seconds']):,.0f}" if run.get("seconds") else "")
        lines.append(f"| {title} | {' | '.join(cells)} |")
    note = (
        f"Image-steps a second, medians of rounds; the number of images in a batch stands behind the network; T = 32. "
        f"*IF* takes the chunk that the library chooses. SpikingJelly runs with its Triton kernels. {_machine(result)}"
    )
    return "\n".join([*lines, "", note])


def _ratios(found: dict[str, Any], above: str, below: str) -> list[float]:
    return [a / b for a, b in zip(found[above]["seconds"], found[below]["seconds"], strict=True)]


def _machine(result: dict[str, Any]) -> str:
    versions = result["versions"]
    return (
        f"{result['hardware']['device']}, PyTorch {versions['torch']}, Triton {versions['triton']}, commit "
        f"{result['commit'][:7]}. `python -m benchmarks.gpu --rounds 5`."
    )
