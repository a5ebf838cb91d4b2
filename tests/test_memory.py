"""What happens to memory that is freed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from rheobase.memory import keep_memory

FAULTS = """
import resource, sys, torch
from rheobase.memory import keep_memory
if "keep" in sys.argv:
    assert keep_memory()
for i in range(6):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    tensors = [torch.ones(3, 2**20) for _ in range(8)]
    del tensors
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(*arguments: str) -> int:
    command = [sys.executable, "-c", FAULTS, *arguments]
    large = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}  # so that the system is asked, whatever was freed before
    return int(subprocess.run(command, check=True, capture_output=True, text=True, env=large).stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc")
def test_kept_memory_is_not_asked_for_again() -> None:
    pages = 8 * 12 * 2**20 // 4096
    assert faults() > pages // 2
    assert faults("keep") < pages // 20


def test_elsewhere_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert keep_memory() is False
