"""`rheobase methods`: the methods there are, or all that one of them says of itself."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from rheobase.cli import options

__all__ = ["methods"]


def methods(
    name: Annotated[
        str | None,
        typer.Argument(
            help="A method, such as CalibratedMSAT or 'CalibratedMSAT(payload=4)'; all if none is given.",
            metavar="[METHOD]",
            show_default=False,
        ),
    ] = None,
    json_: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """List the methods of conversion, or describe one of them."""
    import dataclasses

    from rheobase.cli.tables import method_table, settings_table
    from rheobase.cli.terminal import say
    from rheobase.methods.overview import overview, published
    from rheobase.methods.parse import parse_method

    found = [overview(method) for method in ([parse_method(name)] if name is not None else published())]
    if json_:
        typer.echo(json.dumps([dataclasses.asdict(one) for one in found], indent=1))
    elif name is None:
        say(method_table(found))
        say("`rheobase methods NAME` says how one of them is set; docs/methods.md what they reach.")
    else:
        (one,) = found
        say(one.name, style="bold")
        say(one.description, wrap=False)
        say()
        say(f"Spikes: {one.spikes}. Layers: {one.layers}." + (f" Paper: {one.paper}." if one.paper else ""))
        say()
        say(settings_table(one))
        say(one.notes, wrap=False)
        say()
        if one.presets:
            say(f"Presets: {', '.join(f'{one.name}.{preset}' for preset in one.presets)}.")
