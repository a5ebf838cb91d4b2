"""What the ANN computes at each site."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

from rheobase.graph import Graph

__all__ = ["activations"]


@contextmanager
def activations(graph: Graph, received: dict[str, Tensor] | None = None) -> Iterator[dict[str, Tensor]]:
    """Within, each call of ``graph.module`` puts what the sites send into the dictionary. Shapes (N, ...).

    What they receive, the pre-activation, is put into ``received`` where it is given.
    """
    seen: dict[str, Tensor] = {}

    def look(site: str, args: tuple[Tensor, ...], out: Tensor) -> None:
        seen[site] = out
        if received is not None:
            received[site] = args[0]

    hooks = [
        graph.module.get_submodule(site).register_forward_hook(lambda _, args, out, s=site: look(s, args, out))
        for site in graph.sites
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()
