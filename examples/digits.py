"""A network and data of one's own, as the command line takes them.

    python examples/digits.py                                  # trains, and writes runs/digits.pt
    rheobase compare --config examples/digits.toml             # converts it in three ways
    rheobase convert --config examples/digits.toml             # writes runs/digits.rheobase
    rheobase evaluate runs/digits.rheobase --config examples/digits.toml

`--model examples/digits.py:model` is a function that gives the network, untrained; its weights come from
`--checkpoint`. `--data examples/digits.py:images` is a function that gives the inputs and labels of a split,
normalised as in training. For an image folder or a data set on the Hugging Face hub, no function is needed:
give its name and, if they were used in training, `--mean` and `--std`.
"""

from __future__ import annotations

from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

CHECKPOINT = Path("runs/digits.pt")


def model(width: int = 64) -> nn.Module:
    """`--model-args width=128` for a wider one."""
    return nn.Sequential(
        *(nn.Flatten(), nn.Linear(64, width), nn.BatchNorm1d(width), nn.ReLU()),
        *(nn.Dropout(0.2), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10)),
    )


def images(split: str) -> tuple[Tensor, Tensor]:
    """The inputs and labels of a split: 1,200 images to train with, 597 to test."""
    content = load_digits()
    x = torch.tensor(content.images, dtype=torch.float32).div(16)
    y = torch.tensor(content.target)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    chosen = {"train": order[:1200], "test": order[1200:]}[split]
    return x[chosen], y[chosen]


def main() -> None:
    torch.manual_seed(0)
    network, (x, y) = model(), images("train")
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(40):
        for chosen in torch.randperm(len(x)).split(100):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(x[chosen]), y[chosen]).backward()
            optimizer.step()
    CHECKPOINT.parent.mkdir(exist_ok=True)
    torch.save(network.state_dict(), CHECKPOINT)
    print(f"wrote {CHECKPOINT}")


if __name__ == "__main__":
    main()
