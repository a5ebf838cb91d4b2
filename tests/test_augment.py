"""Augmentation: what it changes, and what it leaves."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from rheobase import augment
from rheobase.training import TrainingConfig
from rheobase.training.inputs import prepare


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_flip_mirrors_some_images_and_leaves_the_others() -> None:
    x = torch.rand(64, 3, 4, 5)
    y = augment.flip(x, _generator())
    mirrored = [torch.equal(a, b.flip(2)) for a, b in zip(x, y, strict=True)]
    same = [torch.equal(a, b) for a, b in zip(x, y, strict=True)]
    assert 15 < sum(mirrored) < 49
    assert sum(mirrored) + sum(same) == 64


def test_shifted_images_equal_windows_of_the_reflected_image() -> None:
    x = torch.randint(0, 256, (20, 3, 6, 7), dtype=torch.uint8)
    y = augment.shift_images(x, 2, _generator())
    padded = F.pad(x.float(), (2, 2, 2, 2), mode="reflect").to(torch.uint8)
    for image, moved in zip(padded, y, strict=True):
        windows = [image[:, i : i + 6, j : j + 7] for i in range(5) for j in range(5)]
        assert any(torch.equal(moved, window) for window in windows)
    assert not torch.equal(x, y)


def test_cutout_zeroes_a_square_and_nothing_else() -> None:
    x = torch.rand(50, 3, 8, 8) + 1
    y = augment.cutout(x, 4, _generator())
    holes = (y == 0).sum((1, 2, 3)) / 3
    assert torch.equal(y[y != 0], x[y != 0])
    assert holes.max() == 16
    assert holes.min() >= 4  # a quarter of the square at a corner


def test_shifted_waves_keep_their_length_and_are_filled_with_silence() -> None:
    x = torch.arange(1.0, 11).expand(30, 1, 10)
    y = augment.shift_waves(x, 3, _generator())
    for wave in y[:, 0]:
        shift = int(wave[5]) - 6
        expected = [value if 1 <= value <= 10 else 0 for value in range(1 + shift, 11 + shift)]
        assert wave.tolist() == expected


def test_noise_has_at_most_the_deviation_it_is_given() -> None:
    y = augment.noise(torch.zeros(200, 1, 1000), 0.1, _generator())
    assert 0.08 < y.std(2).max() < 0.11
    assert y.std(2).min() < 0.02


def test_auto_augment_needs_no_torchvision() -> None:
    pytest.importorskip("kornia")
    torch.manual_seed(0)
    y = augment.auto_augment(torch.rand(1, 3, 8, 8).expand(64, -1, -1, -1))
    assert y.shape == (64, 3, 8, 8)
    assert torch.isfinite(y).all()
    assert len(y.flatten(1).unique(dim=0)) > 15  # one image, and a sub-policy for each copy


def test_evaluation_inputs_are_normalised_and_not_augmented() -> None:
    x = torch.full((2, 3, 8, 8), 255, dtype=torch.uint8)
    config = TrainingConfig("x", "resnet20", "none", mean=(0.5, 0.5, 0.25), std=(0.5, 0.25, 0.75), cutout=8)
    assert prepare(x, config, None)[:, :, 3, 3].tolist() == [[1.0, 2.0, 1.0]] * 2


def test_a_blend_keeps_at_least_half_of_each_image() -> None:
    x = torch.eye(40).view(40, 1, 5, 8)
    y = augment.mixup(x, _generator())
    own = y.flatten(1).diagonal()
    assert float(own.min()) >= 0.5
    assert 0.6 < float(own.mean()) < 0.9
    assert torch.allclose(y.flatten(1).sum(1), torch.ones(40))


def test_cutmix_puts_a_rectangle_of_another_image_into_each() -> None:
    x = torch.arange(1.0, 31.0).view(30, 1, 1, 1).expand(30, 2, 8, 12).contiguous()
    y = augment.cutmix(x, _generator())
    areas = []
    for own, image in zip(x, y, strict=True):
        foreign = image[0] != own[0]
        assert torch.equal(image[0], image[1])
        rows, columns = foreign.any(1), foreign.any(0)
        assert torch.equal(foreign, rows[:, None] & columns[None])
        if foreign.any():
            assert 2 <= int(rows.sum()) <= 6
            assert 3 <= int(columns.sum()) <= 9
            assert len(image[0][foreign].unique()) == 1
            areas.append(int(foreign.sum()))
    assert len(areas) > 20
    assert len(set(areas)) > 5
