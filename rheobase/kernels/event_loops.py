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

from llvmlite import ir
from numba import types
from numba.core.cgutils import alloca_once
from numba.extending import intrinsic

from rheobase.kernels.basic_loops import ONE, _fetch_add, _floats, _integers, _wide, _words
from rheobase.kernels.compilation import compile_kernel

__all__ = ["LANES", "SLOTS", "compiled"]

LANES = 16
"""Output channels in one vector."""

TICKET, IMAGES, HEIGHT, WIDTH, CHANNELS, INPUT = range(6)
FIRST, POINTERS, PLACES, EVENTS, PITCH = range(6, 11)  # the lists; bytes of weights for one input channel
TALL, ACROSS, DOWN, RIGHT, ABOVE, BEFORE = range(11, 17)  # filter, stride and padding, each in two directions
ROWS, COLUMNS, OUTPUTS, WEIGHT, BIAS, OUTPUT, GROUP = range(17, 24)
SKIP, WORKERS, SCRATCH = range(24, 27)  # bytes of weights for a place in the row; the threads' own memory
PLUS = 27  # what is added to the output, or 0
SLOTS = 28
"""The int64 slots of a task: sizes and addresses."""

_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_WORDS = ir.VectorType(ir.IntType(32), LANES)


def _vector_at(builder: Any, pointer: Any, lane: int) -> Any:
    """The pointer to vector ``lane`` after the pointer."""
    moved = builder.gep(pointer, [ir.Constant(ir.IntType(64), LANES * lane)])
    return builder.bitcast(moved, _VECTOR.as_pointer())


def _splat(builder: Any, scalar: Any, vector: Any) -> Any:
    """A vector of equal elements."""
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0))
    mask = ir.Constant(_WORDS, [0] * LANES)
    return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), mask)


@intrinsic
def _bytes_after(typing: Any, address: Any, offset: Any) -> Any:
    """The pointer to the float32 that stands ``offset`` bytes after an address."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(builder.add(args[0], args[1]), ir.FloatType().as_pointer())

    return types.CPointer(types.float32)(types.int64, types.int64), generate


@intrinsic(prefer_literal=True)
def _accumulators(typing: Any, count: Any) -> Any:
    """So many vectors on the stack; LLVM keeps them in registers."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vectors = alloca_once(builder, ir.ArrayType(_VECTOR, count.literal_value))
        return builder.bitcast(vectors, ir.FloatType().as_pointer())

    return types.CPointer(types.float32)(count), generate


@intrinsic(prefer_literal=True)
def _move(typing: Any, source: Any, target: Any, count: Any) -> Any:
    """target = source, ``count`` vectors."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        for j in range(count.literal_value):
            vector = builder.load(_vector_at(builder, args[0], j), align=4)
            builder.store(vector, _vector_at(builder, args[1], j), align=4)
        return context.get_dummy_value()

    pointer = types.CPointer(types.float32)
    return types.none(pointer, pointer, count), generate


@intrinsic(prefer_literal=True)
def _clear(typing: Any, target: Any, first: Any, count: Any) -> Any:
    """Zero vectors ``first`` to ``first + count``."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        for j in range(first.literal_value, first.literal_value + count.literal_value):
            builder.store(ir.Constant(_VECTOR, [0.0] * LANES), _vector_at(builder, args[0], j), align=4)
        return context.get_dummy_value()

    return types.none(types.CPointer(types.float32), first, count), generate


@intrinsic(prefer_literal=True)
def _add_products(typing: Any, totals: Any, first: Any, weight: Any, value: Any, count: Any) -> Any:
    """total[first + j] += value weight[j], ``count`` vectors."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = _splat(builder, args[3], _VECTOR)
        kind = ir.FunctionType(_VECTOR, (_VECTOR, _VECTOR, _VECTOR))
        fma = builder.module.declare_intrinsic("llvm.fma.v16f32", (), kind)
        for j in range(count.literal_value):
            target = _vector_at(builder, args[0], first.literal_value + j)
            product = builder.load(_vector_at(builder, args[2], j), align=4)
            total = builder.call(fma, (value, product, builder.load(target, align=4)))
            builder.store(total, target, align=4)
        return context.get_dummy_value()

    pointer = types.CPointer(types.float32)
    return types.none(pointer, first, pointer, types.float32, count), generate


@intrinsic(prefer_literal=True)
def _add_vectors(typing: Any, total: Any, first: Any, count: Any) -> Any:
    """total[j] += total[first + j], ``count`` vectors."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        for j in range(count.literal_value):
            target = _vector_at(builder, args[0], j)
            other = builder.load(_vector_at(builder, args[0], first.literal_value + j), align=4)
            builder.store(builder.fadd(builder.load(target, align=4), other), target, align=4)
        return context.get_dummy_value()

    return types.none(types.CPointer(types.float32), first, count), generate


@intrinsic(prefer_literal=True)
def _add_line(typing: Any, totals: Any, first: Any, target: Any, count: Any) -> Any:
    """Add three sums of ``count`` vectors, from vector ``first`` on, to three pixels, the first to the last of them."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vectors = count.literal_value
        for right in range(3):
            for j in range(vectors):
                other = builder.load(_vector_at(builder, args[0], first.literal_value + right * vectors + j), align=4)
                pointer = _vector_at(builder, args[2], (2 - right) * vectors + j)
                builder.store(builder.fadd(builder.load(pointer, align=4), other), pointer, align=4)
        return context.get_dummy_value()

    pointer = types.CPointer(types.float32)
    return types.none(pointer, first, pointer, count), generate


@intrinsic(prefer_literal=True)
def _send(
    typing: Any, up: Any, level: Any, down: Any, base: Any, places: Any, events: Any, ways: Any, count: Any
) -> Any:
    """Add what the next ``ways`` events send to three pixels of each of three rows, ``count`` vectors each."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        base, places, events = args[3:6]
        vectors = count.literal_value
        kind = ir.FunctionType(_VECTOR, (_VECTOR, _VECTOR, _VECTOR))
        fma = builder.module.declare_intrinsic("llvm.fma.v16f32", (), kind)
        sources = []
        for i in range(ways.literal_value):
            at = ir.Constant(ir.IntType(64), i)
            place = builder.sext(builder.load(builder.gep(places, [at])), ir.IntType(64))
            weights = builder.inttoptr(builder.add(base, place), ir.FloatType().as_pointer())
            sources.append((_splat(builder, builder.load(builder.gep(events, [at])), _VECTOR), weights))
        for tap in range(9 * vectors):
            row, (right, lane) = tap // (3 * vectors), divmod(tap % (3 * vectors), vectors)
            pointer = _vector_at(builder, args[row], (2 - right) * vectors + lane)
            total = builder.load(pointer, align=4)
            for value, weights in sources:
                weight = builder.load(_vector_at(builder, weights, tap), align=4)
                total = builder.call(fma, (value, weight, total))
            builder.store(total, pointer, align=4)
        return context.get_dummy_value()

    floats, words = types.CPointer(types.float32), types.CPointer(types.int32)
    return types.none(floats, floats, floats, types.int64, words, floats, ways, count), generate


@intrinsic(prefer_literal=True)
def _compress(typing: Any, source: Any, place: Any, pitch: Any, places: Any, events: Any, table: Any) -> Any:
    """Store the non-zeros of 16 elements, and ``place + pitch j`` for each; give their number.

    AVX-512 has an instruction for it. With AVX2 (``table``) eight elements are moved as a table says for their mask.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source, place, pitch, places, events, _ = args
        values = builder.load(builder.bitcast(source, _VECTOR.as_pointer()), align=4)
        lanes = builder.mul(_splat(builder, pitch, _WORDS), ir.Constant(_WORDS, list(range(LANES))))
        place = _splat(builder, place, _WORDS)
        mask = builder.fcmp_unordered("!=", values, ir.Constant(_VECTOR, [0.0] * LANES))
        if table.literal_value:
            return _store_by_table(builder, values, place, lanes, mask, places, events)
        where = builder.add(place, lanes)
        mask_type = ir.VectorType(ir.IntType(1), LANES)
        for kind, name, vector, target in ((_VECTOR, "v16f32", values, events), (_WORDS, "v16i32", where, places)):
            function = builder.module.declare_intrinsic(
                f"llvm.experimental.vector.compress.{name}", (), ir.FunctionType(kind, (kind, mask_type, kind))
            )
            packed = builder.call(function, (vector, mask, ir.Constant(kind, ir.Undefined)))
            builder.store(packed, builder.bitcast(target, kind.as_pointer()), align=4)
        bits = builder.ctpop(builder.bitcast(mask, ir.IntType(16)))
        return builder.zext(bits, ir.IntType(64))

    floats, words = types.CPointer(types.float32), types.CPointer(types.int32)
    return types.int64(floats, types.int32, types.int32, words, floats, table), generate


def _store_by_table(builder: Any, values: Any, place: Any, lanes: Any, mask: Any, places: Any, events: Any) -> Any:
    """Store what the mask takes, eight elements at a time, and give its number."""
    set.add(builder.function.attributes, '"target-features"="+avx2"')  # also where Numba compiles for less
    long, bytes_, words = ir.IntType(64), ir.VectorType(ir.IntType(8), 8), ir.VectorType(ir.IntType(32), 8)
    stored = ir.Constant(long, 0)
    for half in range(2):
        part = ir.Constant(words, list(range(8 * half, 8 * half + 8)))
        own_mask, own_values, own_place, own_lanes = (
            builder.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), part)
            for vector in (mask, values, place, lanes)
        )
        bits = builder.zext(builder.bitcast(own_mask, ir.IntType(8)), long)
        order = builder.load(builder.gep(_orders(builder), [ir.Constant(long, 0), bits]))
        order = builder.zext(builder.bitcast(order, bytes_), words)
        moved = []
        for name, vector in (("permps", own_values), ("permd", own_lanes)):
            signature = ir.FunctionType(vector.type, (vector.type, words))
            move = builder.module.declare_intrinsic(f"llvm.x86.avx2.{name}", (), signature)
            moved.append(builder.call(move, (vector, order)))
        for vector, target in ((moved[0], events), (builder.add(moved[1], own_place), places)):
            pointer = builder.bitcast(builder.gep(target, [stored]), vector.type.as_pointer())
            builder.store(vector, pointer, align=4)
        stored = builder.add(stored, builder.ctpop(bits))
    return stored


def _orders(builder: Any) -> Any:
    """The table: for each mask of eight lanes, the lanes that it takes, one byte each, the first one lowest."""
    name = "rheobase_orders"
    if name in builder.module.globals:
        return builder.module.globals[name]
    rows = [sum(j << 8 * i for i, j in enumerate(j for j in range(8) if mask >> j & 1)) for mask in range(256)]
    content = ir.Constant(ir.ArrayType(ir.IntType(64), 256), rows)
    table = ir.GlobalVariable(builder.module, content.type, name)
    table.linkage, table.global_constant, table.initializer = "internal", True, content
    return table


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
