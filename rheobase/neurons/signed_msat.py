"""MSAT with signed spikes and a memory of what was sent. Our own extension of He et al. 2023.

References:
    He, Li, Zhao, Kong, Zeng 2023, arXiv 2303.13080 (the threshold).
    Wang, Zhang, Chen, Qu 2022, "Signed neuron with memory", IJCAI 2022 (the memory).
"""

from __future__ import annotations

from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor

from rheobase import kernels
from rheobase.neurons._base import Neuron
from rheobase.neurons.alphabet import Alphabet, Payload
from rheobase.neurons.graded import along, at_steps
from rheobase.neurons.integrate_fire import positive, summary
from rheobase.neurons.msat import Adaptation
from rheobase.precision import type_of_sums

__all__ = ["SignedMSAT", "SignedMSATState"]


class SignedMSATState(NamedTuple):
    """That of `MSAT`, and the sum of what was sent, in half precision in float32. Each tensor: (N, ...)."""

    potential: Tensor
    sent: Tensor
    mean: Tensor
    before_firing: Tensor
    steps: int


class SignedMSAT(Neuron):
    r"""Integrate and fire with the threshold of MSAT, and spikes that take back what was sent too much.

    With th(t) as in `MSAT`, from v, its running mean, and the change of v_pre:

    .. code-block:: text

        v_pre(t) = v(t-1) + x(t)
        e(t)     = max(v_pre(t), -r(t-1))                 = relu(C(t)) - r(t-1), C the sum of all x
        q(t)     = e(t) / th(t) + offset
        s(t)     = 1 if q >= fire, -1 if q <= -fire, else 0
        y(t)     = max(th(t) s(t), -r(t-1))
        v(t)     = v_pre(t) - y(t),  r(t) = r(t-1) + y(t)

    A spike carries a real number, so that one taking back can carry just what is left, and r is never negative.
    For gradients th(t) / M is a constant.

    Args:
        threshold: M. Shape (), (C,) a channel, or (T, C): a schedule, row t for step t, the last one for later steps.
        adaptation: the hyper-parameters and variants of the threshold.
        fire: the smallest |q| that fires, greater than 0; 0.5 rounds. Shapes as for the threshold.
        offset: added to q. Shapes as for the threshold.

    Raises:
        SettingError: a value is outside its range.

    Example:
        >>> import torch
        >>> neuron = SignedMSAT(1.0, Adaptation())
        >>> [round(y, 4) for y in neuron(torch.tensor([[0.6], [0.6], [-1.0], [-1.0]])).flatten().tolist()]
        [1.0, 0.0, -0.5689, -0.4311]
    """

    alphabet = Alphabet(Payload.REAL, signed=True)
    tunable = MappingProxyType({"threshold": "log", "fire": "log", "offset": "linear"})
    threshold: Tensor
    fire: Tensor
    offset: Tensor

    def __init__(
        self,
        threshold: Tensor | float,
        adaptation: Adaptation,
        fire: Tensor | float = 0.5,
        offset: Tensor | float = 0.0,
    ) -> None:
        super().__init__()
        self.register_buffer("threshold", positive(threshold, "SignedMSAT"))
        dtype = self.threshold.dtype
        self.register_buffer("fire", positive(torch.as_tensor(fire, dtype=dtype), "SignedMSAT, fire"))
        self.register_buffer("offset", torch.as_tensor(offset, dtype=dtype))
        self.adaptation = adaptation

    def initial_state(self, current: Tensor) -> SignedMSATState:
        zero = torch.zeros_like(current)
        wide = zero.to(type_of_sums(zero.dtype))
        return SignedMSATState(zero, wide, wide, zero, 0)

    def step(self, current: Tensor, state: SignedMSATState) -> tuple[Tensor, SignedMSATState]:
        y, new = self.scan(current.unsqueeze(0), state)
        return y.squeeze(0), new

    def scan(self, current: Tensor, state: SignedMSATState) -> tuple[Tensor, SignedMSATState]:
        k = current.shape[0]
        y, v, r, mean, v_pre = kernels.signed_msat_scan(
            current,
            *state,
            *(at_steps(p, state.steps, k) for p in (self.threshold, self.fire, self.offset)),
            **self.adaptation.arguments(),
            backend=self.backend,
        )
        return y, SignedMSATState(v, r, mean, v_pre, state.steps + k)

    def expected_rate(self, current: Tensor, steps: int) -> Tensor:
        """The activation clipped at M: charge is conserved, as for `MSAT`."""
        return current.clamp(min=0.0).minimum(along(self.threshold, current))

    def rate_bound(self, steps: int) -> float:
        return 10.0 / steps

    def had_sent(self, state: SignedMSATState, total: Tensor) -> SignedMSATState:
        return state._replace(sent=total)

    def refund(self, state: SignedMSATState, charge: Tensor) -> SignedMSATState:
        return state._replace(
            potential=state.potential + charge, sent=state.sent - charge, mean=state.mean + charge / state.steps
        )

    def extra_repr(self) -> str:
        return f"threshold={summary(self.threshold)}, {self.adaptation}"
