"""A module for each functional ReLU, max pooling, convolution and linear layer of a traced network."""

from __future__ import annotations

import inspect
import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from rheobase.operations import AmaxPool

__all__ = ["DROPOUTS", "attribute_exists", "bound_arguments", "free_path", "name_modules", "replace", "submodule"]

DROPOUTS = (
    *(F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout),
    *(torch.dropout, torch.alpha_dropout, torch.feature_dropout, torch.feature_alpha_dropout),
)
_RELUS: tuple[Any, ...] = (F.relu, torch.relu, "relu")
_CLAMPS: tuple[Any, ...] = (torch.clamp, torch.clip, torch.clamp_min, "clamp", "clip", "clamp_min")
_MAXIMA: tuple[Any, ...] = (torch.max, "max")
_POOLS: dict[Any, type[nn.Module]] = {
    F.max_pool1d: nn.MaxPool1d,
    F.max_pool2d: nn.MaxPool2d,
    F.max_pool3d: nn.MaxPool3d,
    torch.max_pool1d: nn.MaxPool1d,
    torch.max_pool2d: nn.MaxPool2d,
    torch.max_pool3d: nn.MaxPool3d,
    F.adaptive_max_pool1d: nn.AdaptiveMaxPool1d,
    F.adaptive_max_pool2d: nn.AdaptiveMaxPool2d,
    F.adaptive_max_pool3d: nn.AdaptiveMaxPool3d,
    torch.amax: AmaxPool,
    "amax": AmaxPool,
}
_CONVOLUTIONS: dict[Any, type[nn.Module]] = {F.conv1d: nn.Conv1d, F.conv2d: nn.Conv2d, F.conv3d: nn.Conv3d}
_POOL = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode")
_POSITIONAL: dict[Any, tuple[str, ...]] = {
    **dict.fromkeys(_POOLS, (*_POOL, "return_indices")),
    **dict.fromkeys((torch.max_pool1d, torch.max_pool2d, torch.max_pool3d), _POOL),
    **dict.fromkeys(
        (F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d),
        ("input", "output_size", "return_indices"),
    ),
    **dict.fromkeys((torch.amax, "amax", *_MAXIMA), ("input", "dim", "keepdim")),
    **dict.fromkeys(_CONVOLUTIONS, ("input", "weight", "bias", "stride", "padding", "dilation", "groups")),
    F.linear: ("input", "weight", "bias"),
    **dict.fromkeys(DROPOUTS, ("input", "p", "training", "inplace")),
}


def submodule(module: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    """The module that a node calls, or None."""
    return module.get_submodule(str(node.target)) if node.op == "call_module" else None


def replace(node: fx.Node, new: fx.Node) -> None:
    """Put ``new`` in the place of ``node``, with what is known about its value and source."""
    new.meta = {**node.meta, **new.meta}
    node.replace_all_uses_with(new)
    node.graph.erase_node(node)


def attribute_exists(module: nn.Module, path: str) -> bool:
    """Whether a dotted path names a parameter, buffer or other attribute of the module."""
    *parents, last = path.split(".")
    for name in parents:
        if not isinstance(getattr(module, name, None), nn.Module):
            return False
        module = getattr(module, name)
    return hasattr(module, last)


def free_path(module: fx.GraphModule, node: fx.Node, name: str, separator: str = ".") -> str:
    """A free path for what is made inside the module where the node stands: "layer1.0.relu_1"."""
    stack = node.meta.get("nn_module_stack") or {}
    paths = [value[0] if isinstance(value, tuple) else str(value) for value in stack.values()]
    prefix = f"{paths[-1]}." if paths and paths[-1] else ""
    start = candidate = (prefix + name).replace(".", separator)
    count = 0
    while attribute_exists(module, candidate):
        count += 1
        candidate = f"{start}_{count}"
    return candidate


def bound_arguments(node: fx.Node) -> dict[str, Any]:
    """The arguments of a functional call by name."""
    arguments = {**dict(zip(_POSITIONAL[node.target], node.args, strict=False)), **node.kwargs}
    if "train" in arguments:  # the name in torch.dropout
        arguments["training"] = arguments.pop("train")
    return arguments


def name_modules(module: fx.GraphModule) -> None:
    """Make a module of each functional ReLU, max pooling, convolution and linear layer."""
    for node in list(module.graph.nodes):
        if node.op not in ("call_function", "call_method") or not node.args or not isinstance(node.args[0], fx.Node):
            continue
        if node.target in _RELUS or (node.target in _CLAMPS and _is_relu_clamp(node)):
            _call(module, node, "relu", nn.ReLU())
        elif node.target in _POOLS:
            arguments = _sizes_as_numbers(bound_arguments(node))
            accepted = inspect.signature(_POOLS[node.target]).parameters
            settings = {k: v for k, v in arguments.items() if k in accepted}
            if not any(isinstance(v, fx.Node) for v in settings.values()):
                _call(module, node, "max_pool", _POOLS[node.target](**settings))
        elif node.target in _MAXIMA and _is_pooling(node):
            arguments = bound_arguments(node)
            values = list(node.users)
            _call(module, node, "max_pool", AmaxPool(arguments["dim"], arguments.get("keepdim", False)))
            for value in values:  # max(x, dim) gives (values, indices)
                value.replace_all_uses_with(value.args[0])
                module.graph.erase_node(value)
        elif node.target in _CONVOLUTIONS or node.target is F.linear:
            layer = _weighted_layer(module, node)
            if layer is not None:
                _call(module, node, type(layer).__name__.lower(), layer)
    module.graph.eliminate_dead_code()  # sizes that have become numbers


def _call(module: fx.GraphModule, node: fx.Node, name: str, new: nn.Module) -> None:
    """Replace a node by a call of a new module on its first argument."""
    path = free_path(module, node, name)
    module.add_submodule(path, new.eval())
    with node.graph.inserting_before(node):
        replace(node, node.graph.call_module(path, (node.args[0],)))


def _sizes_as_numbers(arguments: dict[str, Any]) -> dict[str, Any]:
    """Settings that come from the size of the input, F.max_pool1d(x, x.size(2)), by their value."""

    def number(value: Any) -> Any:
        if isinstance(value, fx.Node):
            return value.meta.get("value", value)
        return type(value)(map(number, value)) if isinstance(value, tuple | list) else value

    return {k: v if k == "input" else number(v) for k, v in arguments.items()}


def _is_relu_clamp(node: fx.Node) -> bool:
    """Whether a clamp is a ReLU: its minimum 0, and no maximum."""
    rest = [*node.args[1:], None, None]
    low = node.kwargs.get("min", rest[0])
    high = None if "clamp_min" in str(node.target) else node.kwargs.get("max", rest[1])
    return isinstance(low, int | float) and low == 0 and high is None


def _is_pooling(node: fx.Node) -> bool:
    """Whether ``max`` runs over a dimension and only its values are used: x.max(2)[0], x.max(2).values."""
    wanted = ((operator.getitem, 0), (getattr, "values"))
    only_values = all((user.target, user.args[-1]) in wanted for user in node.users)
    return isinstance(bound_arguments(node).get("dim"), int) and only_values


def _weighted_layer(module: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    """The layer that a functional call with constant weights computes."""
    arguments = bound_arguments(node)
    weight, bias = arguments.get("weight"), arguments.get("bias")
    if not (isinstance(weight, fx.Node) and weight.op == "get_attr"):
        return None
    if isinstance(bias, fx.Node) and bias.op != "get_attr":
        return None
    w = operator.attrgetter(str(weight.target))(module).detach()
    b = operator.attrgetter(str(bias.target))(module).detach() if isinstance(bias, fx.Node) else None
    layer: nn.Module
    if node.target is F.linear:
        layer = nn.Linear(w.shape[1], w.shape[0], b is not None, device="meta")
    else:
        keys = ("stride", "padding", "dilation", "groups")
        settings = {k: v for k, v in arguments.items() if k in keys}
        channels = w.shape[1] * settings.get("groups", 1)
        kind = _CONVOLUTIONS[node.target]
        layer = kind(channels, w.shape[0], tuple(w.shape[2:]), bias=b is not None, device="meta", **settings)
    layer.weight = nn.Parameter(w.clone(), requires_grad=False)
    if b is not None:
        layer.bias = nn.Parameter(b.clone(), requires_grad=False)
    return layer
