"""Tracing: from a trained network to its normal form and the names of its activation sites.

A site is one call of ReLU, not one module: a block that calls ``self.relu`` twice has the sites
``layer1.0.relu`` and ``layer1.0.relu_1``. Each becomes a layer of spiking neurons.
"""

from __future__ import annotations

import copy
import inspect
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from rheobase import rewrites
from rheobase.errors import ConversionError, DataError, UnsupportedOperationError
from rheobase.operations import check_operations

__all__ = ["Graph", "trace"]


@dataclass(frozen=True)
class Graph:
    """A network in normal form.

    Attributes:
        module: computes what the network computes. Each site is a ``nn.ReLU`` called once, each
            weighted layer and max pooling a module called once; batch norm is folded.
        sites: dotted paths of the activation sites in ``module``, in the order of execution.
        shapes: the shape of one sample at each site, without the batch dimension.
        input_shape: the shape of one input, without the batch dimension.
    """

    module: fx.GraphModule
    sites: tuple[str, ...]
    shapes: Mapping[str, tuple[int, ...]]
    input_shape: tuple[int, ...]

    def neurons(self, site: str) -> int:
        """How many neurons a site has for one sample."""
        return int(torch.Size(self.shapes[site]).numel())

    def __str__(self) -> str:
        width = max(len(site) for site in self.sites)
        lines = [f"{'site':<{width}}  {'shape':>14}  {'neurons':>9}"]
        for site in self.sites:
            shape = "x".join(map(str, self.shapes[site]))
            lines.append(f"{site:<{width}}  {shape:>14}  {self.neurons(site):>9,}")
        total = sum(self.neurons(site) for site in self.sites)
        lines.append(f"{f'{len(self.sites)} sites':<{width}}  {'':>14}  {total:>9,}")
        return "\n".join(lines)


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
    original = _own_copy(model)
    module = _symbolic(original)
    with torch.no_grad():
        expected = _run(original, example)
        if not isinstance(expected, Tensor):
            raise ConversionError(
                f"The network returns a {type(expected).__name__}; it must return one tensor. "
                "Wrap it in a module that returns the output to be converted."
            )
        _annotate(module, example)
        for rewrite in (
            rewrites.drop_dropout,
            rewrites.undo_in_place,
            rewrites.fold_constants,
            rewrites.name_modules,
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
        _verify(module, example, expected)
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    nodes = {str(n.target): n for n in module.graph.nodes if n.op == "call_module"}
    sites = tuple(p for p in nodes if isinstance(module.get_submodule(p), nn.ReLU))
    if not sites:
        raise UnsupportedOperationError(
            f"{type(model).__name__} has no ReLU, so there is nothing to convert: every layer of neurons comes "
            "from a ReLU (nn.ReLU, F.relu, torch.relu, x.relu()). Train the network with ReLU activations."
        )
    shapes = {p: tuple(nodes[p].meta["shape"][1:]) for p in sites}
    return Graph(module, sites, shapes, tuple(example.shape[1:]))


def _own_copy(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode, without hooks; what hooks of ``torch.nn.utils`` compute is kept."""
    if not isinstance(model, nn.Module):
        raise ConversionError(f"model is a {type(model).__name__}; it must be a torch.nn.Module.")
    try:
        with torch.no_grad():
            own = copy.deepcopy(model).eval()
    except Exception as error:
        raise ConversionError(f"{type(model).__name__} cannot be copied (copy.deepcopy): {error}") from error
    for part in own.modules():
        for hook in part._forward_pre_hooks.values():
            if type(hook).__module__.startswith("torch.nn.utils"):  # weight_norm, spectral_norm, prune
                hook(part, ())
        for hooks in (part._forward_pre_hooks, part._forward_hooks, part._backward_hooks, part._backward_pre_hooks):
            hooks.clear()
    return own


class _Tracer(fx.Tracer):
    """Keeps modules of torch.nn whole, also in a subclass that inherits their forward."""

    record_stack_traces = True

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        forward_from = next(c.__module__ for c in type(m).__mro__ if "forward" in vars(c))
        inherits = forward_from.startswith("torch.nn.modules") and type(m).__module__ != forward_from
        changed = any(name.startswith("_") and name.endswith("_forward") for name in vars(type(m)))
        return super().is_leaf_module(m, module_qualified_name) or (
            inherits and not changed and not isinstance(m, nn.Sequential | nn.ModuleList | nn.ModuleDict)
        )


def _symbolic(model: nn.Module) -> fx.GraphModule:
    """Trace with torch.fx; arguments that have a default keep it."""
    parameters = list(inspect.signature(model.forward).parameters.values())
    required = [p for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    if len(required) != 1 and not (not required and defaults):
        names = ", ".join(p.name for p in required)
        raise ConversionError(
            f"{type(model).__name__}.forward takes {len(required)} inputs ({names}); it must take one tensor. "
            "Wrap the network in a module that fixes the others."
        )
    if not required:
        del defaults[parameters[0].name]
    tracer = _Tracer()
    try:
        graph = tracer.trace(model, concrete_args=defaults or None)
    except Exception as error:
        frames = [f for f in traceback.extract_tb(error.__traceback__) if "/torch/" not in f.filename]
        own = [f for f in frames if f.filename != __file__]
        line = f" at {own[-1].filename}:{own[-1].lineno}: {own[-1].line}" if own else ""
        raise ConversionError(
            f"torch.fx cannot trace {type(model).__name__}{line} ({error}). Control flow and Python "
            "numbers must not depend on the data; move such code out of forward, or wrap it with torch.fx.wrap."
        ) from error
    for node in list(graph.nodes):
        if node.op == "placeholder" and node.name != graph._root.next.name and not node.users:
            graph.erase_node(node)
    return fx.GraphModule(tracer.root, graph).eval()


def _run(module: nn.Module, x: Tensor) -> Any:
    try:
        return module(x)
    except Exception as error:
        raise DataError(
            f"The network fails on an input of shape {tuple(x.shape)} and type {x.dtype}: {error}. "
            "Give batches as in training, with the batch dimension first."
        ) from error


class _Annotator(fx.Interpreter):
    """Keeps the shape of each tensor in ``node.meta["shape"]``; None where the value is no tensor."""

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if isinstance(value, Tensor):
            n.meta["shape"] = tuple(value.shape)
        elif isinstance(value, tuple | list) and any(isinstance(v, Tensor) for v in value):
            n.meta["shape"] = ()  # several tensors, of split or chunk
        else:
            n.meta["shape"] = None
        return value


def _annotate(module: fx.GraphModule, x: Tensor) -> None:
    for value in module.graph.nodes:
        value.meta["shape"] = None
    _Annotator(module).run(x)


def _verify(module: fx.GraphModule, x: Tensor, expected: Tensor) -> None:
    """The normal form must compute what the network computes, for each sample by itself."""
    tolerance = 1e-3 if x.dtype in (torch.float16, torch.bfloat16) else 2e-4
    scale = expected.abs().max().clamp(min=1e-12)
    try:
        got = module(torch.cat([x, x]))
        same = got.shape[0] == 2 * expected.shape[0] and got.shape[1:] == expected.shape[1:]
        difference = float((got - torch.cat([expected, expected])).abs().max() / scale) if same else float("inf")
    except (RuntimeError, IndexError) as error:
        raise ConversionError(
            f"The network works on a batch of {len(x)} and fails on one of {2 * len(x)} ({error}). Sizes written "
            "as numbers in forward cannot be converted; take the batch size from the input, x.size(0)."
        ) from error
    if not difference <= tolerance:
        found = f"differs by {difference:.2g} of its largest output" if same else f"has the shape {tuple(got.shape)}"
        raise ConversionError(
            f"The normal form of the network {found} for two copies of the example in one batch. Usual causes: "
            "forward works in place on a view, mixes the samples of a batch, relies on hooks, or is random in "
            "evaluation mode (F.dropout without training=self.training)."
        )
