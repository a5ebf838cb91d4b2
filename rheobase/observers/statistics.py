"""One pass over the data: what the observers found at every site."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn

from rheobase.batches import batches_for, is_finite
from rheobase.distributed import World
from rheobase.errors import ConversionWarning, DataError
from rheobase.observers._base import Observer, by_channel
from rheobase.precision import float32_products
from rheobase.reading import AS_TRAINED, Reading, on_batch

__all__ = ["Observable", "Statistics", "observe"]


class Observable(Protocol):
    """The part of ``rheobase.graph.Graph`` that ``observe`` needs."""

    @property
    def module(self) -> nn.Module:
        """The network in normal form, in eval mode."""

    @property
    def sites(self) -> tuple[str, ...]:
        """The names of its activations, each a submodule that is called once in a forward pass."""


@dataclass(frozen=True, eq=False)
class Statistics:
    """What ``observe`` found; printed, it is a table with a row for each site.

    Attributes:
        values: the observer's result for each site.
        images: how many samples were seen.
        dead: the sites whose activation was never above zero.
        dead_channels: for each site, how many channels (dimension 1) were never above zero.
    """

    values: Mapping[str, Tensor]
    images: int
    dead: tuple[str, ...] = ()
    dead_channels: Mapping[str, int] = field(default_factory=dict)

    def __getitem__(self, site: str) -> Tensor:
        """Return the result for ``site``; raise a ``DataError`` that lists the sites if it is not one."""
        if site not in self.values:
            raise DataError(f"There is no site {site!r} here. Accepted: {', '.join(self.values)}.")
        return self.values[site]

    def __str__(self) -> str:
        rows: list[tuple[str, ...]] = [("site", "shape", "least", "mean", "greatest", "dead channels")]
        for site, tensor in self.values.items():
            x = tensor.double()
            numbers = [f"{number:.4g}" for number in (x.min(), x.mean(), x.max())] if x.numel() else ["-"] * 3
            shape = "x".join(map(str, x.shape)) or "1"
            rows.append((site, shape, *numbers, str(self.dead_channels.get(site, 0))))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(f"{cell:{'>' if i else '<'}{widths[i]}}" for i, cell in enumerate(row)) for row in rows]
        return "\n".join([*lines, f"{self.images:,} images; dead sites: {', '.join(self.dead) or 'none'}"])


def observe(
    graph: Observable,
    batches: object,
    observer: Observer,
    *,
    progress: Callable[[int, int | None], None] | None = None,
) -> Statistics:
    """Run the data through the network once and measure the pre-activation at every site.

    Under `torchrun` each process takes its share of the batches where the observer can merge what was seen, and all
    get the same statistics.

    Hooks are set for the time of the call only. Labels are ignored. Inputs go to the device and the
    floating type of the network's parameters.

    Args:
        graph: the traced network.
        batches: what ``rheobase.batches.as_batches`` accepts.
        observer: what to measure; each site gets a clone, and this one stays as it is.
        progress: called after each batch with the number of batches done and their count (or None).

    Returns:
        The statistics. A site or channel that never was above zero is named there, not dropped.

    Raises:
        DataError: There is no batch; a batch is malformed or does not fit the network; an input, or the
            pre-activation at some site, is not finite (all such sites in one message); under `torchrun`, the
            processes read different batches.

    Warns:
        ConversionWarning: Some sites are dead (all of them in one message).
    """
    data = batches_for(batches, graph.module)
    device = torch.device(data.device or "cpu")
    read = Reading(data)
    shared = observer.clone().merge(observer.clone())
    own = read.own if shared else World()
    sites = {site: graph.module.get_submodule(site) for site in graph.sites}

    def share() -> _Watch:
        watch = _Watch({site: observer.clone() for site in graph.sites})
        hooks = [relu.register_forward_pre_hook(partial(watch.look, site)) for site, relu in sites.items()]
        try:
            with torch.no_grad(), float32_products(device, rounded=False):
                for index, (inputs, _) in enumerate(read):
                    if own.takes(index):
                        watch.batch = index
                        watch.see(graph.module, inputs)
                    if progress is not None:
                        progress(index + 1, data.count)
        finally:
            for hook in hooks:
                hook.remove()
        return watch

    watch, *others = read.gather(share) if shared else [read.alike(share)]
    for other in others:
        watch.merge(other)
    watch.check()
    images = watch.images
    dead_channels = {site: int((~alive).sum()) for site, alive in watch.alive.items()}
    dead = tuple(site for site, alive in watch.alive.items() if not alive.any())
    if dead:
        warnings.warn(
            f"{len(dead)} of {len(sites)} sites are dead, with no activation above zero on {images:,} "
            f"images: {', '.join(dead)}. If training did not make them so, check how data are normalised.",
            ConversionWarning,
            stacklevel=2,
        )
    values = {site: watch.observers.pop(site).result() for site in sites}  # frees its memory one by one
    return Statistics(values, images, dead, dead_channels)


@dataclass
class _Watch:
    """What one pass over the data has found out so far."""

    observers: dict[str, Observer]
    batch: int = 0
    images: int = 0
    alive: dict[str, Tensor] = field(default_factory=dict)  # site -> (C,), where a was above zero
    bad_inputs: list[int] = field(default_factory=list)
    bad_sites: dict[str, int] = field(default_factory=dict)  # site -> the first batch with a bad value
    failure: Exception | None = None  # raised by an observer, so not the network's

    def see(self, module: nn.Module, inputs: Tensor) -> None:
        """Run a batch through the network."""
        self.images += len(inputs)
        if is_finite(inputs):
            self.run(module, inputs)
        else:
            self.bad_inputs.append(self.batch)

    def merge(self, other: _Watch) -> None:
        """Add what was seen of other batches."""
        self.images += other.images
        self.bad_inputs = sorted(self.bad_inputs + other.bad_inputs)
        for site, batch in other.bad_sites.items():
            self.bad_sites[site] = min(batch, self.bad_sites.get(site, batch))
        for site, observer in self.observers.items():
            observer.merge(other.observers[site])
            if site in other.alive:
                self.revive(site, other.alive[site])

    def revive(self, site: str, alive: Tensor) -> None:
        """Note which channels were above zero. Shape (C,)."""
        before = self.alive.get(site, alive)
        if alive.shape != before.shape:  # dimension 1 is no channel, but a length that varies
            alive, before = alive.any(0, keepdim=True), before.any(0, keepdim=True)
        self.alive[site] = alive | before

    def run(self, module: nn.Module, inputs: Tensor) -> None:
        with on_batch(self.batch, inputs, "the network", AS_TRAINED, lambda error: error is self.failure):
            module.forward(inputs)  # calling a GraphModule prints to stderr where it fails

    def look(self, site: str, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        z = args[0].detach()
        if not is_finite(z):
            self.bad_sites.setdefault(site, self.batch)
            return
        try:
            self.observers[site].update(z)
        except Exception as error:
            error.add_note(f"This happened at site {site}, in batch {self.batch}.")
            self.failure = error
            raise
        self.revive(site, by_channel(z, per_channel=z.ndim > 1).amax((0, 2)) > 0)

    def check(self) -> None:
        problems = [f"  {site}: first in batch {batch}" for site, batch in self.bad_sites.items()]
        if self.bad_inputs:
            problems.insert(0, f"  the input: in batches {', '.join(map(str, self.bad_inputs))}")
        if problems:
            problems = ["The calibration found NaN or infinite values at", *problems]
            raise DataError(
                "\n".join(problems) + "\nAccepted: finite values at the input and at every site. Look at the "
                "first line: check the data, the weights before it, and that float16 does not overflow."
            )
        missed = [site for site in self.observers if site not in self.alive]
        if missed:
            raise DataError(
                f"The network never called {len(missed)} of its {len(self.observers)} sites: "
                f"{', '.join(missed)}. Accepted: sites that every forward pass calls once. Trace it again."
            )
