"""Simulation: the only loop over time."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rheobase import kernels
from rheobase.errors import DataError, SettingError
from rheobase.spiking import SpikingModel

__all__ = ["Chunk", "Run", "simulate", "stream"]

_FOLDED_BATCH = 128  # samples times steps in one pass through a layer, when the chunk is chosen here


@dataclass(frozen=True, eq=False)
class Chunk:
    """What happened in K consecutive steps.

    Attributes:
        first_step: t of the first of them, counted from 1.
        answers: the network's answer after each step: read-out and final functions. Shape (K, N, ...).
        spikes: how many spikes each site sent in each step, over all samples. Shape (K,).
        values: what the recorded sites emitted. Shape (K, N, ...).
    """

    first_step: int
    answers: Tensor
    spikes: Mapping[str, Tensor]
    values: Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Run:
    """A simulation of one batch.

    Attributes:
        steps: T.
        output: the answer after T steps. Shape (N, ...).
        spikes: spikes of each site in each step, over all samples; index t - 1 is step t. Shape (T,).
        values: what the recorded sites emitted. Shape (T, N, ...).
        neurons: how many neurons each site has, over all samples.
    """

    steps: int
    output: Tensor
    spikes: Mapping[str, Tensor]
    values: Mapping[str, Tensor]
    neurons: Mapping[str, int]

    @property
    def rates(self) -> dict[str, float]:
        """Spikes per neuron and step of each site, over the whole run."""
        return {s: float(n.sum()) / (self.neurons[s] * self.steps) for s, n in self.spikes.items()}

    def __str__(self) -> str:
        width = max(4, *(len(site) for site in self.spikes))
        lines = [f"{self.steps} steps", f"{'site':<{width}}  {'spikes':>12}  {'rate':>7}"]
        lines += [f"{s:<{width}}  {int(n.sum()):>12,}  {self.rates[s]:>7.4f}" for s, n in self.spikes.items()]
        return "\n".join(lines)


def stream(
    snn: SpikingModel,
    x: Tensor,
    steps: int,
    *,
    chunk: int | None = None,
    record: Collection[str] = (),
    generator: torch.Generator | None = None,
) -> Iterator[Chunk]:
    """Simulate a batch from its reset on, and give each chunk of steps as it is done.

    Args:
        snn: the converted network; it is reset.
        x: the input. Shape (N, ...).
        steps: T, at least 1.
        chunk: K, how many steps go through a layer at once; it changes the speed, and the result
            by no more than rounding. By default as many as make a batch of about 128.
        record: sites whose emitted values are wanted.
        generator: for what is random in the network.

    Yields:
        Chunks of at most K steps; memory does not grow with T, except in layer-synchronous networks.

    Raises:
        SettingError: steps or chunk is below 1, a recorded site does not exist, or the network is
            layer-synchronous and the chunk is not T.
        DataError: the input is empty, not finite, or does not fit the network.
    """
    unknown = [site for site in record if site not in snn.plan.neurons]
    problems = [f"steps is {steps}; it must be at least 1"] if steps < 1 else []
    problems += [f"chunk is {chunk}; it must be at least 1"] if chunk is not None and chunk < 1 else []
    problems += [f"record names {unknown}; the sites are {list(snn.plan.neurons)}"] if unknown else []
    if not snn.causal and chunk not in (None, steps):
        problems += [f"chunk is {chunk}, and this network is layer-synchronous: it must be all {steps} steps, or None"]
    if problems:
        raise SettingError("simulate: " + "; ".join(problems) + ".")
    if x.ndim == 0 or len(x) == 0 or not bool(torch.isfinite(x).all()):
        found = f"the shape {tuple(x.shape)}" if x.ndim == 0 or len(x) == 0 else "NaN or infinite values"
        raise DataError(f"simulate: the input has {found}; it must hold at least one sample, and finite values.")
    size = (chunk or max(1, _FOLDED_BATCH // x.shape[0])) if snn.causal else steps
    snn.reset(generator)
    execution = snn.execution(x)
    state: Any = None
    for first in range(1, steps + 1, size):
        k = min(size, steps + 1 - first)
        spikes: dict[str, Tensor] = {}
        values: dict[str, Tensor] = {}

        def on_spikes(
            site: str, emitted: Tensor, spikes: dict[str, Tensor] = spikes, values: dict[str, Tensor] = values
        ) -> None:
            spikes[site] = kernels.count_nonzero(emitted, backend=snn.backend)
            if site in record:
                values[site] = emitted

        outputs = execution.advance(k, on_spikes)
        read, state = snn.plan.readout.read(outputs, first, state)
        answers = torch.stack([execution.answer(a) for a in read])
        yield Chunk(first, answers, spikes, values)


@torch.no_grad()
def simulate(
    snn: SpikingModel,
    x: Tensor,
    steps: int,
    *,
    record: Collection[str] = (),
    chunk: int | None = None,
    generator: torch.Generator | None = None,
) -> Run:
    """Simulate a batch for T steps; see `stream` for the arguments.

    Returns:
        The run. Memory grows with T by the recorded sites only.
    """
    chunks = []
    output = x  # there is at least one step, so this is replaced
    for part in stream(snn, x, steps, chunk=chunk, record=record, generator=generator):
        chunks.append((part.spikes, part.values))
        output = part.answers[-1]
    spikes = {s: torch.cat([c[0][s] for c in chunks]) for s in snn.plan.neurons}
    values = {s: torch.cat([c[1][s] for c in chunks]) for s in record}
    neurons = {s: snn.graph.neurons(s) * x.shape[0] for s in snn.plan.neurons}
    return Run(steps, output, spikes, values, neurons)
