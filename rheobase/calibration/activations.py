"""What the ANN computes at each site."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, fx

from rheobase.graph import Graph

__all__ = ["activations", "site_by_site"]


@contextmanager
def activations(graph: Graph) -> Iterator[dict[str, Tensor]]:
    """Within, each call of ``graph.module`` puts what the sites send into the dictionary. Shapes (N, ...)."""
    seen: dict[str, Tensor] = {}
    hooks = [
        graph.module.get_submodule(site).register_forward_hook(lambda _, __, out, s=site: seen.__setitem__(s, out))
        for site in graph.sites
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def site_by_site(graph: Graph, x: Tensor) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Run the ANN from one site to the next, each time that one is asked for.

    It holds what it still needs at a site, not what it has computed at all of them.

    Args:
        graph: the ANN in normal form.
        x: the samples. Shape (N, ...).

    Yields:
        The name of the site, what it receives (the pre-activation) and what it sends. Shapes (N, ...).
    """
    run = fx.Interpreter(graph.module)
    run.args_iter = iter([x.to(memory_format=torch.channels_last) if x.ndim == 4 else x])
    for node in graph.module.graph.nodes:
        run.env[node] = run.run_node(node)
        if node.op == "call_module" and node.target in graph.sites:
            yield str(node.target), run.env[node.args[0]], run.env[node]
        for used in run.user_to_last_uses.get(node, ()):
            del run.env[used]
