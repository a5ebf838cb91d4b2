"""What the compiled backends share: which tensors they can take, and the order of neurons in memory.

A compiled scan sees one step of a chunk as a row of neurons, in the order in which they lie in memory.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rheobase.errors import SettingError

__all__ = ["added", "along_steps", "check_channels", "dense", "hooked", "ordered", "unsuitable", "values_for"]


def check_channels(current: Tensor, *parameters: Tensor) -> None:
    """Refuse rows (K or 1, C) for other channels than those of a current (K, N, C, ...): kernels would repeat them."""
    channels = current.shape[2] if current.ndim > 2 else 1
    found = next((p.shape[-1] for p in parameters if p.shape[-1] not in (1, channels)), None)
    if found is not None:
        raise SettingError(f"The neuron has parameters for {found} channels; its current has {channels}.")


def along_steps(rows: Tensor, current: Tensor) -> Tensor:
    """Rows (K or 1, C or 1), shaped so that they broadcast over a current (K, N, C, ...); (N,) is one channel."""
    return rows.reshape(len(rows), *((1, -1, *[1] * (current.ndim - 3)) if current.ndim > 2 else (1,)))


def unsuitable(device: str, *tensors: Tensor) -> str | None:
    """Why compiled kernels cannot take these tensors, or None where they can.

    They must be float32: PyTorch rounds float16 and bfloat16 after each operation of each step, so a scan that
    keeps its state in float32 would not give the numbers of the reference.

    Args:
        device: the type that the kernels run on, "cpu" or "cuda".
        tensors: the arguments of the scan, the current first.
    """
    if torch.compiler.is_compiling():
        return "torch.compile is tracing"
    grad = torch.is_grad_enabled()
    for tensor in tensors:
        if tensor.dtype != torch.float32:
            return f"the kernels are float32, and a tensor is {tensor.dtype}"
        if tensor.device.type != device:
            return f"the kernels run on {device}, and a tensor is on {tensor.device}"
        if tensor.device != tensors[0].device:
            return f"the tensors are on {tensors[0].device} and {tensor.device}"
        if grad and tensor.requires_grad:
            return "a tensor requires grad, and this kernel has no backward pass"
        if tensor.layout != torch.strided or type(tensor) not in (Tensor, torch.nn.Parameter):
            return f"the kernels take dense tensors, and one is a {type(tensor).__name__}, {tensor.layout}"
    if not tensors[0].numel():
        return "there is nothing to compute"
    return None


def dense(current: Tensor) -> tuple[Tensor, tuple[int, ...]]:
    """The tensor with each step dense and its samples apart, and the strides of one step (N, ...).

    A tensor that is so already is returned as it is, a constant current (stride 0) stays unrepeated.
    """
    first = current[0]
    strides, expected = first.stride(), 1
    for size, stride in sorted(zip(first.shape, strides, strict=True), key=lambda pair: pair[1]):
        if size != 1:
            if stride != expected:
                break
            expected *= size
    samples = first.shape[0] if first.ndim else 1
    apart = samples == 1 or strides[0] * samples == first.numel()
    if expected != first.numel() or not apart:
        constant = current.stride(0) == 0
        current = first.contiguous().expand_as(current) if constant else current.contiguous()
        strides = current.stride()[1:]
    return current, strides


def ordered(tensor: Tensor, shape: tuple[int, ...], strides: tuple[int, ...]) -> Tensor:
    """The tensor, broadcast, in the memory order of one step of the current; itself where it is so."""
    if tensor.shape == shape and tensor.stride() == strides:
        return tensor
    return tensor.new_empty_strided(shape, strides).copy_(tensor)


def values_for(current: Tensor, strides: tuple[int, ...], overwrite: bool = False) -> Tensor:
    """Where a scan writes its values: the current itself, or a new tensor in its order. Shape: (K, N, ...).

    Steps follow each other without a gap, so that time folds into the batch at no cost.

    Args:
        current: as `dense` returns it. Shape (K, N, ...).
        strides: of one step.
        overwrite: whether the current's memory may be taken; it is where its steps have no gap either.
    """
    steps, shape = current.shape[0], current.shape[1:]
    samples, neurons = (shape[0] if shape else 1), current[0].numel()
    if overwrite and (steps == 1 or current.stride(0) == neurons):
        return current
    return current.new_empty_strided(current.shape, (neurons, neurons // samples, *strides[1:])[: current.ndim])


def added(total: Tensor, summand: Tensor) -> Tensor:
    """The sum of two values, in the memory of the first where it has room for it; nobody else may read that."""
    return total.add_(summand) if (total.shape, total.dtype) == (summand.shape, summand.dtype) else total + summand


def hooked(layer: nn.Module) -> bool:
    """Whether others look at what goes into the layer and comes out of it, or at their gradients."""
    own = layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks or layer._backward_pre_hooks
    module = nn.modules.module
    everywhere = (
        module._global_forward_hooks
        or module._global_forward_pre_hooks
        or module._global_backward_hooks
        or module._global_backward_pre_hooks
    )
    return bool(own or everywhere)
