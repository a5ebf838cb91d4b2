"""The options that the benchmarks of methods have in common."""

from __future__ import annotations

import argparse
from typing import Any

import torch

import rheobase as rb

__all__ = ["parse", "parser"]

_KNOWN: dict[str, dict[str, Any]] = {
    "network": {"default": "resnet20-cifar10"},
    "images": {"type": int, "default": 2000, "help": "the first test images"},
    "calibration": {"type": int, "default": 1024, "help": "training images, without labels"},
    "only": {"default": "", "help": "what has this in its text; nothing is written then"},
    "keep": {"action": "store_true", "help": "take over what is stored first"},
    "finished": {"action": "store_true", "help": "measure nothing, write what there is"},
    "device": {"default": "cpu", "help": "cpu or cuda"},
    "share": {"default": "", "help": "I/N: every N-th row from the I-th on; nothing is written then"},
}


def parser(about: str | None, *names: str, **changes: dict[str, Any]) -> argparse.ArgumentParser:
    """What takes the options of these names, and ``--threads``.

    Args:
        about: the documentation of the benchmark.
        names: of options.
        changes: by the name of an option, what is other than usual.
    """
    made = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in (*names, *changes):
        made.add_argument(f"--{name}", **_KNOWN[name] | changes.get(name, {}))
    made.add_argument("--threads", type=int, default=torch.get_num_threads())
    return made


def parse(made: argparse.ArgumentParser) -> argparse.Namespace:
    """The options that were given; PyTorch takes so many threads, and the process keeps its memory."""
    arguments = made.parse_args()
    torch.set_num_threads(arguments.threads)
    rb.keep_memory()
    return arguments
