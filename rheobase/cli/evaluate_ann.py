"""`rheobase evaluate-ann`: the accuracy of trained networks before their conversion, against what is stated."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rheobase.cli import options
from rheobase.distributed import is_first
from rheobase.errors import ConversionError, DataError, SettingError

if TYPE_CHECKING:
    from rheobase.training import AnnAccuracy

__all__ = ["evaluate_ann"]


def evaluate_ann(
    networks: Annotated[
        list[str] | None,
        typer.Argument(
            help="A network of the zoo, the folder of a training, or a .safetensors file with its card beside it; "
            "the whole zoo if none is given.",
            metavar="[NETWORK]...",
            show_default=False,
        ),
    ] = None,
    zoo: Annotated[
        Path | None, typer.Option(help="The folder of the zoo; $RHEOBASE_ZOO or zoo/ if not given.", metavar="FOLDER")
    ] = None,
    images: Annotated[
        int | None, typer.Option(help="Only the first N test samples (also texts, recordings).", min=1, metavar="N")
    ] = None,
    folds: Annotated[
        bool,
        typer.Option("--folds", metavar="", help="Add the mean over these trainings on all folds of a recipe."),
    ] = False,
    publish: options.Publish = None,
    output: Annotated[
        Path | None, typer.Option(help="Write the result as JSON.", metavar="FILE.json", rich_help_panel="Output")
    ] = None,
    force: options.Force = False,
    json_: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Measure trained networks on the test samples, and check what their cards say."""
    from rheobase.cli.files import refuse_existing, write_atomically
    from rheobase.cli.publish import publish_run
    from rheobase.cli.tables import ann_table
    from rheobase.cli.terminal import note, say, waiting
    from rheobase.models import names
    from rheobase.models.zoo import where_the_zoo_is, zoo_folder
    from rheobase.training import summarise

    if output is not None:
        refuse_existing(force, output)
    if folds and images is not None:
        raise SettingError("--folds is a mean over whole folds; leave out --images.")
    place = zoo if zoo is not None else zoo_folder()
    chosen = networks or names(place)
    if not chosen:
        raise SettingError(f"No network is named: {where_the_zoo_is(place)}; --zoo names another, or give a training.")
    measured, problems = [], []
    for network in chosen:
        try:
            with waiting(f"Measuring {network}", show=not quiet):
                found = _measure(network, place, images)
        except ConversionError as error:  # the other networks are measured all the same
            problems.append(str(error))
            continue
        measured.append(found)
        if not found.reproduced:
            problems.append(_difference(found))
    if measured and not json_:
        say(ann_table(measured))
    summary = summarise([(found.config, found.accuracy) for found in measured]) if folds and not problems else None
    if summary is not None and not json_:
        say(f"{summary}.")
    command = shlex.join(["rheobase", "evaluate-ann", *chosen, *(["--images", str(images)] if images else [])])
    text = json.dumps(_facts(command, measured, problems) | ({"folds": asdict(summary)} if summary else {}), indent=1)
    if json_:
        typer.echo(text)
    if output is not None:
        write_atomically(output, lambda path: path.write_text(text + "\n", encoding="utf-8"))
        note(f"Written to {output}.")
    if problems:
        raise DataError("\n".join(problems))
    if publish is not None and is_first():
        for network in chosen:
            publish_run(_run(network), publish)


def _measure(network: str, zoo: Path, limit: int | None) -> AnnAccuracy:
    from rheobase.models import names
    from rheobase.training import evaluate_ann, evaluate_run

    path = Path(network)
    if network in names(zoo):
        return evaluate_ann(network, folder=zoo, limit=limit)
    if path.suffix == ".safetensors":
        return evaluate_ann(path.stem, folder=path.parent, limit=limit)
    if _run(network).is_dir():
        return evaluate_run(_run(network), limit=limit)
    return evaluate_ann(network, folder=zoo, limit=limit)  # raises, and lists those there are


def _run(network: str) -> Path:
    """The folder of a training; its checkpoint may be named instead."""
    path = Path(network)
    return path.parent if path.name == "last.ckpt" else path


def _difference(found: AnnAccuracy) -> str:
    return (
        f"{found.name}: {100 * found.stated:.2f} % is stated, and {100 * found.accuracy:.2f} % of {found.samples:,} "
        "test samples was found: weights, card or data set are not those of that measurement; restore them"
    )


def _facts(command: str, measured: Sequence[AnnAccuracy], problems: Sequence[str]) -> dict[str, Any]:
    from rheobase import __version__
    from rheobase.training.provenance import provenance

    return {
        "rheobase": __version__,
        "command": command,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        **asdict(provenance()),
        "problems": list(problems),
        "networks": [
            {
                "name": found.name,
                "data": found.config.data,
                "seed": found.config.seed,
                "correct": found.correct,
                "samples": found.samples,
                "accuracy": found.accuracy,
                "low": found.interval[0],
                "high": found.interval[1],
                "stated": found.stated,
                "reproduced": found.reproduced,
                "training_seconds": found.seconds,
                "training_hardware": found.hardware,
            }
            for found in measured
        ],
    }
