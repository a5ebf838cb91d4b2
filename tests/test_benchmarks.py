"""What the benches of methods choose, and the networks that they train themselves."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import rheobase as rb
from benchmarks import blends, constraints, guide, held_out, methods, record
from benchmarks.best import best_of_each_group
from benchmarks.entries import BINARY, ENTRIES, GRADED, TERNARY, TRAINED
from benchmarks.methods import STEPS, accuracies, entries_for, levels_of, near, shown
from benchmarks.networks import Bench, bench
from rheobase import models
from rheobase.methods import AnnealedDelta, DifferentialCoding, RateCoding
from rheobase.simulation import simulate
from rheobase.twin import levels_after

NEAR = {"accuracy": 0.9, "reference_accuracy": 0.9, "calibration_seconds": 1.0}


def row(group: str, name: str, accuracy: dict[int, float], reference: float = 0.9) -> dict[str, Any]:
    cells = [{"steps": t, "accuracy": a, "reference_accuracy": reference} for t, a in accuracy.items()]
    assert (group, name) in {(entry.group, entry.name) for entry in ENTRIES}
    return {"group": group, "name": name, "fixed": False, "cells": cells}


def test_the_best_of_a_group_is_near_in_the_fewest_steps_then_the_most_accurate() -> None:
    rows = [
        row(BINARY, "MMSE", {8: 0.80, 16: 0.89}),
        row(BINARY, "FTBC", {8: 0.70, 16: 0.895, 32: 0.91}),
        row(BINARY, "SNNC, light", {32: 0.92}),
        row(BINARY, "Auto", {4: 0.90}),
        row(TERNARY, "SNM", {4: 0.5, 8: 0.6}),
        row(TERNARY, "SNM, FTBC", {4: 0.55}),
        row(GRADED, "differential coding, n = 4", {}),
    ]
    found = {entry.group: (entry.name, steps) for entry, steps in best_of_each_group(rows)}
    assert found == {BINARY: ("FTBC", 16), TERNARY: ("SNM", 8)}


def test_a_drop_of_just_a_point_is_within_a_point() -> None:
    assert 0.9165 - 0.9065 > 0.01  # as floats
    assert near(0.9065, 0.9165, 0.01)
    assert not near(0.9064, 0.9165, 0.01)
    assert near(0.95, 0.9)


def test_every_method_is_on_the_bench() -> None:
    measured = {type(entry.make(entry.first)).__name__ for entry in (*ENTRIES, *TRAINED)}
    assert measured == set(rb.methods.__all__)


def test_a_network_with_levels_has_rows_of_its_own_which_keep_to_them() -> None:
    assert entries_for(models.build("resnet20", width=2, levels=8)) == list(TRAINED)
    assert set(entries_for(models.build("resnet20", width=2))) == {e for e in ENTRIES if not e.pools}
    assert set(entries_for(models.build("vgg16", width=2))) == set(ENTRIES)
    assert all(entry.make(entry.first).clips() for entry in TRAINED)


def test_the_guide_takes_what_is_not_tuned_for_that(monkeypatch: pytest.MonkeyPatch) -> None:
    more = {"reference_accuracy": 0.9, "alphabet": "ternary, step-weighted"}
    settings = {"": (6, 0.9), "iterations=0": (8, 0.9), "layer_iterations=5, iterations=0": (4, 0.9)}
    cells = [
        {"method": f"AnnealedDelta({text})", "steps": t, "accuracy": a, **more} for text, (t, a) in settings.items()
    ]
    monkeypatch.setattr(
        guide.record,
        "read",
        lambda _: {"methods": [{"name": "annealed delta", "fixed": False, "cells": cells}]},
    )
    near = guide._near()
    assert near["AnnealedDelta", True] == {"ternary, step-weighted": [6]}
    assert near["AnnealedDelta", False] == {"ternary, step-weighted": [8, 4]}


def test_a_method_that_is_the_same_for_every_number_of_steps_has_one_curve() -> None:
    curve = [t / 200 for t in range(1, 65)]
    fixed = {"fixed": True, "cells": [{"accuracy_by_step": curve, "reference_accuracy": 0.07}]}
    assert accuracies(fixed) == {t: t / 200 for t in STEPS if t <= 64}
    assert list(shown(fixed)) == [1, 2, 4, 6, 8, 16]  # the first that is near enough is the last


def test_the_levels_of_a_twin_are_those_of_the_method() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    powers = {"power of two (4), causal", "signed power of two (4), causal"}  # words alone say too many
    for entry in ENTRIES:
        if not entry.tuned and entry.name not in ("AdaFire", "AdaFire, twice the events", "SRP, 8 steps first"):
            snn = rb.convert(net, torch.rand(8, 3), entry.make(2))
            kinds = ", ".join(str(neuron.alphabet) for neuron in snn.plan.neurons.values())
            line = {"group": entry.group, "name": entry.name, "cells": [{"steps": 2, "alphabet": kinds}]}
            found, wanted = levels_of(line, 2), levels_after(snn.plan, 2)
            assert found == wanted or (entry.group in powers and found >= wanted), entry.name
    several = {"group": "", "name": "", "cells": [{"steps": 3, "alphabet": "binary, integer(2), integer(4)"}]}
    assert levels_of(several, 3) == 12
    assert levels_of({**several, "cells": [{"steps": 3, "alphabet": "real"}]}, 3) is None
    assert levels_of({**several, "cells": [{"steps": 3, "alphabet": "ternary, step-weighted", "levels": 5}]}, 3) == 5
    weighted = {**several, "cells": [{"steps": 3, "alphabet": "ternary, step-weighted"}]}
    assert levels_of(weighted, 3) is None
    still = AnnealedDelta(steps=3, iterations=0)
    assert levels_of(weighted, 3, still) == levels_after(rb.convert(net, torch.rand(8, 3), still).plan, 3)
    two, eight = ({**weighted, "cells": [{**weighted["cells"][0], "steps": t}]} for t in (2, 8))
    assert levels_of(two, 2, DifferentialCoding(steps=2)) == 18
    assert levels_of(two, 2, DifferentialCoding(steps=2, iterations=10)) is None  # its second step may weigh anything
    assert levels_of(eight, 8, AnnealedDelta(steps=8)) == 255
    first, last = ({"steps": t, "alphabet": f"integer({n})"} for t, n in ((2, 3), (4, 5)))
    assert [levels_of({**several, "cells": [first, last]}, t) for t in (2, 4)] == [6, 20]


def test_the_networks_for_digits_have_learned_them() -> None:
    on = bench("cnn-digits", 100, 64)
    assert len(on.calibration) == 64
    assert sum(int((on.model(x).argmax(1) == y).sum()) for x, y in on.test) > 90
    assert bench("cnn-digits", 100, 64).weights == on.weights


def test_what_is_kept_is_measured_once_and_what_is_older_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(9, 8), nn.ReLU(), nn.Linear(8, 3))
    x, y = torch.rand(20, 1, 3, 3), torch.arange(20) % 3
    on = Bench("tiny", net, x[:8], DataLoader(TensorDataset(x, y), batch_size=10), "none")
    stored = {"images": 20, "calibration_images": 8, "commit": "before", "twins": [{"levels": 2, "accuracy": 0.25}]}
    entry = next(entry for entry in ENTRIES if entry.name == "FTBC, tuned")
    kept, old = (
        {"method": repr(entry.make(8)), "steps": 8},
        {"method": repr(entry.make(16)), "steps": 16, "older": True},
    )
    rows = [{"group": entry.group, "name": entry.name, "cells": [{**kept, **NEAR}, {**old, **NEAR}]}]
    (tmp_path / "methods-tiny.json").write_text(json.dumps({**stored, "methods": rows}))
    goals = [{"cell": {"method": "A", "steps": 1}}, {"cell": {"method": "B", "steps": 1, "older": True}}]
    (tmp_path / "bars-tiny.json").write_text(json.dumps({**stored, "bars": goals}))
    best = [{"cells": [{"method": "C", "steps": 1}]}]
    (tmp_path / "best-tiny.json").write_text(json.dumps({**stored, "twins": [], "methods": best}))
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    monkeypatch.chdir(tmp_path)
    methods.keep(on, 20)
    assert methods.twin(on, 2, 20) == {"commit": "before", "levels": 2, "accuracy": 0.25}
    assert [methods.cell_path(on, name, 1, 20).exists() for name in ("A", "B", "C")] == [True, False, True]
    assert methods.cell_path(on, kept["method"], 8, 20).exists()
    assert not methods.cell_path(on, old["method"], 16, 20).exists()
    found = methods.row(on, entry, (4, 8, 16), 20, -1.0, methods.older_cells(on)[entry.group, entry.name])
    assert [(cell["steps"], cell.get("older")) for cell in found["cells"]] == [(8, None), (16, True)]
    measured = methods.twin(on, 15, 20)
    assert measured["agreement"] >= 0.9
    monkeypatch.setattr(methods, "evaluate_twin", None)
    assert methods.twin(on, 15, 20) == measured


def test_a_trial_is_compared_on_images_that_it_has_seen_and_on_others() -> None:
    on = bench("cnn-digits", 10, 64)
    snn = rb.convert(on.model, on.calibration, RateCoding(steps=1))
    found = held_out.compared(on, snn, on.calibration)
    with torch.no_grad():
        run, wanted = simulate(snn, on.calibration, 1).output, on.model(on.calibration)
    assert found["images"] == 64
    assert found["disagreement"] == float((run.argmax(1) != wanted.argmax(1)).sum()) / 64 > 0
    assert found["error"] == pytest.approx(float((run - wanted).norm() / wanted.norm()))


def test_blends_are_judged_by_how_far_they_are_from_test_images(capsys: pytest.CaptureFixture[str]) -> None:
    on = bench("cnn-digits", 64, 320)
    found = blends.row(on, RateCoding(steps=1, levels=2))
    assert "cnn-digits" in capsys.readouterr().out
    assert found["agreement"][0] > found["agreement"][-1] > 0.5
    snn = rb.convert(on.model, on.calibration[:64], RateCoding(steps=1, levels=2))
    tested = rb.evaluate(snn, on.test, 1, reference=on.model).agreement
    assert tested is not None
    assert found["agreement_on_test_images"] == tested[0]
    second = {**found, "agreement": [1.0] * len(blends.SHARES), "agreement_on_test_images": 0.5}
    (apart,) = blends.judged([found, second]).values()
    assert apart[0] == pytest.approx((found["agreement"][0] - tested[0] + 0.5) / 2)


def test_images_that_a_trial_has_not_seen_are_none_of_calibration(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = torch.arange(12.0).reshape(12, 1, 1, 1)
    monkeypatch.setattr(held_out, "calibration_images", lambda *_: drawn)
    on = Bench("tiny", nn.Identity(), drawn[1:4], None, "none")
    assert held_out.unseen(on, 3).flatten().tolist() == [0.0, 4.0, 5.0]
    assert len({repr(method) for method in held_out.TRIALS}) == len(held_out.TRIALS)


def test_constraints_keep_what_was_measured_with_the_same_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"asked": "Auto()", "steps": 4}, {"asked": "Auto(steps=2)", "steps": 2, "older": True}]
    stored = {"network": "tiny", "weights": "first", "images": 20, "calibration_images": 8, "rows": rows}
    (tmp_path / "constraints.json").write_text(json.dumps(stored))
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    monkeypatch.chdir(tmp_path)
    on = Bench("tiny", nn.Identity(), torch.zeros(8, 1), None, "first")
    others = [{"calibration": torch.zeros(4, 1)}, {"name": "vgg16"}, {"weights": "second"}]
    for other in (dataclasses.replace(on, **changes) for changes in others):  # type: ignore[arg-type]
        constraints.keep(other, 20)
        assert not constraints.place(other, "Auto()", 20).exists()
    constraints.keep(on, 20)
    assert json.loads(constraints.place(on, "Auto()", 20).read_text()) == rows[0]
    assert not constraints.place(on, "Auto(steps=2)", 20).exists()
    assert constraints.older_rows(on)["Auto()"] == {**rows[0], "older": True}
    assert constraints.older_rows(dataclasses.replace(on, name="vgg16")) == {}


def test_cells_of_other_weights_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = [{"method": "A", "steps": 1}]
    stored = {"images": 20, "calibration_images": 8, "weights": "first", "commit": "1", "methods": [{"cells": cells}]}
    (tmp_path / "best-tiny.json").write_text(json.dumps(stored))
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    monkeypatch.chdir(tmp_path)
    for weights in ("second", "first"):
        on = Bench("tiny", nn.Identity(), torch.zeros(8, 1), None, weights)
        methods.keep(on, 20)
        assert methods.cell_path(on, "A", 1, 20).exists() == (weights == "first")
