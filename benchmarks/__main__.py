"""What README and docs/performance.md show, and all tables: ``python -m benchmarks`` (hours).

The bench of methods has commands of its own: `methods`, `best`, `constraints`, `ablations`, `held_out`, `blends`; and a
graphics processor `gpu`.
"""

from __future__ import annotations

import runpy

for name in ("accuracy", "kernels", "speed", "example", "tables"):
    runpy.run_module(f"benchmarks.{name}", run_name="__main__")
