"""The options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rheobase.cli.config import use_config
from rheobase.cli.terminal import DEBUG
from rheobase.errors import SettingError

if TYPE_CHECKING:
    from rheobase.exits import Exit as Rule

__all__ = [
    "ANY_STEPS",
    "BatchSize",
    "CalibrationImages",
    "CalibrationSplit",
    "Checkpoint",
    "Columns",
    "CompareSteps",
    "Config",
    "Data",
    "Debug",
    "Device",
    "Exit",
    "Force",
    "Images",
    "Json",
    "Mean",
    "Method",
    "MethodOrFile",
    "Methods",
    "Model",
    "ModelArgs",
    "OutputFolder",
    "OwnSteps",
    "Publish",
    "Quiet",
    "Resize",
    "Resume",
    "Seed",
    "Seeds",
    "Size",
    "Split",
    "Std",
    "read_exit",
    "read_seeds",
    "read_steps",
]

_MODEL, _DATA, _RUN, _OUTPUT = "Network", "Data", "Conversion and simulation", "Output"


def _debug(context: typer.Context, value: bool) -> bool:
    context.meta[DEBUG] = value
    return value


Model = Annotated[
    str,
    typer.Option(
        help="The function that gives the network: package.module:function or path/file.py:function.",
        metavar="PLACE:NAME",
        rich_help_panel=_MODEL,
    ),
]
ModelArgs = Annotated[
    list[str] | None,
    typer.Option(help="An argument of that function; may be repeated.", metavar="KEY=VALUE", rich_help_panel=_MODEL),
]
Checkpoint = Annotated[
    Path | None,
    typer.Option(help="Its weights: a .pt, .pth, .th or .safetensors file.", metavar="FILE", rich_help_panel=_MODEL),
]
Device = Annotated[
    str, typer.Option(help="Where to compute: cpu, cuda, cuda:1 ...", metavar="NAME", rich_help_panel=_MODEL)
]

Data = Annotated[
    str,
    typer.Option(
        help="An image folder, cifar10 or another name on the Hugging Face hub (a copy under $RHEOBASE_DATA "
        "comes first), or path/file.py:function, which gives (inputs, labels) for a split, or inputs alone.",
        metavar="DATA",
        rich_help_panel=_DATA,
    ),
]
Split = Annotated[
    str | None,
    typer.Option(
        help="The split to evaluate on; test if not given, validation where that has no labels (imagenet).",
        metavar="NAME",
        rich_help_panel=_DATA,
    ),
]
CalibrationSplit = Annotated[
    str,
    typer.Option(
        help="The split that thresholds are set on: train, or a part such as 'train[:5000]'.",
        metavar="NAME",
        rich_help_panel=_DATA,
    ),
]
CalibrationImages = Annotated[
    int, typer.Option(help="How many of its images, at random.", min=1, metavar="N", rich_help_panel=_DATA)
]
Images = Annotated[
    int | None,
    typer.Option(help="Evaluate on the first N images only.", min=1, metavar="N", rich_help_panel=_DATA),
]
Mean = Annotated[
    str | None,
    typer.Option(
        help="Subtracted from the pixels (0 to 1); one number or R,G,B.", metavar="R,G,B", rich_help_panel=_DATA
    ),
]
Std = Annotated[str | None, typer.Option(help="What they are then divided by.", metavar="R,G,B", rich_help_panel=_DATA)]
Size = Annotated[
    int | None,
    typer.Option(
        help="Scale the shorter side to this, crop the centre.", min=1, metavar="PIXELS", rich_help_panel=_DATA
    ),
]
Resize = Annotated[
    int | None,
    typer.Option(
        help="Scale the shorter side to this instead; imagenet has --size 224 --resize 256 if neither is given.",
        min=1,
        metavar="PIXELS",
        rich_help_panel=_DATA,
    ),
]
BatchSize = Annotated[int, typer.Option(help="Images in a batch.", min=1, metavar="N", rich_help_panel=_DATA)]
Columns = Annotated[
    str | None,
    typer.Option(
        help="The image and the label column, where they cannot be told.",
        metavar="IMAGE,LABEL",
        rich_help_panel=_DATA,
    ),
]

_METHOD = (
    "such as 'MSAT.resnet20(confidence=True)', Auto, which chooses one (`rheobase methods` lists all), or "
    "path/file.py:ClassName(...) for your own"
)
Method = Annotated[str, typer.Option(help=f"How: {_METHOD}.", metavar="METHOD", rich_help_panel=_RUN)]
MethodOrFile = Annotated[
    str | None, typer.Option(help=f"How to convert now: {_METHOD}.", metavar="METHOD", rich_help_panel=_RUN)
]
Methods = Annotated[
    list[str],
    typer.Option(help=f"How: {_METHOD}; once for each to compare.", metavar="METHOD", rich_help_panel=_RUN),
]
ANY_STEPS = 64  # where neither the user nor the conversion says T
Twins = Annotated[
    bool,
    typer.Option(
        "--twins/--no-twins",
        help="Whether to measure the quantised twins too: the network whose activations have as few levels.",
        rich_help_panel=_RUN,
    ),
]
CompareSteps = Annotated[
    str | None,
    typer.Option(
        help="T, the time steps, or several, such as 4,8,16. A method that is calibrated for one T is converted anew "
        "for each (in SRP the steps that are read); if it says another than its default, it keeps that. Any other is "
        "simulated for the largest.",
        metavar="T,T",
        show_default=f"those of each method, or {ANY_STEPS}",
        rich_help_panel=_RUN,
    ),
]
OwnSteps = Annotated[
    int | None,
    typer.Option(
        help="T, the time steps to simulate.",
        min=1,
        metavar="T",
        show_default=f"those of the conversion, or {ANY_STEPS}",
        rich_help_panel=_RUN,
    ),
]
Seed = Annotated[int, typer.Option(help="Of the choice of calibration images.", metavar="N", rich_help_panel=_RUN)]
Seeds = Annotated[
    str,
    typer.Option(
        help="A run for each, where the method is random; such as 0,1,2.", metavar="N,N", rich_help_panel=_RUN
    ),
]
Exit = Annotated[
    str | None,
    typer.Option(
        "--exit",
        help="Images leave once they have decided: margin:0.5 (of the two largest answers), confidence:0.9 or "
        "entropy:0.1; margin:0.5:4 from step 4 on.",
        metavar="RULE",
        rich_help_panel=_RUN,
    ),
]
Resume = Annotated[
    Path | None,
    typer.Option(
        help="Keep what is done in this folder, and go on from there if this command was killed; emptied at the end.",
        metavar="FOLDER",
        rich_help_panel=_RUN,
    ),
]

OutputFolder = Annotated[
    Path | None,
    typer.Option(help="Write curve.json and curve.png into this folder.", metavar="FOLDER", rich_help_panel=_OUTPUT),
]
Publish = Annotated[
    Path | None,
    typer.Option(
        help="Then store the network in this zoo, where it is better than what is there under its name.",
        metavar="ZOO",
        rich_help_panel=_OUTPUT,
    ),
]
Force = Annotated[
    bool, typer.Option("--force", metavar="", help="Replace output that exists.", rich_help_panel=_OUTPUT)
]
Json = Annotated[
    bool,
    typer.Option(
        "--json", metavar="", help="Print the result as JSON, and nothing else on stdout.", rich_help_panel=_OUTPUT
    ),
]
Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet", "-q", metavar="", help="No progress and no notes, only the result.", rich_help_panel=_OUTPUT
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(
        help="A TOML file with any of these options under their names, at the top level or in a table named "
        "after the verb; the command line wins.",
        metavar="FILE",
        is_eager=True,
        callback=use_config,
    ),
]
Debug = Annotated[
    bool, typer.Option("--debug", metavar="", help="Show the traceback of an error.", is_eager=True, callback=_debug)
]


def read_seeds(text: str) -> tuple[int, ...]:
    """The whole numbers of ``0,1,2``.

    Raises:
        SettingError: the text is something else.
    """
    try:
        return tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError as error:
        raise SettingError(f"--seeds is {text!r}; give whole numbers separated by commas, such as 0,1,2.") from error


def read_steps(text: str | None) -> tuple[int, ...]:
    """The time steps of ``4,8,16``, in order; none where there is no text.

    Raises:
        SettingError: the text is something else.
    """
    if text is None:
        return ()
    parts = text.split(",")
    if not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise SettingError(f"--steps is {text!r}; give whole numbers from 1, separated by commas, such as 4,8,16.")
    return tuple(sorted({int(part) for part in parts}))


def read_exit(text: str | None) -> Rule | None:
    """The exit rule of ``margin:0.5``, where there is one.

    Raises:
        SettingError: the text is something else.
    """
    from rheobase.exits import Exit as Rule

    return None if text is None else Rule.parse(text)
