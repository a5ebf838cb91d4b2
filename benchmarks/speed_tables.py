"""The tables of docs/performance.md, from benchmarks/results/speed.json.

Of other processors, speed-avx512.json and speed-amx.json, there are the bars alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from statistics import median, quantiles
from typing import Any

from benchmarks import record
from benchmarks.markdown import heads

TITLES = {"resnet20": "ResNet-20", "vgg16": "VGG16", "resnet34": "ResNet-34"}
ALPHABETS = {  # of the methods in `benchmarks.speed.OURS`
    "RateCoding(steps=1, levels=15)": "integer",
    "DifferentialCoding(steps=4)": "power of two",
    "AnnealedDelta(steps=6, iterations=100)": "ternary",
    "AnnealedDelta(steps=5, iterations=400, anytime=0.0)": "ternary",
}
SIDE_BY_SIDE = ("resnet20", "vgg16", "density", "latency", "memory", "preset")
Parts = dict[str, Any]


def stored(render: Callable[[Parts, dict[str, Any]], str], name: str = "speed") -> Callable[[], str]:
    """A table of the stored result of this name, or what measures it."""

    def table() -> str:
        if not record.has(name):
            return f"Not measured yet: `python -m benchmarks.speed --result {name}`."
        result = record.read(name)
        return render(result["parts"], result)

    return table


def _bars(parts: Parts, result: dict[str, Any]) -> str:
    """Each bar and what was measured."""
    lines = ["| measure | bar | measured |", "|---|---|---|"]
    for name, bar in (("resnet20", 3), ("vgg16", 4)):
        ratio = ratios(parts[name], faster_peer(parts[name]), "IF, events")
        lines.append(
            f"| image-steps a second against SpikingJelly, {TITLES[name]} | at least {bar} | "
            f"{spread(ratio)}{verdict(median(ratio) >= bar)} |"
        )
    for name in ("resnet20", "vgg16"):
        for contestant, limit in (("IF, dense", 1.2), ("IF, dense float32", 1.2), ("MSAT, dense float32", 1.6)):
            ratio = ratios(parts[name], contestant, "ANN")
            neuron = contestant.replace(", dense", "").replace(" float32", ", float32")
            lines.append(
                f"| one dense step against one ANN pass, {neuron}, {TITLES[name]} | at most {limit} | "
                f"{spread(ratio)}{verdict(median(ratio) <= limit)} |"
            )
    density = parts["density"]
    rate = density["rounds"]["IF, events"]["rate"]
    ratio = ratios(density, "IF, events", "ANN")
    lines.append(
        f"| one step at {100 * rate:.1f} % density against one ANN pass, VGG16 | at most 0.5 | "
        f"{spread(ratio)}{verdict(median(ratio) <= 0.5)} |"
    )
    lines += latency(parts["latency"])
    for what, means in (("peak_mib", ""), ("needed_mib", ", no memory kept")):
        if what in parts["memory"]:  # "needed_mib" is newer than the oldest results
            few, many = (median(p) for _, p in sorted(parts["memory"][what].items(), key=lambda item: int(item[0])))
            lines.append(
                f"| peak memory, T = 512 against T = 32, ResNet-20{means} | at most 1.05 | "
                f"{many / few:.3f}{verdict(many / few <= 1.05)} |"
            )
    for name, run in parts.get("preset", {}).get("rounds", {}).items():  # newer than the oldest results
        seconds = run["seconds"]
        lines.append(
            f"| seconds to convert ResNet-20 with `{name}`, {parts['preset']['images']:,} images | at most 120 | "
            f"{median(seconds):.0f} [{min(seconds):.0f}, {max(seconds):.0f}]{verdict(median(seconds) <= 120)} |"
        )
    note = f"Medians of ratios within a round [quartiles]. {_passes(parts)} {origins(parts, SIDE_BY_SIDE)}"
    return "\n".join([*lines, "", note])


def _passes(parts: Parts) -> str:
    """What a pass of the ANN takes, also in bfloat16 where the processor multiplies it by itself."""
    found = []
    for name in ("resnet20", "vgg16"):
        part = parts[name]
        half = part["rounds"].get("ANN, bfloat16")
        words = f"{TITLES[name]} {milliseconds(part, 'ANN')} ms"
        found.append(words + (f" (in bfloat16 {milliseconds(part, 'ANN, bfloat16')})" if half else ""))
    return (
        f"One ANN pass for an image: {', '.join(found)}; one step from events, IF: "
        + ", ".join(f"{TITLES[name]} {milliseconds(parts[name], 'IF, events')} ms" for name in ("resnet20", "vgg16"))
        + "."
    )


def origins(parts: Parts, names: Iterable[str]) -> str:
    """The processor, and of each part the commit and the load before it; then the command of each commit."""
    chosen = {name: parts[name] for name in names if name in parts}
    commits = dict.fromkeys((part["commit"][:7], part["command"]) for part in chosen.values())
    about = [
        f"`{command}` at {commit} ("
        + ", ".join(
            f"{name}, load {part['load_before']:.2g}"
            for name, part in chosen.items()
            if (part["commit"][:7], part["command"]) == (commit, command)
        )
        + ")"
        for commit, command in commits
    ]
    first = next(iter(chosen.values()))
    return f"{processor(first)}, {first['threads']} threads. {'; '.join(about)}."


bars, bars_avx512, bars_amx = stored(_bars), stored(_bars, "speed-avx512"), stored(_bars, "speed-amx")


def verdict(met: bool) -> str:
    """What stands behind a number that misses its bar."""
    return "" if met else " (missed)"


def latency(part: dict[str, Any]) -> list[str]:
    """Time an image to within a point of the ANN: ours against SpikingJelly's faster mode, a row for each method."""
    enough = part["reference_accuracy"] - 0.01
    rows = []
    for name, result in part["rounds"].items():
        if not name.startswith("SpikingJelly"):
            ratio = [
                s / o for s, o in zip(part["rounds"][faster_peer(part)]["seconds"], result["seconds"], strict=True)
            ]
            accuracy = 100 * part["accuracy"][name]
            short = "" if part["accuracy"][name] >= enough else ", not within a point"
            reached = verdict(median(ratio) >= 15 and not short)
            rows.append(
                f"| time an image to within a point of the ANN's {100 * part['reference_accuracy']:.1f} % "
                f"({part['tested']:,} images), SpikingJelly's best recipe (T = {part['found']['SpikingJelly']}) over "
                f"`{name}` ({ALPHABETS[name]}, {accuracy:.1f} %{short}) | at least 15 | {spread(ratio)}{reached} |"
            )
    return rows


@stored
def speed(parts: Parts, result: dict[str, Any]) -> str:
    """What one step takes, in short: ours, the ANN's pass, and SpikingJelly's faster mode."""
    lines = [
        "| network | one ANN pass | one step, dense | one step, from spikes | SpikingJelly | times faster |",
        "|---|---|---|---|---|---|",
    ]
    for name, title in TITLES.items():
        part = parts[name]
        peer = faster_peer(part)
        cells = [milliseconds(part, contestant) for contestant in ("ANN", "IF, dense", "IF, events", peer)]
        lines.append(f"| {title} | {' | '.join(cells)} | {spread(ratios(part, peer, 'IF, events'))} |")
    version = parts["resnet20"]["rounds"][faster_peer(parts["resnet20"])]["version"]
    note = (
        f"Milliseconds for one image (CIFAR-10; ResNet-34: 224 × 224, random weights), integrate and fire, T = "
        f"{parts['resnet20']['steps']}; medians [quartiles of the ratio]. SpikingJelly {version} in its faster mode, "
        f"same weights and thresholds. {processor(result)}, {result['threads']} threads. "
        f"`{result['command']}`."
    )
    return "\n".join([*lines, "", note])


@stored
def speeds(parts: Parts, result: dict[str, Any]) -> str:
    """Image-steps a second of every contestant."""
    names = list(parts["resnet20"]["rounds"])
    lines = heads(["", *TITLES.values()])
    for contestant in names:
        cells = [rate(parts[network], contestant) for network in TITLES]
        lines.append(f"| {label(parts['resnet20'], contestant)} | {' | '.join(cells)} |")
    sizes = ", ".join(f"{TITLES[n]} {parts[n]['images']}" for n in TITLES)
    first = parts["resnet20"]
    note = (
        f"Image-steps a second, medians of {len(first['rounds']['ANN']['seconds'])} rounds [quartiles], and "
        "in brackets how many classes agree with those of the IF network from events. "
        f"T = {first['steps']}; images in a batch: {sizes}. The ANN does one pass where the others do one step"
        f"{ann_batches(parts)}."
    )
    return "\n".join([*lines, "", note])


def _layers(parts: Parts, result: dict[str, Any]) -> str:
    """The dense layer's time over the events' time."""
    rows = parts["layers"]["rows"]
    densities = sorted({row["density"] for row in rows})
    lines = [
        f"| layer | {' | '.join(f'{100 * d:g} %' for d in densities)} | whole numbers | rounded |",
        "|---|" + "---|" * (len(densities) + 2),
    ]
    for shape in dict.fromkeys(tuple(row["layer"]) for row in rows):
        cells = []
        for row in (row for row in rows if tuple(row["layer"]) == shape):
            ratio = median(row["dense"]) / median(row["events"])
            cells.append(f"**{ratio:.1f}**" if row["chosen"] else f"{ratio:.1f}")
        first = next(row for row in rows if tuple(row["layer"]) == shape)
        cells += [  # at the first density, which does not matter to them
            f"{median(first['dense']) / median(first[name]):.1f}" if name in first else "-"
            for name in ("whole numbers", "rounded")
        ]
        lines.append(f"| {shape[1]} to {shape[2]} channels, {shape[3]} × {shape[3]} | {' | '.join(cells)} |")
    note = (
        "How many times faster than the dense layer in float32: from events, by density (bold where they are chosen "
        f"over it), and in whole numbers. 3 × 3 filters. {origins(parts, ['layers'])}"
    )
    return "\n".join([*lines, "", note])


layers, layers_amx = stored(_layers), stored(_layers, "speed-amx")


def _where(parts: Parts, result: dict[str, Any]) -> str:
    """Where the time of a step goes."""
    kinds = ["lists of events", "sums of events", "both, with neurons", "the rest of layers", "neurons", "max pooling"]
    kinds += ["sums", "all else"]
    lines = heads(["", "ms a step", *kinds])
    for row in parts["where"]["rows"]:
        layers_left = row["layers"] - row["lists"] - row["events"]
        both = row.get("chained", 0.0)
        shares = [row["lists"], row["events"], both, layers_left, row["neurons"] - both, row["pools"], row["sums"]]
        shares.append(row["all"] - sum(shares))
        each = 1e3 * row["all"] / (row["images"] * row["steps"])
        cells = " | ".join(f"{100 * share / row['all']:.0f} %" for share in shares)
        lines.append(f"| {TITLES[row['network']]}, {row['method']} | {each:.3f} | {cells} |")
    note = (
        "Medians of each column. Milliseconds for one image and step, layers from events where that is faster. *Both, "
        "with neurons*: layers that are computed from events in one pass with the neurons that they feed. *The "
        "rest of layers* is dense convolutions, in float32 or whole numbers, and what stands around the kernels; *all "
        f"else* is Python between the layers, the first layer, the read-out and counts. {origins(parts, ['where'])}"
    )
    return "\n".join([*lines, "", note])


where_amx = stored(_where, "speed-amx")


def _in_cache(parts: Parts, result: dict[str, Any]) -> str:
    """What kernels take from memory, and with all their data in the second-level cache."""
    part = parts["in_cache"]
    found = {(tuple(row["layer"]), row["what"]): (row["whole"], row["in_cache"]) for row in part["rows"]}
    lines = heads(["layer", "lists of events", "sums of events", "IF", "times"])
    for layer in dict.fromkeys(layer for layer, _ in found):
        each = [found[layer, what] for what in ("lists", "events", "neurons")]
        cells = " | ".join(f"{whole:.2f}, {cached:.2f}" for whole, cached in each)
        times = sum(whole for whole, _ in each) / sum(cached for _, cached in each)
        channels, size = layer
        lines.append(f"| {channels} to {channels} channels, {size} × {size} | {cells} | {times:.2f} |")
    note = (
        f"Nanoseconds an element of the input, the output and the neurons, on one thread: for {part['images']} images "
        f"and {part['steps']} steps, and for so few that they take {part['mib']} MiB, again and again; *times* is all "
        f"three of the first over all three of the second. 3 × 3 filters, "
        f"{100 * part['density']:.0f} % of the input are spikes. {origins(parts, ['in_cache'])}"
    )
    return "\n".join([*lines, "", note])


in_cache_amx = stored(_in_cache, "speed-amx")


@stored
def calibration(parts: Parts, result: dict[str, Any]) -> str:
    """What conversions take, beside a pass of the ANN and a simulation."""
    part = parts["calibration"]
    rounds = part["rounds"]
    lines = ["| conversion | seconds | ANN passes | simulations |", "|---|---|---|---|"]
    for name in [name for name in rounds if name not in ("ANN", "simulation")]:
        cells = [f"{median(rounds[name]['seconds']):.2f}"]
        cells += [spread(ratios(part, name, other)) for other in ("ANN", "simulation")]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    note = (
        f"ResNet-20, T = {part['steps']}: medians, and ratios to the float32 ANN's pass over the {part['images']:,} "
        f"calibration images and to a simulation of {part['simulated']} of them, as many as temporal biases use "
        f"[quartiles]. They are found in {part['passes']} trials in each of {part['layers']} layers; computing the "
        f"network from its start for each trial would take {part['passes'] * (part['layers'] + 1) // 2} simulations. "
        f"Load before it: {part['load_before']:.2g}. `{part['command']}`."
    )
    return "\n".join([*lines, "", note])


def _floors(parts: Parts, result: dict[str, Any]) -> str:
    """What a step must cost at least, and what it costs."""
    machine = parts["machine"]
    gflops, gbytes = median(machine["gflops"]), median(machine["gbytes"])
    titles = [
        "",
        "10⁶ multiply-adds",
        "10³ neurons",
        "floor, arithmetic",
        "floor, bytes",
        "ANN",
        "dense float32",
        "dense",
    ]
    titles += ["× rate", "events"]
    lines = heads(titles)
    for name, title in ((name, title) for name, title in TITLES.items() if name in parts):
        part = parts[name]
        macs, neurons = part["macs"], part["neurons"]
        arithmetic = 2e3 * macs / (gflops * 1e9)
        moved = 1e3 * neurons * 16 / (gbytes * 1e9)
        spikes = part["rounds"]["IF, events"]["rate"]
        cells = [f"{macs / 1e6:.1f}", f"{neurons / 1e3:.0f}", f"{arithmetic:.3f}", f"{moved:.3f}"]
        cells += [milliseconds(part, name) for name in ("ANN", "IF, dense float32", "IF, dense")]
        cells += [f"{arithmetic * spikes:.3f}", milliseconds(part, "IF, events")]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    both = "gflops_of_a_convolution" in machine  # older results have a matrix product alone
    rate = "the faster of a large matrix product and a large convolution" if both else "a large matrix product"
    note = (
        f"Milliseconds for one image, IF. On this machine {rate} makes {gflops:.0f} Gflop/s, and a "
        f"copy moves {gbytes:.1f} GB/s. Bytes: each neuron's current and value, written and read once. × rate: the "
        f"arithmetic floor times the rate of spikes. {origins(parts, ['machine', *TITLES])}"
    )
    return "\n".join([*lines, "", note])


floors, floors_amx = stored(_floors), stored(_floors, "speed-amx")


def ann_batches(parts: Parts) -> str:
    """How many images the ANN takes at once, where it was asked for that."""
    found = {title: parts[name]["rounds"]["ANN"].get("batch") for name, title in TITLES.items()}
    if None in found.values():
        return ""
    return ", on the fastest of some batches: " + ", ".join(f"{title} {n}" for title, n in found.items())


def _early_exit(parts: Parts, result: dict[str, Any]) -> str:
    """What an exit rule saves, and what it costs."""
    if "exit" not in parts:
        return f"Not measured on {processor(result)}: `python -m benchmarks.speed --part exit --result ...`."
    part = parts["exit"]
    lines = ["| | accuracy | mean steps | ms an image | times faster |", "|---|---|---|---|---|"]
    for name, run in part["rounds"].items():
        each = 1e3 * median(run["seconds"]) / part["images"]
        faster = "" if name == "all steps" else spread(ratios(part, "all steps", name))
        lines.append(f"| {name} | {100 * run['accuracy']:.1f} % | {run['mean_steps']:.1f} | {each:.2f} | {faster} |")
    note = (
        f"ResNet-20, `{part['method']}`, T = {part['steps']}, `{part['rule']}`, {part['images']:,} test images in "
        f"batches of {part['batch']}; medians [quartiles]. Of all rules with which "
        f"{100 * part['kept']:g} % of training images keep the class of step T, images leave earliest with this one. "
        f"{origins(parts, ['exit'])}"
    )
    return "\n".join([*lines, "", note])


early_exit, early_exit_amx = stored(_early_exit), stored(_early_exit, "speed-amx")


def processor(about: dict[str, Any]) -> str:
    """Its name, the vector instructions that PyTorch uses on it, and whether it has those for matrices."""
    hardware = about["hardware"]
    matrices = " and AMX" if "amx_tile" in hardware["instructions"] else ""
    return f"{hardware['processor']} with {hardware['instructions'][0]}{matrices}"


def faster_peer(part: dict[str, Any]) -> str:
    """SpikingJelly's faster mode on this network."""
    modes = [n for n, r in part["rounds"].items() if n.startswith("SpikingJelly") and r["seconds"]]
    return min(modes, key=lambda name: median(part["rounds"][name]["seconds"]))


def ratios(part: dict[str, Any], above: str, below: str) -> list[float]:
    """The quotients of two contestants' times, round by round."""
    pairs = zip(part["rounds"][above]["seconds"], part["rounds"][below]["seconds"], strict=True)
    return [a / b for a, b in pairs]


def spread(values: list[float]) -> str:
    low, middle, high = quantiles(values, n=4)
    return f"{middle:.2f} [{low:.2f}, {high:.2f}]"


def milliseconds(part: dict[str, Any], name: str) -> str:
    """Of one image and step."""
    return f"{1e3 * median(part['rounds'][name]['seconds']) / (part['images'] * part['steps']):.3f}"


def rate(part: dict[str, Any], name: str) -> str:
    """A cell: image-steps a second, quartiles, and agreement with our classes."""
    result, own = part["rounds"][name], part["rounds"]["IF, events"]["classes"]
    if not result["seconds"]:
        return result.get("error", "-").split(":")[0]
    low, middle, high = quantiles([part["images"] * part["steps"] / s for s in result["seconds"]], n=4)
    text = f"{middle:,.0f} [{low:,.0f}, {high:,.0f}]"
    if "classes" in result and name != "IF, events":
        text += f" ({sum(a == b for a, b in zip(result['classes'], own, strict=True))}/{len(own)})"
    return text


def label(part: dict[str, Any], name: str) -> str:
    version = part["rounds"][name].get("version")
    return f"{name} ({version})" if version else name
