"""M5: a small convolutional network on raw waveforms.

References:
    W. Dai, C. Dai, S. Qu, J. Li, S. Das: Very Deep Convolutional Neural Networks for Raw Waveforms, 2017,
    arXiv:1610.00087, table 1 (0.559 M parameters with ten classes).
"""

from __future__ import annotations

from torch import Tensor, nn

from rheobase.errors import SettingError

__all__ = ["M5", "m5"]


class M5(nn.Module):
    """Four 1-d convolutions, each with batch norm, relu and a max pooling by 4; then the mean over time.

    Args:
        classes: Outputs of the linear layer.
        width: Channels of the first two convolutions, 128 in the paper; the others have 2 and 4 times as many.
        kernel: Samples that the first convolution sees: 80, 10 ms at 8 kHz.
        stride: Samples by which it moves.
        dropout: Probability of dropping a feature before the linear layer, in training.

    Shape:
        (N, 1, L) -> (N, classes), L at least `kernel` + 255 `stride` samples; 8,000 for a second at 8 kHz.
    """

    def __init__(
        self, classes: int = 10, width: int = 128, kernel: int = 80, stride: int = 4, dropout: float = 0.0
    ) -> None:
        super().__init__()
        given = {"classes": classes, "width": width, "kernel": kernel, "stride": stride}
        problems = [f"{key} is {value}; give a positive number" for key, value in given.items() if value < 1]
        if not 0 <= dropout < 1:
            problems.append(f"dropout is {dropout}; give a probability in [0, 1)")
        if problems:
            raise SettingError("M5: " + "; ".join(problems))
        layers: list[nn.Module] = []
        inputs = 1
        for index, outputs in enumerate((width, width, 2 * width, 4 * width)):
            convolution = (
                nn.Conv1d(1, outputs, kernel, stride=stride) if index == 0 else nn.Conv1d(inputs, outputs, 3, padding=1)
            )
            nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
            layers += [convolution, nn.BatchNorm1d(outputs), nn.ReLU(), nn.MaxPool1d(4)]
            inputs = outputs
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool1d(1)
        self.flatten = nn.Flatten()
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, L) -> (N, classes)."""
        pooled = self.flatten(self.avgpool(self.features(x)))
        result: Tensor = self.classifier(self.dropout(pooled))
        return result


def m5(classes: int = 10, width: int = 128, kernel: int = 80, stride: int = 4, dropout: float = 0.0) -> M5:
    """The M5; see the class for the arguments.

    >>> sum(p.numel() for p in m5().parameters())
    559114
    """
    return M5(classes, width, kernel, stride, dropout)
