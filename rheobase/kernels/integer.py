r"""Convolutions and linear layers of spikes in whole numbers: 8-bit products, 32-bit sums, weights as exact as float32.

A spike is a small whole number n times a unit that all spikes of its channel share, so what is left of a product
with a float is a product of whole numbers, which processors with AMX or VNNI do many times faster. The unit goes into
the weights, and each weight is two bytes, which meet the spike's two bytes in twice the channels:

.. code-block:: text

    w unit = scale (base h + l) + rest,   |h|, |l| <= 127
    sum w y = scale sum ((base n) h + n l) + sum rest n

``base n`` fits into a byte as ``n`` does. The rest is split in the same way, until it is less than float32 rounds off:
twice for spikes of one magnitude. Sums of whole numbers have no rounding error, so the result is nearer to the exact
one than that of a float32 convolution.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from rheobase.kernels import cpu
from rheobase.kernels.layout import dense

__all__ = ["Arithmetic", "Code", "IntegerLayer", "flat", "output_size", "unavailable"]

Arithmetic = Literal["auto", "float", "rounded"]
"""How a dense layer multiplies spikes: in whole numbers where that is faster, in float32, or in fewer whole numbers."""

_EXACT, _ROUNDED = 2.0**-23, 2.0**-14  # what may be left of a weight, as a share of the largest of its output channel


class Code(NamedTuple):
    """Spikes as whole numbers.

    Args:
        unit: what one is worth. Shape () or (C,).
        levels: the largest.
        signed: whether they may be negative.
    """

    unit: Tensor
    levels: int
    signed: bool

    @property
    def zero_point(self) -> int:
        """What a byte holds for 0."""
        return 127 if self.signed else 0

    @property
    def base(self) -> int:
        """What one is multiplied by in the other byte; less than 2 where there is no room for it."""
        return (127 if self.signed else 255) // self.levels

    def digits(self, rounded: bool) -> int:
        """How many times the weights are split."""
        error = share = 0.5 / _top(self.base)
        count = 1
        while error > (_ROUNDED if rounded else _EXACT):
            error, count = error * share, count + 1
        return count


@cache
def unavailable() -> str | None:
    """Why spikes cannot be multiplied in whole numbers in this process, or None where they can."""
    if not any(getattr(torch.cpu, f"_is_{name}_supported", bool)() for name in ("amx_tile", "vnni")):
        return "the processor has neither AMX nor VNNI, whose products of bytes cannot overflow"
    if (reason := cpu.unavailable()) is not None:
        return reason
    try:
        layer = nn.Conv2d(2, 2, 3, padding=1).requires_grad_(False)
        x = torch.ones(1, 2, 4, 4).to(memory_format=torch.channels_last)
        good = torch.allclose(IntegerLayer(layer)(x, Code(torch.ones(()), 1, True)), layer(x), atol=1e-5)
    except Exception as error:  # noqa: BLE001 (PyTorch's quantised operators differ between versions and builds)
        first = str(error).partition("\n")[0]
        return f"this PyTorch has no such convolution ({type(error).__name__}: {first})"
    return None if good else "this PyTorch's convolution of bytes gives another result"


class IntegerLayer:
    """A convolution or linear layer of spikes in whole numbers; the weights stay those of the layer.

    Convolutions with narrow outputs are matrix products with the fields of view of all output pixels: oneDNN's
    convolution works on rows of an image, and leaves most of a register empty where they are short.

    Args:
        layer: a convolution without groups and dilation, padded with zeros, or a linear layer.
    """

    def __init__(self, layer: nn.Conv2d | nn.Linear) -> None:
        self.layer = layer
        self._key: Any = None
        self._unit = torch.empty(0)
        self._packed: list[tuple[Tensor, Tensor]] = []

    def takes(self, code: Code) -> bool:
        """Whether there are bytes for such spikes, and their sums fit into 32 bits."""
        weight = self.layer.weight
        fits = 255 * 127 * 2 * weight[0].numel() < 2**31
        return fits and code.base >= 4 and code.unit.numel() in (1, weight.shape[1])

    def __call__(self, values: Tensor, code: Code, rounded: bool = False) -> Tensor:
        """The layer's output.

        Args:
            values: whole numbers times the code's unit. Shape (M, C, H, W), channels last in memory, or (M, C).
            code: a code that the layer `takes`.
            rounded: stop splitting the weights when what is left is below 2^-14 of the largest
                of their output channel. Otherwise below 2^-23, half a unit of the last place of float32.

        Returns:
            Shape (M, O, OH, OW), channels last in memory, or (M, O).
        """
        layer, size = self.layer, None
        spikes = _bytes(values, code)
        if isinstance(layer, nn.Conv2d):
            size = output_size(layer, spikes.shape[2:])
            if flat(size):
                spikes = _fields(layer, spikes, code.zero_point)
        packed = self._weights(spikes.shape, code, rounded)
        output = _products(layer, spikes, code.zero_point, packed)
        return output.view(len(values), *size, -1).permute(0, 3, 1, 2) if size and spikes.ndim == 2 else output

    def _weights(self, shape: torch.Size, code: Code, rounded: bool) -> list[tuple[Tensor, Tensor]]:
        """For each split, the bytes as oneDNN wants them for an input of this shape, and the scales (O,)."""
        layer, weight = self.layer, self.layer.weight.detach()
        version = None if weight.is_inference() else weight._version
        key = (weight.data_ptr(), version, code.levels, code.signed, rounded, shape[1:])
        if self._key == key and version is not None and torch.equal(self._unit, code.unit):
            return self._packed
        unit = code.unit.double().reshape(-1, *[1] * (weight.ndim - 2))
        rest, self._packed = weight.double() * unit, []
        for _ in range(code.digits(rounded)):
            high, low, scale = _split(rest, code.base)
            rest = rest - _along_outputs(scale, rest) * (code.base * high + low)
            pair = torch.stack([high, low], 2).flatten(1, 2).to(torch.int8)  # neighbours, as the spikes' bytes are
            if len(shape) == 2:
                pair = pair.movedim(1, -1).flatten(1)
                prepared = torch.ops.onednn.qlinear_prepack(pair.contiguous(), list(shape))
            else:
                prepared = torch.ops.onednn.qconv_prepack(
                    pair, scale, 1.0, code.zero_point, *_geometry(layer), 1, list(shape)
                )
            self._packed.append((prepared, scale))
        self._key, self._unit = key, code.unit.detach().clone()
        return self._packed


def flat(size: tuple[int, int]) -> bool:
    """Whether a convolution with this output is a matrix product."""
    return size[1] <= 4


def _products(
    layer: nn.Conv2d | nn.Linear, spikes: Tensor, zero_point: int, packed: list[tuple[Tensor, Tensor]]
) -> Tensor:
    """The sums of all splits, and the bias."""
    convolution = spikes.ndim == 4
    run = torch.ops.onednn.qconv2d_pointwise if convolution else torch.ops.onednn.qlinear_pointwise
    geometry = [*_geometry(layer), 1] if convolution else []
    zeros = torch.zeros(len(layer.weight), dtype=torch.int64)
    begin, end = (spikes, 1.0, zero_point), (1.0, 0, torch.float32)
    (weight, scale), *others = packed
    output: Tensor = run(*begin, weight, scale, zeros, layer.bias, *geometry, *end, "none", [], "")
    for weight, scale in others:  # added in place
        sums = run.binary(
            *begin, weight, scale, zeros, output, None, *geometry, *end, 1.0, 0, "sum", 1.0, "none", [], ""
        )
        output = sums
    return output


def _geometry(layer: Any) -> list[list[int]]:
    """Stride, padding and dilation of a convolution."""
    return [list(layer.stride), list(layer.padding), list(layer.dilation)]


def output_size(layer: nn.Conv2d, size: tuple[int, ...]) -> tuple[int, int]:
    """(H, W) of the output for an input of (H, W)."""
    padding = [int(p) for p in layer.padding]
    rows, columns = (
        (n + 2 * p - k) // s + 1 for n, p, k, s in zip(size, padding, layer.kernel_size, layer.stride, strict=True)
    )
    return rows, columns


def _fields(layer: nn.Conv2d, spikes: Tensor, zero_point: int) -> Tensor:
    """The field of view of each output pixel. (M, C, H, W), channels last -> (M * OH * OW, filter * C)."""
    (down, right), (above, before) = layer.stride, (int(p) for p in layer.padding)
    images = spikes.permute(0, 2, 3, 1)
    if above or before:
        images = nn.functional.pad(images, (0, 0, before, before, above, above), value=zero_point)
    tall, across = layer.kernel_size
    fields = images.unfold(1, tall, down).unfold(2, across, right)
    return fields.permute(0, 1, 2, 4, 5, 3).reshape(-1, tall * across * spikes.shape[1])


def _top(base: int) -> int:
    """The largest whole number of two bytes: base 127 + the largest rest."""
    return base * 127 + base // 2


def _split(weight: Tensor, base: int) -> tuple[Tensor, Tensor, Tensor]:
    """weight = scale (base high + low) up to half a scale. (O, C, ...) float64 -> twice that, and (O,) float32."""
    largest = weight.abs().flatten(1).amax(1)
    scale = torch.where(largest > 0, largest / _top(base), 1.0).float()
    whole = (weight / _along_outputs(scale, weight)).round().clamp(-_top(base), _top(base))
    high = (whole / base).round().clamp(-127, 127)
    return high, whole - base * high, scale


def _along_outputs(scale: Tensor, weight: Tensor) -> Tensor:
    """(O,) -> (O, 1, ...), float64."""
    return scale.double().view(-1, *[1] * (weight.ndim - 1))


def _bytes(values: Tensor, code: Code) -> Tensor:
    """(M, C, ...) -> (M, 2C, ...) uint8, channels last: for each element the byte times base, and the plain one."""
    from rheobase.kernels import integer_loops

    last, _ = dense(values.movedim(1, -1).unsqueeze(0))
    result = torch.empty(*last.shape[1:-1], 2 * values.shape[1], dtype=torch.uint8)
    inverse = (1 / code.unit.detach().double()).float().reshape(-1).contiguous()
    task = (ctypes.c_int64 * cpu._SLOTS)(0, last.numel(), 1, 0, inverse.numel())
    task[5:10] = [last.data_ptr(), inverse.data_ptr(), result.data_ptr(), code.base, code.zero_point]
    cpu.launch(integer_loops.compiled("pack"), task, last.numel())
    return result.movedim(-1, 1)
