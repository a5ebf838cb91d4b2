"""The example files work as their comments say, from the folder of the repository."""

from __future__ import annotations

import json
import os
import runpy
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rheobase.cli import app

pytest.importorskip("sklearn")
_EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture(scope="module", autouse=True)
def _copy(tmp_path_factory: pytest.TempPathFactory) -> object:
    """A folder with the examples and the weights that digits.py trains, for what they write."""
    folder, before = tmp_path_factory.mktemp("clone"), Path.cwd()
    shutil.copytree(_EXAMPLES, folder / "examples")
    os.chdir(folder)
    runpy.run_path("examples/digits.py", run_name="__main__")
    yield
    os.chdir(before)


def _run(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_digits_toml_serves_convert_and_evaluate() -> None:
    _run("convert", "--config", "examples/digits.toml")
    curve = json.loads(_run("evaluate", "runs/digits.rheobase", "--config", "examples/digits.toml", "--json"))
    assert curve["accuracy"][-1] > 0.9


def test_digits_toml_compares_a_method_of_a_file_with_published_ones() -> None:
    curves = json.loads(_run("compare", "--config", "examples/digits.toml", "--json", "--steps", "16"))["curves"]
    assert list(curves) == ["ConstantThreshold(fraction=0.5)", "MSAT(confidence=True)", "HalfStep(fraction=0.8)"]
    assert all(curve["accuracy"][-1] > 0.9 for curve in curves.values())
