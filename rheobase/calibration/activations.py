"""What the ANN computes at each site."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

from rheobase.graph import Graph

__all__ = ["activations"]


@contextmanager
def activations(graph: Graph) -> Iterator[dict[str, Tensor]]:
    """Within, each call of ``graph.module`` puts what the sites send into the dictionary. Shapes (N, ...)."""
    seen: dict[str, Tensor] = {}
    hooks = [
        graph.module.get_submodule(site).register_forward_hook(lambda _, __, out, s=site: seen.update({s: out}))
        for site in graph.sites
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()
