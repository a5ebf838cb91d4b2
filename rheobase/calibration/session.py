"""How a long calibration is seen and kept: who is told of its progress, and where it can be taken up again.

A method does not carry this from `convert` to the pass that takes long; a context variable does, for the
thread at hand and for the time of one conversion.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rheobase.digest import digest, structure, weights
from rheobase.distributed import is_first
from rheobase.errors import DataError
from rheobase.files import replacing
from rheobase.neurons import Neuron
from rheobase.spiking import SpikingModel

__all__ = ["Progress", "Session", "current", "fingerprint", "session"]

_EVERY = 20  # iterations between two states on disk
_RULE = "tuning 3"  # to be changed with what a setting of a calibration means, so that no older state is taken up


@dataclass(frozen=True)
class Progress:
    """Where a calibration is.

    Attributes:
        what: is being done, in a few words.
        done: iterations (or layers) so far.
        total: how many there will be.
        loss: of the last one, where there is one.
    """

    what: str
    done: int
    total: int
    loss: float | None = None


@dataclass(frozen=True)
class Session:
    """One conversion.

    Args:
        progress: told after each iteration.
        folder: where the states of gradient tuning are kept; None keeps none. Of several processes, which all tune
            alike, the first one writes and all go on from there.
    """

    progress: Callable[[Progress], None] | None = None
    folder: Path | None = None

    def tell(self, what: str, done: int, total: int, loss: float | None = None) -> None:
        """Report progress."""
        if self.progress is not None:
            self.progress(Progress(what, done, total, loss))

    def saved(self, key: str) -> dict[str, Any] | None:
        """The state kept under a key, or None.

        Raises:
            DataError: the file cannot be read.
        """
        path = None if self.folder is None else self.folder / f"{key}.pt"
        if path is None or not path.exists():
            return None
        try:
            return dict(torch.load(path, weights_only=True))
        except Exception as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise DataError(f"{path} is no state of a calibration ({reason}). Remove it to begin anew.") from error

    def keep(self, key: str, state: Callable[[], dict[str, Any]], done: int, total: int, every: int = _EVERY) -> None:
        """Keep a state now and then, and the last one."""
        if self.folder is not None and is_first() and (done % every == 0 or done == total):
            self.folder.mkdir(parents=True, exist_ok=True)
            with replacing(self.folder / f"{key}.pt") as place:
                torch.save(state(), place)


_CURRENT: ContextVar[Session | None] = ContextVar("rheobase_calibration", default=None)


def current() -> Session:
    """The session of the conversion that is running; outside of one, a silent one."""
    return _CURRENT.get() or Session()


@contextmanager
def session(progress: Callable[[Progress], None] | None = None, folder: str | Path | None = None) -> Iterator[None]:
    """Within, calibrations tell their progress, and keep their state in a folder to go on from.

    Args:
        progress: told after each iteration; None leaves that to the session around this one.
        folder: where states are kept; it is made when the first one is. None keeps none.

    A calibration that is repeated with the same network, data and settings goes on from its last state and
    ends with the same numbers; another one does not find it.
    """
    outer = current()
    token = _CURRENT.set(Session(progress or outer.progress, Path(folder) if folder is not None else outer.folder))
    try:
        yield
    finally:
        _CURRENT.reset(token)


def fingerprint(snn: SpikingModel, x: torch.Tensor, *settings: object) -> str:
    """What tells one calibration from another: the converted network with its weights, the samples, the settings."""
    neurons = [part for site, neuron in snn.plan.neurons.items() for part in (site, *_rules(neuron))]
    neurons += [_RULE, repr(snn.plan.encoder), repr(snn.plan.readout)]
    return digest([repr(settings), *structure(snn.graph.module), *weights(snn.module), *neurons, x])[:16]


def _rules(neuron: Neuron) -> list[str]:
    """The classes and plain settings of a neuron and of those inside; tensors are in its state."""
    return [f"{type(m).__name__} {m.plain_settings()}" for m in neuron.modules() if isinstance(m, Neuron)]
