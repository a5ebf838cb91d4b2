"""Vectors of 16 float32 as LLVM has them: what the loops of event-driven layers are made of.

A vector is a stretch of memory for these functions, and LLVM keeps it in registers. `_compress` makes a list of the
non-zeros of one, and `_send` adds up what several events send.
"""

# mypy: disable-error-code="no-untyped-call, no-any-return"

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core.cgutils import alloca_once
from numba.extending import intrinsic

__all__ = ["LANES"]

LANES = 16
"""Output channels in one vector."""

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


@intrinsic
def _fetch(typing: Any, address: Any) -> Any:
    """Ask for the cache line of an address, to be read soon."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer, word = builder.inttoptr(args[0], ir.IntType(8).as_pointer()), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), (pointer.type, word, word, word))
        function = builder.module.declare_intrinsic("llvm.prefetch", (pointer.type,), kind)
        builder.call(function, (pointer, word(0), word(3), word(1)))  # read, all caches, data
        return context.get_dummy_value()

    return types.none(types.int64), generate


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
