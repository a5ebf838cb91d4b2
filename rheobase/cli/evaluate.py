"""`rheobase evaluate`: the curve of one conversion."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rheobase.cli import options
from rheobase.errors import SettingError

__all__ = ["evaluate"]


def evaluate(
    model: options.Model,
    data: options.Data,
    file: Annotated[
        Path | None,
        typer.Argument(help="What `rheobase convert` wrote; or give --method to convert now.", show_default=False),
    ] = None,
    checkpoint: options.Checkpoint = None,
    model_args: options.ModelArgs = None,
    device: options.Device = "cpu",
    split: options.Split = None,
    images: options.Images = None,
    calibration_split: options.CalibrationSplit = "train",
    calibration_images: options.CalibrationImages = 1000,
    mean: options.Mean = None,
    std: options.Std = None,
    size: options.Size = None,
    resize: options.Resize = None,
    batch_size: options.BatchSize = 50,
    columns: options.Columns = None,
    method: options.MethodOrFile = None,
    steps: options.OwnSteps = None,
    seed: options.Seed = 0,
    seeds: options.Seeds = "0",
    exit_: options.Exit = None,
    resume: options.Resume = None,
    output: options.OutputFolder = None,
    force: options.Force = False,
    json_: options.Json = False,
    quiet: options.Quiet = False,
    config: options.Config = None,
    debug: options.Debug = False,
) -> None:
    """Measure accuracy, agreement with the network, spikes and rate at every time step."""
    if (file is None) == (method is None):
        found = "neither" if file is None else f"both ({file} and {method})"
        raise SettingError(
            f"evaluate takes either a file that `rheobase convert` wrote or --method; found {found}. "
            "Give, for example, net.rheobase, or --method MSAT."
        )
    from rheobase.cli.files import curve_files, refuse_existing
    from rheobase.cli.measure import Measurement
    from rheobase.cli.model import load_model
    from rheobase.cli.samples import Samples
    from rheobase.cli.tables import curve_table, exits, latency, original
    from rheobase.cli.terminal import say
    from rheobase.methods.parse import parse_method

    if output is not None:
        refuse_existing(force, *curve_files(output))
    how = file if method is None else parse_method(method)
    assert how is not None
    rule = options.read_exit(exit_)
    samples = Samples(
        data,
        split,
        calibration_split,
        calibration_images,
        images,
        mean=mean,
        std=std,
        size=size,
        resize=resize,
        batch_size=batch_size,
        columns=columns,
        seed=seed,
    )
    network = load_model(model, model_args or (), checkpoint, device)
    measurement = Measurement(network, samples, steps, options.read_seeds(seeds), rule, resume, quiet)
    curve = measurement.curve(how)
    facts = {**measurement.facts({"model": model, "checkpoint": checkpoint}), "steps": curve.steps}
    try:
        if json_:
            typer.echo(curve.to_json())
        else:
            say(curve_table(curve))
        if not (json_ or quiet):
            say(original(curve))
            say(f"The spiking network: {latency(curve)}.")
            say(f"T = {curve.steps} costs {curve.cost(curve.steps)} through the layers after the first neurons.")
            if rule is not None:
                say(f"Early exit with {exits(curve)}.")
    finally:  # what was measured is kept, whatever becomes of the terminal
        measurement.write(output, {curve.method: curve}, facts)
    measurement.finish(1)
