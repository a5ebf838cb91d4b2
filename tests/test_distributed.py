"""Several processes find what one finds, number by number."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rheobase.distributed import World, is_first
from rheobase.sums import exact, rounded

HERE = Path(__file__).parent


def results(size: int, folder: Path, *tasks: str) -> list[Any]:
    """What each of so many processes finds in tasks of `distributed_worker`."""
    folder.mkdir()
    worker = [sys.executable, str(HERE / "distributed_worker.py")]
    started = [
        subprocess.Popen([*worker, str(rank), str(size), str(folder), *tasks], cwd=HERE.parent) for rank in range(size)
    ]
    assert [process.wait(timeout=300) for process in started] == [0] * size
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(size)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Any:
    (found,) = results(1, tmp_path_factory.mktemp("one") / "run", "curves", "failures")
    return found


@pytest.mark.parametrize("size", [2, 4])
def test_processes_find_what_one_finds(size: int, alone: Any, tmp_path: Path) -> None:
    curves, failures = alone
    assert len(curves) == 6
    assert curves["exit"]["images"] == curves["twin"]["images"] == 22
    assert [text.split(":")[0] for text in failures] == [
        "Batch 3",
        "The calibration found NaN or infinite values at\n  the input",
    ]
    for found in results(size, tmp_path / "run", "curves", "failures"):
        assert found == alone


def test_processes_that_are_given_different_things_say_so(tmp_path: Path) -> None:
    (first,), (second,) = results(2, tmp_path / "run", "mismatches")
    assert first == second  # the same is raised in both
    shuffled = r"DataError: .*: batch 0 of process 1 is another one.*RandomSampler.*seeds"
    sampler = r"DataError: The data come from a DataLoader with a DistributedSampler.*Leave out the sampler"
    wanted = {
        "evaluate, same shuffling": "$",
        "evaluate, shuffled": shuffled,
        "evaluate, sampler": sampler,
        "evaluate, sampler in one": sampler,
        "evaluate, fewer": r"DataError: .*: process 0 read 6 batches, and process 1 5\. Found: a list\.",
        "evaluate, other labels": r"DataError: .*: batch 5 of process 1",
        "evaluate, other network": r"ConversionError: .*in\n  converted network: \w+ in process 0, \w+ in process 1\n",
        "evaluate, other steps": r"ConversionError: .*in\n  steps: 2 in process 0, 3 in process 1\n",
        "convert, same shuffling": "$",
        "convert, sampler": sampler,
        "convert, shuffled": shuffled,
        "observe, unshared": shuffled,
        "first samples": shuffled,
        "confidence": shuffled,
        "Poisson": shuffled,
        "twin": shuffled,
    }
    assert list(first) == list(wanted)
    assert {name: text for name, text in first.items() if not re.match(wanted[name], text, re.DOTALL)} == {}


NETWORK = """
import torch
from torch import nn

def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))

def data(split):
    return torch.rand(10, 4, generator=torch.Generator().manual_seed(len(split))), torch.arange(10) % 3
"""


def test_the_command_prints_once_under_torchrun(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(NETWORK)
    arguments = ["-m", "rheobase", "evaluate", "--model", "nets.py:net", "--data", "nets.py:data", "--method", "MSAT"]
    arguments += ["--steps", "2", "--batch-size", "4", "--json"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    done, plain = (
        subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False, env=environment)
        for command in ([*torchrun, *arguments, "--output", "out"], [sys.executable, *arguments])
    )
    assert done.returncode == 0, done.stderr
    found, wanted = (json.loads(text) for text in (done.stdout, plain.stdout))
    assert found.pop("calibration_seconds") > 0  # no two runs take as long
    assert wanted.pop("calibration_seconds") > 0
    assert found == wanted
    assert (tmp_path / "out/curve.json").exists()


@pytest.mark.parametrize(
    ("environment", "first"),
    [
        ({}, True),
        ({"RANK": "3"}, True),  # a job of its own among several
        ({"RANK": "3", "WORLD_SIZE": "4"}, True),
        ({"RANK": "0", "WORLD_SIZE": "4", "MASTER_ADDR": "host"}, True),
        ({"RANK": "3", "WORLD_SIZE": "4", "MASTER_ADDR": "host"}, False),
    ],
)
def test_one_process_is_the_first(environment: dict[str, str], first: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert is_first() is first


def test_every_batch_is_one_processes() -> None:
    takers = [[rank for rank in range(3) if World(rank, 3).takes(index)] for index in range(7)]
    assert takers == [[0], [1], [2], [0], [1], [2], [0]]


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_sums_are_exact(values: list[float]) -> None:
    total = sum(exact(value) for value in values)  # type: ignore[misc]
    wanted = sum(map(Fraction, values))
    if abs(wanted) < Fraction(sys.float_info.max):
        assert rounded(total) == float(wanted)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_what_is_not_finite_has_no_sum(value: float) -> None:
    assert exact(value) is None
    assert math.isnan(rounded(None))
