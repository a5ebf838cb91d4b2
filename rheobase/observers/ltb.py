"""Local threshold balancing: thresholds that grow until little is clipped.

References:
    Bu et al. 2025, "Inference-scale complexity in ANN-SNN conversion for high-performance and low-power
    applications", CVPR 2025, arXiv 2409.03368.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from rheobase.errors import SettingError
from rheobase.observers.histogram import FromHistogram

__all__ = ["LTB"]


@final
@dataclass(eq=False)
class LTB(FromHistogram):
    """The threshold after some iterations of local threshold balancing on the activation a = max(z, 0).

    .. code-block:: text

        th(0) = 0;  th(k) = min(th(k-1) + rate * mean(2 (a - th(k-1)) 1[a > th(k-1)]), max a)

    Each iteration descends the clipping error mean((a - min(a, th))^2). Its only fixed point is max a, so
    the number of iterations decides how rare the activations are that get clipped.

    Bu et al. take the mean over one batch an iteration, so that their result depends on the order of the
    data. Here it goes over all the data in every iteration, from a ``Histogram``: the same rule without
    the noise of the batches. They also have no upper limit; where nearly all activations are above zero
    the first iteration alone can pass the maximum (2 mean a > max a), from where theirs never returns.

    Args:
        iterations: 1 or more; in the paper 1,000 to 5,000.
        rate: step of the descent; above 0, up to 1.
        per_channel: one threshold for each channel (dimension 1) instead of one for the site.

    Shape:
        x: (N, C, ...); result: () or, per channel, (C,), float32 (float64 for float64 data); 0 where the
        activation was never above zero.

    Raises:
        SettingError: iterations or rate is out of range.

    Example:
        >>> observer = LTB(iterations=100, per_channel=False)
        >>> observer.update(torch.linspace(-1, 1, 1001)[None])
        >>> round(observer.result().item(), 2)
        0.98
    """

    iterations: int = 1000
    rate: float = 1.0
    per_channel: bool = True

    def __post_init__(self) -> None:
        problems = []
        if self.iterations < 1:
            problems.append(f"iterations is {self.iterations}; accepted: 1 or more.")
        if not 0 < self.rate <= 1:
            problems.append(f"rate is {self.rate}; accepted: above 0, up to 1.")
        if problems:
            raise SettingError("LTB: " + " ".join(problems))
        super().__post_init__()

    def result(self) -> Tensor:
        """Return the threshold, () or (C,)."""
        maximum = self._histogram.quantile(1.0)
        counts = self._histogram.result().reshape(maximum.numel(), -1)  # (C, bins)
        used = (counts > 0).any(0)
        share = counts[:, used] / counts.sum(1, keepdim=True).double()  # (C, B)
        centres = self._histogram.centres().to(counts.device)[used]
        top = maximum.double().reshape(-1, 1)
        above = _above(share)  # (C, B + 1): the share of the activations in bin k and those after it
        mass = _above(share * torch.minimum(centres, top))
        th = torch.zeros_like(top)
        for _ in range(self.iterations):
            k = torch.searchsorted(centres, th, right=True)  # the first bin above th
            excess = mass.gather(1, k) - th * above.gather(1, k)  # mean of (a - th) 1[a > th]
            th = torch.minimum(th + 2 * self.rate * excess.clamp_min(0), top)
        return th.reshape(maximum.shape).to(maximum.dtype)


def _above(x: Tensor) -> Tensor:
    """Sums of column k and those after it, with a column of zeros behind. Shape (C, n) -> (C, n + 1)."""
    return torch.cat([x.flip(1).cumsum(1).flip(1), x.new_zeros(len(x), 1)], 1)
