"""Which operations keep a spiking network exact, and which have no spiking form.

Between two layers of neurons the mean over time must pass through unchanged: mean_t f(x(t)) =
f(mean_t x(t)). That holds where f is affine in the signal. Max pooling and ReLU are handled by
neurons; whatever comes before the first weighted layer sees the constant input, and whatever
comes after the last one is applied to the read-out, so any function may stand there.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from rheobase.errors import UnsupportedOperationError

__all__ = [
    "BATCH_NORMS",
    "POOLS",
    "SAMPLES",
    "SYNAPSES",
    "Affine",
    "AmaxPool",
    "check_operations",
    "depends_on_input",
    "evaluate",
    "reached",
    "where",
]

SYNAPSES = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)
SAMPLES = 2  # how many samples the shapes in node.meta are of
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class Affine(nn.Module):
    """y = scale * x + shift for each channel: a batch norm with no layer to fold it into.

    Shape: (N, C, ...) -> (N, C, ...).
    """

    def __init__(self, scale: Tensor, shift: Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale)
        self.register_buffer("shift", shift)

    def forward(self, x: Tensor) -> Tensor:
        shape = (-1, *[1] * (x.ndim - 2))
        return x * self.get_buffer("scale").view(shape) + self.get_buffer("shift").view(shape)


class AmaxPool(nn.Module):
    """Global max pooling, as ``x.amax(dim, keepdim)``."""

    def __init__(self, dim: int | tuple[int, ...] = (), keepdim: bool = False) -> None:
        super().__init__()
        self.dim, self.keepdim = dim, keepdim

    def forward(self, x: Tensor) -> Tensor:
        return x.amax(self.dim, self.keepdim)


POOLS = (
    nn.MaxPool1d,
    nn.MaxPool2d,
    nn.MaxPool3d,
    nn.AdaptiveMaxPool1d,
    nn.AdaptiveMaxPool2d,
    nn.AdaptiveMaxPool3d,
    AmaxPool,
)
_AFFINE_MODULES = (
    *SYNAPSES,
    *POOLS,
    Affine,
    nn.ReLU,
    nn.Identity,
    nn.Flatten,
    nn.Unflatten,
    nn.AvgPool1d,
    nn.AvgPool2d,
    nn.AvgPool3d,
    nn.AdaptiveAvgPool1d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveAvgPool3d,
    nn.ZeroPad1d,
    nn.ZeroPad2d,
    nn.ZeroPad3d,
    nn.ConstantPad1d,
    nn.ConstantPad2d,
    nn.ConstantPad3d,
    nn.ReflectionPad1d,
    nn.ReflectionPad2d,
    nn.ReflectionPad3d,
    nn.ReplicationPad1d,
    nn.ReplicationPad2d,
    nn.ReplicationPad3d,
    nn.CircularPad1d,
    nn.CircularPad2d,
    nn.CircularPad3d,
    nn.Upsample,
    nn.PixelShuffle,
    nn.PixelUnshuffle,
    nn.ChannelShuffle,
    nn.Fold,
    nn.Unfold,
)
# Affine in all their tensor arguments together.
_AFFINE_FUNCTIONS: frozenset[Callable[..., Any]] = frozenset({
    operator.add, operator.sub, operator.neg, operator.pos,
    torch.add, torch.sub, torch.subtract, torch.neg, torch.negative, torch.cat, torch.concat, torch.concatenate,
    torch.stack, torch.hstack, torch.vstack, torch.flatten, torch.unflatten, torch.reshape, torch.permute,
    torch.transpose, torch.swapaxes, torch.movedim, torch.squeeze, torch.unsqueeze, torch.chunk, torch.split,
    torch.unbind, torch.narrow, torch.select, torch.flip, torch.roll, torch.tile, torch.mean, torch.sum,
    torch.clone, torch.repeat_interleave, torch.index_select, torch.avg_pool1d, torch.adaptive_avg_pool1d,
    torch.zeros, torch.ones, torch.full, torch.zeros_like, torch.ones_like, torch.full_like, torch.arange,
    torch.channel_shuffle, torch.pixel_shuffle, torch.broadcast_to, torch.empty, torch.eye,
    torch.linspace, F.pad, F.avg_pool1d, F.avg_pool2d, F.avg_pool3d, F.adaptive_avg_pool1d, F.adaptive_avg_pool2d,
    F.adaptive_avg_pool3d, F.interpolate, F.upsample, F.pixel_shuffle, F.pixel_unshuffle, F.fold, F.unfold,
})  # fmt: skip
_AFFINE_METHODS = frozenset({
    "add", "sub", "neg", "flatten", "unflatten", "reshape", "view", "view_as", "reshape_as", "permute",
    "transpose", "swapaxes", "movedim", "squeeze", "unsqueeze", "chunk", "split", "unbind", "narrow",
    "select", "flip", "roll", "repeat", "tile", "expand", "expand_as", "mean", "sum", "clone", "contiguous",
    "detach", "float", "double", "half", "to", "repeat_interleave", "index_select", "new_zeros",
    "new_ones", "new_full", "t",
})  # fmt: skip
# Affine while only one argument is a signal (for a division, the first).
_PRODUCTS: frozenset[Callable[..., Any]] = frozenset({
    operator.mul, operator.matmul, torch.mul, torch.multiply, torch.matmul, torch.mm, torch.bmm, torch.einsum,
    F.linear, F.conv1d, F.conv2d, F.conv3d, F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d, F.bilinear,
    torch.conv1d, torch.conv2d, torch.conv3d,
})  # fmt: skip
_PRODUCT_METHODS = frozenset({"mul", "matmul", "mm", "bmm"})
_QUOTIENTS: frozenset[Callable[..., Any]] = frozenset({operator.truediv, torch.div, torch.divide, torch.true_divide})
_QUOTIENT_METHODS = frozenset({"div", "true_divide"})
_SIZE_METHODS = frozenset({"size", "dim", "numel", "ndimension", "is_floating_point"})


def reached(graph: fx.Graph, starts: Callable[[fx.Node], bool]) -> set[fx.Node]:
    """The nodes where ``starts`` is true, and all that depend on them."""
    found: set[fx.Node] = set()
    for node in graph.nodes:
        if starts(node) or any(n in found for n in node.all_input_nodes):
            found.add(node)
    return found


def depends_on_input(graph: fx.Graph) -> set[fx.Node]:
    """The nodes whose value depends on the network's input."""
    return reached(graph, lambda node: node.op == "placeholder")


def evaluate(module: nn.Module, node: fx.Node, value_of: Callable[[fx.Node], Any]) -> Any:
    """The value of one node, given those of its inputs."""
    if node.op == "get_attr":
        return operator.attrgetter(str(node.target))(module)
    args, kwargs = fx.node.map_arg((node.args, node.kwargs), value_of)
    if node.op == "call_module":
        return module.get_submodule(str(node.target))(*args, **kwargs)
    if node.op == "call_method":
        return getattr(args[0], str(node.target))(*args[1:], **kwargs)
    return node.target(*args, **kwargs)  # type: ignore[operator]


def check_operations(module: fx.GraphModule) -> None:
    """Mark the read-out, and raise one error that lists every operation with no spiking form.

    A node of the read-out gets ``meta["readout"] = True``: a function without weights, downstream
    of which there are no neurons and no weights. It is applied to the mean over time.

    Raises:
        UnsupportedOperationError: with the module path and source line of each operation.
    """
    signals = depends_on_input(module.graph)
    moving = reached(module.graph, lambda node: isinstance(_layer(module, node), nn.ReLU))
    weighted: set[fx.Node] = set()  # nodes downstream of a weighted layer or a neuron
    bad: list[fx.Node] = []
    readout: set[fx.Node] = set()
    for node in module.graph.nodes:
        inputs = set(node.all_input_nodes)
        has_weights = _has_weights(module, node)
        if node.op == "output" or node not in signals:
            continue
        if inputs & weighted or has_weights:
            weighted.add(node)
        if isinstance(_layer(module, node), BATCH_NORMS):  # of batch statistics: it mixes samples, wherever it stands
            bad.append(node)
        elif inputs & readout and not has_weights:
            readout.add(node)
        elif node in weighted and not _is_affine(module, node, signals):
            readout.add(node) if not has_weights and _only_to_output(module, node) else bad.append(node)
    sources = {n for node in readout for n in node.all_input_nodes if n in moving and n not in readout}
    if len({n for n in sources if n.meta.get("shape") is not None}) > 1:
        bad += [node for node in readout if not _is_affine(module, node, signals)]
    if bad:
        raise UnsupportedOperationError(_message(module, bad))
    for node in readout:
        node.meta["readout"] = True


def _layer(module: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    return module.get_submodule(str(node.target)) if node.op == "call_module" else None


def _has_weights(module: fx.GraphModule, node: fx.Node) -> bool:
    """Whether the node is a weighted layer or a neuron."""
    layer = _layer(module, node)
    if layer is not None:
        return isinstance(layer, nn.ReLU) or any(True for _ in layer.parameters())
    return node.target in _PRODUCTS and any(n.op == "get_attr" for n in node.all_input_nodes)


def _only_to_output(module: fx.GraphModule, node: fx.Node) -> bool:
    """Whether neither weights nor neurons lie downstream of the node."""
    seen, stack = {node}, list(node.users)
    while stack:
        user = stack.pop()
        if user in seen:
            continue
        if user.op != "output" and _has_weights(module, user):
            return False
        seen.add(user)
        stack += user.users
    return True


def _is_affine(module: fx.GraphModule, node: fx.Node, signals: set[fx.Node]) -> bool:
    """Whether the node's value is affine in the signal, or a size, or a neuron's or pool's work."""
    if node.op in ("placeholder", "get_attr"):
        return True
    layer = _layer(module, node)
    if layer is not None:
        return isinstance(layer, _AFFINE_MODULES) and not getattr(layer, "return_indices", False)
    operands: list[fx.Node] = []
    fx.node.map_arg((node.args, node.kwargs), operands.append)  # y * y has two, where `all_input_nodes` has one
    tensors = [n for n in operands if n in signals and n.meta.get("shape") is not None]
    if not tensors:  # arithmetic on sizes
        return True
    if node.target is operator.getitem:
        return tensors == [node.args[0]]
    if node.target == "to":  # a cast to integers rounds
        kinds = [a for a in (*node.args[1:], *node.kwargs.values()) if isinstance(a, torch.dtype | fx.Node)]
        return all(isinstance(kind, torch.dtype) and kind.is_floating_point for kind in kinds)
    if node.target is getattr:
        return node.args[1] in ("shape", "ndim", "device", "dtype", "T", "mT", "is_cuda")
    function = node.op == "call_function"
    if node.target in (_PRODUCTS if function else _PRODUCT_METHODS):
        return len(tensors) == 1
    if node.target in (_QUOTIENTS if function else _QUOTIENT_METHODS):
        return tensors == [node.args[0]]
    return node.target in (_AFFINE_FUNCTIONS if function else _AFFINE_METHODS | _SIZE_METHODS)


def where(module: fx.GraphModule, node: fx.Node) -> str:
    """The module path, the operation and the source line of a node, for error messages."""
    stack = node.meta.get("nn_module_stack") or {}
    paths = [value[0] if isinstance(value, tuple) else str(value) for value in stack.values()]
    path = paths[-1] if paths and paths[-1] else "the network itself"
    layer = _layer(module, node)
    if layer is not None:
        operation = repr(layer).splitlines()[0]
    else:
        operation = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
        operation = f".{operation}()" if node.op == "call_method" else f"{operation}()"
    return f"{path}: {operation}{_source_line(node)}"


def _source_line(node: fx.Node) -> str:
    """The user's line that made the node, " (model.py:12: x = self.act(x))"."""
    trace = node.meta.get("stack_trace") or node.stack_trace or ""
    frames = re.findall(r'File "(.+?)", line (\d+), in .+\n(?:\s+(.+))?', trace)
    own = [f for f in frames if "/torch/" not in f[0].replace("\\", "/")]
    if not own:
        return ""
    file, line, code = own[-1]
    return f" ({file}:{line}{': ' + code.strip() if code else ''})"


def _message(module: fx.GraphModule, bad: list[fx.Node]) -> str:
    count = "1 operation has" if len(bad) == 1 else f"{len(bad)} operations have"
    lines = "\n".join(f"  {i}. {where(module, node)}" for i, node in enumerate(bad, 1))
    return (
        f"{count} no spiking form:\n{lines}\n"
        "Accepted are ReLU, max and average pooling, linear and convolutional layers, batch norm with running "
        "statistics, dropout, and what is affine in the signal (sums, concatenation, reshaping, slicing, padding, "
        "products with constants). Replace the operations above by these (for example GELU by ReLU, then "
        "fine-tune), or convert the part of the network that does not contain them."
    )
