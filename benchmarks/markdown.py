"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["heads"]


def heads(titles: Sequence[str]) -> list[str]:
    """The first two lines of a table.

    >>> heads(["T", "accuracy"])
    ['| T | accuracy |', '|---|---|']
    """
    return [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
