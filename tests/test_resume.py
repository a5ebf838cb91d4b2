"""An evaluation that was killed goes on, gives the same numbers, and no other goes on in its place."""

from __future__ import annotations

import dataclasses
import json
import math
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from test_evaluation import NET, STEPS, X, Y, converted, noisy
from torch import nn

import rheobase as rb
from rheobase import resume
from rheobase.errors import DataError, SettingError
from rheobase.exits import Exit
from rheobase.methods import MSAT
from rheobase.resume import Stored
from rheobase.spiking import SpikingModel
from rheobase.sums import Sums, exact, rounded

BATCHES = list(zip(X.split(5), Y.split(5), strict=True))  # 5, 5, 5, 5 and 3 samples
RULE = Exit("margin", 0.01, first_step=2)

_KILLED = """
import sys, time
sys.path.insert(0, {tests!r})
from test_resume import BATCHES, RULE, NET, STEPS, noisy, rb, resume
resume.SECONDS = 0.0

def data():
    yield from BATCHES[:3]
    print("three are done", flush=True)
    time.sleep(600)

class Data:
    __iter__ = lambda self: data()

rb.evaluate(noisy(), Data(), STEPS, NET, seeds=(0, 3), until=RULE, resume=sys.argv[1])
"""


def run(path: Path | None, data: Any = BATCHES, **changes: Any) -> rb.Curve:
    settings = {"snn": noisy(), "loader": data, "steps": STEPS, "reference": NET, "seeds": (0, 3), "until": RULE}
    return rb.evaluate(**{**settings, **changes}, resume=path)


def begin(path: Path) -> None:
    """The file as a process leaves it that dies at the third batch."""

    def data() -> Any:
        yield from BATCHES[:2]
        raise KeyboardInterrupt

    class Data:
        __iter__ = staticmethod(data)

    with pytest.raises(KeyboardInterrupt):
        run(path, Data())


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of an evaluation of which two batches are done."""
    monkeypatch.setattr(resume, "SECONDS", 0.0)
    path = tmp_path / "sums.json"
    begin(path)
    assert json.loads(path.read_text())["batches"] == 2
    return path


def test_a_killed_evaluation_goes_on_and_gives_the_same_curve(tmp_path: Path) -> None:
    path = tmp_path / "sums.json"
    script = _KILLED.format(tests=str(Path(__file__).parent))
    process = subprocess.Popen(
        [sys.executable, "-c", script, path], cwd=Path(__file__).parent.parent, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "three are done\n"
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert json.loads(path.read_text())["batches"] == 3
    simulated: list[int] = []
    snn = noisy()
    snn.module.get_submodule("0").register_forward_hook(lambda layer, args, out: simulated.append(len(args[0])))
    assert run(path, snn=snn) == run(None)
    assert simulated == [5, 5, 3, 3]  # two batches, two seeds


def test_what_is_done_is_not_done_again(file: Path) -> None:
    whole = run(file)
    assert json.loads(file.read_text())["batches"] == 5
    snn = noisy()
    snn.module.register_forward_pre_hook(lambda *_: pytest.fail("simulated again"))
    before = file.stat().st_mtime_ns
    assert run(file, snn=snn) == whole == run(None)
    assert file.stat().st_mtime_ns == before


def test_sums_come_back_bit_for_bit() -> None:
    sums = Sums(2, 3)
    wanted, square = torch.rand(2, 3, dtype=torch.float64) / 3, 0.1 + 0.2
    sums.error = [[exact(value) for value in row] for row in wanted.tolist()]
    sums.error[1][2] = exact(math.inf)
    sums.reference_square, sums.labelled, sums.images = exact(square), False, 7
    sums.add_activity(2, {"a": torch.tensor([3, 4])}, {"fc": torch.tensor([30, 40])})
    sums.add_exits(torch.tensor([0, 2, 2, 3]))
    again = Sums.restored(json.loads(json.dumps(sums.values())))
    assert again.values() == sums.values()
    assert [t.dtype for t in (again.exits, again.spikes["a"], again.operations["fc"])] == [torch.int64] * 3
    assert [rounded(value) for value in again.error[0]] == wanted[0].tolist()
    assert rounded(again.reference_square) == square
    assert math.isnan(rounded(again.error[1][2]))
    assert again.exits.tolist() == [0, 2, 1]


def test_the_file_is_written_now_and_then_and_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    stored, seen = Stored(tmp_path / "a.json", {}, Sums(1, 1)), []
    for batches, now in ((1, 100.0), (2, 104.9), (3, 105.0), (4, 105.1)):
        clock[0] = now
        stored.done(batches - 1, X, Y)
        stored.write(batches)
        seen.append(json.loads(stored.path.read_text())["batches"])
    stored.write(4, last=True)
    assert [*seen, json.loads(stored.path.read_text())["batches"]] == [1, 1, 3, 3, 4]


# ------------------------------------------------------------------------------- what is refused


def other_threshold() -> SpikingModel:
    snn = noisy()
    return SpikingModel(snn.graph, dataclasses.replace(converted(MSAT()).plan, method=snn.plan.method))


def other_arithmetic() -> SpikingModel:
    snn = noisy()
    snn.arithmetic = "rounded"
    return snn


def other_backend() -> SpikingModel:
    snn = noisy()
    snn.backend = "reference"
    return snn


def other_weights() -> nn.Module:
    net = nn.Sequential(*NET)
    net[4] = nn.Linear(8, 4)
    return net


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 9}, r"steps: 12 there, 9 here"),
        ({"seeds": (0, 4)}, r"seeds: \[0, 3\] there, \[0, 4\] here"),
        ({"until": None}, r"exit: Exit\(on='margin', threshold=0.01, first_step=2\) there, None here"),
        ({"chunk": 2}, r"chunk: None there, 2 here"),
        ({"snn": other_arithmetic()}, r"arithmetic: auto there, rounded here"),
        ({"snn": other_backend()}, r"in\n  backend: auto there, reference here\n"),
        ({"reference": None}, r"original network: [0-9a-f]{16} there, None here"),
        ({"reference": other_weights()}, r"in\n  original network: [0-9a-f]{16} there, [0-9a-f]{16} here\n"),
        ({"snn": converted()}, r"method: MSAT.* there, ConstantThreshold"),
        ({"snn": other_threshold()}, r"in\n  seeds.*\n  converted network: [0-9a-f]{16} there, [0-9a-f]{16} here\n"),
    ],
    ids=lambda v: "" if isinstance(v, str) else next(iter(v)),
)
def test_another_evaluation_is_refused_with_what_differs(file: Path, changes: dict[str, Any], message: str) -> None:
    before = file.read_bytes()
    with pytest.raises(SettingError, match=rf"(?s)holds another evaluation.*{message}"):
        run(file, **changes)
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    "data",
    [
        [BATCHES[1], BATCHES[0], *BATCHES[2:]],
        [(X[:5] + 1e-6, Y[:5]), *BATCHES[1:]],
        [(X[:5], 3 - Y[:5]), *BATCHES[1:]],
        [(X, Y), *BATCHES[1:]],
    ],
)
def test_other_data_are_refused(file: Path, data: Any) -> None:
    with pytest.raises(DataError, match="begun with other data: its 2 batches"):
        run(file, data)


class Other(nn.Module):
    """The weights of all are alike, and what they do between them is not."""

    def __init__(self, pool: nn.Module, dilation: int = 1, slope: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a = nn.Conv2d(2, 4, 3, padding=dilation, dilation=dilation)
        self.pool, self.slope = pool, slope
        self.b = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b((self.slope * self.pool(torch.relu(self.a(x)))).mean((2, 3)))


OTHERS = [
    Other(nn.AvgPool2d(3, 2, 1)), Other(nn.AvgPool2d(2, ceil_mode=True)), Other(nn.MaxPool2d(2)),
    Other(nn.AvgPool2d(2), dilation=2), Other(nn.AvgPool2d(2), slope=0.5),
]  # fmt: skip


@pytest.mark.parametrize("other", OTHERS, ids=["average", "ceil", "max", "dilation", "constant"])
def test_another_network_with_the_same_weights_is_refused(other: Other, tmp_path: Path) -> None:
    x = torch.rand(12, 2, 9, 9)
    data = [(x, torch.zeros(12, dtype=torch.int64))]
    one, two = (rb.convert(net.eval(), x, rb.ConstantThreshold(0.5)) for net in (Other(nn.AvgPool2d(2)), other))
    for site, neuron in two.neurons().items():
        neuron.threshold.copy_(one.neurons()[site].threshold)
    rb.evaluate(one, data, 4, resume=tmp_path / "sums.json")
    with pytest.raises(SettingError, match="converted network: "):
        rb.evaluate(two, data, 4, resume=tmp_path / "sums.json")
    one.save(tmp_path / "net.rheobase")
    assert torch.equal(
        rb.simulate(rb.load(tmp_path / "net.rheobase", Other(nn.AvgPool2d(2)).eval()), x, 4).output,
        rb.simulate(one, x, 4).output,
    )
    with pytest.raises(rb.ConversionError, match=r"made from another network: it had .+ where this one has .+"):
        rb.load(tmp_path / "net.rheobase", other)


def test_fewer_data_than_were_done_are_refused(file: Path) -> None:
    with pytest.raises(DataError, match="begun with 2 batches of data or more; here are 1"):
        run(file, BATCHES[:1])


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"format": "rheobase evaluation 3"}', "\0"])
def test_a_file_that_is_none_is_an_error(tmp_path: Path, content: str) -> None:
    path = tmp_path / "notes.txt"
    path.write_text(content)
    with pytest.raises(DataError, match=r"notes\.txt holds no evaluation"):
        run(path)
    assert path.read_text() == content


@pytest.mark.parametrize(
    "edit",
    [{"sums": None}, {"sums": {}}, {"batches": None}, {"batches": "3"}, {"settings": [1]}, {"data": None},
     {"correct": [[1]]}],
    ids=str,
)  # fmt: skip
def test_a_file_that_was_edited_is_an_error(file: Path, edit: dict[str, Any]) -> None:
    content = json.loads(file.read_text())
    content["sums"] |= edit if "correct" in edit else {}
    content |= {} if "correct" in edit else edit
    file.write_text(json.dumps({name: value for name, value in content.items() if value is not None}))
    with pytest.raises(DataError, match="holds no evaluation to go on with"):
        run(file)


def test_another_format_is_refused(file: Path) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), "format": "rheobase evaluation 0"}))
    with pytest.raises(SettingError, match="format: rheobase evaluation 0 there, rheobase evaluation 3 here"):
        run(file)


def test_another_rule_of_chunks_is_refused_where_it_decides(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = file.with_name("with_a_chunk.json")
    run(other, chunk=2)
    monkeypatch.setattr(resume, "CHUNK_RULE", "128 samples times steps")
    with pytest.raises(SettingError, match=r"in\n  rule of chunks: 128 to .* there, 128 samples times steps here\n"):
        run(file)
    assert run(other, chunk=2).images == len(X)


def test_another_version_of_pytorch_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", "1.0")
    with pytest.raises(
        SettingError, match=r"in\n  versions: rheobase .*, torch 2.* there, rheobase .*, torch 1\.0 here\n"
    ):
        run(file)


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="make it first"):
        run(tmp_path / "no" / "sums.json")
