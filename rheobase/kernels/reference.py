"""The neurons as plain PyTorch, one step at a time: the specification that fast kernels are tested against.

Any dtype, any device, differentiable wherever the equations are.

Shapes: current (K, N, ...), state (N, ...), threshold () or broadcastable to (N, ...). What is
emitted, the spike times the threshold of that step, has the shape of current.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softplus

__all__ = ["count_nonzero", "if_scan", "msat_scan", "msat_threshold"]


def if_scan(
    current: Tensor, potential: Tensor, threshold: Tensor, *, hard_reset: bool = False
) -> tuple[Tensor, Tensor]:
    """Integrate and fire, K steps.

    Each step: v_pre = v + x; s = [v_pre >= M]; y = s M; v = v_pre - y (soft reset), or 0 where s
    (hard reset).

    Returns:
        The emitted values (K, N, ...) and the potential after the last step (N, ...).
    """
    v, values = potential, []
    for x in current.unbind(0):
        v_pre = v + x
        s = v_pre >= threshold
        y = torch.where(s, threshold, 0.0)
        v = torch.where(s, 0.0, v_pre) if hard_reset else v_pre - y
        values.append(y)
    return _stack(values, current), v


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
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Multi-stage adaptive threshold, K steps.

    Each step, t steps done before it: v_pre = v + x; th by `msat_threshold` (M where t = 0);
    s = [v_pre >= th]; y = s th; v = v_pre - y; mean = mean + (v - mean) / (t + 1); last = v_pre.

    Args:
        current: x. Shape (K, N, ...).
        potential: v, after firing. Shape (N, ...).
        mean: the mean of v over the steps done. Shape (N, ...).
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

    Returns:
        The emitted values (K, N, ...), then potential, mean and last after the last step.

    References:
        He et al. 2023, arXiv 2303.13080, Eqs. 9-15 and Alg. 1.
    """
    v, values = potential, []
    for t, x in enumerate(current.unbind(0), start=steps_done):
        v_pre = v + x
        if t == 0:
            th = threshold
        else:
            drive = x if drive_is_current else v_pre - last
            th = msat_threshold(
                v - mean, drive, threshold, alpha=alpha, ka=ka, ki=ki, c=c, v_t=v_t, dtt_gain=dtt_gain,
                det_gain=det_gain, use_dtt=use_dtt, use_det=use_det, raw_units=raw_units,
            )  # fmt: skip
        y = torch.where(v_pre >= th, th, 0.0)
        v = v_pre - y
        mean = mean + (v - mean) / (t + 1)
        last = v_pre
        values.append(y)
    return _stack(values, current), v, mean, last


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


def count_nonzero(values: Tensor) -> Tensor:
    """How many elements are not zero, for each step. Shape: (K, ...) -> (K,), int64."""
    return torch.stack([torch.count_nonzero(y) for y in values.unbind(0)])


def _stack(values: list[Tensor], current: Tensor) -> Tensor:
    """K tensors (N, ...) as one (K, N, ...) that keeps their channels-last order."""
    if not values:
        return torch.empty_like(current)
    if current.ndim < 3:
        return torch.stack(values)
    return torch.cat(values).view(current.shape)
