"""The compiled loops (Numba) of layers that touch only the non-zero elements of their input.

Three kernels, of the same form as those of `loops`. `compressed` turns each image, channels last, into a
list of events, pixel by pixel: the value, and where the weights for its place in the row begin. The
events of neighbouring pixels of a row are neighbours in the list, so the field of view of an output
pixel is one stretch of the list for each row of the filter. `gathered` adds these stretches up: a block
of output channels stays in registers while event after event adds its weights to it, and a block
of the weights, small enough for the second-level cache, serves all images before the next one does.
`scattered` is for few output channels, where an output pixel has too little to do: what an input pixel sends to each of
the nine output pixels around it is added up in registers, where there are enough of them, and added to the nine.
"""

# mypy: disable-error-code="no-untyped-call, no-any-return"

from __future__ import annotations

from functools import cache
from typing import Any

from rheobase.kernels.basic_loops import ONE, _fetch_add, _floats, _integers, _wide, _words
from rheobase.kernels.compilation import compile_kernel
from rheobase.kernels.vector_loops import (
    LANES,
    _accumulators,
    _add_line,
    _add_products,
    _add_vectors,
    _bytes_after,
    _clear,
    _compress,
    _fetch,
    _move,
    _send,
)

__all__ = ["LANES", "SLOTS", "compiled"]

AHEAD = 4096  # bytes that are fetched before their turn

TICKET, IMAGES, HEIGHT, WIDTH, CHANNELS, INPUT = range(6)
FIRST, POINTERS, PLACES, EVENTS, PITCH = range(6, 11)  # the lists; bytes of weights for one input channel
TALL, ACROSS, DOWN, RIGHT, ABOVE, BEFORE = range(11, 17)  # filter, stride and padding, each in two directions
ROWS, COLUMNS, OUTPUTS, WEIGHT, BIAS, OUTPUT, GROUP = range(17, 24)
SKIP, WORKERS, SCRATCH = range(24, 27)  # bytes of weights for a place in the row; the threads' own memory
PLUS = 27  # what is added to the output, or 0
SLOTS = 28
"""The int64 slots of a task: sizes and addresses."""


def _compressed(table: bool) -> Any:
    """The events of each image: FIRST is where each begins, POINTERS where each of its pixels does."""

    def kernel(task: Any) -> None:
        _wide()
        height, width, channels, pitch, skip = task[HEIGHT], task[WIDTH], task[CHANNELS], task[PITCH], task[SKIP]
        values, places, events = task[INPUT], task[PLACES], task[EVENTS]
        whole = channels // LANES * LANES
        pixels = height * width
        while True:
            image = _fetch_add(task, 1)
            if image >= task[IMAGES]:
                break
            n = _integers(task[FIRST])[image]
            pointers = _integers(task[POINTERS] + 8 * image * (pixels + 1))
            for y in range(height):
                for x in range(width):
                    pixel, place = y * width + x, x * skip
                    pointers[pixel] = n
                    source = (image * pixels + pixel) * channels
                    c = 0
                    while c < whole:
                        _fetch(values + 4 * (source + c) + AHEAD)
                        n += _compress(
                            _floats(values, source + c), place + c * pitch, pitch,
                            _words(places, n), _floats(events, n), table,
                        )  # fmt: skip
                        c += LANES
                    while c < channels:
                        value = _floats(values, source + c)[0]
                        _words(places, n)[0] = place + c * pitch
                        _floats(events, n)[0] = value
                        n += value != 0.0
                        c += 1
            pointers[pixels] = n

    return kernel


def _gathered(vectors: int, ways: int) -> Any:
    """A convolution, so many ``vectors`` of output channels at once, events summed ``ways`` at a time."""
    block, total = LANES * vectors, vectors * ways
    rest, half, third, fourth = total - vectors, vectors * (ways // 2), 2 * vectors, 3 * vectors

    def kernel(task: Any) -> None:
        _wide()
        height, width, channels = task[HEIGHT], task[WIDTH], task[CHANNELS]
        tall, across, down, right = task[TALL], task[ACROSS], task[DOWN], task[RIGHT]
        rows, columns, outputs, group = task[ROWS], task[COLUMNS], task[OUTPUTS], task[GROUP]
        all_rows = task[IMAGES] * rows
        groups = (all_rows + group - 1) // group
        tickets = (outputs + block - 1) // block * groups
        pixels = height * width
        pitch = 4 * block
        acc = _accumulators(total)
        partial = _accumulators(vectors)
        while True:
            ticket = _fetch_add(task, 1)
            if ticket >= tickets:
                break
            first = ticket // groups * block
            weight = task[WEIGHT] + 4 * first * tall * across * channels
            size = min(block, outputs - first)
            start = ticket % groups * group
            for row in range(start, min(start + group, all_rows)):
                image, top = row // rows, row % rows * down - task[ABOVE]
                pointers = _integers(task[POINTERS] + 8 * image * (pixels + 1))
                for column in range(columns):
                    _move(_floats(task[BIAS], first), acc, vectors)
                    if ways > 1:
                        _clear(acc, vectors, rest)
                    left = column * right - task[BEFORE]
                    begin = min(max(left, 0), width)
                    end = max(min(left + across, width), begin)
                    for ky in range(max(0, -top), min(tall, height - top)):
                        base = weight + (ky * across - left) * channels * pitch
                        line = (top + ky) * width
                        e, stop = pointers[line + begin], pointers[line + end]
                        if ways == 4:
                            while e + 4 <= stop:
                                places, events = _words(task[PLACES], e), _floats(task[EVENTS], e)
                                _add_products(acc, 0, _bytes_after(base, places[0]), events[0], vectors)
                                _add_products(acc, vectors, _bytes_after(base, places[1]), events[1], vectors)
                                _add_products(acc, third, _bytes_after(base, places[2]), events[2], vectors)
                                _add_products(acc, fourth, _bytes_after(base, places[3]), events[3], vectors)
                                e += 4
                        if ways == 2:
                            while e + 2 <= stop:
                                places, events = _words(task[PLACES], e), _floats(task[EVENTS], e)
                                _add_products(acc, 0, _bytes_after(base, places[0]), events[0], vectors)
                                _add_products(acc, vectors, _bytes_after(base, places[1]), events[1], vectors)
                                e += 2
                        while e < stop:
                            at = _bytes_after(base, _words(task[PLACES], e)[0])
                            _add_products(acc, 0, at, _floats(task[EVENTS], e)[0], vectors)
                            e += 1
                    if ways == 4:
                        _add_vectors(acc, half, half)
                    if ways > 1:
                        _add_vectors(acc, vectors, vectors)
                    place = (row * columns + column) * outputs + first
                    target, plus = _floats(task[OUTPUT], place), _floats(task[PLUS], place)
                    if size == block:
                        if task[PLUS]:
                            _add_products(acc, 0, plus, ONE, vectors)
                        _move(acc, target, vectors)
                    else:
                        _move(acc, partial, vectors)
                        for j in range(size):
                            target[j] = partial[j] + plus[j] if task[PLUS] else partial[j]

    return kernel


def _scattered(vectors: int, many: bool) -> Any:
    """A 3 x 3 convolution with stride 1 and at most so many ``vectors`` of output channels.

    The image of sums has a border of two pixels. Row y of the input reaches its rows y to y + 2, so that three of them
    are kept, and the first of these is written after row y has been read. With ``many`` registers, all that a pixel
    sends is summed in them; otherwise up to four of its events at a time are added to the rows.
    """
    block, total = LANES * vectors, 9 * vectors
    second, third = 3 * vectors, 6 * vectors

    def kernel(task: Any) -> None:
        _wide()
        height, width, outputs, columns = task[HEIGHT], task[WIDTH], task[OUTPUTS], task[COLUMNS]
        size, pixels = (width + 2) * block, height * width
        scratch = task[SCRATCH] + 4 * 3 * size * _fetch_add(_integers(task[WORKERS]), 1)
        acc = _accumulators(total)
        bias, weight = _floats(task[BIAS], 0), task[WEIGHT]
        while True:
            image = _fetch_add(task, 1)
            if image >= task[IMAGES]:
                break
            cells = _floats(scratch, 0)
            for j in range(3 * size):
                cells[j] = 0.0
            pointers = _integers(task[POINTERS] + 8 * image * (pixels + 1))
            for y in range(height + 2):
                low, middle, high = y % 3 * size, (y + 1) % 3 * size, (y + 2) % 3 * size
                for x in range(width if y < height else 0):
                    e, stop = pointers[y * width + x], pointers[y * width + x + 1]
                    if e == stop:
                        continue
                    up, level = _floats(scratch, high + x * block), _floats(scratch, middle + x * block)
                    down = _floats(scratch, low + x * block)
                    if many:
                        _clear(acc, 0, total)
                        while e < stop:
                            at = _bytes_after(weight, _words(task[PLACES], e)[0])
                            _add_products(acc, 0, at, _floats(task[EVENTS], e)[0], total)
                            e += 1
                        _add_line(acc, 0, up, vectors)
                        _add_line(acc, second, level, vectors)
                        _add_line(acc, third, down, vectors)
                    else:
                        while e + 4 <= stop:
                            places, events = _words(task[PLACES], e), _floats(task[EVENTS], e)
                            _send(up, level, down, weight, places, events, 4, vectors)
                            e += 4
                        if e + 2 <= stop:
                            places, events = _words(task[PLACES], e), _floats(task[EVENTS], e)
                            _send(up, level, down, weight, places, events, 2, vectors)
                            e += 2
                        if e < stop:
                            places, events = _words(task[PLACES], e), _floats(task[EVENTS], e)
                            _send(up, level, down, weight, places, events, 1, vectors)
                row = y - 2 + task[ABOVE]
                for column in range(columns if 0 <= row < task[ROWS] else 0):
                    source = _floats(scratch, low + (column + 2 - task[BEFORE]) * block)
                    place = ((image * task[ROWS] + row) * columns + column) * outputs
                    target, plus = _floats(task[OUTPUT], place), _floats(task[PLUS], place)
                    if outputs == block:
                        _move(bias, acc, vectors)
                        _add_products(acc, 0, source, ONE, vectors)
                        if task[PLUS]:
                            _add_products(acc, 0, plus, ONE, vectors)
                        _move(acc, target, vectors)
                    else:
                        for j in range(outputs):
                            total_j = source[j] + bias[j]
                            target[j] = total_j + plus[j] if task[PLUS] else total_j
                done = _floats(scratch, low)
                for j in range(size):
                    done[j] = 0.0

    return kernel


@cache
def compiled(name: str, *shape: int) -> Any:
    """The C function of a kernel, compiled on first use, or loaded from Numba's cache."""
    makers: dict[str, Any] = {"compressed": _compressed, "gathered": _gathered, "scattered": _scattered}
    return compile_kernel(makers[name](*shape))
