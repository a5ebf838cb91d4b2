"""The passes that bring a traced network into normal form, one function each.

Each pass edits the graph module in place and keeps the function that it computes. In normal form
every activation, weighted layer and max pooling is a module that is called exactly once, nothing
works in place, and no batch norm or dropout is left.
"""

from __future__ import annotations

import copy
import inspect
import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from rheobase.operations import BATCH_NORMS, POOLS, SYNAPSES, Affine, AmaxPool

__all__ = [
    "drop_dropout",
    "fold_batch_norm",
    "fold_constants",
    "move_max_pool",
    "name_modules",
    "separate_calls",
    "undo_in_place",
]

_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
_DROPOUT_FUNCTIONS = (F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, torch.dropout)
_IN_PLACE: dict[Callable[..., Any], Callable[..., Any]] = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
    F.relu_: F.relu,
    torch.relu_: F.relu,
}
_RELUS: tuple[Any, ...] = (F.relu, torch.relu, "relu")
_CLAMPS: tuple[Any, ...] = (torch.clamp, torch.clip, torch.clamp_min, "clamp", "clip", "clamp_min")
_POOL_FUNCTIONS: dict[Any, type[nn.Module]] = {
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
_MODULE_FUNCTIONS: dict[Any, type[nn.Module]] = {
    F.conv1d: nn.Conv1d,
    F.conv2d: nn.Conv2d,
    F.conv3d: nn.Conv3d,
}


def _is_tensor(node: fx.Node) -> bool:
    return node.meta.get("shape") is not None


def _submodule(module: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    return module.get_submodule(str(node.target)) if node.op == "call_module" else None


def _replace(node: fx.Node, new: fx.Node) -> None:
    """Put ``new`` in the place of ``node``, with what is known about its value and source."""
    new.meta = {**node.meta, **new.meta}
    node.replace_all_uses_with(new)
    node.graph.erase_node(node)


def _call_module(module: fx.GraphModule, node: fx.Node, path: str, new: nn.Module, source: fx.Node) -> None:
    """Replace a node by a call of ``new``, kept under ``path``, on ``source``."""
    module.add_submodule(path, new.eval())
    with node.graph.inserting_before(node):
        _replace(node, node.graph.call_module(path, (source,)))


def _free_path(module: fx.GraphModule, node: fx.Node, name: str) -> str:
    """A module path for a call made inside the module where the node stands: "layer1.0.relu_1"."""
    stack = node.meta.get("nn_module_stack") or {}
    paths = [value[0] if isinstance(value, tuple) else str(value) for value in stack.values()]
    prefix = f"{paths[-1]}." if paths and paths[-1] else ""
    taken = {path for path, _ in module.named_modules()}
    candidate, count = prefix + name, 0
    while candidate in taken or hasattr_path(module, candidate):
        count += 1
        candidate = f"{prefix}{name}_{count}"
    return candidate


def hasattr_path(module: nn.Module, path: str) -> bool:
    """Whether a dotted path names a parameter, buffer or other attribute of the module."""
    *parents, last = path.split(".")
    for name in parents:
        if not isinstance(getattr(module, name, None), nn.Module):
            return False
        module = getattr(module, name)
    return hasattr(module, last)


def drop_dropout(module: fx.GraphModule) -> None:
    """Remove dropout and identity: they pass their input on in evaluation mode."""
    for node in list(module.graph.nodes):
        is_dropout = isinstance(_submodule(module, node), (*_DROPOUTS, nn.Identity))
        if node.op == "call_function" and node.target in _DROPOUT_FUNCTIONS:
            is_dropout = not bound_arguments(node).get("training", True)
        if is_dropout:
            node.replace_all_uses_with(node.args[0])
            module.graph.erase_node(node)


def undo_in_place(module: fx.GraphModule) -> None:
    """Make in-place operations return a new value, which all later readers of the old one get."""
    order = {node: i for i, node in enumerate(module.graph.nodes)}
    for node in list(module.graph.nodes):
        target = _submodule(module, node)
        in_place = bool(getattr(target, "inplace", False)) or node.kwargs.get("inplace") is True
        if node.op == "call_function" and node.target in (F.relu, *_DROPOUT_FUNCTIONS):
            in_place |= bool(bound_arguments(node).get("inplace", False))
        if node.op == "call_method" and str(node.target).endswith("_") and not str(node.target).endswith("__"):
            node.target, in_place = str(node.target)[:-1], True
        elif node.op == "call_function" and node.target in _IN_PLACE:
            node.target, in_place = _IN_PLACE[node.target], True
        source = node.args[0] if node.args else None
        if in_place and isinstance(source, fx.Node) and _is_tensor(source):
            source.replace_all_uses_with(
                node, delete_user_cb=lambda user, at=order[node]: order[user] > at, propagate_meta=False
            )


def fold_constants(module: fx.GraphModule) -> None:
    """Compute once what does not depend on the input (normalised weights, say) and keep it as a buffer."""
    dependent: set[fx.Node] = set()
    values: dict[fx.Node, Any] = {}
    for node in list(module.graph.nodes):
        if node.op in ("placeholder", "output") or any(n in dependent for n in node.all_input_nodes):
            dependent.add(node)
        elif node.op == "get_attr":
            values[node] = operator.attrgetter(str(node.target))(module)
        else:
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
            if node.op == "call_module":
                values[node] = module.get_submodule(str(node.target))(*args, **kwargs)
            elif node.op == "call_function":
                values[node] = node.target(*args, **kwargs)  # type: ignore[operator]
            else:
                values[node] = getattr(args[0], str(node.target))(*args[1:], **kwargs)
            if isinstance(values[node], Tensor):
                name = _free_path(module, node, "constant").replace(".", "_")
                module.register_buffer(name, values[node].detach())
                with module.graph.inserting_before(node):
                    new = module.graph.get_attr(name)
                values[new] = values[node]
                _replace(node, new)


def name_modules(module: fx.GraphModule) -> None:
    """Make a module of each functional ReLU, max pooling and convolution."""
    for node in list(module.graph.nodes):
        if node.op not in ("call_function", "call_method") or not node.args or not isinstance(node.args[0], fx.Node):
            continue
        source = node.args[0]
        if node.target in _RELUS or (node.target in _CLAMPS and _is_relu_clamp(node)):
            _call_module(module, node, _free_path(module, node, "relu"), nn.ReLU(), source)
        elif node.target in _POOL_FUNCTIONS:
            arguments = bound_arguments(node)
            kind = _POOL_FUNCTIONS[node.target]
            accepted = inspect.signature(kind).parameters
            settings = {k: v for k, v in arguments.items() if k in accepted}
            if not any(isinstance(v, fx.Node) for v in settings.values()):
                _call_module(module, node, _free_path(module, node, "max_pool"), kind(**settings), source)
        elif node.target in _MODULE_FUNCTIONS or node.target is F.linear:
            layer = _weighted_layer(module, node)
            if layer is not None:
                _call_module(module, node, _free_path(module, node, type(layer).__name__.lower()), layer, source)


def _is_relu_clamp(node: fx.Node) -> bool:
    """Whether a clamp is a ReLU: its minimum 0, and no maximum."""
    rest = [*node.args[1:], None, None]
    low = node.kwargs.get("min", rest[0])
    high = None if "clamp_min" in str(node.target) else node.kwargs.get("max", rest[1])
    return isinstance(low, int | float) and low == 0 and high is None


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
        kind = _MODULE_FUNCTIONS[node.target]
        layer = kind(channels, w.shape[0], tuple(w.shape[2:]), bias=b is not None, device="meta", **settings)
    layer.weight = nn.Parameter(w)
    if b is not None:
        layer.bias = nn.Parameter(b)
    return layer


_POSITIONAL = {
    "amax": ("input", "dim", "keepdim"),
    torch.amax: ("input", "dim", "keepdim"),
    **dict.fromkeys(
        (F.max_pool1d, F.max_pool2d, F.max_pool3d),
        ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices"),
    ),
    **dict.fromkeys(
        (torch.max_pool1d, torch.max_pool2d, torch.max_pool3d),
        ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode"),
    ),
    **dict.fromkeys(
        (F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d),
        ("input", "output_size", "return_indices"),
    ),
    **dict.fromkeys(
        (F.conv1d, F.conv2d, F.conv3d), ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
    ),
    F.linear: ("input", "weight", "bias"),
    F.relu: ("input", "inplace"),
    torch.dropout: ("input", "p", "train"),
    **dict.fromkeys(_DROPOUT_FUNCTIONS[:-1], ("input", "p", "training", "inplace")),
}


def bound_arguments(node: fx.Node) -> dict[str, Any]:
    """The arguments of a functional call by name."""
    arguments = {**dict(zip(_POSITIONAL[node.target], node.args, strict=False)), **node.kwargs}
    if "train" in arguments:  # torch.dropout
        arguments["training"] = arguments.pop("train")
    return arguments


def separate_calls(module: fx.GraphModule) -> None:
    """Give each call a module of its own: a second call of "relu" becomes "relu_1"."""
    called: set[str] = set()
    for node in module.graph.nodes:
        if node.op != "call_module":
            continue
        path = str(node.target)
        if path in called:
            parent, _, name = path.rpartition(".")
            count = 1
            while hasattr_path(module, f"{path}_{count}"):
                count += 1
            node.target = f"{parent}.{name}_{count}" if parent else f"{name}_{count}"
            module.add_submodule(node.target, copy.deepcopy(module.get_submodule(path)))
        called.add(str(node.target))


def fold_batch_norm(module: fx.GraphModule) -> None:
    """Fold each batch norm into the layer before it; make an affine layer of one that has none.

    With g, beta the norm's weight and bias, mu, var its running statistics and s = g / sqrt(var + eps):
    W' = s W, b' = (b - mu) s + beta, computed in float64.
    """
    for node in list(module.graph.nodes):
        norm = _submodule(module, node)
        if not isinstance(norm, BATCH_NORMS) or norm.running_mean is None or norm.running_var is None:
            continue
        variance, mean = norm.running_var.double(), norm.running_mean.double()
        scale = torch.rsqrt(variance + norm.eps) * (1.0 if norm.weight is None else norm.weight.detach().double())
        shift = -mean * scale + (0.0 if norm.bias is None else norm.bias.detach().double())
        source = node.args[0]
        layer = _submodule(module, source)
        vector_output = not isinstance(layer, nn.Linear) or len(source.meta.get("shape") or ()) == 2
        if isinstance(layer, SYNAPSES) and len(source.users) == 1 and vector_output:
            _fold_into(layer, scale, shift)
            node.replace_all_uses_with(source)
            module.graph.erase_node(node)
        else:
            dtype = norm.running_var.dtype
            affine = Affine(scale.to(dtype), shift.to(dtype))
            module.set_submodule(str(node.target), affine)


def _fold_into(layer: nn.Module, scale: Tensor, shift: Tensor) -> None:
    """Scale the outputs of a weighted layer and shift its bias."""
    weight, bias = layer.get_parameter("weight"), layer.bias
    if isinstance(layer, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d):
        # (in, out / groups, ...): the outputs of group g are rows of its input block
        groups, (n_in, n_out) = layer.groups, weight.shape[:2]
        by_group = scale.view(groups, 1, n_out).expand(groups, n_in // groups, n_out).reshape(n_in, n_out)
        factor = by_group.view(n_in, n_out, *[1] * (weight.ndim - 2))
    else:
        factor = scale.view(-1, *[1] * (weight.ndim - 1))
    new_bias = shift if bias is None else bias.detach().double() * scale + shift
    layer.weight = nn.Parameter((weight.detach().double() * factor).to(weight.dtype), requires_grad=False)
    layer.bias = nn.Parameter(new_bias.to(weight.dtype), requires_grad=False)


def move_max_pool(module: fx.GraphModule) -> None:
    """Pool before the neurons where only the pooling reads them: max and ReLU commute.

    A quarter of the neurons of a 2 x 2 pooling are left, and the maximum is taken of currents,
    which are not quantised.
    """
    for pool in list(module.graph.nodes):
        if not isinstance(_submodule(module, pool), POOLS):
            continue
        site = pool.args[0]
        while isinstance(_submodule(module, site), nn.ReLU) and len(site.users) == 1:
            source = site.args[0]
            pool.replace_input_with(site, source)
            pool.replace_all_uses_with(site, delete_user_cb=lambda user, s=site: user is not s, propagate_meta=False)
            site.replace_input_with(source, pool)
            site.meta["shape"] = pool.meta["shape"]
            pool.append(site)
            site = source
