"""The `rheobase` command. PyTorch is imported by the verbs that need it, so that ``--help`` is quick."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from rheobase.cli.compare import compare
from rheobase.cli.convert import convert
from rheobase.cli.demo import demo
from rheobase.cli.evaluate import evaluate
from rheobase.cli.evaluate_ann import evaluate_ann
from rheobase.cli.methods import methods
from rheobase.cli.terminal import failing_cleanly
from rheobase.cli.train import train
from rheobase.distributed import is_first
from rheobase.memory import keep_memory

__all__ = ["app", "main"]


class _Verbs(TyperGroup):
    """The verbs in the order of their registration; an error of the library is one message."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.commands)

    def invoke(self, ctx: Any) -> Any:
        with failing_cleanly(ctx.meta):
            return super().invoke(ctx)


app = typer.Typer(
    cls=_Verbs,
    name="rheobase",
    help="Convert trained PyTorch networks into spiking networks, and measure what that costs.",
    epilog="New here? Run [bold]rheobase demo[/bold]: two minutes, no data to download.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_EXAMPLES: dict[Callable[..., None], str] = {
    demo: "rheobase demo --steps 64 --output /tmp/demo",
    convert: "rheobase convert --model nets.py:resnet --checkpoint resnet.pt --data cifar10 "
    "--method MSAT.resnet20 --output net.rheobase",
    evaluate: "rheobase evaluate net.rheobase --model nets.py:resnet --checkpoint resnet.pt --data cifar10 "
    "--images 1000 --steps 256",
    compare: "rheobase compare --config experiment.toml --method MSAT --method 'ConstantThreshold(fraction=0.5)' "
    "--output results",
    methods: "rheobase methods AnnealedDelta",
    train: "rheobase train experiments/train/m5-speech_commands-fast.toml --output runs/m5",
    evaluate_ann: "rheobase evaluate-ann vgg16-cifar10",
}
for _verb, _example in _EXAMPLES.items():
    app.command(epilog=f"Example:\n\n  {_example}")(_verb)


def _version(value: bool) -> None:
    if value:
        from rheobase import __version__

        typer.echo(f"rheobase {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", metavar="", help="Show the version and exit.", is_eager=True, callback=_version)
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command; modules beside the user's current folder can be named, as with ``python -m``.

    Of several processes that `torchrun` started, the first one prints and writes files.
    """
    sys.path.insert(0, "")
    keep_memory()
    if is_first():
        app()
    else:
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
            app()
