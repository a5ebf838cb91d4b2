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
for i in range(20):  # the heap grows for some rounds, until it has places for all of them
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


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc")
@pytest.mark.parametrize(("before", "aligned"), [(None, True), ("1", True), ("0", False)])
def test_large_tensors_begin_with_a_page_unless_the_user_says_otherwise(before: str | None, aligned: bool) -> None:
    """PyTorch reads the setting at its first tensor, which is after the import."""
    program = "import torch, rheobase; rheobase.keep_memory(); print(*(torch.ones(2**20).data_ptr() for _ in range(3)))"
    environment = {name: value for name, value in os.environ.items() if name != "THP_MEM_ALLOC_ENABLE"}
    environment |= {} if before is None else {"THP_MEM_ALLOC_ENABLE": before}
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, env=environment)
    assert all(int(place) % 4096 == 0 for place in done.stdout.split()) == aligned


def test_elsewhere_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert keep_memory() is False


PEAK = """
import sys, torch
import rheobase as rb
torch.manual_seed(0)
wide = [torch.nn.Conv2d(32, 32, 3, padding=1), torch.nn.ReLU()]
net = torch.nn.Sequential(torch.nn.Conv2d(3, 32, 3, padding=1), torch.nn.ReLU(), *wide, torch.nn.Flatten(),
                          torch.nn.Linear(32 * 256, 4)).eval()
x = torch.rand(16, 3, 16, 16)
snn = rb.convert(net, x, rb.ConstantThreshold())
rb.simulate(snn, x, 16, chunk=8)

def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))

before = peak()
rb.simulate(snn, x, int(sys.argv[1]), chunk=8)
print(peak() - before, 16 * 2 * 32 * 256 * 4 * int(sys.argv[1]) // 1024)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc")
def test_memory_does_not_grow_with_the_steps() -> None:
    command = [sys.executable, "-c", PEAK, "512"]
    grown, all_steps = map(int, subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    assert grown < all_steps // 5  # KiB; what all steps at once would take
