"""All measurements, one after the other: ``python -m benchmarks`` (hours)."""

from __future__ import annotations

import runpy

for name in ("accuracy", "kernels", "speed", "example", "tables"):
    runpy.run_module(f"benchmarks.{name}", run_name="__main__")
