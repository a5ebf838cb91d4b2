"""The compiled loops (Triton): one kernel for each family of neurons, each a chunk of K steps.

A program takes BLOCK neurons, in memory order, and keeps their state in registers: it reads each current once
and writes each value once. The places of a step are those of the step before plus a stride, which is 0 for a current
that is the same at each step.

A kernel is launched without fused multiply-adds, so that a neuron has the bits of the reference where the reference
adds and multiplies, and the same bits however its steps are divided into chunks.
"""

# mypy: disable-error-code="no-untyped-def, no-any-return"

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["count_kernel", "graded_kernel", "if_kernel", "msat_kernel", "signed_msat_kernel"]

_VARYING = ("steps", "done", "levels", "first_levels")  # numbers for which no kernel of their own is compiled


@triton.jit
def _neurons(block, neurons, BLOCK: tl.constexpr):
    """The places of a block's neurons, and which of them there are."""
    n = block.to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    return n, n < neurons


@triton.jit
def _count_place(counts, each, BLOCK: tl.constexpr):
    """Where the spikes of a block are counted in the first step: its neurons are of one sample, which has ``each``."""
    return counts + tl.program_id(0).to(tl.int64) * BLOCK // each


@triton.jit
def _count(place, y, live):
    """Add the spikes of a block to those of its sample."""
    tl.atomic_add(place, tl.sum(((y != 0) & live).to(tl.int32)).to(tl.int64))


@triton.jit(do_not_specialize=_VARYING)
def if_kernel(
    current, values, threshold, potential, potential_after, counts, neurons, steps, stride, inner, count,
    each, samples, HARD: tl.constexpr, COUNT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """s = [v + x >= M]; y = s M; v = v + x - y, or 0 where s (hard)."""
    n, live = _neurons(tl.program_id(0), neurons, BLOCK)
    m = tl.load(threshold + n // inner % count, mask=live)
    v = tl.load(potential + n, mask=live)
    x_place, y_place, of_sample = current + n, values + n, _count_place(counts, each, BLOCK)
    for _ in range(steps):
        pre = v + tl.load(x_place, mask=live)
        fired = pre >= m
        y = tl.where(fired, m, 0.0)
        v = tl.where(fired, 0.0, pre) if HARD else pre - y
        tl.store(y_place, y, mask=live)
        if COUNT:
            _count(of_sample, y, live)
            of_sample += samples
        x_place += stride
        y_place += neurons
    tl.store(potential_after + n, v, mask=live)


@triton.jit
def _softplus(x):
    """log(1 + e^x) = max(x, 0) + log(1 + e^-|x|)."""
    return tl.maximum(x, 0.0) + tl.log(1.0 + tl.exp(-tl.abs(x)))


@triton.jit
def _exponent(
    deviation, drive, unit, rest, alpha, ka, inverse_ki, inverse_c, dtt_gain, det_gain,
    USE_DTT: tl.constexpr, USE_DET: tl.constexpr,
):  # fmt: skip
    """z of `reference.msat_threshold`: dtt_gain DTT + det_gain DET, over the terms that are on."""
    z = tl.full(drive.shape, 0.0, tl.float32)
    if USE_DTT:
        d = deviation * unit
        z += dtt_gain * (alpha * d + rest + ka * _softplus(d * inverse_ki))
    if USE_DET:
        z += det_gain * tl.exp(-(drive * unit) * inverse_c)
    return z


@triton.jit
def _nearest_power(x, LEVELS: tl.constexpr):
    """The power of two nearest to 1 / x by its logarithm, of 1, 1/2, ... 2^(1 - LEVELS); x >= 1."""
    power = tl.minimum(x * 1.41421356, 2.0 ** (LEVELS - 1)).to(tl.float32)
    exponent = power.to(tl.int32, bitcast=True) & 0x7F800000
    return (0x7F000000 - exponent).to(tl.float32, bitcast=True)


@triton.jit(do_not_specialize=_VARYING)
def msat_kernel(
    current, values, threshold, potential, potential_after, mean_before, mean_after, last_before, last_after, counts,
    neurons, steps, stride, inner, count, each, samples, done,
    alpha, ka, inverse_ki, inverse_c, v_t, dtt_gain, det_gain, least,
    USE_DTT: tl.constexpr, USE_DET: tl.constexpr, INSTANT: tl.constexpr, RAW: tl.constexpr, LINEAR: tl.constexpr,
    PAYLOAD: tl.constexpr, COUNT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The equations of `reference.msat_scan`, or `reference.bdett_scan` (LINEAR); t = done + k, th = M where t = 0."""
    n, live = _neurons(tl.program_id(0), neurons, BLOCK)
    m = tl.load(threshold + n // inner % count, mask=live)
    unit = 1.0 if RAW else 1.0 / m  # where m = 0, th is 0 or NaN, and nothing is sent
    rest = v_t * m if RAW else v_t
    v = tl.load(potential + n, mask=live)
    mean = tl.load(mean_before + n, mask=live)
    last = tl.load(last_before + n, mask=live)
    x_place, y_place, of_sample = current + n, values + n, _count_place(counts, each, BLOCK)
    for t in range(done, done + steps):
        x = tl.load(x_place, mask=live)
        pre = v + x
        drive = x if INSTANT else pre - last
        z = _exponent(
            v - mean, drive, unit, rest, alpha, ka, inverse_ki, inverse_c, dtt_gain, det_gain, USE_DTT, USE_DET
        )
        adapted = m * tl.maximum(z, least) if LINEAR else m / (1.0 + tl.exp(-z))
        th = tl.where(t == 0, m, adapted)
        sent = th
        if PAYLOAD:
            sent = tl.where(t == 0, m, m * _nearest_power(1.0 + tl.exp(-z), PAYLOAD))
        y = tl.where(pre >= th, sent, 0.0)
        v, last = pre - y, pre
        mean += (v - mean) / (t + 1)
        tl.store(y_place, y, mask=live)
        if COUNT:
            _count(of_sample, y, live)
            of_sample += samples
        x_place += stride
        y_place += neurons
    tl.store(potential_after + n, v, mask=live)
    tl.store(mean_after + n, mean, mask=live)
    tl.store(last_after + n, last, mask=live)


@triton.jit
def _row(parameters, channel, channels, live):
    """Threshold, its reciprocal, lowest level that fires and offset of each neuron, in one step."""
    theta = tl.load(parameters + channel, mask=live)
    inverse = tl.load(parameters + channels + channel, mask=live)
    fire = tl.load(parameters + 2 * channels + channel, mask=live)
    return theta, inverse, fire, tl.load(parameters + 3 * channels + channel, mask=live)


@triton.jit
def _level(m, fire, levels, lowest, POWERS: tl.constexpr):
    """The level of a magnitude m; ``lowest`` is 2^(1 - levels)."""
    if POWERS:
        k, unit = tl.full(m.shape, 0.0, tl.float32), lowest
        for _ in range(levels):
            k = tl.where(m >= fire * unit, unit, k)
            unit *= 2.0
        return k
    top = levels.to(tl.float32)
    return tl.clamp(tl.floor(m + (1.0 - fire)), 0.0, top, propagate_nan=tl.PropagateNan.ALL)


@triton.jit(do_not_specialize=_VARYING)
def graded_kernel(
    current, values, parameters, potential, potential_after, sent, sent_after,
    neurons, steps, stride, inner, channels, levels, first_levels, lowest,
    POWERS: tl.constexpr, SIGNED: tl.constexpr, MEMORY: tl.constexpr, SCHEDULE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The equations of `reference.graded_scan`; with SCHEDULE there are parameters for each step."""
    n, live = _neurons(tl.program_id(0), neurons, BLOCK)
    channel = n // inner % channels
    theta, inverse, fire, offset = _row(parameters, channel, channels, live)
    v = tl.load(potential + n, mask=live)
    r = tl.load(sent + n, mask=live)
    x_place, y_place = current + n, values + n
    for step in range(steps):
        if SCHEDULE:
            theta, inverse, fire, offset = _row(parameters, channel, channels, live)
            parameters += 4 * channels
        pre = v + tl.load(x_place, mask=live)
        e = tl.maximum(pre, -r, propagate_nan=tl.PropagateNan.ALL) if MEMORY else pre
        q = e * inverse + offset
        opening = (step == 0) & (first_levels > 0)  # all its levels are positive
        k = _level(tl.abs(q), fire, tl.where(opening, first_levels, levels), lowest, POWERS)
        y = tl.where(q > 0, k, tl.where(opening, 0.0, -k) if SIGNED else 0.0) * theta
        v, r = pre - y, r + y
        tl.store(y_place, y, mask=live)
        x_place += stride
        y_place += neurons
    tl.store(potential_after + n, v, mask=live)
    tl.store(sent_after + n, r, mask=live)


@triton.jit(do_not_specialize=_VARYING)
def signed_msat_kernel(
    current, values, parameters, potential, potential_after, sent, sent_after,
    mean_before, mean_after, last_before, last_after, neurons, steps, stride, inner, channels, done,
    alpha, ka, inverse_ki, inverse_c, v_t, dtt_gain, det_gain,
    USE_DTT: tl.constexpr, USE_DET: tl.constexpr, INSTANT: tl.constexpr, RAW: tl.constexpr, SCHEDULE: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """The equations of `reference.signed_msat_scan`; with SCHEDULE there are parameters for each step."""
    n, live = _neurons(tl.program_id(0), neurons, BLOCK)
    channel = n // inner % channels
    m, inverse, fire, offset = _row(parameters, channel, channels, live)
    v = tl.load(potential + n, mask=live)
    r = tl.load(sent + n, mask=live)
    mean = tl.load(mean_before + n, mask=live)
    last = tl.load(last_before + n, mask=live)
    x_place, y_place = current + n, values + n
    for t in range(done, done + steps):
        if SCHEDULE:
            m, inverse, fire, offset = _row(parameters, channel, channels, live)
            parameters += 4 * channels
        x = tl.load(x_place, mask=live)
        pre = v + x
        drive = x if INSTANT else pre - last
        z = _exponent(
            v - mean, drive, 1.0 if RAW else inverse, v_t * m if RAW else v_t,
            alpha, ka, inverse_ki, inverse_c, dtt_gain, det_gain, USE_DTT, USE_DET,
        )  # fmt: skip
        th = tl.where(t == 0, m, m / (1.0 + tl.exp(-z)))
        e = tl.maximum(pre, -r, propagate_nan=tl.PropagateNan.ALL)
        q = tl.div_rn(e, th) + offset
        k = tl.clamp(tl.floor(tl.abs(q) + (1.0 - fire)), 0.0, 1.0, propagate_nan=tl.PropagateNan.ALL)
        y = tl.maximum(th * tl.where(q > 0, k, -k), -r, propagate_nan=tl.PropagateNan.ALL)
        v, r, last = pre - y, r + y, pre
        mean += (v - mean) / (t + 1)
        tl.store(y_place, y, mask=live)
        x_place += stride
        y_place += neurons
    tl.store(potential_after + n, v, mask=live)
    tl.store(sent_after + n, r, mask=live)
    tl.store(mean_after + n, mean, mask=live)
    tl.store(last_after + n, last, mask=live)


@triton.jit(do_not_specialize=_VARYING)
def count_kernel(values, counts, neurons, stride, BLOCK: tl.constexpr):
    """Non-zero elements of each step, added to its count; there is a program for each block of each step."""
    blocks = tl.cdiv(neurons, BLOCK)
    step = tl.program_id(0) // blocks
    n, live = _neurons(tl.program_id(0) % blocks, neurons, BLOCK)
    y = tl.load(values + step.to(tl.int64) * stride + n, mask=live, other=0.0)
    tl.atomic_add(counts + step, tl.sum((y != 0).to(tl.int64)))
