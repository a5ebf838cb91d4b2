"""Tracing: from a trained network to its normal form and the names of its activation sites.

A site is one call of ReLU, not one module: a block that calls ``self.relu`` twice has the sites
``layer1.0.relu`` and ``layer1.0.relu_1``. Each becomes a layer of spiking neurons.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from rheobase import rewrites
from rheobase.errors import ConversionError, DataError, UnsupportedOperationError
from rheobase.functional import name_modules, submodule
from rheobase.operations import POOLS, check_operations, reached, where
from rheobase.precision import float32_products
from rheobase.symbolic import own_copy, symbolic_trace

__all__ = ["Graph", "are_classes", "site_shapes", "trace"]


@dataclass(frozen=True)
class Graph:
    """A network in normal form.

    Attributes:
        module: computes what the network computes. Each site is a ``nn.ReLU`` called once (it may be a
            `rheobase.qcfs.ClipFloorShift`), each weighted layer and max pooling a module called once;
            batch norm is folded.
        sites: dotted paths of the activation sites in ``module``, in the order of execution.
        shapes: the shape of one sample at each site, without the batch dimension.
        input_shape: the shape of one input, without the batch dimension.
    """

    module: fx.GraphModule
    sites: tuple[str, ...]
    shapes: Mapping[str, tuple[int, ...]]
    input_shape: tuple[int, ...]

    def answers(self, x: Tensor) -> Tensor:
        """What the network computes, images in the memory order that its convolutions are fastest with."""
        result: Tensor = self.module(x.to(memory_format=torch.channels_last) if x.ndim == 4 else x)
        return result

    def neurons(self, site: str) -> int:
        """How many neurons a site has for one sample."""
        return int(torch.Size(self.shapes[site]).numel())

    def channels(self, site: str) -> int:
        """How many channels a site has: 1 where a sample has one number there."""
        return self.shapes[site][0] if self.shapes[site] else 1

    def __str__(self) -> str:
        width = max(len(site) for site in self.sites)
        lines = [f"{'site':<{width}}  {'shape':>14}  {'neurons':>9}"]
        for site in self.sites:
            shape = "x".join(map(str, self.shapes[site]))
            lines.append(f"{site:<{width}}  {shape:>14}  {self.neurons(site):>9,}")
        total = sum(self.neurons(site) for site in self.sites)
        lines.append(f"{f'{len(self.sites)} sites':<{width}}  {'':>14}  {total:>9,}")
        return "\n".join(lines)


def are_classes(answers: Tensor) -> bool:
    """Whether the largest answer of each sample says its class: they are (N, C), with C > 1."""
    return answers.ndim == 2 and answers.shape[1] > 1


def trace(model: nn.Module, example: Tensor) -> Graph:
    """Bring a network into normal form. The model itself is left as it is.

    Args:
        model: a feed-forward network that ``torch.fx`` can trace, with one input and one output.
        example: a batch of inputs, for shapes and for checking the result. Shape (N, ...).

    Returns:
        The graph; ``graph.module(x)`` equals ``model(x)`` in evaluation mode, up to rounding.

    Raises:
        UnsupportedOperationError: operations without a spiking form; all are listed.
        ConversionError: the network cannot be traced, has nothing to convert, mixes the samples
            of a batch, or fails on the example.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 2))
        >>> print(trace(net, torch.rand(8, 4)))
        site              shape    neurons
        2                     3          3
        1 sites                          3
    """
    original = own_copy(model)
    module = symbolic_trace(original)
    device = example.device if isinstance(example, Tensor) else torch.device("cpu")
    with torch.no_grad(), float32_products(device, rounded=False):
        parts = _samples(original, example)
        expected = original(parts[0].clone())
        _annotate(module, parts[0])
        for rewrite in (
            rewrites.place_inputs,
            rewrites.drop_dropout,
            rewrites.undo_in_place,
            rewrites.free_layout,
            rewrites.fold_constants,
            name_modules,
            rewrites.separate_calls,
            rewrites.fold_batch_norm,
            rewrites.move_max_pool,
        ):
            rewrite(module)
        check_operations(module)
        module.graph.eliminate_dead_code()
        module.delete_all_unused_submodules()
        module.graph.lint()
        module.recompile()
        _verify(module, parts, expected)
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    calls = (str(n.target) for n in module.graph.nodes if n.op == "call_module")
    sites = tuple(p for p in calls if isinstance(module.get_submodule(p), nn.ReLU))
    if not sites:
        raise UnsupportedOperationError(
            f"{type(model).__name__} has no ReLU, so there is nothing to convert: every layer of neurons comes "
            "from a ReLU (nn.ReLU, F.relu, torch.relu, x.relu()). Train the network with ReLU activations."
        )
    return Graph(module, sites, site_shapes(module, sites), tuple(example.shape[1:]))


def site_shapes(module: fx.GraphModule, sites: Collection[str]) -> dict[str, tuple[int, ...]]:
    """The shape of one sample at each site."""
    nodes = {str(n.target): n for n in module.graph.nodes if n.op == "call_module"}
    return {site: tuple(nodes[site].meta["shape"][1:]) for site in sites}


def _samples(model: nn.Module, example: Any) -> tuple[Tensor, Tensor]:
    """Two batches of two samples, after checking that the network gives one tensor for the example."""
    if not isinstance(example, Tensor) or example.ndim == 0 or len(example) == 0:
        found = f"shape {tuple(example.shape)}" if isinstance(example, Tensor) else f"type {type(example).__name__}"
        raise DataError(f"The example has the {found}; give a tensor of at least one sample, shape (N, ...).")
    example = example.detach()
    output = _run(model, example)
    if not isinstance(output, Tensor):
        raise ConversionError(
            f"The network returns a {type(output).__name__}; it must return one tensor. "
            "Wrap it in a module that returns the output to be converted."
        )
    first = torch.cat([example, example])[:2]
    other = 0.5 * first if first.is_floating_point() else first.flip(0)
    for batch in (first, torch.cat([first, other])):
        try:
            model(batch.clone())
        except Exception as error:
            raise ConversionError(
                f"The network works on a batch of {len(example)} and fails on one of {len(batch)} ({error}). Sizes "
                "written as numbers in forward cannot be converted; take the batch size from the input, x.size(0)."
            ) from error
    return first, other


def _run(model: nn.Module, x: Tensor) -> Any:
    try:
        return model(x.clone())
    except Exception as error:
        raise DataError(
            f"The network fails on an input of shape {tuple(x.shape)} and type {x.dtype}: {error}. "
            "Give batches as in training, with the batch dimension first."
        ) from error


def _values(module: fx.GraphModule, x: Tensor) -> dict[fx.Node, Any]:
    """The value of every node."""
    interpreter = fx.Interpreter(module, garbage_collect_values=False)
    interpreter.run(x.clone())
    return interpreter.env


def _annotate(module: fx.GraphModule, x: Tensor) -> dict[fx.Node, Any]:
    """Keep what is known of each value in ``node.meta``: the shape of a tensor, or the value itself.

    ``meta["shape"]`` is None where the value is no tensor, and () for the several tensors of a split.
    """
    values = _values(module, x)
    for node, value in values.items():
        several = isinstance(value, tuple | list) and any(isinstance(v, Tensor) for v in value)
        node.meta["shape"] = tuple(value.shape) if isinstance(value, Tensor) else () if several else None
        node.meta["value"] = value if node.meta["shape"] is None else None
    return values


def _verify(module: fx.GraphModule, parts: tuple[Tensor, Tensor], expected: Tensor) -> None:
    """The normal form must compute what the network computes, and each sample by itself.

    Time is folded into the batch, so the second is what keeps folded steps apart. Where the samples of a
    value lie is kept as ``meta["samples"]``; see `_samples_along`.
    """
    try:
        values = (_annotate(module, parts[0]), _values(module, parts[1]), _values(module, torch.cat(parts)))
    except Exception as error:
        raise ConversionError(f"The normal form of the network fails where the network does not: {error}") from error
    output = next(node for node in module.graph.nodes if node.op == "output")
    if not _close(values[0][output], expected, _magnitude(expected)):
        raise ConversionError(
            "The normal form of the network computes something else than the network. Usual causes: forward works "
            "in place on a view, or is random in evaluation mode (F.dropout without training=self.training)."
        )
    for node in module.graph.nodes:
        first, other, both = (v[node] for v in values)
        scale = max(_magnitude(values[2][n]) for n in (node, *node.all_input_nodes))
        node.meta["samples"] = _samples_along(first, other, both, scale)
    bad = [n for n in _read_by_sample(module) if n.meta["samples"] != 0]
    bad += [n for n in _folded(module) if n.meta["samples"] == "mixed"]
    if bad:
        mixed = reached(module.graph, lambda n: n.meta["samples"] == "mixed")
        causes = [n for n in mixed if not any(s in mixed for s in n.all_input_nodes) and n.op != "output"]
        lines = "\n".join(f"  {i}. {where(module, n)}" for i, n in enumerate(causes or dict.fromkeys(bad), 1))
        raise ConversionError(
            f"The network mixes the samples of a batch:\n{lines}\nWhat it computes for one sample must not depend "
            "on the others, and before a ReLU and in the output the samples must lie along the first dimension."
        )


def _samples_along(first: Any, other: Any, both: Any, scale: float) -> int | str:
    """Where the samples lie in a value, from its values for two batches and for both in one.

    A dimension, or "same" where the value does not depend on the input, "size" where it depends on the
    number of samples alone, "mixed" for anything else.
    """
    if isinstance(first, tuple | list) and any(isinstance(v, Tensor) for v in first):
        places = {_samples_along(a, b, c, scale) for a, b, c in zip(first, other, both, strict=True)}
        return places.pop() if len(places) == 1 else "mixed"
    if not isinstance(first, Tensor):
        return "same" if first == other == both else "size" if first == other else "mixed"
    if first.shape == both.shape:
        return "same" if _close(first, other, scale) and _close(first, both, scale) else "mixed"
    for d in range(both.ndim):
        if first.shape[:d] == both.shape[:d] and first.shape[d + 1 :] == both.shape[d + 1 :]:
            return d if _close(torch.cat([first, other], d), both, scale) else "mixed"
    return "mixed"


def _magnitude(value: Any) -> float:
    if not isinstance(value, Tensor) or not value.is_floating_point() or value.numel() == 0:
        return 0.0
    return float(value.abs().nan_to_num(0.0, 0.0, 0.0).max())


def _close(got: Any, expected: Tensor, scale: float) -> bool:
    """Whether two tensors agree up to the rounding of sums of the given magnitude, in half precision layer by layer."""
    if not isinstance(got, Tensor) or got.shape != expected.shape:
        return False
    half = expected.dtype in (torch.float16, torch.bfloat16)
    tolerance = 8 * torch.finfo(expected.dtype).eps if half else 2e-4
    return bool(torch.isclose(got, expected, rtol=0.0, atol=tolerance * scale, equal_nan=True).all())


def _read_by_sample(module: fx.GraphModule) -> list[fx.Node]:
    """What layers with a memory, the read-out and the output read."""
    moving = reached(module.graph, lambda n: isinstance(submodule(module, n), nn.ReLU))
    nodes: list[fx.Node] = []
    for node in module.graph.nodes:
        layer, inputs = submodule(module, node), node.all_input_nodes
        if isinstance(layer, nn.ReLU) or (isinstance(layer, POOLS) and node in moving) or node.op == "output":
            nodes += inputs
        elif node.meta.get("readout"):
            nodes += [n for n in inputs if n in moving and not n.meta.get("readout") and n.meta["shape"] is not None]
    return nodes


def _folded(module: fx.GraphModule) -> list[fx.Node]:
    """What is constant over time and read by what is not."""
    moving = reached(module.graph, lambda n: isinstance(submodule(module, n), nn.ReLU))
    return [n for node in moving for n in node.all_input_nodes if n not in moving]
