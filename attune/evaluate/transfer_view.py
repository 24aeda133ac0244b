"""Each task alone against together, in words."""

from __future__ import annotations

from typing import Any

from attune import words

__all__ = ["COLUMNS", "NOTE", "transfer_view"]

NOTE = (
    "Alone, a task was trained from the same base with the same settings, in steps of the same size, for as many "
    "passes over its own training rows as it was given in the mix. All of a step is then its own, so it makes fewer "
    "updates. Both sides keep their best checkpoint and may stop early."
)
"""What is compared, in one place for the page, the Markdown and the terminal."""

COLUMNS = {
    "task": "task",
    "figure": "figure",
    "rows": "rows",
    "passes, alone / together": "passes",
    "updates, alone / together": "updates",
    "alone": "alone",
    "together": "together",
    "together minus alone": "change",
    "being together": "word",
}
"""Title of a column -> key of its cells."""


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
        taught = {
            "passes": " / ".join(f"{row['passes'][key]:.3g}" for key in ("alone", "together")),
            "updates": " / ".join(words.whole(row["updates"][key]) for key in ("alone", "together")),
        }
        named = {"task": row["task"], "figure": row["primary"], "rows": words.whole(row["n"]), "word": row["word"]}
        found.append({**named, **taught, **told, "change": change})
    return found
