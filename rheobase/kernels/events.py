"""Convolutions and linear layers that touch only the non-zero elements of their input, on the processor.

A spike costs one multiply-add for each output that it reaches, and what is silent costs next to nothing.
Whether that is less than the dense layer is decided for each call, from the number of non-zeros.
"""

from __future__ import annotations

import ctypes
from typing import Any, Literal, NamedTuple, TypeGuard

import torch
from torch import Tensor, nn

from rheobase.kernels import chained, cpu, integer
from rheobase.kernels.chained import Waiting
from rheobase.kernels.integer import Arithmetic, Code, IntegerLayer
from rheobase.kernels.layout import added, hooked
from rheobase.kernels.processor import supports

__all__ = ["EventLayer", "Events", "KnownInput", "unsupported"]

Events = Literal["auto", "always", "never"]
"""When to use the event-driven form of a layer: where it is expected to be faster, where it can be had, or never."""

# Nanoseconds on one thread, measured with `python -m benchmarks.speed --part layers`. They are constants, and
# not measured on the user's machine, so that the same run takes the same path, and gives the same numbers, each time
# on processors of the same kind. Where there are three, they are by the vectors of 16 output channels that are kept in
# registers.
_FIELD = 0.15  # an element of a field of view
_STRIDED = 2.5  # how many times more a pixel of an output costs that is smaller than the input, in whole numbers
_PACK = 0.3  # one element of the input, made a pair of bytes
_CALL = 40e3
_LANES = 16  # as in `event_loops`, which is not imported before it is needed


class _Costs(NamedTuple):
    """What one processor takes.

    Args:
        dense: 16 multiply-adds of the dense layer.
        narrow: the same, divided by the width of the output, where that is at most four pixels.
        gather: one event at one place of the filter.
        gather_pixel: one output pixel, each block of output channels; and for each line of the filter.
        scatter: as ``gather``, from the input pixel.
        scatter_pixel: one pixel.
        element: one element of the input, compressed.
    """

    dense: dict[int, float]
    narrow: float
    gather: dict[int, float]
    gather_pixel: tuple[float, float]
    scatter: dict[int, float]
    scatter_pixel: dict[int, float]
    element: float


_AVX512 = _Costs(
    dense={1: 0.18, 2: 0.165, 4: 0.15},
    narrow=1.1,
    gather={1: 0.8, 2: 0.9, 4: 1.6},
    gather_pixel=(20.0, 0.0),
    scatter={1: 0.41, 2: 0.57},
    scatter_pixel={1: 7.0, 2: 14.0},
    element=0.25,
)
_AVX2 = _Costs(
    dense={1: 0.39, 2: 0.36, 4: 0.32},
    narrow=1.1,
    gather={1: 0.6, 2: 1.3, 4: 3.4},
    gather_pixel=(0.0, 12.0),
    scatter={1: 0.77, 2: 1.15},
    scatter_pixel={1: 11.0, 2: 18.0},
    element=0.4,
)


class _Whole(NamedTuple):
    """The same in whole numbers: the weights' first digits, further ones, which are added, or a matrix product."""

    first: dict[int, float]
    further: dict[int, float]
    product: float


_TILES = _Whole({1: 0.05, 2: 0.035, 4: 0.02}, {1: 0.09, 2: 0.055, 4: 0.026}, 0.034)
_VECTORS = _Whole({1: 0.125, 2: 0.1, 4: 0.08}, {1: 0.137, 2: 0.112, 4: 0.095}, 0.2)  # without AMX


class KnownInput(NamedTuple):
    """What is known of the input of a layer beforehand.

    Args:
        code: what it is in whole numbers.
        counts: how many elements of each image are not zero. Shape (M,), int64.
    """

    code: Code | None = None
    counts: Tensor | None = None


def supported(layer: nn.Module) -> TypeGuard[nn.Conv2d | nn.Linear]:
    """Whether a layer has an event-driven form."""
    return unsupported(layer) is None


def unsupported(layer: nn.Module) -> str | None:
    """Why a layer has no event-driven form, or None where it has."""
    if type(layer) is nn.Linear:
        return None
    if type(layer) is not nn.Conv2d:
        return f"a {type(layer).__name__} is neither a Conv2d nor a Linear"
    if layer.groups != 1 or layer.dilation != (1, 1):
        return f"it has groups={layer.groups} and dilation={layer.dilation}"
    if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        return f"its padding is {layer.padding!r}, {layer.padding_mode}"
    return None


_NOTHING = KnownInput()


class EventLayer:
    """A layer that may be computed from events; the weights stay those of the layer.

    The weights are kept a second time, in the order in which events read them, and are read again
    from the layer whenever its parameters have been replaced or changed in place (PyTorch does not notice a change
    of ``parameter.data``, so neither does this).

    Args:
        layer: one that is not `unsupported`.

    >>> layer = nn.Linear(3, 2)
    >>> x = torch.tensor([[0.0, 2.0, 0.0]])
    >>> with torch.no_grad():
    ...     torch.allclose(EventLayer(layer)(x, "always"), layer(x))
    True
    """

    def __init__(self, layer: nn.Conv2d | nn.Linear) -> None:
        self.layer = layer
        weight = layer.weight
        self.outputs, self.channels = weight.shape[:2]
        self.filter: tuple[int, ...] = (1, 1)
        self.stride: tuple[int, ...] = (1, 1)
        self.padding: tuple[int, ...] = (0, 0)
        if isinstance(layer, nn.Conv2d):
            self.filter, self.stride = layer.kernel_size, layer.stride
            self.padding = tuple(int(p) for p in layer.padding)
        self.vectors = 1 if self.outputs <= 16 else 2 if self.outputs <= 32 else 4
        self.blocks = -(-self.outputs // (16 * self.vectors))
        self.scatters = (self.filter, self.stride) == ((3, 3), (1, 1)) and max(self.padding) <= 2 and self.outputs <= 32
        self._packed: tuple[Any, Tensor, Tensor] | None = None
        self._output_sizes: dict[tuple[int, int], tuple[int, int]] = {}
        self._plans: dict[tuple[Any, ...], tuple[bool, float]] = {}
        self._integer = IntegerLayer(layer)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_plans": {}}  # which are those of this processor

    def __call__(
        self,
        values: Tensor,
        events: Events = "auto",
        arithmetic: Arithmetic = "auto",
        known: KnownInput = _NOTHING,
        plus: Tensor | None = None,
        waits: list[Waiting] | None = None,
    ) -> Tensor:
        """The layer's output, to float32 rounding, or with "rounded" to that of its weights; and ``plus``, if given.

        Args:
            values: the input, mostly zeros. Shape (M, C, H, W), channels last in memory, or (..., C).
            events: with "always", also where the dense layer is expected to be faster.
            arithmetic: of the dense layer.
            known: what is known of the values.
            plus: what is added to the output in the same pass. Of the shape of the output.
            waits: for the layer itself, where it is better computed together with the neurons that it feeds; nothing is
                written to its output yet then. See `chained.before`.

        Returns:
            Shape (M, O, OH, OW), channels last in memory, or (..., O).
        """
        images = None if (events, arithmetic) == ("never", "float") else self._images(values)
        code = None
        if images is not None:
            number, size = images.shape[0], (images.shape[1], images.shape[2])
            code, cost = self._dense(known.code, values, (number, size), arithmetic)
            if events == "always" or (events == "auto" and self.event_cost(number, size, 0) < cost):
                counts = known.counts
                if counts is None or len(counts) != number:
                    counts = cpu.count_nonzero(images.flatten(1).unsqueeze(1))
                each = counts.numpy()
                ends = (each + _LANES).cumsum()  # a vector is stored whole, so there is room for one more
                if events == "always" or self.event_cost(number, size, int(ends[-1]) - _LANES * number) < cost:
                    return self._of_events(values, images, ends - each - _LANES, int(ends[-1]), plus, waits)
        output: Tensor = self.layer(values) if code is None else self._integer(values, code, arithmetic == "rounded")
        return output if plus is None else added(output, plus)

    def _of_events(
        self, values: Tensor, images: Tensor, first: Any, room: int, plus: Tensor | None, waits: list[Waiting] | None
    ) -> Tensor:
        """The output and ``plus``; the kernel adds it where it has the shape and the order of the output."""
        if isinstance(self.layer, nn.Linear):
            shape, order = (*values.shape[:-1], self.outputs), torch.contiguous_format
        else:
            rows, columns = self._output_size((images.shape[1], images.shape[2]))
            shape, order = (len(images), self.outputs, rows, columns), torch.channels_last
        fits = plus is not None and plus.shape == shape and plus.is_contiguous(memory_format=order)
        within = plus if fits and not cpu.unsuitable(plus) else None  # type: ignore[arg-type]
        layer = self._from_lists(images, first, room, within)
        pays = isinstance(self.layer, nn.Conv2d) and chained.pays(self.layer.weight, layer.output[0])
        if waits is not None and pays and (plus is None or within is not None):
            waits.append(layer)
        else:
            cpu.compute(layer)
        output = layer.output
        output = output.view(shape) if isinstance(self.layer, nn.Linear) else output.permute(0, 3, 1, 2)
        return output if plus is None or within is not None else added(output, plus)

    def event_cost(self, images: int, size: tuple[int, int], nonzero: int) -> float:
        """What events are expected to take, in nanoseconds on one thread.

        Args:
            images: M.
            size: (H, W).
            nonzero: how many elements of the input are not zero.
        """
        pixels, taps, elements = self._sizes(images, size)
        reached = nonzero * taps * pixels / (images * size[0] * size[1])
        costs, vectors = _costs(), self.vectors
        if self.scatters:
            by_block = costs.scatter[vectors] * reached + costs.scatter_pixel[vectors] * pixels
        else:
            pixel, line = costs.gather_pixel
            by_block = costs.gather[vectors] * reached + (pixel + line * self.filter[0]) * pixels
        return self.blocks * by_block + costs.element * elements + _CALL

    def dense_cost(
        self, images: int, size: tuple[int, int], code: Code | None = None, arithmetic: Arithmetic = "auto"
    ) -> float:
        """What the dense layer is expected to take, in nanoseconds on one thread; with a code, in whole numbers."""
        pixels, taps, elements = self._sizes(images, size)
        vectors = pixels * taps * self.channels * self.outputs / 16
        convolution = isinstance(self.layer, nn.Conv2d)
        output = self._output_size(size)
        if code is None:
            narrow = convolution and integer.is_narrow(output)
            return (_costs().narrow / output[1] if narrow else _costs().dense[self.vectors]) * vectors
        digits = code.digits(arithmetic == "rounded")
        whole = _TILES if integer.has_tiles() else _VECTORS
        if integer.is_product(self.layer, output):
            each, first = whole.product * digits, _FIELD * pixels * taps * self.channels * convolution
        else:
            each, first = whole.first[self.vectors] + (digits - 1) * whole.further[self.vectors], 0.0
            each *= 1.0 if self.stride == (1, 1) else _STRIDED
        return each * vectors + first + _PACK * elements + _CALL

    def _sizes(self, images: int, size: tuple[int, int]) -> tuple[int, int, int]:
        """Output pixels, places of the filter, and elements of the input."""
        rows, columns = self._output_size(size)
        elements = images * size[0] * size[1] * self.channels
        return images * rows * columns, self.filter[0] * self.filter[1], elements

    def _dense(
        self, code: Code | None, values: Tensor, images: tuple[int, tuple[int, int]], arithmetic: Arithmetic
    ) -> tuple[Code | None, float]:
        """The code, where the dense layer in whole numbers can be had and is expected to be faster, and the cost."""
        weight = self.layer.weight
        key: tuple[Any, ...] = (values.ndim, images, arithmetic)
        if code is not None:
            key += (code.levels, code.signed, code.unit.numel(), weight.is_inference())
        if key not in self._plans:
            whole = code is not None and self._is_whole(code, values, images, arithmetic)
            self._plans[key] = whole, self.dense_cost(*images, code if whole else None, arithmetic)
        whole, cost = self._plans[key]
        return code if whole else None, cost

    def _is_whole(
        self, code: Code, values: Tensor, images: tuple[int, tuple[int, int]], arithmetic: Arithmetic
    ) -> bool:
        """Whether the dense layer in whole numbers can be had and is expected to be faster than in float32."""
        if arithmetic == "float" or not self._integer.takes(code):
            return False
        if values.ndim != (4 if isinstance(self.layer, nn.Conv2d) else 2):  # channels of a linear layer are the last
            return False
        pays = self.dense_cost(*images, code, arithmetic) < self.dense_cost(*images)
        return pays and integer.unavailable() is None

    def _images(self, values: Tensor) -> Tensor | None:
        """The input as (M, H, W, C), or None where the kernels cannot take it."""
        layer = self.layer
        parameters = [layer.weight] if layer.bias is None else [layer.weight, layer.bias]
        if cpu.unsuitable(values, *parameters) or cpu.unavailable() or torch.is_autocast_enabled("cpu"):
            return None
        if hooked(layer):
            return None
        if isinstance(layer, nn.Linear):
            return values.reshape(-1, 1, 1, self.channels) if values.is_contiguous() else None
        if values.ndim != 4 or not values.is_contiguous(memory_format=torch.channels_last):
            return None
        images = values.permute(0, 2, 3, 1)
        rows, columns = self._output_size((images.shape[1], images.shape[2]))
        width = images.shape[2] * self.channels * 64 * self.vectors  # places in a row of weights are 32-bit numbers
        return images if rows > 0 and columns > 0 and width < 2**31 else None

    def _output_size(self, size: tuple[int, int]) -> tuple[int, int]:
        if isinstance(self.layer, nn.Linear):
            return size
        if size not in self._output_sizes:
            self._output_sizes[size] = integer.output_size(self.layer, size)
        return self._output_sizes[size]

    def _from_lists(self, images: Tensor, first: Any, room: int, plus: Tensor | None) -> Waiting:
        """The convolution from events, to be computed; its output has the shape (M, OH, OW, O).

        Args:
            images: Shape (M, H, W, C).
            first: where the events of each image begin in their list. Shape (M,), an int64 array.
            room: the length of this list.
            plus: what is added, or None. In memory as the output.
        """
        from rheobase.kernels import event_loops

        number, height, width, channels = images.shape
        rows, columns = self._output_size((height, width))
        weight, bias = self._weights()
        starts = number * (height * width + 1)
        # where pixels begin; places and values, 32 bits each
        lists = images.new_empty(starts + room, dtype=torch.int64)
        pointers = lists.data_ptr()
        places = pointers + 8 * starts
        output = images.new_empty(number, rows, columns, self.outputs)
        task = (ctypes.c_int64 * event_loops.SLOTS)(0, number, height, width, channels, images.data_ptr())
        task[6:10] = [first.ctypes.data, pointers, places, places + 4 * room]
        task[10] = 4 * _LANES * self.vectors
        task[11:17] = [*self.filter, *self.stride, *self.padding]
        task[17:23] = [rows, columns, self.outputs, weight.data_ptr(), bias.data_ptr(), output.data_ptr()]
        task[23] = max(1, 32 // columns)
        workers, scratch = images.new_zeros(1, dtype=torch.int64), images.new_empty(0)
        if self.scatters:
            task[10] *= 9  # the weights of a channel stand together
            scratch = images.new_empty(torch.get_num_threads(), 3, width + 2, 16 * self.vectors)
        task[24:27] = [0 if self.scatters else channels * task[10], workers.data_ptr(), scratch.data_ptr()]
        task[27] = 0 if plus is None else plus.data_ptr()
        table = supports("avx2") and not _many_registers()
        made = event_loops.compiled("compressed", table), task, images.numel() // 4
        work = self.blocks * (room * self.filter[0] * self.filter[1] + number * rows * columns)
        if self.scatters:
            kernel = event_loops.compiled("scattered", self.vectors, _many_registers())
        else:
            ways = 4 if _many_registers() else 4 // self.vectors
            kernel = event_loops.compiled("gathered", self.vectors, ways)
        needed = (first, lists, weight, bias, plus, workers, scratch)
        rows_of_sums = 3 * (width + 2) * 16 * self.vectors if self.scatters else 0
        return Waiting(made, (kernel, task, work), images, output, rows_of_sums, needed)

    def _weights(self) -> tuple[Tensor, Tensor]:
        """Weights (blocks, filter, C, block), or (C, filter, block) to scatter, and biases (blocks * block).

        Outputs that only fill up a block have zeros.
        """
        weight, bias = self.layer.weight, self.layer.bias
        tensors = (weight,) if bias is None else (weight, bias)
        # tensors and their memory are held, so that no other takes its place (`half` gives a parameter other memory)
        key = [(t, t.untyped_storage(), t.data_ptr(), None if t.is_inference() else t._version) for t in tensors]
        if self._packed is None or not _same(self._packed[0], key) or any(t.is_inference() for t in tensors):
            block = 16 * self.vectors
            padded = weight.new_zeros(self.blocks * block, self.channels, *self.filter)
            padded[: self.outputs] = weight.detach().view(self.outputs, self.channels, *self.filter)
            padded = padded.view(self.blocks, block, self.channels, *self.filter).permute(
                *(0, 2, 3, 4, 1) if self.scatters else (0, 3, 4, 2, 1)
            )
            biases = weight.new_zeros(self.blocks * block)
            if bias is not None:
                biases[: self.outputs] = bias.detach()
            self._packed = key, padded.contiguous(), biases
        return self._packed[1], self._packed[2]


def _same(one: list[tuple[Any, ...]], other: list[tuple[Any, ...]]) -> bool:
    """Whether two lists name the same tensors in the same state."""
    return len(one) == len(other) and all(a[0] is b[0] and a[2:] == b[2:] for a, b in zip(one, other, strict=True))


def _many_registers() -> bool:
    """Whether there are 32 registers of 16 numbers, as with AVX-512; otherwise fewer sums are kept at a time."""
    return supports("avx512")


def _costs() -> _Costs:
    """Those of a processor like this one."""
    return _AVX512 if _many_registers() else _AVX2
