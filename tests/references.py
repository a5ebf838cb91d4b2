"""The slowest obvious versions: float64 loops over time and neurons that the fast code is tested against.

Written from the equations alone, without reading the library's neurons, so that two independent readings
meet. MSAT is He, Li, Zhao, Kong and Zeng, arXiv:2303.13080; "release" is the authors' code where it departs.
Steps are numbered 1..T in the texts, so row t - 1 of an array belongs to step t.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def if_neuron(
    currents: ArrayLike,
    threshold: ArrayLike,
    initial_potential: ArrayLike = 0.0,
    reset: Literal["soft", "hard"] = "soft",
) -> tuple[Array, Array]:
    """Integrate and fire, Eqs. 2 and 3: charge, fire if the potential is at or above the threshold, reset.

    Args:
        currents: input of every step and neuron, (T, n).
        threshold: one number, or one per neuron.
        initial_potential: V(0), one number or one per neuron.
        reset: "soft" subtracts the threshold, "hard" sets the potential to 0 (not to V(0)).

    Returns:
        The emitted values, spike times threshold, and the potentials after firing, both (T, n).
    """
    if reset not in ("soft", "hard"):
        raise ValueError(f"reset must be 'soft' or 'hard', got {reset!r}")
    currents = _steps_by_neurons(currents)
    steps, neurons = currents.shape
    threshold = _one_per_neuron(threshold, neurons)
    initial_potential = _one_per_neuron(initial_potential, neurons)
    values = np.zeros((steps, neurons))
    potentials = np.zeros((steps, neurons))
    for i in range(neurons):
        v = float(initial_potential[i])
        for t in range(steps):
            v = v + currents[t, i]
            if v >= threshold[i]:
                values[t, i] = threshold[i]
                v = v - threshold[i] if reset == "soft" else 0.0
            potentials[t, i] = v
    return values, potentials


def relu_rate_if(x: ArrayLike, threshold: float, steps: int, v0: float = 0.0) -> Array:
    """The mean value a soft-reset IF neuron emits in `steps` steps of constant current x (Eq. 7).

    threshold / T * clip(floor((x T + v0) / threshold), 0, T). Divide by the threshold for spikes per step.

    Exact for 0 <= v0 <= threshold and any sign of x. Outside that range the formula forgets that a neuron
    fires at most once a step and never takes a spike back, so it is refused. Where (x T + v0) / threshold is
    a whole number, a sum of T rounded currents may land on the other side: test with dyadic numbers there.
    """
    if not 0.0 <= v0 <= threshold:
        raise ValueError(f"the closed form holds for 0 <= v0 <= threshold, got v0={v0}, threshold={threshold}")
    x = np.asarray(x, dtype=np.float64)
    rates = np.zeros(x.shape)
    for index in np.ndindex(*x.shape):
        spikes = math.floor((x[index] * steps + v0) / threshold)
        spikes = min(max(spikes, 0), steps)
        rates[index] = threshold * spikes / steps
    return rates


def msat_neuron(
    currents: ArrayLike,
    threshold: ArrayLike,
    *,
    alpha: float,
    ka: float,
    ki: float,
    c: float,
    tau_mp: float,
    tau_rd: float,
    v_t: float = -1.0,
    dtt: bool = True,
    det: bool = True,
    depolarisation: Literal["potential", "current"] = "potential",
    tau_rd_twice: bool = True,
    units: Literal["normalised", "raw"] = "normalised",
    keep: ArrayLike | None = None,
    keep_charge: bool = True,
    early_steps: int = 16,
) -> dict[str, Array]:
    """Multi-stage adaptive threshold (Eqs. 11 to 13, Algorithm 1), with the spike filter of Eq. 15.

    M is `threshold`, x the current, P the potential before and V after firing, m the mean of V(1), ..., V(t):

        P(t)     = V(t-1) + x(t)
        th(1)    = M
        th(t)    = M sigmoid(tau_mp DTT(t-1) + tau_rd DET(t))                        for t >= 2
        DTT(t-1) = alpha (V(t-1) - m(t-1)) + V_T + ka ln(1 + exp((V(t-1) - m(t-1)) / ki))
        DET(t)   = tau_rd exp(-(P(t) - P(t-1)) / c)
        spike(t) = 1 if P(t) >= th(t) else 0
        y(t)     = keep(t) spike(t) th(t)
        V(t)     = P(t) - y(t)

    Readings chosen where the paper is silent or says two things:

    * V(0) = 0. It is not part of the mean, so at step 2, where V(1) = m(1), the tracking term is
      V_T + ka ln 2. The mean weighs all steps alike and includes the newest V. P(0) and m(0) are never
      needed, because the first step has the constant threshold M.
    * Algorithm 1 writes sigmoid(DTT + DET) and Eq. 11 the weighted sum: the weights go inside the sigmoid.
      tau_rd then counts twice, in Eq. 11 and in Eq. 13; `tau_rd_twice=False` drops the one of Eq. 13.
    * DET uses the rise of the potential before firing, which is x(t) - y(t-1) while no spike is lost.
      `depolarisation="current"` (release) puts x(t) in its place.
    * V_T is "the parameter to optimise". units="normalised": V, m, P and x are divided by M inside DTT and
      DET, and V_T = v_t. units="raw" (release): nothing is divided, and V_T = v_t M.
    * The filter works in steps t = 1..E, E included ("holds 16 time steps", 5.4), although Algorithm 1 has
      t < E: the release numbers its steps from 0. Rows of `keep` after `early_steps` are not looked at.
    * The index of c in Eq. 14 has no t, and Algorithm 1 draws c at every step for the whole layer: here it
      may differ between steps and neurons, `keep[t - 1, i]`. Nothing is drawn at random here.
    * A filtered spike leaves the potential as it is (Eq. 15). `keep_charge=False` (release) subtracts th(t)
      although nothing is emitted.

    Args:
        currents: input of every step and neuron, (T, n).
        threshold: M > 0, one number or one per neuron.
        v_t: offset V_T, in units of M.
        dtt: False drops the tracking term, V_T included.
        det: False drops the evoked term.
        keep: 0 or 1 for every step and neuron, (T, n); None keeps every spike.
        early_steps: E.

    Returns:
        `values` y, `potentials` V, `thresholds` th and `means` m, each (T, n).
    """
    if depolarisation not in ("potential", "current"):
        raise ValueError(f"depolarisation must be 'potential' or 'current', got {depolarisation!r}")
    if units not in ("normalised", "raw"):
        raise ValueError(f"units must be 'normalised' or 'raw', got {units!r}")
    currents = _steps_by_neurons(currents)
    steps, neurons = currents.shape
    maximum = _one_per_neuron(threshold, neurons)
    keep = np.ones((steps, neurons)) if keep is None else _steps_by_neurons(keep)
    if keep.shape != currents.shape or not set(keep.ravel()) <= {0.0, 1.0}:
        raise ValueError(f"keep must hold 0 or 1 in the shape {currents.shape}")
    values, potentials, thresholds, means = (np.zeros((steps, neurons)) for _ in range(4))

    for i in range(neurons):
        m_max = float(maximum[i])
        scale = m_max if units == "normalised" else 1.0
        v_threshold = v_t if units == "normalised" else v_t * m_max
        before_history: list[float] = []  # P(1), P(2), ...
        after_history: list[float] = []  # V(1), V(2), ...

        for step in range(1, steps + 1):
            x = float(currents[step - 1, i])
            before = (after_history[-1] if after_history else 0.0) + x

            if step == 1:
                th = m_max
            else:
                exponent = 0.0
                if dtt:
                    mean = sum(after_history) / len(after_history)
                    distance = (after_history[-1] - mean) / scale
                    exponent += tau_mp * (alpha * distance + v_threshold + ka * _softplus(distance / ki))
                if det:
                    rise = (x if depolarisation == "current" else before - before_history[-1]) / scale
                    evoked = _exp(-rise / c)
                    exponent += tau_rd * tau_rd * evoked if tau_rd_twice else tau_rd * evoked
                th = m_max * _sigmoid(exponent)

            fired = before >= th
            passed = step > early_steps or keep[step - 1, i] == 1.0
            emitted = th if fired and passed else 0.0
            subtracted = th if fired and (passed or not keep_charge) else 0.0
            after = before - subtracted

            before_history.append(before)
            after_history.append(after)
            values[step - 1, i] = emitted
            potentials[step - 1, i] = after
            thresholds[step - 1, i] = th
            means[step - 1, i] = sum(after_history) / len(after_history)
    return {"values": values, "potentials": potentials, "thresholds": thresholds, "means": means}


def spike_confidence(fired_counts: ArrayLike, preactivations: ArrayLike) -> float:
    """p = 1 - (neurons that fired although inactivated) / (neurons that fired); 1 when none fired.

    A neuron is inactivated when its ANN pre-activation is negative, strictly (3.2.2): a pre-activation of
    exactly zero counts as activated, and a spike there as a correct one. A neuron counts once however often
    it fired, and all entries (neurons, samples) are pooled before the division, which is not the mean of the
    shares of the samples. The paper says "the opposite proportion of SIN" and names neither the denominator
    nor the steps counted; METHODS.md 1.1 finds that the release's values are 1 - SIN / (SIN + correct) at
    step 16, which is "all that fired" with `fired_counts` taken over the early steps.

    Args:
        fired_counts: spikes of each neuron, any shape.
        preactivations: its ANN value before the ReLU, same shape.
    """
    counts = np.asarray(fired_counts)
    preactivations = np.asarray(preactivations, dtype=np.float64)
    if counts.shape != preactivations.shape:
        raise ValueError(f"shapes differ: {counts.shape} and {preactivations.shape}")
    fired = 0
    wrong = 0
    for index in np.ndindex(*counts.shape):
        if counts[index] > 0:
            fired += 1
            if preactivations[index] < 0.0:
                wrong += 1
    return 1.0 if fired == 0 else 1.0 - wrong / fired


def cumulative_max_pool(values: ArrayLike, windows: Sequence[Sequence[int]]) -> Array:
    """LIPooling: out(t) = max over the window of C(t) - max over the window of C(t-1).

    C(t) is the sum of the inputs of steps 1..t, and C(0) = 0, so out(1) may be negative. A padded position
    (minus infinity in max pooling) is simply left out of its window.

    Args:
        values: (T, n).
        windows: for each output the indices it looks at.

    Returns:
        (T, number of windows).
    """
    values = _steps_by_neurons(values)
    steps, neurons = values.shape
    output = np.zeros((steps, len(windows)))
    sums = [0.0] * neurons
    for t in range(steps):
        previous = list(sums)
        for i in range(neurons):
            sums[i] += float(values[t, i])
        for k, window in enumerate(windows):
            output[t, k] = max(sums[i] for i in window) - max(previous[i] for i in window)
    return output


def synaptic_operations(
    spike_mask: ArrayLike,
    weight_shape: Sequence[int],
    *,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> int:
    """The number of pairs (nonzero input, synapse that it really reaches), summed over all leading axes.

    A spike counts once whatever it carries. A synapse counts whatever its weight, zero included; a tap that
    falls on the padding, and an input that no tap visits, count nothing. Biases are not synapses.

    Args:
        spike_mask: nonzero where there is a spike; (..., inputs) for a linear layer, (..., C, *space) for a
            convolution.
        weight_shape: (outputs, inputs) for a linear layer, (outputs, C / groups, *kernel) for a convolution
            of one, two or three dimensions, as in PyTorch.
        stride, padding, dilation: one number or one per dimension, of a convolution; padding on both sides.
        groups: of a convolution.
    """
    mask = np.asarray(spike_mask) != 0
    outputs, inputs_per_group, *kernel = weight_shape
    dimensions = len(kernel)
    if not kernel:
        if mask.shape[-1] != inputs_per_group:
            raise ValueError(f"the mask has {mask.shape[-1]} inputs, the weight {inputs_per_group}")
        count = 0
        for index in np.ndindex(*mask.shape):
            for _ in range(outputs):
                if mask[index]:
                    count += 1
        return count

    leading, channels, space = (
        mask.shape[: -dimensions - 1],
        mask.shape[-dimensions - 1],
        mask.shape[-dimensions:],
    )
    if channels != inputs_per_group * groups or outputs % groups:
        raise ValueError(f"{channels} channels and weight {tuple(weight_shape)} do not fit {groups} groups")
    strides, paddings, dilations = (_one_per_dimension(a, dimensions) for a in (stride, padding, dilation))
    size = [
        (space[d] + 2 * paddings[d] - dilations[d] * (kernel[d] - 1) - 1) // strides[d] + 1 for d in range(dimensions)
    ]
    count = 0
    for sample in np.ndindex(*leading):
        for out_channel in range(outputs):
            group = out_channel // (outputs // groups)
            for place in itertools.product(*(range(length) for length in size)):
                for k in range(inputs_per_group):
                    for tap in itertools.product(*(range(length) for length in kernel)):
                        source = [
                            place[d] * strides[d] - paddings[d] + tap[d] * dilations[d] for d in range(dimensions)
                        ]
                        if any(not 0 <= source[d] < space[d] for d in range(dimensions)):
                            continue
                        if mask[(*sample, group * inputs_per_group + k, *source)]:
                            count += 1
    return count


def quantiser(a: float, clip: float, levels: int, rounding: bool = True, powers_of_two: bool = False) -> float:
    """What a quantiser sends for the activation a: the nearest of its values, or the nearest that is not above."""
    if powers_of_two:
        values = [0.0, *(clip / 2**i for i in range(levels))]
    else:
        values = [clip * k / levels for k in range(levels + 1)]
    best = 0.0
    for value in values:
        if rounding and abs(a - value) < abs(a - best):
            best = value
        if not rounding and best < value <= a:
            best = value
    return best


def quantisation_rms(
    z: ArrayLike, clip: float, levels: int, rounding: bool = True, powers_of_two: bool = False
) -> float:
    """Root of the mean squared difference between max(z, 0) and what the quantiser sends for it."""
    total, n = 0.0, 0
    for x in np.asarray(z, np.float64).ravel():
        a = max(float(x), 0.0)
        total += (a - quantiser(a, clip, levels, rounding, powers_of_two)) ** 2
        n += 1
    return math.sqrt(total / n)


def local_threshold_balancing(z: ArrayLike, iterations: int, rate: float) -> float:
    """Bu et al. 2025 on all the data in each iteration, with the maximum as the upper limit."""
    a = [max(float(x), 0.0) for x in np.asarray(z, np.float64).ravel()]
    th = 0.0
    for _ in range(iterations):
        th = min(th + rate * sum(2 * (x - th) for x in a if x > th) / len(a), max(a))
    return th


def _steps_by_neurons(array: ArrayLike) -> Array:
    array = np.asarray(array, dtype=np.float64)
    if array.ndim != 2:
        raise ValueError(f"expected the shape (T, n), got {array.shape}")
    return array


def graded_neuron(
    currents: ArrayLike,
    thresholds: ArrayLike,
    levels: int = 1,
    powers: bool = False,
    signed: bool = True,
    memory: bool = True,
    fire: float = 0.5,
    offset: float = 0.0,
    doubled: bool = False,
) -> Array:
    """Graded integrate and fire, neuron by neuron; ``thresholds`` has one entry a step. (T, n) -> (T, n)."""
    x = np.asarray(currents, dtype=np.float64)
    steps, neurons = x.shape
    values = np.zeros_like(x)
    for i in range(neurons):
        v = sent = 0.0
        for t in range(steps):
            theta = float(np.asarray(thresholds)[t])
            v += x[t, i]
            e = v
            if memory and v < -sent:
                e = -sent
            q = e / theta + offset
            if powers:
                possible = [0.5**k for k in range(levels) if 0.5**k * fire <= abs(q)]
                size = max(possible, default=0.0)
            elif doubled and t == 0:
                size = float(min(max(math.floor(q + 1 - fire), 0), 2 * levels))
            else:
                size = float(max(0, min(math.floor(abs(q) + 1 - fire), levels)))
            s = size if q > 0 or (doubled and t == 0) else -size if signed else 0.0
            values[t, i] = s * theta
            v -= s * theta
            sent += s * theta
    return values


def signed_msat_neuron(currents: ArrayLike, maximum: float, fire: float, a: Any) -> Array:
    """MSAT's threshold (settings ``a``, normalised) with signed spikes and memory. (T, n) -> (T, n)."""
    x = np.asarray(currents, dtype=np.float64)
    values = np.zeros_like(x)
    for i in range(x.shape[1]):
        v = sent = before = 0.0
        past: list[float] = []
        for t in range(x.shape[0]):
            pre = v + x[t, i]
            th = maximum
            if t:
                d = (v - sum(past) / t) / maximum
                tracking = a.alpha * d + a.v_t + a.ka * math.log1p(math.exp(d / a.ki))
                evoked = a.tau_rd * math.exp(-(pre - before) / maximum / a.c)
                th = maximum / (1 + math.exp(-(a.tau_mp * tracking + a.tau_rd * evoked)))
            wanted = max(pre, -sent)
            if wanted / th >= fire:
                values[t, i] = th
            elif wanted / th <= -fire:
                values[t, i] = -min(th, sent)
            sent += values[t, i]
            v, before = pre - values[t, i], pre
            past.append(v)
    return values


def _one_per_neuron(value: ArrayLike, neurons: int) -> Array:
    return np.broadcast_to(np.asarray(value, dtype=np.float64), (neurons,))


def _one_per_dimension(value: int | Sequence[int], dimensions: int) -> list[int]:
    numbers = [value] * dimensions if isinstance(value, int) else list(value)
    if len(numbers) != dimensions:
        raise ValueError(f"expected {dimensions} numbers, got {value}")
    return numbers


def _exp(z: float) -> float:
    """exp(z), held at e^700 so that a large argument saturates the sigmoid in place of overflowing."""
    return math.exp(min(z, 700.0))


def _softplus(z: float) -> float:
    """ln(1 + exp(z)), without overflow."""
    return max(z, 0.0) + math.log1p(math.exp(-abs(z)))


def _sigmoid(z: float) -> float:
    """1 / (1 + exp(-z)), without overflow."""
    return 1.0 / (1.0 + math.exp(-z)) if z >= 0.0 else math.exp(z) / (1.0 + math.exp(z))
