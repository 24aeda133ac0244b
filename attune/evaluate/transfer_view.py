"""Each task alone against together, in words."""

from __future__ import annotations

from typing import Any

from attune import words

__all__ = ["transfer_view"]


def transfer_view(rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    """A line for each task, on its main figure."""
    found = []
    for row in rows:
        figure = row["figures"][row["primary"]]
        told = {
            key: f"{words.number(figure[key]['value'])} ({words.interval(figure[key])})"
            for key in ("alone", "together")
        }
        change = words.versus(figure["difference"])
        size = words.whole(row["n"])
        found.append(
            {"task": row["task"], "figure": row["primary"], "rows": size, **told, "change": change, "word": row["word"]}
        )
    return found
