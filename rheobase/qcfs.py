"""The activation of Bu et al. 2022, for networks that are trained so that their conversion is exact.

References:
    Bu et al. 2022, arXiv 2303.04347, "Optimal ANN-SNN conversion for high-accuracy and ultra-low-latency spiking
    neural networks" (QCFS: quantisation clip-floor-shift).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from rheobase.errors import SettingError, miscounted, nonpositive
from rheobase.precision import first_weight

__all__ = ["ClipFloorShift", "trained_thresholds", "with_levels"]


class ClipFloorShift(nn.ReLU):
    r"""A ReLU with few levels and a trained clip, to be trained with.

    .. code-block:: text

        h(z) = threshold clip(floor(z L / threshold + 1/2) / L, 0, 1)

    The rate of a neuron with this threshold and half of it as initial potential, after T = L steps of a constant
    current z. Gradients pass the floor as if it were not there; the threshold gets one too. A network that has been
    trained with another implementation (where L and threshold go by other names) is brought here by replacing its
    activations, ``network.set_submodule(path, ClipFloorShift(levels, threshold))``.

    Args:
        levels: L, how many values above 0 there are, at least 1. The paper takes 4 to 16.
        threshold: lambda at the start of training, greater than 0; the paper takes 8.

    Shape:
        (N, ...) -> (N, ...).

    Raises:
        SettingError: a value is outside its range.

    Example:
        >>> ClipFloorShift(2, 1.0)(torch.tensor([-1.0, 0.3, 0.6, 9.0])).tolist()
        [0.0, 0.5, 0.5, 1.0]
    """

    def __init__(self, levels: int = 8, threshold: float = 8.0) -> None:
        super().__init__()
        problems = miscounted("levels", levels) + nonpositive("threshold", threshold)
        if problems:
            raise SettingError("ClipFloorShift: " + "; ".join(problems) + ".")
        self.levels = levels
        self.threshold = nn.Parameter(torch.tensor(float(threshold)))

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (the name that nn.ReLU has)
        q = input * self.levels / self.threshold + 0.5
        count = torch.floor(q).detach() + (q - q.detach())  # the floor exactly, with the gradient of q
        return self.threshold * (count / self.levels).clamp(0, 1)

    def extra_repr(self) -> str:
        return f"levels={self.levels}, threshold={self.threshold.item():.4g}"


def with_levels(model: nn.Module, levels: int = 8, threshold: float = 8.0) -> nn.Module:
    """Make each ReLU module of a network a `ClipFloorShift`, to be trained, or trained further.

    Where one module is called twice, or stands at two places, both calls share its threshold.

    Args:
        model: the network; it is changed.
        levels: L, as in `ClipFloorShift`.
        threshold: lambda at the start of training, as in `ClipFloorShift`.

    Returns:
        The same network.

    Raises:
        SettingError: a value is outside its range, or the network has no ReLU module.

    Example:
        >>> with_levels(nn.Sequential(nn.Linear(2, 3), nn.ReLU()), 4)[1]
        ClipFloorShift(levels=4, threshold=8)
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    paths = [path for path, module in modules.items() if path and type(module) is nn.ReLU]
    if not paths:
        has = any(isinstance(module, ClipFloorShift) for module in modules.values())
        raise SettingError(
            "with_levels: the network has levels already; give one with nn.ReLU modules."
            if has
            else "with_levels: the network has no nn.ReLU module to replace. Give a network with modules for its "
            "activations; a call of torch.relu has no place for a threshold."
        )
    like = first_weight(model, torch.zeros(()))
    made: dict[int, ClipFloorShift] = {}
    for path in paths:
        old = modules[path]
        if id(old) not in made:
            made[id(old)] = ClipFloorShift(levels, threshold).to(like.device, like.dtype).train(old.training)
        model.set_submodule(path, made[id(old)])
    return model


def trained_thresholds(module: nn.Module, sites: Iterable[str]) -> dict[str, Tensor]:
    """The thresholds that activations of a network were trained with, of those that were. Shapes ().

    Args:
        module: the network.
        sites: the paths of the activations.

    Raises:
        SettingError: a threshold is not positive, so the training went wrong.
    """
    found = {site: module.get_submodule(site) for site in sites}
    trained = {s: a.threshold.detach().clone() for s, a in found.items() if isinstance(a, ClipFloorShift)}
    for site, threshold in trained.items():
        if not 0 < float(threshold) < float("inf"):
            raise SettingError(
                f"The activation {site} was trained to the threshold {float(threshold):.4g}, which is not positive and "
                "finite. Train again with a smaller learning rate for the thresholds, or with weight decay."
            )
    return trained
