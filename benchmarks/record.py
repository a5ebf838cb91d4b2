"""What every stored result carries: the command, the commit, the seed, the versions and the machine.

A machine that is sent the files without the repository reads from $RHEOBASE_COMMIT which commit they are of, unchanged.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from rheobase.files import write_atomically

_CHANGES = ("status", "--porcelain", "--", "rheobase", "benchmarks/*.py")
RESULTS = Path(__file__).parent / "results"
INSTRUCTIONS = ("avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_int8", "amx_bf16")
"""As Linux names them: of the sets that PyTorch, oneDNN or the kernels here choose by."""


def provenance(seed: int) -> dict[str, Any]:
    """Where a number comes from."""
    return {
        "command": "python -m " + " ".join([_module(), *sys.argv[1:]]),
        "commit": os.environ.get("RHEOBASE_COMMIT") or _git("rev-parse", "HEAD"),
        "uncommitted_changes": "RHEOBASE_COMMIT" not in os.environ and bool(_git(*_CHANGES)),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": seed,
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "numpy", "numba")},
        },
        "hardware": {
            "processor": _cpuinfo("model name") or platform.processor() or "unknown",
            "cores": torch.get_num_threads(),
            "machine": platform.machine(),
            "instructions": instructions(),
        },
    }


def peak_mib() -> float:
    """The largest resident memory of this process so far, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()  # ru_maxrss would be at least the parent's
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def write(name: str, content: dict[str, Any]) -> Path:
    """Write a result; an interrupted write leaves the old one whole."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    write_atomically(path, json.dumps(content, indent=1) + "\n")
    return path


def has(name: str) -> bool:
    """Whether there is a stored result of this name."""
    return (RESULTS / f"{name}.json").exists()


def read(name: str) -> dict[str, Any]:
    """A stored result."""
    content: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return content


def _module() -> str:
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    return spec.name if spec else Path(sys.argv[0]).stem


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ("git", *arguments), capture_output=True, text=True, check=False, cwd=Path(__file__).parent.parent
    )
    return done.stdout.strip()


def instructions() -> list[str]:
    """The vector instructions that decide which code runs: processors of one name may differ in them."""
    flags = _cpuinfo("flags").split()
    return [torch.backends.cpu.get_cpu_capability(), *(name for name in INSTRUCTIONS if name in flags)]


def _cpuinfo(key: str) -> str:
    """What Linux says of the first processor, or nothing."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.split(":", 1)[1].strip() for line in lines if line.split(":")[0].strip() == key), "")
