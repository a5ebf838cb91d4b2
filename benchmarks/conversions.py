"""What conversions cost, and what an early exit saves: parts of `benchmarks.speed`."""

from __future__ import annotations

import argparse
import time
from typing import Any

import torch
from torch import Tensor

import rheobase as rb
from benchmarks.contestants import STEPS, case, race, timed
from rheobase import models
from rheobase.data import images
from rheobase.methods import AnnealedDelta, RateCoding, TemporalBias
from rheobase.simulation import stream
from rheobase.spiking import SpikingModel

__all__ = ["calibration", "careful", "early_exit", "preset"]

EXIT_BATCH, KEPT = 128, 0.99  # images in a batch; training images that an early exit may not give another class


def calibration(arguments: argparse.Namespace) -> dict[str, Any]:
    """Conversions of ResNet-20, beside one pass of the ANN and one simulation, which they cannot do without."""
    given, steps = case("resnet20", arguments.quick), 4 if arguments.quick else 8
    x, module = torch.cat(given.calibration)[:256], given.model.to(memory_format=torch.channels_last)
    batches = [batch.to(memory_format=torch.channels_last) for batch in given.calibration]
    methods = {
        "histograms, thresholds of least squared error": RateCoding(steps=steps),
        "the same, and temporal biases (FTBC)": TemporalBias(steps=steps),
    }
    snn = rb.convert(given.model, given.calibration, methods["histograms, thresholds of least squared error"])
    contestants = {
        "ANN": timed(lambda: [module(batch) for batch in batches]),
        "simulation": timed(lambda: rb.simulate(snn, x, steps)),
        **{name: timed(lambda method=method: rb.convert(given.model, given.calibration, method))
           for name, method in methods.items()},
    }  # fmt: skip
    with torch.no_grad():
        rounds = race(contestants, arguments.rounds)
    about = {"layers": len(snn.graph.sites), "passes": methods["the same, and temporal biases (FTBC)"].passes}
    return {"images": sum(map(len, batches)), "simulated": len(x), "steps": steps, "rounds": rounds} | about


def preset(arguments: argparse.Namespace) -> dict[str, Any]:
    """How long the fast preset of annealed delta coding takes to convert ResNet-20 for 8 steps: 2 times after a first
    one, as each takes a minute or two."""
    given, steps = case("resnet20", arguments.quick), 2 if arguments.quick else 8
    method = AnnealedDelta.fast(steps=steps, **({"iterations": 2} if arguments.quick else {}))
    contestants = {repr(method): timed(lambda: rb.convert(given.model, given.calibration, method))}
    rounds = race(contestants, 1 if arguments.quick else 2)
    return {"images": sum(map(len, given.calibration)), "steps": steps, "rounds": rounds}


def early_exit(arguments: argparse.Namespace) -> dict[str, Any]:
    """What an exit rule saves: ResNet-20 by rate coding with and without one, which comes from training images."""
    given, quick = case("resnet20", arguments.quick), arguments.quick
    mean, std, steps = models.AKAMASTER_MEAN, models.AKAMASTER_STD, 4 if quick else STEPS
    test = images("cifar10", "test", mean, std, limit=20 if quick else 256)
    batches = list(torch.utils.data.DataLoader(test, batch_size=EXIT_BATCH))
    snn = rb.convert(given.model, given.calibration, RateCoding(steps=steps))
    rule = careful(snn, torch.cat(given.calibration)[: 20 if quick else 512], steps)

    def run(until: rb.Exit | None, chunk: int | None = None) -> dict[str, Any]:
        start = time.perf_counter()
        runs = [rb.simulate(snn, x, steps, until=until, chunk=chunk) for x, _ in batches]
        seconds = time.perf_counter() - start
        right = sum(int((run.output.argmax(1) == y).sum()) for run, (_, y) in zip(runs, batches, strict=True))
        mean_steps = sum(run.mean_steps * len(x) for run, (x, _) in zip(runs, batches, strict=True)) / len(test)
        return {"seconds": seconds, "accuracy": right / len(test), "mean_steps": mean_steps}

    contestants = {"all steps": lambda: run(None), "early exit": lambda: run(rule)}
    contestants["early exit, 1 step in a chunk"] = lambda: run(rule, 1)
    rounds = race(contestants, arguments.rounds)
    about = {"method": snn.plan.method, "rule": repr(rule), "batch": EXIT_BATCH, "kept": KEPT}
    return {"images": len(test), "steps": steps, "rounds": rounds} | about


@torch.no_grad()
def careful(snn: SpikingModel, x: Tensor, steps: int) -> rb.Exit:
    """The margin and the first step with which images leave earliest, and KEPT of them with their class of step T."""
    answers = torch.cat([part.answers for part in stream(snn, x, steps)])  # (T, N, C)
    best, least = rb.Exit("margin", float("inf")), float(steps)
    for first_step in (t for t in (1, 2, 4, 6, 8, 12, 16) if t <= steps):
        for halves in range(41):
            rule = rb.Exit("margin", halves / 2, first_step)
            met = rule.met(answers, 1)
            at = torch.where(met.any(0), met.int().argmax(0), steps - 1)
            classes = answers[at, torch.arange(len(x))].argmax(1)
            kept, mean = (classes == answers[-1].argmax(1)).double().mean(), float((at + 1).double().mean())
            if kept >= KEPT and mean < least:
                best, least = rule, mean
    return best
