"""Every table in README and docs is what its stored result gives."""

from __future__ import annotations

import re

import pytest

from benchmarks import record
from benchmarks.tables import ROOT, TABLES, rendered

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tables_equal_their_results(page) -> None:  # type: ignore[no-untyped-def]
    text = page.read_text()
    assert rendered(text) == text, "run `make docs`"


def test_every_table_is_shown_somewhere() -> None:
    shown = {name for page in PAGES for name in re.findall(r"<!-- table: (\w+) -->", page.read_text())}
    assert shown == set(TABLES)


@pytest.mark.parametrize("path", sorted(record.RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_a_result_says_where_it_comes_from(path) -> None:  # type: ignore[no-untyped-def]
    result = record.read(path.stem)
    if "rheobase" in result:  # what `rheobase evaluate-ann` wrote; nothing random but the trainings that it measured
        assert {"command", "commit", "versions", "hardware"} <= result.keys()
        assert all("seed" in network for network in result["networks"])
        assert not result["problems"]
        return
    assert {"command", "commit", "seed", "versions", "hardware"} <= result.keys()
    assert not result["uncommitted_changes"]


def test_the_example_is_the_one_in_the_readme() -> None:
    assert record.read("example")["code"] in (ROOT / "README.md").read_text()
