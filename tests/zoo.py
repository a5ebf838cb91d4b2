"""Small networks, each awkward in its own way: what a conversion of real code has to cope with.

`ZOO` must convert. `UNSUPPORTED` and `UNTRACEABLE` must be refused with an error that says why.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

__all__ = ["UNSUPPORTED", "UNTRACEABLE", "ZOO", "Entry", "build", "inputs"]


@dataclass(frozen=True)
class Entry:
    """A network, the shape of one input, the sites it must have, and the words its error must contain."""

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    sites: tuple[str, ...] | None = None
    words: tuple[str, ...] = ()


ZOO: dict[str, Entry] = {}
UNSUPPORTED: dict[str, Entry] = {}
UNTRACEABLE: dict[str, Entry] = {}


def converts(*shape: int, sites: str | None = None) -> Callable[[Callable[[], nn.Module]], Callable[[], nn.Module]]:
    """Put a network into `ZOO`."""

    def enter(make: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
        ZOO[make.__name__] = Entry(make, shape, None if sites is None else tuple(sites.split()))
        return make

    return enter


def refused(zoo: dict[str, Entry], *shape: int, words: tuple[str, ...]) -> Callable[[Callable[[], nn.Module]], None]:
    """Put a network into one of the other two."""

    def enter(make: Callable[[], nn.Module]) -> None:
        zoo[make.__name__] = Entry(make, shape, words=words)

    return enter


def build(entry: Entry) -> nn.Module:
    """The network, the same at each call, with batch statistics as training leaves them."""
    torch.manual_seed(0)
    model = entry.make()
    for part in model.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.running_mean is not None:
            part.running_mean.normal_(0.0, 0.3)
            part.running_var.uniform_(0.5, 2.0)
            if part.affine:
                nn.init.uniform_(part.weight, 0.5, 1.5)
                nn.init.normal_(part.bias, 0.0, 0.3)
    return model


def inputs(entry: Entry, samples: int, seed: int = 1) -> Tensor:
    """Inputs of the type of the network's parameters."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(samples, *entry.shape, generator=generator)
    return x.double() if entry.make.__name__.startswith("Double") else x


# ------------------------------------------------------------------------------ spellings of ReLU


@converts(6, sites="1")
def plain() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


class _Renamed(nn.ReLU):
    """A subclass that changes nothing."""


class _Rewritten(nn.ReLU):
    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(min=0)


@converts(6, sites="1")
def relu_subclass() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), _Renamed(), nn.Linear(8, 3))


@converts(6, sites="1.relu")
def relu_subclass_with_forward() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), _Rewritten(), nn.Linear(8, 3))


class _Block(nn.Module):
    """Two layers between which an activation stands; the second reads its input as well."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.one, self.two, self.relu = nn.Linear(width, width), nn.Linear(width, width), nn.ReLU()


@converts(6, sites="relu relu_1 relu_2 relu_3 relu_4 relu_5 relu_6 relu_7 relu_8")
class Spellings(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(6, 6) for _ in range(10)])

    def forward(self, x: Tensor) -> Tensor:
        a, b, c, d, e, f, g, h, i, last = self.layers
        x = F.relu(input=a(x))
        x = torch.relu(b(x))
        x = c(x).relu()
        x = d(x).relu_()
        x = F.relu_(e(x))
        x = F.relu(f(x), True)
        x = g(x).clamp(min=0)
        x = torch.clamp(h(x), 0.0)
        x = i(x).clamp_min_(0)
        return last(x)


@converts(6, sites="blocks.0.relu blocks.0.relu_1 blocks.1.relu blocks.1.relu_1")
class OneModuleManyCalls(nn.Module):
    class _Twice(_Block):
        def forward(self, x: Tensor) -> Tensor:
            return self.relu(self.two(self.relu(self.one(x))))

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([self._Twice(), self._Twice()])
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return self.head(x)


@converts(6, sites="block.relu block.relu_1 block.relu_2")
class FunctionalBesideModule(nn.Module):
    class _Mixed(_Block):
        def forward(self, x: Tensor) -> Tensor:
            return F.relu(self.two(F.relu(self.relu(self.one(x)) - 0.1)))

    def __init__(self) -> None:
        super().__init__()
        self.block, self.head = self._Mixed(), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block(x))


@converts(3, 6, 6)
class SharedConvTwoNorms(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.conv, self.act = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()
        self.norms = nn.ModuleList([nn.BatchNorm2d(4), nn.BatchNorm2d(4)])

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.first(x))
        for norm in self.norms:
            x = self.act(norm(self.conv(x)))
        return x.mean([2, 3])


@converts(6)
class TiedWeights(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.norm = nn.Linear(6, 6), nn.Linear(6, 6), nn.BatchNorm1d(6)
        self.b.weight = self.a.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.b(F.relu(self.norm(self.a(x))))


@converts(6)
class WeightReadElsewhere(nn.Module):
    """Folding the batch norm into the layer must not reach the second use of its weight."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm = nn.Linear(6, 6), nn.BatchNorm1d(6)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.layer(x)))
        return x @ self.layer.weight + self.norm.running_mean


# --------------------------------------------------------------------------------------- in place


@converts(6)
class InPlaceReluReadAgain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.act = nn.Linear(6, 6), nn.Linear(6, 6), nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x)
        y = self.b(self.act(h))
        return y + h


@converts(6)
class InPlaceSums(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        x -= 0.5  # the caller's tensor
        x = F.relu(self.a(x))
        same = x
        x += self.b(x)
        F.relu_(x)
        x.add_(self.c(x)).mul_(0.5)
        x /= 2
        return same + x


@converts(6)
class InPlaceOnTheInput(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.act, self.layer = nn.ReLU(inplace=True), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.act(x)) + x[:, :3]


# ------------------------------------------------------------------------------------- batch norm


def _norm_net(layer: nn.Module, norm: nn.Module, *after: nn.Module) -> nn.Module:
    return nn.Sequential(layer, norm, nn.ReLU(), *after)


@converts(6)
def linear_norm() -> nn.Module:
    return _norm_net(nn.Linear(6, 8, bias=False), nn.BatchNorm1d(8), nn.Linear(8, 3), nn.BatchNorm1d(3, affine=False))


@converts(4, 10)
def conv1d_norm() -> nn.Module:
    return _norm_net(nn.Conv1d(4, 6, 3, dilation=2, groups=2, bias=False), nn.BatchNorm1d(6))


@converts(4, 7, 7)
def conv2d_norm() -> nn.Module:
    return _norm_net(nn.Conv2d(4, 8, 3, stride=2, padding="valid", groups=4), nn.BatchNorm2d(8, affine=False))


@converts(2, 4, 4, 4)
def conv3d_norm() -> nn.Module:
    return _norm_net(nn.Conv3d(2, 3, 2, padding=1, padding_mode="circular"), nn.BatchNorm3d(3))


@converts(4, 6)
def transposed1d_norm() -> nn.Module:
    return _norm_net(nn.ConvTranspose1d(4, 6, 3, stride=2, groups=2, dilation=2), nn.BatchNorm1d(6))


@converts(6, 4, 4)
def transposed2d_norm() -> nn.Module:
    layer = nn.ConvTranspose2d(6, 9, 3, stride=2, groups=3, output_padding=1, bias=False)
    return _norm_net(layer, nn.SyncBatchNorm(9))


@converts(4, 3, 3, 3)
def transposed3d_norm() -> nn.Module:
    return _norm_net(nn.ConvTranspose3d(4, 4, 2, groups=4), nn.BatchNorm3d(4))


@converts(4, 6)
def norm_of_tokens() -> nn.Module:
    """(N, C, L) after a linear layer: the channels of the norm are not the outputs of the layer."""
    return _norm_net(nn.Linear(6, 5), nn.BatchNorm1d(4), nn.Flatten(), nn.Linear(20, 3))


@converts(3, 6, 6)
def norm_first() -> nn.Module:
    return nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))


@converts(6)
def two_norms() -> nn.Module:
    return _norm_net(nn.Linear(6, 6), nn.Sequential(nn.BatchNorm1d(6), nn.BatchNorm1d(6)), nn.Linear(6, 2))


@converts(3, 6, 6)
class PreActivation(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.n1, self.n2, self.n3 = nn.BatchNorm2d(4), nn.BatchNorm2d(4), nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        x = x + self.conv(F.relu(self.n1(x)))
        x = F.relu(self.n2(input=x))
        x = F.relu(self.n3(torch.cat([x, -x], 1)))
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


# ---------------------------------------------------------------------------------------- dropout


@converts(6)
class Dropouts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 3)
        self.drops = nn.Sequential(nn.Dropout(), nn.AlphaDropout(), nn.FeatureAlphaDropout(), nn.Identity())

    def forward(self, x: Tensor) -> Tensor:
        x = self.drops(F.relu(self.a(F.dropout(x, training=self.training))))
        x = F.dropout(F.alpha_dropout(x, 0.5, self.training), 0.3, self.training, True)
        x = torch.dropout(F.feature_alpha_dropout(x, 0.5, self.training), 0.5, self.training)
        return self.b(F.dropout1d(x, training=False))


# ----------------------------------------------------------------------------- shapes and batches


@converts(3, 4, 5)
class Sizes(nn.Module):
    """Sizes of the input, taken early and used late, in every spelling."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 1), nn.Linear(90, 3)
        self.register_buffer("ones", torch.ones(1, 1, 4, 1))

    def forward(self, x: Tensor) -> Tensor:
        n = x.size(0)
        b, c, h, w = x.shape
        assert c == 3, "images"
        assert x.dim() == 4
        x = F.relu(self.conv(x)) + self.ones
        x = torch.cat([x, x.new_zeros(n, 1, h, w), torch.zeros(b, 1, h, w, dtype=x.dtype)], 1)
        x = x + torch.arange(x.shape[3]) + torch.ones(h, 1)
        x = F.pad(x, (0, 1)).permute(0, 2, 3, 1).contiguous()[:, :, : w // 2 + 1]
        x = x.reshape(n, -1, c * 2).transpose(1, 2).reshape(x.shape[0], -1)
        x = torch.cat([x, torch.zeros(n, 18)], dim=-1)
        return self.head(x.view(b * 2 // 2, 90)).view(n, -1)


@converts(4, 6, 6, sites="0.relu 0.relu_1")
class ViewAfterConv(nn.Module):
    """``view`` fails on channels-last memory, which convolutions prefer."""

    class _Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.head = nn.Conv2d(4, 8, 3), nn.Conv2d(8, 8, 3), nn.Linear(32, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = F.relu(self.b(F.relu(self.a(x))))
            return self.head(x.view(x.size(0), -1))

    def __new__(cls) -> nn.Module:  # type: ignore[misc]
        return nn.Sequential(cls._Net())


@converts(3, 4, 4)
class Squeeze(nn.Module):
    """``squeeze()`` also removes a batch dimension of 1."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 5, 4), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.conv(x)).squeeze()).reshape(x.size(0), 3)


@converts(4, 6, 6)
class Splits(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Conv2d(2, 4, 1), nn.Conv2d(2, 4, 1), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, dim=1)
        y = F.relu(self.a(left))
        one, two, three = torch.split(y, [1, 1, 2], 1)
        z = F.relu(self.b(three) + right[:, :1])
        parts = torch.stack(torch.unbind(torch.cat([one, two, left, z], dim=1), 1), 1)
        return self.head(parts.flip(2).mean((2, 3)))


@converts(3, 5, 4)
class GroupsInTheBatch(nn.Module):
    """Parts of a sample as samples of their own: (N, L, C) -> (N*L, C) and back."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        n, k, length, c = x.shape
        y = F.relu(self.a(x.reshape(n * k * length, c)))
        return self.b(y).view(n, k, -1).sum(1)


@converts(5, 4)
class TransposedAndBack(nn.Module):
    """Samples along the second dimension between two layers, and in a constant that is added there."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(20, 2)

    def forward(self, x: Tensor) -> Tensor:
        early = x.transpose(0, 1)  # (L, N, C)
        y = F.relu(self.a(x)).transpose(0, 1)
        y = (self.b(y) + early).permute(1, 0, 2)
        return self.c(F.relu(y).flatten(1))


@converts(3, 8, 8, sites="layer.0.relu layer.0.relu_1 layer.1.relu layer.1.relu_1")
class LambdaShortcut(nn.Module):
    """The shortcut of akamaster's ResNets: slice, and pad with zeros."""

    class _Lambda(nn.Module):
        def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
            super().__init__()
            self.function = function

        def forward(self, x: Tensor) -> Tensor:
            return self.function(x)

    class _Basic(nn.Module):
        def __init__(self, width: int, stride: int, shortcut: nn.Module) -> None:
            super().__init__()
            self.a = nn.Conv2d(width, width * stride, 3, stride, 1, bias=False)
            self.b = nn.Conv2d(width * stride, width * stride, 3, 1, 1, bias=False)
            self.n1, self.n2 = nn.BatchNorm2d(width * stride), nn.BatchNorm2d(width * stride)
            self.shortcut = shortcut

        def forward(self, x: Tensor) -> Tensor:
            out = self.n2(self.b(F.relu(self.n1(self.a(x)))))
            out += self.shortcut(x)
            return F.relu(out)

    def __init__(self) -> None:
        super().__init__()
        pad = self._Lambda(lambda x: F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 1), "constant", 0))
        self.layer = nn.Sequential(self._Basic(3, 1, nn.Sequential()), self._Basic(3, 2, pad))
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        out = self.layer(x)
        out = F.avg_pool2d(out, out.size()[3])
        return self.head(out.view(out.size(0), -1))


# ------------------------------------------------------------------------------------ averages


@converts(2, 8, 8)
class Averages(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.head = nn.Conv2d(2, 3, 3, padding=1), nn.Linear(18, 3)
        self.pool, self.adaptive = nn.AvgPool2d(2), nn.AdaptiveAvgPool2d((1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.a(self.pool(x)))
        n = x.size(0)
        spelled = [
            self.adaptive(x).view(n, -1),
            F.adaptive_avg_pool2d(x, 1).flatten(1),
            F.avg_pool2d(x, x.size()[2:]).reshape(n, 3),
            x.mean([2, 3]),
            torch.mean(x, dim=(2, 3)),
            x.sum(3).sum(2) / (x.size(2) * x.shape[3]),
        ]
        return self.head(torch.cat(spelled, 1))


# -------------------------------------------------------------------------------- max pooling


@converts(4, 12, sites="act")
class MaxPool1dMoved(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act, self.pool = nn.Conv1d(4, 5, 3), nn.ReLU(), nn.MaxPool1d(3, 2, 1, dilation=2)
        self.head = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pool(self.act(self.conv(x))).amax(dim=-1))


@converts(3, 9, 9)
class MaxPool2dNotMoved(nn.Module):
    """Another branch reads the ReLU too."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.pool = nn.Conv2d(3, 4, 3), nn.MaxPool2d(3, 2, ceil_mode=True, padding=1)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv(x))
        return self.head(self.pool(x).mean((2, 3)) + x.amax((2, 3)))


@converts(2, 5, 5, 5)
class MaxPool3d(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv3d(2, 3, 2), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool3d(F.relu(self.conv(x)), 2, stride=1)
        return self.head(F.adaptive_max_pool3d(-x, 1).flatten(1))


@converts(3, 12, 12)
class ManyMaxPools(nn.Module):
    """On the input, before batch norm and ReLU, several in a row, and of both constant and moving."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.n1, self.n2 = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.pool, self.head = nn.MaxPool2d(2, 1), nn.Linear(11, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(x)
        y = F.relu(self.n1(self.pool(self.a(x))))
        y = self.pool(self.pool(F.relu(self.n2(self.pool(self.b(y))))))
        both = self.pool(torch.cat([x[:, :, :5, :5], y[:, :, :5, :5], -y[:, :, :5, :5]], 1))
        return self.head(F.adaptive_max_pool2d(both, (1, 1)).squeeze(3).squeeze(2))


@converts(3, 10)
class GlobalMaxOverTime(nn.Module):
    """As text networks spell it: the kernel is the size of the input, or ``max`` gives its indices too."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv1d(3, 4, k) for k in (2, 3, 4)])
        self.head = nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        a, b, c = (F.relu(conv(x)) for conv in self.convs)
        a = F.max_pool1d(a, a.size(2)).squeeze(2)
        b, _ = torch.max(b, 2)
        c = c.max(dim=-1, keepdim=True).values.squeeze(-1)
        return self.head(torch.cat([a, b, c], dim=1))


# ---------------------------------------------------------------------------- changed weights


@converts(3, 6, 6)
def weight_norms() -> nn.Module:
    with warnings.catch_warnings(action="ignore", category=FutureWarning):  # deprecated, and in use
        first = weight_norm(nn.Conv2d(3, 4, 3))
    masked = nn.Conv2d(4, 4, 3)
    prune.l1_unstructured(masked, "weight", 0.5)
    return nn.Sequential(
        first, nn.BatchNorm2d(4), nn.ReLU(), masked, nn.BatchNorm2d(4), nn.ReLU(),
        nn.Flatten(), spectral_norm(nn.Linear(16, 8)), nn.BatchNorm1d(8), nn.ReLU(),
        parametrizations.weight_norm(nn.Linear(8, 8)), nn.BatchNorm1d(8), nn.ReLU(),
        parametrizations.spectral_norm(nn.Linear(8, 3)), nn.BatchNorm1d(3),
    )  # fmt: skip


class _Standardised(nn.Conv2d):
    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        mean = weight.mean((1, 2, 3), keepdim=True)
        return super()._conv_forward(x, (weight - mean) / (weight.std((1, 2, 3), keepdim=True) + 1e-5), bias)


class _StandardisedAgain(_Standardised):
    """The override is in the base class."""


@converts(3, 6, 6)
def standardised_weights() -> nn.Module:
    return nn.Sequential(
        *(_Standardised(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()),
        *(_StandardisedAgain(4, 4, 3, groups=2), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)),
    )


@converts(3, 6, 6)
class FunctionalWeights(nn.Module):
    """Weights of one's own, several constants in one module, and a learned offset."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.offset = nn.Parameter(torch.randn(4, 3, 3, 3)), nn.Parameter(torch.randn(1, 4, 1, 1))
        self.up, self.matrix = nn.Parameter(torch.randn(4, 4, 2, 2)), nn.Parameter(torch.randn(4, 3))
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        scale, shift = torch.exp(self.offset), torch.tanh(self.offset)
        x = F.relu(self.norm(F.conv2d(x, self.weight * 0.3, self.offset.view(-1), padding=1)))
        x = F.relu(F.conv_transpose2d(x, self.up) * scale + shift)
        return F.linear(x.mean((2, 3)), self.matrix.t(), bias=None) @ torch.eye(3)


# ------------------------------------------------------------------------ heads and arguments


@converts(6)
class OptionalArguments(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor, mask: Tensor | None = None, scale: float = 2.0, *, flag: bool = False) -> Tensor:
        x = F.relu(self.a(x))
        if flag or mask is not None:
            x = x * mask
        return self.b(x) * scale


def _headed(head: Callable[[Tensor, Tensor], Tensor]) -> type[nn.Module]:
    class Headed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            return head(self.b(F.relu(self.a(x))), x)

    return Headed


for _name, _head in {
    "softmax": lambda y, x: F.softmax(y, dim=1),
    "log_softmax_of_size": lambda y, x: F.log_softmax(y, 1).view(y.size(0), y.shape[1], 1),
    "sigmoid_of_input_size": lambda y, x: torch.sigmoid(y).reshape(x.size(0), -1) * 2,
    "normalised": lambda y, x: F.normalize(y) / y.shape[1],
    "analog_read_twice": lambda y, x: F.softmax(y, 1) * torch.tanh(y) + y,
    "input_in_the_head": lambda y, x: torch.exp(y) + torch.sigmoid(x[:, :3]),
    "analog_feeds_neurons": lambda y, x: y + F.relu(y - 0.1) * 2,
    "relu_output": lambda y, x: F.relu(y),
    "clamped_head": lambda y, x: (y + 1).clamp(-1, 1),
}.items():
    ZOO[_name] = Entry(_headed(_head), (6,))  # type: ignore[arg-type]


@converts(3, 6, 6)
class Preprocessing(nn.Module):
    """Anything may happen to the input before the first layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(64, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.sign(x) * x.abs().sqrt()
        x = (x - x.mean((1, 2, 3), keepdim=True)) / x.norm(dim=1, keepdim=True)
        return self.head(F.relu(self.conv(x)).flatten(1))


# ------------------------------------------------------------------------- whole architectures


@converts(6)
def train_mode_with_hooks() -> nn.Module:
    model = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(), nn.Linear(6, 3))
    model[0].register_forward_hook(lambda module, args, output: None)
    model[2].register_forward_pre_hook(lambda module, args: None)
    return model.train()


@converts(6)
class DoubleNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3)).double()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


@converts(3, 8, 8)
class Inception(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.three, self.after = nn.Conv2d(3, 2, 1), nn.Conv2d(3, 2, 3, padding=1), nn.Conv2d(7, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.after(self._block(x)))
        return self._block(x).mean((2, 3))

    def _block(self, x: Tensor) -> Tensor:
        pooled = F.max_pool2d(x, kernel_size=3, stride=1, padding=1)
        return torch.cat([F.relu(self.one(x)), F.relu(self.three(x)), pooled], 1)


@converts(3, 6, 6)
class DenseNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(10, 3)
        self.norms = nn.ModuleList([nn.BatchNorm2d(4 + 2 * i) for i in range(4)])
        self.convs = nn.ModuleList([nn.Conv2d(4 + 2 * i, 2, 3, padding=1) for i in range(3)])

    def forward(self, x: Tensor) -> Tensor:
        features = [self.stem(x)]
        for norm, conv in zip(self.norms, self.convs, strict=False):
            features.append(conv(F.relu(norm(torch.cat(features, 1)))))
        x = F.relu(self.norms[3](torch.cat(features, 1)), inplace=True)
        return self.head(torch.flatten(F.adaptive_avg_pool2d(x, (1, 1)), 1))


@converts(2, 8, 8)
class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.deep, self.up = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(8, 4, 1)
        self.transposed, self.out = nn.ConvTranspose2d(4, 4, 2, stride=2), nn.Conv2d(8, 1, 1)
        self.pool, self.upsample = nn.MaxPool2d(2), nn.Upsample(scale_factor=2, mode="bilinear")

    def forward(self, x: Tensor) -> Tensor:
        skip = F.relu(self.down(x))
        low = F.relu(self.deep(self.pool(skip)))
        lower = F.relu(self.deep(self.pool(low)))
        y = torch.cat([F.interpolate(lower, size=low.shape[2:], mode="nearest"), low], 1)
        y = torch.cat([F.relu(self.transposed(F.relu(self.up(y)))), skip], dim=1)
        return self.out(y) + self.upsample(lower).sum(1, keepdim=True).repeat(1, 1, 2, 2)


@converts(1, 64)
def raw_waveform() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv1d(1, 4, 16, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.MaxPool1d(2)),
        *(nn.Conv1d(4, 8, 3), nn.BatchNorm1d(8), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten()),
        *(nn.Linear(8, 3), nn.LogSoftmax(dim=-1)),
    )


@converts(4, 6, 6)
class Shuffled(nn.Module):
    """Grouped and depthwise convolutions with a channel shuffle of one's own."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(4, 4, 1, groups=2), nn.Conv2d(4, 8, 3, groups=4)
        self.n, self.head = nn.BatchNorm2d(8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.a(x))
        b, c, h, w = x.size()
        x = x.view(b, 2, c // 2, h, w).transpose(1, 2).contiguous().view(b, -1, h, w)
        return self.head(F.relu(self.n(self.b(x))).mean(-1).mean(-1))


# ---------------------------------------------------------------------------------- refused


@converts(6)
class SquareOfTheAnswers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.b(F.relu(self.a(x)))
        return x * x + 1


@refused(UNSUPPORTED, 6, 4, words=(
    "5 operations have", "encoder.attention: MultiheadAttention", "norm: LayerNorm", "F.gelu(", "gelu: GELU",
    "lstm: LSTM", "zoo.py", "Replace",
))  # fmt: skip
class Transformer(nn.Module):
    class _Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.attention(x, x, x)[0]

    def __init__(self) -> None:
        super().__init__()
        self.first, self.encoder, self.norm, self.gelu = nn.Linear(4, 4), self._Encoder(), nn.LayerNorm(4), nn.GELU()
        self.lstm, self.last = nn.LSTM(4, 4, batch_first=True), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.encoder(F.relu(self.first(x))))
        x = F.gelu(self.gelu(x))
        return self.last(self.lstm(x)[0][:, -1])


@refused(UNSUPPORTED, 6, words=("1 operation has", "1: BatchNorm1d", "running"))
def batch_statistics() -> nn.Module:
    return nn.Sequential(
        nn.Linear(6, 6), nn.BatchNorm1d(6, affine=False, track_running_stats=False), nn.ReLU(), nn.Linear(6, 3)
    )


@refused(UNSUPPORTED, 6, words=("0: BatchNorm1d", "4: BatchNorm1d"))
def batch_statistics_at_both_ends() -> nn.Module:
    ends = [nn.BatchNorm1d(n, affine=False, track_running_stats=False) for n in (6, 3)]
    return nn.Sequential(ends[0], nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 3), ends[1])


@refused(UNSUPPORTED, 6, words=("mul()", "Replace"))
class Gate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.a(x))
        return self.b(x * self.b(x))


@refused(UNSUPPORTED, 6, words=("4 operations have", ".mul()", "mul()", "einsum()", "truediv()"))
class WithItself(nn.Module):
    """A signal times itself is its square, and divided by itself no signal."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.a(x))
        return self.b(x * x + x.mul(x) + torch.einsum("bi,bi->bi", x, x) + x / x)


@refused(UNSUPPORTED, 6, words=("sigmoid()", "mul()"))
class TwoHeadsInOne(nn.Module):
    """The read-out is one tensor: a function of two cannot be applied to the mean of one."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 6), nn.Linear(6, 3), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.a(x))
        return torch.sigmoid(self.b(x)) * self.c(x)


@refused(UNSUPPORTED, 6, words=("Sigmoid", "dropout()"))
class NoReluForm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.act, self.b = nn.Linear(6, 6), nn.Sigmoid(), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(F.relu(F.dropout(self.act(self.a(x)))))


@refused(UNSUPPORTED, 1, 6, 6, words=("MaxPool2d", "MaxUnpool2d"))
class Unpooling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.pool, self.back = nn.Conv2d(1, 2, 1), nn.MaxPool2d(2, return_indices=True), nn.MaxUnpool2d(2)
        self.last = nn.Conv2d(2, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        pooled, at = self.pool(F.relu(self.conv(x)))
        return self.last(self.back(pooled, at))


@refused(UNSUPPORTED, 6, words=("has no ReLU", "nothing to convert"))
def no_relu() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 3))


def _simple(forward: Callable[..., object]) -> type[nn.Module]:
    """A module with three layers ``a``, ``b``, ``c`` of 6 units, and this forward."""

    def init(self: nn.Module) -> None:
        nn.Module.__init__(self)
        self.a, self.b, self.c = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6)

    forward.__code__ = forward.__code__.replace(co_name="forward")
    return type("Simple", (nn.Module,), {"__init__": init, "forward": forward})


def _branch(self, x):
    x = F.relu(self.a(x))
    if x.sum() > 0:
        x = self.b(x)
    return x


def _slice_assignment(self, x):
    x = F.relu(self.a(x))
    x[:, 0] = 0
    return x


def _view_in_place(self, x):
    x = self.a(x)
    x[:, :2].add_(1.0)
    return F.relu(x)


def _relu_of_base_in_place(self, x):
    x = self.a(x)
    view = x.view(-1, 3, 2)
    x.relu_()
    return self.b(view.flatten(1))


def _centred(self, x):
    x = F.relu(self.a(x))
    return F.relu(self.b(x - x.mean(0)))


def _samples_second(self, x):
    return F.relu(self.a(x).t()).t()


def _scaled_by_the_batch(self, x):
    return self.b(F.relu(self.a(x / x.max())))


for _name, _forward, _words in (
    ("data_dependent_if", _branch, ("cannot trace", "if x.sum() > 0", "zoo.py", "wrap")),
    ("slice_assignment", _slice_assignment, ("x[:, 0] = 0", "slice")),
    ("view_in_place", _view_in_place, ("in place on a view",)),
    ("relu_of_base_in_place", _relu_of_base_in_place, ("in place on a view",)),
    ("random", lambda self, x: F.relu(self.a(F.dropout(x))), ("training=self.training",)),
    ("hard_coded_batch", lambda self, x: F.relu(self.a(x.view(4, 6))), ("size(0)",)),
    ("mean_over_samples", _centred, ("mixes the samples", "mean()", "x.mean(0)")),
    ("samples_second", _samples_second, ("samples must lie along the first dimension",)),
    ("scaled_by_the_batch", _scaled_by_the_batch, ("mixes the samples", "max()", "x.max()")),
    ("two_inputs", lambda self, x, y: F.relu(self.a(x) + self.b(y)), ("2 inputs (x, y)", "Wrap")),
    ("tuple_output", lambda self, x: (F.relu(self.a(x)), x), ("returns a tuple", "Wrap")),
    ("dict_output", lambda self, x: {"out": F.relu(self.a(x))}, ("returns a dict", "Wrap")),
):
    UNTRACEABLE[_name] = Entry(_simple(_forward), (6,), words=_words)
