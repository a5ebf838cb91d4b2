r"""Convolutions and linear layers of spikes in whole numbers: 8-bit products and 32-bit sums.

A spike is a small whole number n times a unit that all spikes of its channel share, so what is left of a product
with a float is a product of whole numbers, which processors with AMX or VNNI do many times faster. The unit goes into
the weights, and each weight is two bytes, which meet the spike's two bytes in twice the channels:

.. code-block:: text

    w unit = scale (base h + l) + rest,   |h|, |l| <= 127
    sum w y = scale sum ((base n) h + n l) + sum rest n

``base n`` fits into a byte as ``n`` does. The rest is split in the same way, until it is at most 2^-28 of the largest
weight of its output channel: twice for spikes of one magnitude. Sums of whole numbers have no rounding error. For
weights within some orders of magnitude of each other the result is nearer to the exact one than that of a float32
convolution, whose rounding errors are relative to each weight, and add up.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterator
from functools import cache
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from rheobase.kernels import cpu
from rheobase.kernels.layout import dense
from rheobase.kernels.processor import supports

__all__ = ["Arithmetic", "Code", "IntegerLayer", "has_tiles", "is_narrow", "is_product", "output_size", "unavailable"]

Arithmetic = Literal["auto", "float", "rounded"]
"""How a dense layer multiplies spikes: in whole numbers where that is faster, in float32, or in fewer whole numbers."""

_EXACT, _ROUNDED = 2.0**-28, 2.0**-14  # what may be left of a weight, as a share of the largest of its output channel


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


def has_tiles() -> bool:
    """Whether the processor multiplies matrices of bytes (AMX), and not vectors of them alone (VNNI)."""
    return supports("amx_tile")


@cache
def unavailable() -> str | None:
    """Why spikes cannot be multiplied in whole numbers in this process, or None where they can."""
    if not supports("amx_tile", "vnni"):
        return "the processor has neither AMX nor VNNI, whose products of bytes cannot overflow"
    if (reason := cpu.unavailable()) is not None:
        return reason
    try:
        good = all(_probe(layer, shape) for layer, shape in _probes())
    except Exception as error:  # noqa: BLE001 (PyTorch's quantised operators differ between versions and builds)
        first = str(error).partition("\n")[0]
        return f"this PyTorch has no such layers ({type(error).__name__}: {first})"
    return None if good else "this PyTorch's layers of bytes give another result"


def _probes() -> list[tuple[nn.Conv2d | nn.Linear, tuple[int, ...]]]:
    """A convolution, one that is a matrix product, and a linear layer, with the shapes of their inputs."""
    like: dict[str, Any] = {"dtype": torch.float32, "device": "cpu"}
    convolution = nn.utils.skip_init(nn.Conv2d, 2, 3, 3, padding=1, **like)  # type: ignore[no-untyped-call]
    linear = nn.utils.skip_init(nn.Linear, 2, 3, **like)  # type: ignore[no-untyped-call]
    return [(convolution, (1, 2, 8, 8)), (convolution, (1, 2, 2, 2)), (linear, (4, 2))]


@torch.no_grad()
def _probe(layer: nn.Conv2d | nn.Linear, shape: tuple[int, ...]) -> bool:
    """Whether a layer is in whole numbers what it is in floats. Draws no random numbers."""
    for p in layer.parameters():
        p.copy_(torch.arange(1, p.numel() + 1, dtype=torch.float64, device="cpu").sin().view(p.shape))
    code = Code(torch.tensor([0.5, 3.0], dtype=torch.float32, device="cpu"), 1, signed=True)
    elements = torch.arange(math.prod(shape), dtype=torch.float32, device="cpu")
    x = (elements % 3 - 1).view(shape) * code.unit.view(-1, *[1] * (len(shape) - 2))
    x = x.to(memory_format=torch.channels_last) if x.ndim == 4 else x
    return torch.allclose(IntegerLayer(layer)(x, code), layer(x), atol=1e-4)


class IntegerLayer:
    """A convolution or linear layer of spikes in whole numbers; the weights stay those of the layer.

    Convolutions with narrow outputs are matrix products with the fields of view of all output pixels: oneDNN's
    convolution works on rows of an image, and leaves most of a register empty where they are short.

    Args:
        layer: a convolution without groups and dilation, padded with zeros, or a linear layer.
    """

    def __init__(self, layer: nn.Conv2d | nn.Linear) -> None:
        self.layer = layer
        self._packed: _Packed | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_packed": None}  # which oneDNN keeps in a form that cannot be copied

    def takes(self, code: Code) -> bool:
        """Whether there are bytes for such spikes, and their sums fit into 32 bits.

        Weights made in inference mode are not taken: they do not say when they were changed.
        """
        weight = self.layer.weight
        fits = 255 * 127 * 2 * weight[0].numel() < 2**31
        return fits and code.base >= 4 and code.unit.numel() in (1, weight.shape[1]) and not weight.is_inference()

    def __call__(self, values: Tensor, code: Code, rounded: bool = False) -> Tensor:
        """The layer's output; in floats where a weight is not finite.

        Args:
            values: whole numbers times the code's unit. Shape (M, C, H, W), channels last in memory, or (M, C); M > 0.
            code: a code that the layer `takes`.
            rounded: stop splitting the weights when what is left is at most 2^-14 of the largest
                of their output channel, and not 2^-28.

        Returns:
            Shape (M, O, OH, OW), channels last in memory, or (M, O).
        """
        layer, size = self.layer, None
        spikes = _bytes(values, code)
        if isinstance(layer, nn.Conv2d):
            size = output_size(layer, spikes.shape[2:])
            if is_product(layer, size):
                spikes = _fields(layer, spikes, code.zero_point)
        parts = self._parts(spikes.shape, code, rounded)
        if not parts:
            return layer(values)  # type: ignore[no-any-return]
        output = _products(layer, spikes, code.zero_point, parts)
        if size is None or spikes.ndim == 4:
            return output
        return output.view(len(values), *size, output.shape[1]).permute(0, 3, 1, 2)

    def _parts(self, shape: torch.Size, code: Code, rounded: bool) -> list[tuple[Tensor, Tensor]]:
        """For each split, the bytes as oneDNN wants them for an input of this shape, and the scales (O,).

        None at all where a weight is not finite.
        """
        weight = self.layer.weight
        key = (weight.data_ptr(), weight._version, code.levels, code.signed, rounded, shape[1:])
        packed = self._packed
        if (
            packed is None
            or packed.weight is not weight
            or packed.key != key
            or not torch.equal(packed.unit, code.unit)
        ):
            parts = list(_pack(self.layer, shape, code, rounded))
            packed = self._packed = _Packed(weight, weight.untyped_storage(), key, code.unit.detach().clone(), parts)
        return packed.parts


class _Packed(NamedTuple):
    """What was made of a weight, and of which; while it and its memory are held, no other takes its place."""

    weight: Tensor
    memory: torch.UntypedStorage
    key: Any
    unit: Tensor
    parts: list[tuple[Tensor, Tensor]]


def _pack(
    layer: nn.Conv2d | nn.Linear, shape: torch.Size, code: Code, rounded: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """See `IntegerLayer._parts`."""
    unit = code.unit.detach().double().reshape(-1, *[1] * (layer.weight.ndim - 2))
    rest = layer.weight.detach().double() * unit
    if not bool(torch.isfinite(rest.float()).all()):
        return
    for _ in range(code.digits(rounded)):
        high, low, scale = _split(rest, code.base)
        pair = torch.stack([high, low], 2).flatten(1, 2)  # neighbours, as the spikes' bytes are
        if len(shape) == 2:
            flat = pair.movedim(1, -1).flatten(1).contiguous()
            yield torch.ops.onednn.qlinear_prepack(flat, list(shape)), scale
        else:
            about = (scale, 1.0, code.zero_point, *_geometry(layer), 1, list(shape))
            yield torch.ops.onednn.qconv_prepack(pair, *about), scale


def is_narrow(size: tuple[int, int]) -> bool:
    """Whether oneDNN's convolution leaves most of a register empty for this output."""
    return size[1] <= 4


def is_product(layer: nn.Conv2d | nn.Linear, size: tuple[int, int]) -> bool:
    """Whether a layer with this output is computed as a matrix product.

    A convolution whose padding is as wide as its filter is, since oneDNN's gives other sums at each run for some of
    these, with more than one thread.
    """
    if isinstance(layer, nn.Linear) or is_narrow(size):
        return True
    above, before = (int(p) for p in layer.padding)
    return above >= layer.kernel_size[0] or before >= layer.kernel_size[1]


def _products(
    layer: nn.Conv2d | nn.Linear, spikes: Tensor, zero_point: int, parts: list[tuple[Tensor, Tensor]]
) -> Tensor:
    """The sums of all splits, and the bias."""
    convolution = spikes.ndim == 4
    run = torch.ops.onednn.qconv2d_pointwise if convolution else torch.ops.onednn.qlinear_pointwise
    geometry = [*_geometry(layer), 1] if convolution else []
    zeros = torch.zeros(len(layer.weight), dtype=torch.int64, device="cpu")
    begin, end = (spikes, 1.0, zero_point), (1.0, 0, torch.float32)
    (weight, scale), *others = parts
    output: Tensor = run(*begin, weight, scale, zeros, layer.bias, *geometry, *end, "none", [], "")
    for weight, scale in others:  # added in place
        sums = (output, None, *geometry, *end, 1.0, 0, "sum", 1.0, "none", [], "")
        output = run.binary(*begin, weight, scale, zeros, *sums)
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


def _split(rest: Tensor, base: int) -> tuple[Tensor, Tensor, Tensor]:
    """rest = scale (base high + low) up to half a scale, which is then left of it.

    Shapes: (O, C, ...) float64 -> twice the same, int8, and (O,) float32.
    """
    largest = rest.flatten(1).abs().amax(1)
    scale = torch.where(largest > 0, largest / _top(base), 1.0).float()
    each = _along_outputs(scale, rest)
    whole = (rest / each).round_().clamp_(-_top(base), _top(base))
    rest.addcmul_(whole, each, value=-1)
    high = (whole / base).round_().clamp_(-127, 127)
    low = whole.sub_(high, alpha=base)
    return high.to(torch.int8), low.to(torch.int8), scale


def _along_outputs(scale: Tensor, weight: Tensor) -> Tensor:
    """(O,) -> (O, 1, ...), float64."""
    return scale.double().view(-1, *[1] * (weight.ndim - 1))


def _bytes(values: Tensor, code: Code) -> Tensor:
    """(M, C, ...) -> (M, 2C, ...) uint8, channels last: for each element the byte times base, and the plain one."""
    from rheobase.kernels import integer_loops

    last, _ = dense(values.movedim(1, -1).unsqueeze(0))
    result = torch.empty(*last.shape[1:-1], 2 * values.shape[1], dtype=torch.uint8, device="cpu")
    inverse = (1 / code.unit.detach().double()).float().reshape(-1).contiguous()
    task = (ctypes.c_int64 * cpu._SLOTS)(0, last.numel(), 1, 0, inverse.numel())
    task[5:10] = [last.data_ptr(), inverse.data_ptr(), result.data_ptr(), code.base, code.zero_point]
    cpu.launch(integer_loops.compiled("pack"), task, last.numel())
    return result.movedim(-1, 1)
