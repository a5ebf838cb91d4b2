"""The images of the benches, decoded once: a machine that is given runs/pixels/ needs no data sets.

python -m benchmarks.pixels cifar10 cifar100      (what `benchmarks.methods` and `benchmarks.ablations` read)
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import TensorDataset

from rheobase.data.images import normalise
from rheobase.data.images import pixels as decoded

FOLDER = Path(__file__).parent.parent / "runs/pixels"


def pixels(name: str, split: str, limit: int, seed: int | None = None) -> tuple[Tensor, Tensor]:
    """`rheobase.data.pixels`, from runs/pixels/ where it has been there before."""
    path = FOLDER / f"{name}-{split}-{limit}-{'first' if seed is None else seed}.safetensors"
    if not path.exists():
        raw, labels = decoded(name, split, limit=limit, seed=seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        save_file({"raw": raw, "labels": labels}, partial)
        partial.replace(path)
    found = load_file(path)
    return found["raw"], found["labels"]


def test_images(name: str, mean: Sequence[float], std: Sequence[float], count: int) -> TensorDataset:
    """The first images of the test split, normalised."""
    raw, labels = pixels(name, "test", count)
    return TensorDataset(normalise(raw, mean, std), labels)


def calibration_images(name: str, mean: Sequence[float], std: Sequence[float], count: int) -> Tensor:
    """The images that `rheobase.data.calibration_subset` draws with the seed 0, normalised."""
    return normalise(pixels(name, "train", count, seed=0)[0], mean, std)


def main() -> None:
    """Decode what the benches read."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+")
    for name in parser.parse_args().names:
        pixels(name, "test", 2000)
        for count in (64, 128, 256, 512, 1024) if name == "cifar10" else (1024,):
            pixels(name, "train", count, seed=0)


if __name__ == "__main__":
    main()
