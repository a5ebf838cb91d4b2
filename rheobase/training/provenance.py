"""Where weights come from: the commit, the hardware and the versions at the start of a training."""

from __future__ import annotations

import dataclasses
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from rheobase.training.records import read_record, write_record

__all__ = ["Provenance", "provenance", "read_provenance", "write_provenance"]


@dataclass(frozen=True)
class Provenance:
    """What a training ran on, and with what code."""

    commit: str
    hardware: str
    versions: Mapping[str, str]


def provenance(threads: int = 0) -> Provenance:
    """Describe this machine and this code, now."""
    return Provenance(_commit(), _hardware(threads), {name: _version(name) for name in ("torch", "lightning")})


def read_provenance(folder: Path) -> Provenance:
    """The description that a training left in its folder; of this machine where there is none.

    Raises:
        DataError: The file is damaged.
    """
    file = folder / "provenance.json"
    if not file.is_file():
        return provenance()
    found = read_record(file, commit=str, hardware=str, versions=dict)
    return Provenance(found["commit"], found["hardware"], found["versions"])


def write_provenance(folder: Path, threads: int) -> None:
    """Leave the description in the folder of a training, unless a first start has done so: that one is checked.

    Raises:
        DataError: What the first start left is damaged.
    """
    file = folder / "provenance.json"
    if file.is_file():
        read_provenance(folder)
    else:
        write_record(file, dataclasses.asdict(provenance(threads)))


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _hardware(threads: int) -> str:
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    name = platform.processor() or platform.machine()
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text(encoding="utf-8").splitlines() if cpu.is_file() else []
    name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    features = next((line for line in lines if line.startswith("flags")), "")
    amx = ", AMX bf16" if " amx_bf16" in features else ""
    count = threads or torch.get_num_threads()
    return f"{count} thread{'s' if count > 1 else ''} of {name}{amx}"
