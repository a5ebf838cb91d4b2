"""The benchmark of speed: what its numbers compare, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks import record, speed


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
        assert speed._kept(origin) == stored
    else:
        with pytest.raises(SystemExit, match="measure all parts"):
            speed._kept(origin)
