"""`rheobase convert`: convert a network, print what was decided for each layer, and keep it in a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from rheobase.cli import options

__all__ = ["convert"]


def convert(
    model: options.Model,
    data: options.Data,
    output: Annotated[Path, typer.Option(help="The file to write.", metavar="FILE.rheobase", rich_help_panel="Output")],
    checkpoint: options.Checkpoint = None,
    model_args: options.ModelArgs = None,
    device: options.Device = "cpu",
    calibration_split: options.CalibrationSplit = "train",
    calibration_images: options.CalibrationImages = 1000,
    mean: options.Mean = None,
    std: options.Std = None,
    size: options.Size = None,
    resize: options.Resize = None,
    batch_size: options.BatchSize = 50,
    columns: options.Columns = None,
    method: options.Method = "Auto",
    seed: options.Seed = 0,
    force: options.Force = False,
    json_: options.Json = False,
    quiet: options.Quiet = False,
    config: options.Config = None,
    debug: options.Debug = False,
) -> None:
    """Convert a network and write the conversion (not its weights) to a file.

    A calibration that takes long keeps its state in OUTPUT.calibration; repeat the command to go on after an
    interruption.
    """
    import rheobase as rb
    from rheobase.cli.files import refuse_existing, write_atomically
    from rheobase.cli.model import load_model
    from rheobase.cli.progress import converting
    from rheobase.cli.samples import Samples
    from rheobase.cli.tables import plan_rows, plan_table
    from rheobase.cli.terminal import note, say
    from rheobase.methods.parse import parse_method

    refuse_existing(force, output)
    how = parse_method(method)
    network = load_model(model, model_args or (), checkpoint, device)
    samples = Samples(
        data,
        calibration_split=calibration_split,
        calibration_images=calibration_images,
        mean=mean,
        std=std,
        size=size,
        resize=resize,
        batch_size=batch_size,
        columns=columns,
        seed=seed,
    )
    with converting(f"Converting with {how}", not quiet, output.with_name(f"{output.name}.calibration")):
        calibration = samples.calibration()
        snn = rb.convert(network, calibration, how)
    write_atomically(output, snn.save)
    if json_:
        plan = {"method": repr(how), "taken": snn.plan.method, "reason": snn.plan.reason}
        typer.echo(json.dumps({**plan, "output": str(output), "sites": plan_rows(snn)}))
    else:
        say(plan_table(snn))
        if snn.plan.reason and not quiet:
            say(snn.plan.reason, wrap=False)
    if not quiet:
        count = len(calibration.dataset)  # type: ignore[arg-type]
        note(f"Calibrated on {count:,} images of {data}, split {calibration_split}. Written to {output}.")
