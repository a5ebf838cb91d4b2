"""What every test shares, and the rule that the Python blocks in Markdown files run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

os.environ.setdefault("MPLBACKEND", "Agg")

# No deadline: the first call of a kernel compiles it.
settings.register_profile("rheobase", deadline=None, derandomize="CI" in os.environ, print_blob=True)
settings.load_profile("rheobase")

# The blocks of one file share their names; `<!--- skip: next -->` before a block leaves it out.
pytest_collect_file = Sybil(parsers=[PythonCodeBlockParser(), SkipParser()], patterns=["*.md"]).pytest()


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def _folder(variable: str) -> Path:
    path = os.environ.get(variable)
    if not path:
        pytest.skip(f"${variable} is not set")
    return Path(path)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets; the test skips where there is none. Mark it `slow` too."""
    return _folder("RHEOBASE_DATA")


@pytest.fixture(scope="session")
def real_weights() -> Path:
    """The folder of weights that others trained; the test skips where there is none."""
    return _folder("RHEOBASE_WEIGHTS")
