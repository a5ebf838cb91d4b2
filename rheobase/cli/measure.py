"""What `evaluate` and `compare` share: convert, simulate, and keep the curves."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

import rheobase as rb
from rheobase.batches import as_batches, batches_for
from rheobase.cli.files import write_curves
from rheobase.cli.options import ANY_STEPS
from rheobase.cli.progress import converting
from rheobase.cli.samples import Samples
from rheobase.cli.terminal import note
from rheobase.curve import Curve
from rheobase.distributed import is_first, world
from rheobase.errors import DataError, SettingError
from rheobase.exits import Exit
from rheobase.methods._base import Method
from rheobase.twin import Twin, evaluate_twin

__all__ = ["Measurement"]


@dataclass(frozen=True)
class Measurement:
    """One network on one data set; each method, or each file of a conversion, gives a curve.

    Args:
        network: the original network.
        samples: the data.
        steps: T; None for that of the conversion, or `ANY_STEPS` where it is for any number.
        seeds: a run for each, where a method is random.
        until: the rule by which images exit early.
        resume: a folder for what is done, from which the same measurement goes on after a kill.
        quiet: whether to show no progress.
    """

    network: nn.Module
    samples: Samples
    steps: int | None
    seeds: tuple[int, ...]
    until: Exit | None = None
    resume: Path | None = None
    quiet: bool = False

    def curve(self, how: Method | Path, place: int = 1) -> Curve:
        """The curve of a method, or of a conversion that was saved; ``place`` is its number in the measurement.

        Raises:
            ConversionError: the network, the data or the file cannot be used.
        """
        seconds: float | None = None
        if isinstance(how, Path):
            snn = rb.load(how, self.network)
        else:
            calibration = self.samples.calibration()
            state = None if self.resume is None else self._kept(self.resume, f"calibration-{place}")
            whole = state is None or not state.exists()  # and not what was left of another run
            start = time.perf_counter()
            with converting(f"Converting with {how}", not self.quiet, state, keep=True):
                snn = rb.convert(self.network, calibration, how)
            seconds = time.perf_counter() - start if whole else None
            if snn.plan.reason and not self.quiet:
                note(snn.plan.reason)
        steps = self.steps or snn.plan.steps or ANY_STEPS
        if snn.plan.steps not in (None, steps) and not self.quiet:
            note(f"{snn.plan.method} is calibrated for T = {snn.plan.steps}, and simulated for {steps} steps.")
        data = self.samples.evaluation()
        shape = tuple(next(iter(as_batches(data))).inputs.shape[1:])
        if shape != snn.graph.input_shape:
            raise DataError(
                f"An image of split {self.samples.evaluated} has the shape {shape}; the network was converted for "
                f"{snn.graph.input_shape}. Give the --data (and --size) that it was calibrated with."
            )
        curve = rb.evaluate(
            snn,
            data,
            steps,
            reference=self.network,
            seeds=self.seeds,
            until=self.until,
            resume=None if self.resume is None else self._kept(self.resume, f"sums-{place}.json"),
            progress=not self.quiet,
            description=snn.plan.method,
        )
        return replace(curve, calibration_seconds=seconds)

    def add_twins(self, curves: dict[str, Curve]) -> None:
        """Put beside each curve how good the ANN is with as few levels; those that are done stay if one fails."""
        found: dict[int, Twin] = {}
        data = batches_for(self.samples.calibration(), self.network)
        graph = rb.trace(self.network, next(iter(data)).inputs)
        for label, curve in curves.items():
            if curve.levels is None:
                continue
            if curve.levels not in found:
                if not self.quiet:
                    levels = f"{curve.levels} level{'s' * (curve.levels > 1)}"
                    note(f"Measuring the quantised twin, the ANN whose activations have {levels} above 0.")
                found[curve.levels] = evaluate_twin(graph, data, self.samples.evaluation(), curve.levels)
            twin = found[curve.levels]
            curves[label] = replace(curve, twin_accuracy=twin.accuracy, twin_agreement=twin.agreement)

    @staticmethod
    def _kept(folder: Path, name: str) -> Path:
        """A place in the folder of what is done, which is made."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SettingError(f"--resume {folder} cannot be made ({error.strerror}); give another folder.") from error
        return folder / name

    def finish(self, curves: int) -> None:
        """Remove the files of so many curves, once all results are out."""
        if self.resume is not None:
            for place in range(1, curves + 1):
                world().named(self.resume / f"sums-{place}.json").unlink(missing_ok=True)
                if is_first():
                    shutil.rmtree(self.resume / f"calibration-{place}", ignore_errors=True)

    def facts(self, more: Mapping[str, Any]) -> dict[str, Any]:
        """How the curves were made."""
        return {
            **more,
            **asdict(self.samples),
            "steps": self.steps,
            "exit": None if self.until is None else repr(self.until),
        }

    def write(self, folder: Path | None, curves: Mapping[str, Curve], facts: Mapping[str, Any]) -> None:
        """Write the curves to a folder, if there is one."""
        if folder is None:
            return
        count = next(iter(curves.values())).images
        what = f"{self.samples.data}, split {self.samples.evaluated}: {count:,} images; bands are 95 % intervals"
        write_curves(folder, curves, facts, what)
        if not self.quiet:
            note(f"Written to {folder / 'curve.json'} and {folder / 'curve.png'}.")
