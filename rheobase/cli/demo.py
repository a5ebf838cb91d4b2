"""`rheobase demo`: train a small network, convert it three ways, and explain what is seen."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer

from rheobase.cli import options

__all__ = ["demo"]

_CHECKPOINT = "digits.safetensors"
_MADE_BY = "rheobase demo"
_EARLY = 4  # the step at which methods are compared before all of them are good

_WHAT = (
    "Each ReLU becomes a layer of spiking neurons: a neuron adds up its input, and each time the sum reaches a "
    "threshold it sends a spike and subtracts the threshold. An image is shown for T time steps, and the answer is the "
    "mean output of those steps: more steps, a better answer, and more spikes, each of which costs energy."
)
_COLUMNS = (
    "Agreement is how often the spiking network answers as the original does, right or wrong. The mean rate is the "
    "spikes of one neuron in one step: at 0.1 it sends one in ten steps. The three methods differ in the threshold: "
    "the largest activation of the layer on the training images, half of it, and one that adapts at every step (MSAT). "
    "Nothing is trained again, and all numbers below are measured on {count:,} images that were not trained with."
)


def demo(
    output: Annotated[
        Path,
        typer.Option(help="Where curve.json, curve.png and the trained weights go.", metavar="FOLDER"),
    ] = Path("demo-output"),
    steps: Annotated[int, typer.Option(help="T, the time steps to simulate.", min=1, metavar="T")] = 128,
    seed: Annotated[int, typer.Option(help="Of the training.", metavar="N")] = 0,
    force: options.Force = False,
    debug: options.Debug = False,
) -> None:
    """Train a small network on real digits, convert it three ways, and see what that costs."""
    import safetensors.torch

    import rheobase as rb
    from rheobase.cli.files import curve_files, refuse_existing, write_atomically, write_curves
    from rheobase.cli.tables import curve_table, early, grid, latency, original
    from rheobase.cli.terminal import say, waiting
    from rheobase.demo import digits

    files = (*curve_files(output), output / _CHECKPOINT)
    refuse_existing(force or _is_of_demo(files[0]), *files)
    say("A trained network becomes a spiking one, and you see what that costs.\n")
    say("1  Train", "bold")
    say("A small CNN with batch norm, max pooling and a residual sum learns handwritten digits from 1,000 images.")
    with waiting("Training"):
        model, train, test = digits(seed)
    count = len(test.dataset)  # type: ignore[arg-type]
    say("\n2  Convert and measure", "bold")
    say(f"{_WHAT}\n\n{_COLUMNS.format(count=count)}\n")
    curves = {}
    for method in (rb.ConstantThreshold(), rb.ConstantThreshold(fraction=0.5), rb.MSAT()):
        snn = rb.convert(model, train, method)
        curve = rb.evaluate(snn, test, steps, reference=model, progress=True, description=repr(method))
        curves[repr(method)] = curve
        say(curve_table(curve))
    say("3  What to read from this", "bold")
    say(original(next(iter(curves.values()))))
    say(grid({label: latency(curve) for label, curve in curves.items()}))
    t = min(_EARLY, steps)
    say(f"With few steps, here at T = {t}:")
    say(grid({label: early(curve, t) for label, curve in curves.items()}))
    say("Where 95 % intervals overlap, these images cannot tell two numbers apart.")
    weights = model.state_dict()
    write_atomically(files[2], lambda path: safetensors.torch.save_file(weights, path))
    title = f"handwritten digits, a small CNN: {count:,} test images; bands are 95 % intervals"
    write_curves(output, curves, {"made_by": _MADE_BY, "seed": seed}, title)
    say("\n4  Go on", "bold")
    say(f"{files[0]} holds the numbers of every step, and {files[1]} shows them.")
    say("Your own network, data and method go in as these do (see rheobase compare --help):\n")
    say(_next(files[2]), wrap=False)


def _next(checkpoint: Path) -> str:
    return (
        "  rheobase compare --model rheobase.demo:DigitsNet --data rheobase.demo:images \\\n"
        f"    --checkpoint {shlex.quote(str(checkpoint))} --method MSAT \\\n"
        "    --method 'ConstantThreshold(fraction=0.5, initial_potential=0.5)'"
    )


def _is_of_demo(path: Path) -> bool:
    """Whether a file is missing, or an earlier demo wrote it, so that it may be replaced."""
    try:
        return bool(json.loads(path.read_text()).get("made_by") == _MADE_BY)
    except (OSError, ValueError, AttributeError):
        return False
