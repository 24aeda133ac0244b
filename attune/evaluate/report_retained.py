"""The report's section on what was forgotten."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from attune import charts, page, words
from attune.evaluate.retained import WORDS

if TYPE_CHECKING:
    from attune.evaluate.results import Results, RetainedRow

__all__ = ["forgotten"]

POINT = (
    "A point is one per cent: of the answers, or of the probability of the right ones; of the base's loss where text "
    "is scored. Positive means lost."
)


def forgotten(results: Results) -> dict[str, Any] | None:
    """In words and charts; None where nothing was asked."""
    found = results.get("retained")
    if not found:
        return None
    limit, sentences = found["limit"], []
    if limit is not None and found["rows"]:
        sentences.append(WORDS[found["inside"]].format(f"The limit of {limit:g} points") + ".")
    if found["why"]:
        sentences.append(f"After training, {found['why']}.")
    sentences += [found["note"]] if found["note"] else []
    sentences += [POINT] if found["rows"] else []
    return {
        "note": " ".join(sentences),
        "rows": [_row(row, limit) for row in found["rows"]],
        "charts": _charts(found["points"], found["figure"], found["kept"]),
    }


def _row(row: RetainedRow, limit: float | None) -> dict[str, str]:
    over = limit is not None and row["points"] is not None and row["points"] > limit
    return {
        "suite": row["suite"],
        "figure": row["figure"],
        "n": words.whole(row["n"]),
        "base": f"{words.number(row['before']['value'])} ({words.interval(row['before'])})",
        "tuned": f"{words.number(row['after']['value'])} ({words.interval(row['after'])})",
        "points": f"{words.signed(row['points'])} ({words.interval(row)})" + (", over the limit" if over else ""),
        "p": words.p_value(row["p"]),
    }


def _charts(points: list[dict[str, Any]], figure: str, kept: dict[str, Any] | None) -> list[dict[str, Any]]:
    """What was tried between the base (0) and the tuned model (1), for the step that is kept."""
    if kept is None:
        return []
    own = sorted((point for point in points if point["step"] == kept["step"]), key=lambda point: point["share"])
    own = [point for point in points if point["share"] == 0 and point not in own] + own
    drawn = []
    for title, key in (("Points that count against the limit", "drop"), (f"{figure} on validation rows", "value")):
        row = [(float(p["share"]), float(p[key])) for p in own if p[key] is not None and math.isfinite(p[key])]
        if len(row) > 2:
            svg = charts.lines(
                [charts.Line("", row, "c1", dots=True)], title=title, mark=kept["share"], over="share of the change"
            )
            drawn.append({"title": title, "legend": [], "svg": page.safe(svg)})
    return drawn
