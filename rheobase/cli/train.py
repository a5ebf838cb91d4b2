"""`rheobase train`: train a network by a recipe, or go on after a stop."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from rheobase.cli import options
from rheobase.errors import SettingError

__all__ = ["train"]


def train(
    recipe: Annotated[Path, typer.Argument(help="The recipe; experiments/train/ holds some.", metavar="RECIPE.toml")],
    output: Annotated[
        Path | None,
        typer.Option(help="Where checkpoint, log and result go; runs/NAME if not given.", metavar="FOLDER"),
    ] = None,
    resume: Annotated[
        bool, typer.Option(help="Go on from the checkpoint in that folder, or begin anew.", metavar="")
    ] = True,
    fold: Annotated[
        int | None,
        typer.Option(
            help="Divide training and test samples into folds (five, or as the recipe says), and test on this one.",
            min=0,
            metavar="K",
        ),
    ] = None,
    publish: options.Publish = None,
    force: Annotated[
        bool, typer.Option("--force", metavar="", help="With --no-resume: replace a checkpoint that exists.")
    ] = False,
    json_: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Train a network; the same command goes on where an interrupted one stopped."""
    from rheobase.cli.files import refuse_existing
    from rheobase.cli.progress import duration, training_progress
    from rheobase.cli.publish import publish_run
    from rheobase.cli.tables import percent
    from rheobase.cli.terminal import note, say
    from rheobase.intervals import wilson
    from rheobase.training import fold_config, read_config
    from rheobase.training.provenance import read_provenance

    config = read_config(recipe)
    config = config if fold is None else fold_config(config, fold)
    if publish is not None and config.folds:
        raise SettingError("--publish is for trainings on the official split, and this is one on a fold; leave it out.")
    folder = output if output is not None else Path("runs") / config.name
    refuse_existing(resume or force, folder / "last.ckpt")
    try:
        from rheobase.training import train as run
    except ImportError as error:
        raise SettingError(f"training needs the package {error.name}; pip install 'rheobase[train]'.") from error
    first = os.environ.get("LOCAL_RANK", "0") == "0"  # Lightning starts the other processes by this same command
    try:
        with training_progress(config.name, config.epochs, show=first and not quiet) as progress:
            result = run(config, folder, progress=progress, resume=resume)
    except (KeyboardInterrupt, SystemExit):  # Lightning turns the first into the second
        if first:
            note(f"Stopped. Where {folder} holds a checkpoint, this command without --no-resume goes on from there.")
        raise
    if not result.first:
        return
    low, high = wilson(result.accuracy, result.test_samples)
    if json_:
        facts = {"name": config.name, "accuracy": result.accuracy, "low": low, "high": high}
        facts |= {"test_samples": result.test_samples, "seconds": result.seconds, "folder": str(folder)}
        typer.echo(json.dumps({**facts, **asdict(read_provenance(folder))}))
    else:
        say(
            f"{config.name}: accuracy {percent(result.accuracy)} % of {result.test_samples:,} test samples "
            f"(95 % interval {percent(low)} to {percent(high)}) after {duration(result.seconds)}; "
            f"the files are in {folder}.",
            wrap=False,
        )
    if publish is not None:
        publish_run(folder, publish)
