"""The slowest obvious versions of the layer-synchronous neurons and of SRP: a neuron at a time, a step at a time.

Written from the equations of the papers, as ``references`` is; currents and values have the shape (T, n).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def parallel_neuron(currents: Array, threshold: float, bias: float = 0.0, gain: float = 0.0) -> Array:
    """All spikes first, as many as the mean current asks for (DA-QCFS)."""
    steps, neurons = currents.shape
    values = np.zeros_like(currents)
    for i in range(neurons):
        mean = sum(float(x) for x in currents[:, i]) / steps
        count = min(max(math.floor((mean + bias) * steps / threshold + 0.5), 0), steps)
        for t in range(count):
            values[t, i] = threshold + gain
    return values


def inverse_leaky_neuron(currents: Array, threshold: float, radix: float) -> Array:
    """SpikeConverter as the paper has it: the potential grows by the radix, and receivers weigh spikes by radix^-t.

    The firing threshold of the accumulated mean is chosen so that spikes in all steps are worth ``threshold``.
    """
    steps, neurons = currents.shape
    unit = threshold / sum(radix**-t for t in range(steps))
    values = np.zeros_like(currents)
    for i in range(neurons):
        v = sum(float(x) for x in currents[:, i]) / steps + unit * radix ** (1 - steps) / 2
        for t in range(steps):
            s = 1 if v >= unit else 0
            v = radix * (v - unit * s)
            values[t, i] = steps * unit * s * radix**-t
    return values


def probabilistic_neuron(currents: Array, threshold: float, uniform: Array) -> Array:
    """Two phases: accumulate, then fire where the random number is below the share of steps that should still fire."""
    steps, neurons = currents.shape
    values = np.zeros_like(currents)
    for i in range(neurons):
        v = sum(float(x) for x in currents[:, i])
        for t in range(1, steps + 1):
            p = min(max(v / (threshold * (steps - t + 1)), 0.0), 1.0)
            if uniform[t - 1, i] < p:
                values[t - 1, i] = threshold
                v -= threshold
    return values


def offset_neuron(currents: Array, threshold: float, pre_steps: int, iterations: int) -> Array:
    """COS: trial runs that move the initial potential, then the run that counts."""
    steps, neurons = currents.shape
    values = np.zeros_like(currents)
    for i in range(neurons):
        start = threshold / 2
        for _ in range(iterations):
            v, fired, silent = start, [], []
            for t in range(pre_steps):
                v += currents[t % steps, i]
                (fired if v >= threshold else silent).append(v)
                v -= threshold * (v >= threshold)
            if v < 0 and fired:
                start -= max(threshold, min(fired) - 0.999 * threshold)
            elif v >= threshold and silent:
                start += max(threshold, threshold - max(silent))
        v = start
        for t in range(steps):
            v += currents[t, i]
            if v >= threshold:
                values[t, i] = threshold
                v -= threshold
    return values


def residual_neuron(currents: Array, threshold: float, first: int) -> Array:
    """SRP: after the first phase, a potential at or below a thousandth of the threshold silences the neuron."""
    steps, neurons = currents.shape
    values = np.zeros_like(currents)
    for i in range(neurons):
        v, alive = threshold / 2, True
        for t in range(steps):
            if t == first:
                alive = v > 1e-3 * threshold
                v = threshold / 2
            v += currents[t, i]
            if v >= threshold:
                v -= threshold
                values[t, i] = threshold * alive
    return values


def clip_floor_shift(z: Array, threshold: float, levels: int) -> Array:
    """QCFS, a value at a time."""
    out = np.zeros_like(z)
    for index in np.ndindex(*z.shape):
        out[index] = threshold * min(max(math.floor(z[index] * levels / threshold + 0.5) / levels, 0.0), 1.0)
    return out
