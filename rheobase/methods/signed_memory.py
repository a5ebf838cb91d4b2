"""SNM: signed neurons with memory.

References:
    Wang, Zhang, Chen, Qu 2022, "Signed neuron with memory: towards simple, accurate and high-efficient ANN-SNN
    conversion", IJCAI 2022.

In the paper a negative spike is sent where v <= -threshold. Here it is sent where v < -threshold / 2 with v counted
from 0, which is v < 0 counted from half a threshold: the stronger rule that the code of DCGS uses (Huang et al.
2025). ``fire=1`` gives the paper's. The paper normalises by neuron; here the threshold is of a channel or layer.
"""

from __future__ import annotations

from dataclasses import dataclass

from rheobase.methods.rate import RateCoding

__all__ = ["SignedMemory"]


@dataclass(frozen=True, repr=False)
class SignedMemory(RateCoding):
    """Ternary rate coding: a negative spike takes back what was sent too much.

    .. code-block:: text

        e(t) = max(v(t-1) + x(t), -r(t-1))                    r the sum of what was sent
        y(t) = threshold if e(t) >= fire threshold, -threshold if e(t) <= -fire threshold, else 0
        v(t) = v(t-1) + x(t) - y(t),  r(t) = r(t-1) + y(t)

    Arguments are those of `RateCoding`.
    """

    signed: bool = True
