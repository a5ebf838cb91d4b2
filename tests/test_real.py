"""The pretrained ResNet-20 on real images, against the stored measurement."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch.utils.data import DataLoader

import rheobase as rb
from benchmarks import record
from benchmarks.accuracy import METHODS
from rheobase.data import calibration_subset, images
from rheobase.intervals import wilson
from rheobase.models import AKAMASTER_MEAN, AKAMASTER_STD, load_akamaster


@pytest.mark.slow
@pytest.mark.parametrize("label", ["constant 0.5", "MSAT"])
def test_a_real_network_converts_as_measured(label: str, real_data: Path, real_weights: Path) -> None:
    steps, count = 40, 60
    model = load_akamaster(real_weights / "resnet20-cifar10.th")
    calibration = calibration_subset("cifar10", AKAMASTER_MEAN, AKAMASTER_STD, count=1000, root=real_data)
    snn = rb.convert(model, DataLoader(calibration, batch_size=100), METHODS[label])
    test = images("cifar10", "test", AKAMASTER_MEAN, AKAMASTER_STD, limit=count, root=real_data)
    curve = rb.evaluate(snn, DataLoader(test, batch_size=30), steps, reference=model)
    stored = record.read("accuracy-resnet20-cifar10")["runs"][label]["curve"]
    assert curve.accuracy is not None
    for t in (16, 32, steps):
        low, high = wilson(stored["accuracy"][t - 1], count, z=3.3)  # 99.9 %
        assert low <= curve.accuracy[t - 1] <= high
        wanted = sum(sum(spikes[:t]) for spikes in stored["spikes"].values())
        assert curve.total_spikes[t - 1] == pytest.approx(wanted, rel=0.05)
