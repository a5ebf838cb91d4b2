"""The passes that bring a traced network into normal form, one function each.

Each pass edits the graph module in place and keeps the function that it computes. In normal form
every activation, weighted layer and max pooling is a module that is called exactly once, nothing
works in place, and no batch norm or dropout is left. `functional.name_modules` is a pass too.
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

from rheobase.functional import DROPOUTS, attribute_exists, bound_arguments, free_path, replace, submodule
from rheobase.operations import BATCH_NORMS, POOLS, SYNAPSES, Affine, depends_on_input, evaluate

__all__ = [
    "drop_dropout",
    "fold_batch_norm",
    "fold_constants",
    "free_layout",
    "move_max_pool",
    "place_inputs",
    "pool_spikes",
    "separate_calls",
    "undo_in_place",
]

_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
_IN_PLACE: dict[Callable[..., Any], Callable[..., Any]] = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
    F.relu_: F.relu,
    torch.clamp_: torch.clamp,
    torch.clamp_min_: torch.clamp_min,
}
_ANY_ORDER = {"view": "reshape", "view_as": "reshape_as"}


def place_inputs(module: fx.GraphModule) -> None:
    """Make the signal the first positional argument of each call, also where it was given by name."""
    for node in module.graph.nodes:
        if node.args or not node.kwargs or node.op not in ("call_module", "call_function"):
            continue
        layer = submodule(module, node)
        names = ("input", "tensors") if layer is None else tuple(inspect.signature(layer.forward).parameters)[:1]
        for name in names:
            if name in node.kwargs:
                node.args = (node.kwargs[name],)
                node.kwargs = {k: v for k, v in node.kwargs.items() if k != name}


def drop_dropout(module: fx.GraphModule) -> None:
    """Remove dropout and identity: they pass their input on in evaluation mode."""
    for node in list(module.graph.nodes):
        is_dropout = isinstance(submodule(module, node), (*_DROPOUTS, nn.Identity))
        if node.op == "call_function" and node.target in DROPOUTS:
            is_dropout = not bound_arguments(node).get("training", True)
        if is_dropout:
            node.replace_all_uses_with(node.args[0])
            module.graph.erase_node(node)


def undo_in_place(module: fx.GraphModule) -> None:
    """Make in-place operations return a new value, which all later readers of the old one get."""
    order = {node: i for i, node in enumerate(module.graph.nodes)}
    for node in list(module.graph.nodes):
        layer = submodule(module, node)
        in_place = bool(getattr(layer, "inplace", False)) or node.kwargs.get("inplace") is True
        if in_place and layer is not None:
            vars(layer)["inplace"] = False
        if node.op == "call_function" and node.target is F.relu and len(node.args) == 2:
            node.args, in_place = node.args[:1], bool(node.args[1])
        node.kwargs = {k: v for k, v in node.kwargs.items() if k != "inplace"}
        name = str(node.target)
        if node.op == "call_method" and name.endswith("_") and hasattr(Tensor, name[:-1]):
            node.target, in_place = name[:-1], True
        elif node.op == "call_function" and node.target in _IN_PLACE:
            node.target, in_place = _IN_PLACE[node.target], True
        source = node.args[0] if node.args else None
        if in_place and isinstance(source, fx.Node) and source.meta.get("shape") is not None:
            later = {user for user in source.users if order[user] > order[node]}
            source.replace_all_uses_with(node, delete_user_cb=later.__contains__)


def free_layout(module: fx.GraphModule) -> None:
    """Make reshaping independent of the memory order, and ``squeeze()`` of the number of samples."""
    for node in module.graph.nodes:
        if node.op == "call_method" and not any(isinstance(a, torch.dtype) for a in node.args):
            node.target = _ANY_ORDER.get(str(node.target), node.target)
        is_squeeze = node.target == "squeeze" or node.target is torch.squeeze
        if is_squeeze and len(node.args) == 1 and not node.kwargs and isinstance(node.args[0], fx.Node):
            shape = node.args[0].meta.get("shape") or ()
            node.args = (node.args[0], tuple(d for d, size in enumerate(shape) if d > 0 and size == 1))


def fold_constants(module: fx.GraphModule) -> None:
    """Compute once what does not depend on the input (normalised weights, say) and keep it as a buffer."""
    signals = depends_on_input(module.graph)
    called = {str(node.target) for node in module.graph.nodes if node.op == "call_module"}
    values: dict[fx.Node, Any] = {}
    for node in list(module.graph.nodes):
        if node in signals or node.op == "output":
            continue
        values[node] = evaluate(module, node, values.__getitem__)
        if not isinstance(values[node], Tensor) or not any(user in signals for user in node.users):
            continue
        # a parameter may stay, unless the module that owns it may still be changed
        if node.op != "get_attr" or str(node.target).rpartition(".")[0] in called:
            name = free_path(module, node, "constant", separator="_")
            module.register_buffer(name, values[node].detach().clone())
            with module.graph.inserting_before(node):
                new = module.graph.get_attr(name)
            values[new] = values[node]
            replace(node, new)
    module.graph.eliminate_dead_code()


def separate_calls(module: fx.GraphModule) -> None:
    """Give each call a module of its own, with its own parameters: a second call of "relu" becomes "relu_1"."""
    called: set[str] = set()
    for node in module.graph.nodes:
        if node.op != "call_module":
            continue
        path = str(node.target)
        if path in called:
            count = 1
            while attribute_exists(module, f"{path}_{count}"):
                count += 1
            node.target = f"{path}_{count}"
            module.add_submodule(node.target, copy.deepcopy(module.get_submodule(path)))
        called.add(str(node.target))
    seen: dict[int, nn.Parameter] = {}
    for part in module.modules():
        for name, parameter in part.named_parameters(recurse=False):
            if id(parameter) in seen:  # tied to another layer's
                setattr(part, name, nn.Parameter(parameter.detach().clone(), requires_grad=False))
            seen[id(parameter)] = parameter


def fold_batch_norm(module: fx.GraphModule) -> None:
    """Fold each batch norm into the layer before it; make an affine layer of one that has none.

    With g, beta the norm's weight and bias, mu, var its running statistics and s = g / sqrt(var + eps):
    W' = s W, b' = (b - mu) s + beta, computed in float64.
    """
    for node in list(module.graph.nodes):
        norm: Any = submodule(module, node)
        if not isinstance(norm, BATCH_NORMS) or norm.running_mean is None or norm.running_var is None:
            continue
        variance, mean = norm.running_var.double(), norm.running_mean.double()
        scale = torch.rsqrt(variance + norm.eps) * (1.0 if norm.weight is None else norm.weight.detach().double())
        shift = -mean * scale + (0.0 if norm.bias is None else norm.bias.detach().double())
        source = node.args[0]
        layer = submodule(module, source)
        vector_output = not isinstance(layer, nn.Linear) or len(source.meta.get("shape") or ()) == 2
        if isinstance(layer, SYNAPSES) and len(source.users) == 1 and vector_output:
            _fold_into(layer, scale, shift)
            node.replace_all_uses_with(source)
            module.graph.erase_node(node)
        else:
            dtype = norm.running_var.dtype
            affine = Affine(scale.to(dtype), shift.to(dtype))
            module.set_submodule(str(node.target), affine)


def _fold_into(layer: Any, scale: Tensor, shift: Tensor) -> None:
    """Scale the outputs of a weighted layer and shift its bias."""
    weight, bias = layer.weight, layer.bias
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
        layer = submodule(module, pool)
        if not isinstance(layer, POOLS) or getattr(layer, "return_indices", False):
            continue
        site = pool.args[0]
        while isinstance(submodule(module, site), nn.ReLU) and len(site.users) == 1:
            source = site.args[0]
            pool.replace_input_with(site, source)
            pool.replace_all_uses_with(site)
            site.replace_input_with(source, pool)
            site.meta["shape"] = pool.meta["shape"]
            pool.append(site)
            site = source


def pool_spikes(module: fx.GraphModule) -> None:
    """Undo `move_max_pool`: pool what the neurons send, for a pooling that is a gate of spikes."""
    for site in list(module.graph.nodes):
        if not isinstance(submodule(module, site), nn.ReLU):
            continue
        pool = site.args[0]
        while isinstance(submodule(module, pool), POOLS) and len(pool.users) == 1:
            source = pool.args[0]
            site.replace_all_uses_with(pool)
            site.replace_input_with(pool, source)
            pool.replace_input_with(source, site)
            site.append(pool)
            site.meta["shape"] = source.meta["shape"]
            pool = source
    module.graph.lint()
    module.recompile()
