"""An evaluation that was killed goes on from the batches that were done."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rheobase import __version__
from rheobase.digest import digest, layers, structure, weights
from rheobase.distributed import World
from rheobase.errors import DataError, SettingError, miscounted
from rheobase.exits import Exit
from rheobase.files import write_atomically
from rheobase.neurons import Temporal
from rheobase.simulation import CHUNK_RULE
from rheobase.spiking import SpikingModel
from rheobase.sums import Sums

__all__ = ["Stored", "identity"]

_FORMAT = "rheobase evaluation 3"
SECONDS = 5.0
"""How long at least between two writings of the file; so much work a kill may cost, and the batch it falls into."""


class Stored:
    """The sums of an evaluation, in a file.

    The file names the evaluation, so that no other is continued with it: its settings, the networks by a hash of
    their weights, and the data by a hash of all batches that were done. It is replaced as a whole.

    Args:
        path: of the file; its folder exists. Where there is none yet, the evaluation begins.
        settings: what the evaluation is, from `identity`.
        sums: those of no batch, for an evaluation that begins.

    Attributes:
        sums: as the file has them, where there is one.
        batches: how many are in the sums.

    Raises:
        SettingError: the file holds another evaluation (all that differs is listed), or cannot be written.
        DataError: it cannot be read.
    """

    def __init__(self, path: str | Path, settings: Mapping[str, Any], sums: Sums) -> None:
        self.path, self.settings, self.sums = Path(path), dict(settings), sums
        self.batches = 0
        self._digest = self._wanted = ""
        self._written = -SECONDS
        if self.path.exists():
            self._read()
        elif not self.path.parent.is_dir():
            raise SettingError(f"resume is {self.path}, and there is no folder {self.path.parent}; make it first.")

    def _read(self) -> None:
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            known = content["format"], content["settings"]
            there, here = ({"format": f, **s} for f, s in (known, (_FORMAT, self.settings)))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise self._unreadable(error) from error
        names = [name for name in {**here, **there} if here.get(name) != there.get(name)]
        if names:
            lines = "\n".join(f"  {name}: {there.get(name)} there, {here.get(name)} here" for name in names)
            raise SettingError(
                f"{self.path} holds another evaluation. It differs in\n{lines}\n"
                "Give what it was begun with, another file, or delete it to begin anew."
            )
        try:
            found, self.batches, self._wanted = Sums.restored(content["sums"]), content["batches"], content["data"]
            if miscounted("batches", self.batches) or not found.alike(self.sums):
                raise ValueError("its sums have another shape, or its batches are no number")
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise self._unreadable(error) from error
        self.sums = found

    def _unreadable(self, error: Exception) -> DataError:
        return DataError(f"{self.path} holds no evaluation to go on with ({error!r}); give another file.")

    def done(self, index: int, x: Tensor, y: Tensor | None) -> bool:
        """Whether the batch is in the sums already. To be called with every batch, in order.

        Raises:
            DataError: the batches that are in the sums were others.
        """
        self._digest = digest([self._digest, x, y])
        if index == self.batches - 1 and self._digest != self._wanted:
            raise DataError(
                f"{self.path} was begun with other data: its {self.batches} batches are not the first ones here. "
                "Give the same data in the same order (shuffle=False) and batch size, or delete the file."
            )
        return index < self.batches

    def write(self, batches: int, *, last: bool = False) -> None:
        """Store the sums of so many batches, if the last time is long enough ago, or in any case after the last.

        Raises:
            DataError: after the last, there are fewer batches than are in the sums.
            SettingError: the file cannot be written.
        """
        if batches < self.batches:
            raise DataError(f"{self.path} was begun with {self.batches} batches of data or more; here are {batches}.")
        if batches == self.batches or (time.monotonic() - self._written < SECONDS and not last):
            return
        content = {"format": _FORMAT, "settings": self.settings, "batches": batches}
        try:
            write_atomically(self.path, json.dumps({**content, "data": self._digest, "sums": self.sums.values()}))
        except OSError as error:
            raise SettingError(f"{self.path} cannot be written ({error.strerror}); give another file.") from error
        self.batches, self._written = batches, time.monotonic()


def identity(
    snn: SpikingModel,
    reference: nn.Module | None,
    *,
    steps: int,
    seeds: Sequence[int],
    chunk: int | None,
    until: Exit | None,
    own: World,
) -> dict[str, Any]:
    """What must be the same for two evaluations to give the same numbers, besides the data and the machine."""
    memories = [layer for layer in snn.module.modules() if isinstance(layer, Temporal)]
    plain = [memory.plain_settings() for memory in memories]
    coding = [repr(part) for part in (snn.plan.encoder, snn.plan.readout, snn.plan.pooling, memories, plain)]
    original = None if reference is None else [repr(reference), *layers(reference).values(), *weights(reference)]
    return {
        "versions": f"rheobase {__version__}, torch {torch.__version__}",
        "method": snn.plan.method,
        "steps": steps,
        "seeds": list(seeds),
        "process": f"{own.rank} of {own.size}",
        "exit": None if until is None else repr(until),
        "chunk": chunk,
        "rule of chunks": CHUNK_RULE if chunk is None else None,  # which decides how the sums are rounded
        "arithmetic": snn.arithmetic,
        "events": snn.events,
        "backend": snn.backend,
        "device": next(snn.parameters(), torch.zeros(())).device.type,
        "converted network": digest([*structure(snn.graph.module), *coding, *weights(snn.module)])[:16],
        "original network": None if original is None else digest(original)[:16],
    }
