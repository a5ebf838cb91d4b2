"""The benchmark of speed: what its numbers compare, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

import rheobase as rb
from benchmarks import contestants, conversions, record, speed, speed_tables
from benchmarks.in_cache import repeated
from benchmarks.where import measured
from rheobase.kernels.events import EventLayer, KnownInput

X = torch.rand(32, 3)


@pytest.mark.parametrize(
    ("milliseconds", "batch"),
    [({128: 3, 512: 13, 1024: 25}, 128), ({128: 3, 512: 11, 1024: 23}, 512), ({128: 3, 512: 11, 1024: 21}, 1024)],
)
def test_the_ann_takes_the_fastest_batch(
    milliseconds: dict[int, int], batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1))
    x = X.view(32, 3, 1, 1)
    snn = rb.convert(net, x, rb.ConstantThreshold())
    clock, seen = [0.0], []

    def wait(_layer: nn.Module, args: Any, _output: Any) -> None:
        seen.append(len(args[0]))
        clock[0] += 1e-3 * milliseconds[len(args[0])]

    snn.graph.module.get_submodule("0").register_forward_hook(wait)
    monkeypatch.setattr(contestants, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    raced = contestants.race({"ANN": contestants.ann(snn, x, 32)}, 2)["ANN"]
    assert raced["batch"] == batch
    passes = 1024 // batch
    assert raced["seconds"] == pytest.approx([1e-3 * milliseconds[batch] * passes] * 2)
    assert seen[-2 * passes :] == [batch] * 2 * passes


def test_few_images_are_one_batch() -> None:
    snn = rb.convert(nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU()), X.view(32, 3, 1, 1), rb.ConstantThreshold())
    assert contestants.ann(snn, X[:2].view(2, 3, 1, 1), 4)()["batch"] == 8


def test_a_number_that_misses_its_bar_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    result = record.read("speed")
    parts = result["parts"]
    monkeypatch.setattr(record, "read", lambda _name: result)
    missed = {}
    for growth in (1.05, 1.051):
        parts["memory"] |= {"peak_mib": {"512": [1000 * growth], "32": [1000.0]}}
        parts["memory"].pop("needed_mib", None)
        missed[growth] = [line for line in speed_tables.bars().splitlines() if "peak memory" in line]
    assert missed[1.05] == ["| peak memory, T = 512 against T = 32, ResNet-20 | at most 1.05 | 1.050 |"]
    assert missed[1.051] == ["| peak memory, T = 512 against T = 32, ResNet-20 | at most 1.05 | 1.051 (missed) |"]


@pytest.mark.parametrize(
    ("contestant", "slower", "row", "met"),
    [
        ("IF, events", 1.0, "against SpikingJelly, ResNet-20", True),
        ("IF, events", 5.0, "against SpikingJelly, ResNet-20", False),
        ("IF, dense float32", 1.0, "ANN pass, IF, float32, ResNet-20", True),
        ("IF, dense float32", 5.0, "ANN pass, IF, float32, ResNet-20", False),
    ],
)
def test_a_ratio_that_misses_its_bar_says_so(
    contestant: str, slower: float, row: str, met: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = record.read("speed")
    rounds = result["parts"]["resnet20"]["rounds"]
    for name, seconds in (("SpikingJelly, step by step", 4.0), ("SpikingJelly, multi-step", 4.0), ("ANN", 1.0)):
        rounds[name]["seconds"] = [seconds] * 5
    rounds[contestant]["seconds"] = [slower] * 5
    monkeypatch.setattr(record, "read", lambda _name: result)
    (line,) = [line for line in speed_tables.bars().splitlines() if row in line]
    assert line.endswith("] |" if met else "] (missed) |")


def test_the_memory_that_is_needed_has_a_row_where_it_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    result = record.read("speed")
    monkeypatch.setattr(record, "read", lambda _name: result)
    result["parts"]["memory"] |= {"peak_mib": {"512": [1.2], "32": [1.0]}, "needed_mib": {"32": [1.0], "512": [1.01]}}
    rows = [line for line in speed_tables.bars().splitlines() if "peak memory" in line]
    assert rows == [
        "| peak memory, T = 512 against T = 32, ResNet-20 | at most 1.05 | 1.200 (missed) |",
        "| peak memory, T = 512 against T = 32, ResNet-20, no memory kept | at most 1.05 | 1.010 |",
    ]


def test_the_table_says_which_batch_the_ann_took(monkeypatch: pytest.MonkeyPatch) -> None:
    result = record.read("speed")
    monkeypatch.setattr(record, "read", lambda _name: result)
    for name, batch in (("resnet20", 512), ("vgg16", 128), ("resnet34", 128)):
        result["parts"][name]["rounds"]["ANN"]["batch"] = batch
    ending = "one step, on the fastest of some batches: ResNet-20 512, VGG16 128, ResNet-34 128."
    assert speed_tables.speeds().endswith(ending)


def test_the_exit_rule_keeps_the_classes_of_training_images_and_leaves_early() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 4))
    x = torch.randn(200, 3)
    snn = rb.convert(net, x, rb.ConstantThreshold())
    rule = conversions.careful(snn, x, 24)
    run = rb.simulate(snn, x, 24, until=rule)
    classes = rb.simulate(snn, x, 24).output.argmax(1)
    assert (run.output.argmax(1) == classes).double().mean() >= conversions.KEPT
    assert run.mean_steps < 24


def test_the_table_of_early_exit_divides_by_its_own_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    result = record.read("speed")
    monkeypatch.setattr(record, "read", lambda _name: result)
    result["parts"].pop("exit", None)
    assert speed_tables.early_exit().startswith("Not measured on")
    runs = {"all steps": (32.0, [4.0, 8.0, 4.0]), "early exit": (16.0, [2.0, 4.0, 2.0])}
    rounds = {name: {"accuracy": 0.9, "mean_steps": mean, "seconds": s} for name, (mean, s) in runs.items()}
    about = {"images": 4, "steps": 32, "batch": 2, "kept": 0.99, "method": "M()", "rule": "R()"}
    result["parts"]["exit"] = result["parts"]["memory"] | about | {"rounds": rounds}
    lines = speed_tables.early_exit().splitlines()
    assert lines[2] == "| all steps | 90.0 % | 32.0 | 1000.00 |  |"
    assert lines[3] == "| early exit | 90.0 % | 16.0 | 500.00 | 2.00 [2.00, 2.00] |"


def test_a_table_says_of_each_part_where_it_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    result = record.read("speed")
    monkeypatch.setattr(record, "read", lambda _name: result)
    for name, commit, command, load in (("layers", "aaaaaaa1", "one", 0.25), ("exit", "bbbbbbb2", "two", 1.5)):
        result["parts"][name] |= {"commit": commit, "command": command, "load_before": load}
    origins = speed_tables.origins(result["parts"], ("layers", "exit", "no such part"))
    assert origins.endswith(" threads. `one` at aaaaaaa (layers, load 0.25); `two` at bbbbbbb (exit, load 1.5).")


def test_the_shares_of_a_step_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    result = record.read("speed")
    monkeypatch.setattr(record, "read", lambda _name: result)
    clock = {"lists": 0.1, "events": 0.3, "layers": 0.5, "neurons": 0.3, "pools": 0.0, "sums": 0.05, "all": 1.0}
    clock["chained"] = 0.1
    row = {"network": "vgg16", "method": "IF", "images": 10, "steps": 20, **clock}
    result["parts"]["where"] = result["parts"]["layers"] | {"rows": [row]}
    line = speed_tables.where_amx().splitlines()[2]
    assert line == "| VGG16, IF | 5.000 | 10 % | 30 % | 10 % | 10 % | 20 % | 0 % | 5 % | 15 % |"


def test_the_clock_of_a_simulation_finds_its_parts_and_leaves_all_as_it_was() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.ReLU(), nn.Flatten(), nn.Linear(512, 4)
    )
    x = torch.rand(2 * torch.get_num_threads(), 3, 8, 8)
    snn = rb.convert(net.eval(), x, rb.ConstantThreshold())
    snn.events = "always"
    before = EventLayer.__call__
    with measured() as clock:
        rb.simulate(snn, x, 8)
    assert EventLayer.__call__ is before
    assert clock["pools"] == clock["sums"] == 0
    assert 0 < clock["lists"] + clock["events"] < clock["layers"]
    assert min(clock["lists"], clock["events"], clock["chained"]) > 0
    assert clock["chained"] < clock["neurons"]  # the first neurons have a constant current


def test_a_kernel_runs_as_often_as_is_said_and_is_timed_apart() -> None:
    layer = EventLayer(nn.Conv2d(16, 16, 3, padding=1))
    x = (torch.rand(2, 16, 5, 5) < 0.2).float().to(memory_format=torch.channels_last)
    with torch.no_grad(), repeated(3) as clock:
        found = layer(x, "always", known=KnownInput(counts=x.flatten(1).count_nonzero(1)))
        expected = layer.layer(x)
    assert set(clock) == {"lists", "events"}
    assert min(clock.values()) > 0
    torch.testing.assert_close(found, expected)


def test_what_a_cache_saves_has_a_row_for_each_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    result = record.read("speed")
    monkeypatch.setattr(record, "read", lambda _name: result)
    rows = [
        {"layer": [16, 32], "what": what, "whole": 0.5, "in_cache": 0.25} for what in ("lists", "events", "neurons")
    ]
    part = result["parts"]["layers"] | {"rows": rows, "density": 0.1, "images": 4, "steps": 32, "mib": 0.5}
    result["parts"]["in_cache"] = part
    line = speed_tables.in_cache_amx().splitlines()[2]
    assert line == "| 16 to 16 channels, 32 × 32 | 0.50, 0.25 | 0.50, 0.25 | 0.50, 0.25 | 2.00 |"


def test_provenance_names_the_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"model name": "Some CPU", "flags": "sse2 avx512f amx_tile avx512_vnni fma"}
    lines = "".join(f"{key}\t: {value}\n" for key, value in found.items())
    monkeypatch.setattr(Path, "read_text", lambda *_, **_settings: lines)
    hardware = record.provenance(0)["hardware"]
    assert hardware["processor"] == "Some CPU"
    assert hardware["instructions"] == [
        torch.backends.cpu.get_cpu_capability(), "avx512f", "avx512_vnni", "amx_tile",
    ]  # fmt: skip


@pytest.mark.parametrize("there", ["the same", "others", "unknown"])
def test_parts_of_processors_with_other_instructions_are_not_mixed(
    there: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin = record.provenance(0) | {"threads": 2}
    stored = record.provenance(0) | {"threads": 2, "parts": {}}
    if there == "others":
        stored["hardware"]["instructions"] = [*stored["hardware"]["instructions"], "amx_tile", "amx_int8"]
    if there == "unknown":
        del stored["hardware"]["instructions"]
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    record.write("speed", stored)
    if there == "the same":
        assert speed._kept("speed", origin) == stored
    else:
        with pytest.raises(SystemExit, match="measure all parts"):
            speed._kept("speed", origin)


def test_a_part_without_the_ann_is_told_too() -> None:
    part = {"images": 1000, "steps": 8, "rounds": {"a": {"seconds": [80.0, 88.0]}}}
    assert speed.summary(part).split()[:3] == ["a", "10.500", "ms"]
    beside = speed.summary({**part, "rounds": {**part["rounds"], "ANN": {"seconds": [40.0, 44.0]}}})
    assert "2.00 ANN" in beside
