"""The neurons as plain PyTorch, one step at a time: the specification that fast kernels are tested against.

Any dtype, any device, differentiable wherever the equations are.

Shapes: current (K, N, ...), state (N, ...), threshold () or broadcastable to (N, ...). What is
emitted, the spike times the threshold of that step, has the shape of current.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from rheobase.kernels.surrogate import fired, level, spikes_of

__all__ = [
    "LEAST",
    "bdett_scan",
    "bdett_threshold",
    "count_nonzero",
    "graded_scan",
    "if_scan",
    "msat_scan",
    "msat_threshold",
    "signed_msat_scan",
    "weigh",
    "weigh_by_sample",
]

LEAST = 0.05
"""The threshold of BDETT never falls below this share of M."""


def if_scan(
    current: Tensor, potential: Tensor, threshold: Tensor, *, hard_reset: bool = False
) -> tuple[Tensor, Tensor]:
    """Integrate and fire, K steps.

    Each step: v_pre = v + x; s = [v_pre >= M]; y = s M; v = v_pre - y (soft reset), or 0 where s
    (hard reset). Where a gradient is asked for, s has the slope of `spikes_of`.

    Returns:
        The emitted values (K, N, ...) and the potential after the last step (N, ...).
    """
    v, values = potential, []
    for x in current.unbind(0):
        v_pre = v + x
        y = spikes_of(v_pre, threshold)
        v = torch.where(v_pre >= threshold, 0.0, v_pre) if hard_reset else v_pre - y
        values.append(y)
    return _values(values, current), v


def msat_scan(
    current: Tensor,
    potential: Tensor,
    mean: Tensor,
    last: Tensor,
    steps_done: int,
    threshold: Tensor,
    *,
    alpha: float,
    ka: float,
    ki: float,
    c: float,
    v_t: float,
    dtt_gain: float,
    det_gain: float,
    use_dtt: bool = True,
    use_det: bool = True,
    drive_is_current: bool = False,
    raw_units: bool = False,
    payload: int = 0,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Multi-stage adaptive threshold, K steps.

    Each step, t steps done before it: v_pre = v + x; th by `msat_threshold` (M where t = 0);
    s = [v_pre >= th]; y = s th; v = v_pre - y; mean = mean + (v - mean) / (t + 1); last = v_pre.
    With a payload, y is the power of two of M nearest to s th, see `nearest_power`.

    Where a gradient is asked for, s has the slope of `spikes_of`; th / M, mean and last are constants.

    Args:
        current: x. Shape (K, N, ...).
        potential: v, after firing. Shape (N, ...).
        mean: the mean of v over the steps done, in float32 where the current is of half precision. Shape (N, ...).
        last: v_pre of the step before. Shape (N, ...).
        steps_done: t, the steps done since the reset.
        threshold: M. Shape () or broadcastable to (N, ...).
        drive_is_current: take the drive to be x (released code), not v_pre - last (paper).
        alpha: see `msat_threshold`, as for the arguments that follow.
        ka: of the softplus.
        ki: of the softplus.
        c: of the exponential.
        v_t: resting term.
        dtt_gain: weight of DTT.
        det_gain: weight of DET.
        use_dtt: whether DTT is on.
        use_det: whether DET is on.
        raw_units: do not divide potentials by M.
        payload: 0 to send th itself, or how many powers of two of M there are to send.

    Returns:
        The emitted values (K, N, ...), then potential, mean and last after the last step.

    References:
        He et al. 2023, arXiv 2303.13080, Eqs. 9-15 and Alg. 1.
    """

    def threshold_of(deviation: Tensor, rise: Tensor, x: Tensor) -> Tensor:
        return msat_threshold(
            deviation, x if drive_is_current else rise, threshold, alpha=alpha, ka=ka, ki=ki, c=c, v_t=v_t,
            dtt_gain=dtt_gain, det_gain=det_gain, use_dtt=use_dtt, use_det=use_det, raw_units=raw_units,
        )  # fmt: skip

    return _adaptive_scan(current, potential, mean, last, steps_done, threshold, threshold_of, payload)


def msat_threshold(
    deviation: Tensor,
    drive: Tensor,
    threshold: Tensor,
    *,
    alpha: float,
    ka: float,
    ki: float,
    c: float,
    v_t: float,
    dtt_gain: float,
    det_gain: float,
    use_dtt: bool = True,
    use_det: bool = True,
    raw_units: bool = False,
) -> Tensor:
    """The adaptive threshold of one step after the first.

    u = 1 / M (0 where M = 0), V_T = v_t; or u = 1, V_T = v_t M with ``raw_units``
    d = deviation u
    DTT = alpha d + V_T + ka log(1 + exp(d / ki))
    DET = exp(-drive u / C)
    th = M sigmoid(dtt_gain DTT + det_gain DET), over the terms that are on

    Where exp overflows, th is M.

    Args:
        deviation: v - mean, before the step. Shape (N, ...).
        drive: the change of v_pre (paper) or the current (released code). Shape (N, ...).
        threshold: M. Shape () or broadcastable to (N, ...).
        alpha: slope of DTT in d.
        ka: height of the softplus.
        ki: width of the softplus, not 0.
        c: width of the exponential, not 0.
        v_t: the resting term V_T, in units of M.
        dtt_gain: tau_mp.
        det_gain: tau_rd squared (Eq. 11 times Eq. 13), or tau_rd (released code). 0 turns the term off.
        use_dtt: whether DTT is on.
        use_det: whether DET is on.
        raw_units: do not divide potentials by M.
    """
    rest = v_t * threshold if raw_units else v_t
    unit = 1.0 if raw_units else torch.where(threshold != 0, 1 / threshold, 0.0)
    z = torch.zeros_like(drive)
    if use_dtt:
        d = deviation * unit
        z = z + dtt_gain * (alpha * d + rest + ka * softplus(d / ki))
    if use_det and det_gain != 0:
        z = z + det_gain * torch.exp(-(drive * unit) / c)
    return threshold * torch.sigmoid(z)


def bdett_scan(
    current: Tensor,
    potential: Tensor,
    mean: Tensor,
    last: Tensor,
    steps_done: int,
    threshold: Tensor,
    *,
    eta: float,
    psi: float,
    rest: float,
    a: float,
    c: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Dynamic thresholds of BDETT, K steps, with the state and the result of `msat_scan`.

    Each step, t steps done before it: v_pre = v + x; th by `bdett_threshold` (M where t = 0);
    s = [v_pre >= th]; y = s th; v = v_pre - y; mean = mean + (v - mean) / (t + 1); last = v_pre.

    Gradients, where they are asked for, are as in `msat_scan`.

    References:
        Ding et al. 2022, arXiv 2206.04426.
    """

    def threshold_of(deviation: Tensor, rise: Tensor, x: Tensor) -> Tensor:
        return bdett_threshold(deviation, rise, threshold, eta=eta, psi=psi, rest=rest, a=a, c=c)

    return _adaptive_scan(current, potential, mean, last, steps_done, threshold, threshold_of)


def _adaptive_scan(
    current: Tensor,
    potential: Tensor,
    mean: Tensor,
    last: Tensor,
    steps_done: int,
    threshold: Tensor,
    threshold_of: Callable[[Tensor, Tensor, Tensor], Tensor],
    payload: int = 0,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Integrate and fire with a threshold that is M at first, and then a function of v - mean, v_pre - last and x."""
    v, values = potential, []
    differs = torch.is_grad_enabled() and any(part.requires_grad for part in (current, potential, threshold))
    for t, x in enumerate(current.unbind(0), start=steps_done):
        v_pre = v + x
        with torch.no_grad():
            th = threshold_of((v - mean).to(v.dtype), v_pre - last, x) if t > 0 else threshold  # the mean may be wider
            share = th / threshold if differs else None
        y = fired(v_pre, th, threshold, payload) if share is None else spikes_of(v_pre, threshold, share, payload)
        v = v_pre - y
        mean = mean + (v.detach() - mean) / (t + 1)
        last = v_pre.detach()
        values.append(y)
    return _values(values, current), v, mean, last


def bdett_threshold(
    deviation: Tensor, drive: Tensor, threshold: Tensor, *, eta: float, psi: float, rest: float, a: float, c: float
) -> Tensor:
    """The dynamic threshold of one step after the first.

    d = deviation / M
    E = eta d + rest + log(1 + exp(d / psi))
    H = a + exp(-drive / M / c)
    th = M max((E + H) / 2, LEAST)

    Args:
        deviation: v - mean, before the step. Shape (N, ...).
        drive: the change of v_pre. Shape (N, ...).
        threshold: M, greater than 0. Shape () or broadcastable to (N, ...).
        eta: slope of E in d.
        psi: width of its softplus, not 0.
        rest: its offset.
        a: offset of H.
        c: width of its exponential, not 0.
    """
    d = deviation / threshold
    energy = eta * d + rest + softplus(d / psi)
    temporal = a + torch.exp(-drive / threshold / c)
    return threshold * ((energy + temporal) / 2).clamp(min=LEAST)


def signed_msat_scan(
    current: Tensor,
    potential: Tensor,
    sent: Tensor,
    mean: Tensor,
    last: Tensor,
    steps_done: int,
    threshold: Tensor,
    fire: Tensor,
    offset: Tensor,
    *,
    drive_is_current: bool = False,
    **adaptation: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The threshold of MSAT with signed spikes and a memory of what was sent, K steps.

    Each step, t steps done before it: v_pre = v + x; th by `msat_threshold` (M where t = 0);
    e = max(v_pre, -r); q = e / th + offset; s = level(q), one level; y = max(th s, -r);
    v = v_pre - y; r = r + y; mean = mean + (v - mean) / (t + 1); last = v_pre.

    Where a gradient is asked for, s has the slopes of `graded_scan`; th / M, mean and last are constants.

    Args:
        current: x. Shape (K, N, C, ...).
        potential: v, as for `msat_scan`. Shape (N, C, ...).
        sent: r, the sum of what was sent, in float32 where the current is of half precision. Shape (N, C, ...).
        mean: as for `msat_scan`. Shape (N, C, ...).
        last: as for `msat_scan`. Shape (N, C, ...).
        steps_done: t.
        threshold: M, greater than 0. Shape (K or 1, C or 1), as fire and offset.
        fire: the smallest |q| that fires.
        offset: added to q.
        drive_is_current: take the drive to be x, not v_pre - last.
        adaptation: the keyword arguments of `msat_threshold`.

    Returns:
        The emitted values (K, N, C, ...), then potential, sent, mean and last after the last step.
    """
    v, r, values = potential, sent, []
    for k, x in enumerate(current.unbind(0)):
        m, beta, b = (_row(p, k, x) for p in (threshold, fire, offset))
        v_pre, t = v + x, steps_done + k
        th = m
        if t > 0:
            with torch.no_grad():
                drive = x if drive_is_current else v_pre - last
                share = msat_threshold((v - mean).to(v.dtype), drive, m, **adaptation) / m  # the mean may be wider
            th = m * share
        s = level(torch.maximum(v_pre, -r).to(v_pre.dtype) / th + b, beta)
        y = torch.maximum(th * s, -r).to(v_pre.dtype)
        v, r = v_pre - y, r + y
        mean, last = mean + (v.detach() - mean) / (t + 1), v_pre.detach()
        values.append(y)
    return _values(values, current), v, r, mean, last


def graded_scan(
    current: Tensor,
    potential: Tensor,
    sent: Tensor,
    threshold: Tensor,
    fire: Tensor,
    offset: Tensor,
    levels: int,
    powers: bool,
    signed: bool,
    memory: bool,
    first_levels: int = 0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Graded integrate and fire, K steps.

    Each step: v_pre = v + x; e = max(v_pre, -r) with memory, else v_pre; q = e / threshold + offset;
    k = level(|q|) sign(q), 0 where q < 0 and not signed; y = k threshold; v = v_pre - y; r = r + y.
    level(m) = min(floor(m + 1 - fire), levels), or with powers the largest 2^-i <= m / fire, 0 <= i < levels,
    or 0. In the first of the K steps, levels is ``first_levels`` and no negative value is sent, where that is not 0.

    Where a gradient is asked for, dk/dq = 1 for |q| <= levels + 0.2 (unsigned: -0.2 <= q), and
    dk/dfire = -sign(q) max(0, 1 - 2 ||q| - fire|), as if the level were a ramp.

    Args:
        current: x. Shape (K, N, C, ...).
        potential: v. Shape (N, C, ...).
        sent: r, the sum of what was sent, in float32 where the current is of half precision. Shape (N, C, ...).
        threshold: greater than 0. Shape (K or 1, C or 1), as fire and offset.
        fire: the smallest |q| that fires.
        offset: added to q.
        levels: how many magnitudes there are.
        powers: the magnitudes are 1, 1/2, 1/4, ... instead of 1, 2, 3, ...
        signed: whether negative values are sent.
        memory: whether r stays above 0, up to half a threshold.
        first_levels: how many magnitudes there are in the first step, all of them positive; 0 for those of the others.
            Not with powers.

    Returns:
        The emitted values (K, N, C, ...), then potential and sent after the last step.
    """
    v, r, values = potential, sent, []
    for k, x in enumerate(current.unbind(0)):
        theta, beta, b = (_row(p, k, x) for p in (threshold, fire, offset))
        v_pre = v + x
        e = torch.maximum(v_pre, -r).to(v_pre.dtype) if memory else v_pre  # r may be wider
        q = e * (1 / theta) + b
        opening = k == 0 and first_levels > 0
        s = level(q, beta, first_levels if opening else levels, powers, signed and not opening)
        y = s * theta
        v, r = v_pre - y, r + y
        values.append(y)
    return _values(values, current), v, r


def count_nonzero(values: Tensor) -> Tensor:
    """How many elements are not zero, for each step. Shape: (K, ...) -> (K,), int64."""
    return torch.stack([torch.count_nonzero(y) for y in values.unbind(0)])


def weigh(values: Tensor, weights: Tensor) -> Tensor:
    """The weights of the elements that are not zero, added up for each step.

    Args:
        values: shape (K, N, ...).
        weights: whole numbers, one for each element of a sample. Shape (...).

    Returns:
        int64. Shape (K,).
    """
    return torch.stack([((y != 0) * weights.to(torch.int64)).sum() for y in values.unbind(0)])


def weigh_by_sample(values: Tensor, weights: Tensor) -> Tensor:
    """As `weigh`, for each step and sample. Shapes: (K, N, ...), (...) -> (K, N), int64."""
    return ((values != 0) * weights.to(torch.int64)).flatten(2).sum(2)


def _row(parameter: Tensor, k: int, x: Tensor) -> Tensor:
    """The parameter in step k, to broadcast over x (N, C, ...). Shape: (K or 1, C or 1) -> (C or 1, ...)."""
    return parameter[k if len(parameter) > 1 else 0].reshape(-1, *[1] * (x.ndim - 2))


def _values(steps: list[Tensor], current: Tensor) -> Tensor:
    """What was sent in K steps, one after the other in memory; nothing where there are none."""
    return torch.stack(steps) if steps else torch.empty_like(current)
