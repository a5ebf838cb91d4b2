"""`rheobase compare`: several methods on one network, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import typer

from rheobase.cli import options
from rheobase.errors import ConversionError, SettingError

if TYPE_CHECKING:
    from rheobase.methods._base import Method

__all__ = ["compare"]


def compare(
    model: options.Model,
    data: options.Data,
    method: options.Methods,
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
    steps: options.CompareSteps = None,
    seed: options.Seed = 0,
    seeds: options.Seeds = "0",
    exit_: options.Exit = None,
    twins: options.Twins = True,
    resume: options.Resume = None,
    output: options.OutputFolder = None,
    force: options.Force = False,
    json_: options.Json = False,
    quiet: options.Quiet = False,
    config: options.Config = None,
    debug: options.Debug = False,
) -> None:
    """Convert a network with several methods, and compare their accuracy over time."""
    from rheobase.cli.files import curve_files, curves_json, refuse_existing
    from rheobase.cli.measure import Measurement
    from rheobase.cli.model import load_model
    from rheobase.cli.samples import Samples
    from rheobase.cli.tables import comparison_table, cost_table, exits, grid, original
    from rheobase.cli.terminal import console_width, say
    from rheobase.curve import Curve
    from rheobase.methods.overview import overview
    from rheobase.methods.parse import parse_method

    if output is not None:
        refuse_existing(force, *curve_files(output))
    times = options.read_steps(steps)
    asked = [pair for how in map(parse_method, method) for pair in _at_each(how, times)]
    methods = {repr(how): (how, t) for how, t in asked}
    if len(methods) < len(asked):
        raise SettingError(f"compare: {len(asked)} methods were given, but only these differ: {', '.join(methods)}.")
    rule = options.read_exit(exit_)
    waiting = [label for label, (how, _) in methods.items() if rule is not None and overview(how).layers == "wait"]
    if waiting:
        raise SettingError(
            f"compare: {rule} cannot be used with {', '.join(waiting)}, whose layers wait for each other, so that no "
            "answer comes before the last step. Leave out --exit, or these methods."
        )
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
    measurement = Measurement(network, samples, None, options.read_seeds(seeds), rule, resume, quiet)
    curves: dict[str, Curve] = {}
    facts = measurement.facts({"model": model, "checkpoint": checkpoint})
    facts["steps"] = times[0] if len(times) == 1 else times or None

    def show() -> None:
        if json_:
            typer.echo(curves_json(curves, facts))
        else:
            say(comparison_table(curves, console_width()))
            say(cost_table(curves, console_width()))
            for label, curve in curves.items():
                if curve.method != label:
                    say(f"{label} took {curve.method}.")

    try:
        for place, (label, (how, t)) in enumerate(methods.items(), 1):
            curves[label] = replace(measurement, steps=t).curve(how, place)
        if twins:
            measurement.add_twins(curves)
    except BaseException as error:  # also an interruption: what was measured is kept
        if curves:
            show()
            measurement.write(output, curves, facts)
        if isinstance(error, ConversionError):
            what = [*methods, "The quantised twin"][len(curves)]
            raise ConversionError(f"{what} failed: {error}") from error
        raise
    show()
    if not (json_ or quiet):
        say(original(next(iter(curves.values()))))
        if rule is not None:
            say(grid({label: exits(curve) for label, curve in curves.items()}))
    measurement.write(output, curves, facts)
    measurement.finish(len(curves))


def _at_each(how: Method, times: Sequence[int]) -> list[tuple[Method, int | None]]:
    """What a method is converted as, and the T that it is then simulated for; None for its own.

    Raises:
        SettingError: the method cannot be calibrated for such a T.
    """
    from rheobase.methods.auto import Auto

    if not times:
        return [(how, None)]
    defaults = {field.name: field.default for field in fields(how)}  # type: ignore[arg-type]
    free: Any = how
    for_one = isinstance(how, Auto) or how.total_steps() is not None
    if "steps" in defaults and for_one and free.steps == defaults["steps"]:
        return [(replace(free, steps=t), None) for t in times]
    return [(how, None if for_one else times[-1])]
