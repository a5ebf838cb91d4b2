"""Run the example of the README and keep what it prints."""

from __future__ import annotations

import contextlib
import io
import os
import re
import tempfile

from benchmarks import record
from benchmarks.tables import ROOT


def main() -> None:
    """Run the first Python block after the mark, in a folder of its own."""
    origin = record.provenance(0)
    text = (ROOT / "README.md").read_text()
    match = re.search(r"<!-- example -->\n```python\n(.*?)```", text, re.DOTALL)
    if match is None:
        raise SystemExit("README.md has no <!-- example --> block")
    printed = io.StringIO()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(printed):
        os.chdir(folder)
        exec(compile(match[1], "README.md", "exec"), {})
        os.chdir(ROOT)
    path = record.write("example", {**origin, "code": match[1], "output": printed.getvalue()})
    print(path)


if __name__ == "__main__":
    main()
