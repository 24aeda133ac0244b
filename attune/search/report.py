"""The page of a search: one file that opens from disk and loads nothing."""

from __future__ import annotations

import datetime
import math
from collections import Counter
from pathlib import Path
from typing import Any

from attune import charts, page, words
from attune.durable import write_text
from attune.evaluate.report import SHARES
from attune.recipe import Recipe
from attune.search import plots
from attune.search.space import Space, in_words, range_in_words

__all__ = ["write_page", "view"]

TONES = {"the gain is real": "tone-good", "the winner is worse": "tone-bad"}


def write_page(
    folder: Path,
    recipe: Recipe,
    facts: dict[str, Any],
    space: Space,
    reasons: dict[str, str],
    known: dict[str, Any],
    trials: list[dict[str, Any]],
) -> None:
    """Write `search.html` into the search's folder, in one step."""
    shown = view(folder.name, recipe, facts, space, reasons, known, trials)
    write_text(folder / "search.html", page.render(Path(__file__).with_name("search.html.jinja"), shown))


def view(
    name: str,
    recipe: Recipe,
    facts: dict[str, Any],
    space: Space,
    reasons: dict[str, str],
    known: dict[str, Any],
    trials: list[dict[str, Any]],
) -> dict[str, Any]:
    """Everything the page shows, in words and charts."""
    higher, figure = facts["higher"], facts["primary"]
    done = [row for row in trials if row["state"] == "finished"]
    sign = 1 if higher else -1
    best = max(done, key=lambda row: (sign * row["value"], -row["number"]), default=None)
    points = _points(trials, best)
    result = known.get("result") or {}
    own = {row["number"]: row for row in trials}.get(0)
    keys = list(space.items())
    now = datetime.datetime.now(datetime.UTC)
    importances = known.get("importances") or {}
    curves = []
    if points:
        svg = plots.history(points, higher=higher, title="values of the trials in order")
        curves.append({"title": f"Validation {figure} of every trial", "svg": page.safe(svg)})
        courses = {row["number"]: row["curve"] for row in trials}
        svg = plots.courses([(courses[point.number], point) for point in points], higher=higher)
        curves.append({"title": "While they trained", "svg": page.safe(svg)})
    slices = [
        {"title": key, "svg": page.safe(plots.cut(points, key, one, higher=higher))}
        for key, one in sorted(keys, key=lambda item: -importances.get(item[0], 0.0))
    ]
    across = plots.parallel(points, keys, higher=higher, figure=figure) if points else ""
    return {
        "name": name,
        "subtitle": f"{facts['task']} with {recipe.model.base}, {now:%Y-%m-%d %H:%M} UTC",
        "headline": _headline(known, result, best),
        "tone": TONES.get(result.get("word", ""), "tone-warn"),
        "sentence": result.get("sentence") or "The search is not finished; the same command goes on.",
        "evidence": _evidence(facts, result, trials, known),
        "facts": _facts(recipe, facts, known, trials),
        "forest": _forest(result),
        "settings": [
            {
                "key": key,
                "recipe": _value(own, key),
                "best": _value(best, key),
                "range": range_in_words(one),
                "importance": f"{100 * importances[key]:.0f} %" if key in importances else words.NOTHING,
                "bar": page.safe(charts.share(importances[key])) if key in importances else "",
                "why": reasons.get(key, ""),
            }
            for key, one in sorted(keys, key=lambda item: -importances.get(item[0], 0.0))
        ],
        "importances_note": (
            f"Importance is the share of the spread of values that a key explains (fANOVA over {len(done)} finished "
            "trials): with few trials, a hint."
            if importances
            else "Too few finished trials to say which key matters."
        ),
        "curves": curves,
        "parallel": page.safe(across),
        "slices": slices if points else [],
        "columns": [key for key, _ in keys],
        "trials": [_row(row, [key for key, _ in keys], best, figure) for row in trials],
        "figure": figure,
        "recipe": recipe.dump(),
        "next": [f"attune chat {name}/trials/{best['name']}", f"attune train {name}/best.yaml"] if best else [],
    }


def _points(trials: list[dict[str, Any]], best: dict[str, Any] | None) -> list[plots.Point]:
    points = []
    for row in trials:
        value = row["value"] if row["value"] is not None else row["best"]
        if value is None or not math.isfinite(value):
            continue
        kind = "pruned" if row["state"] != "finished" else "finished"
        if best is not None and row["number"] == best["number"]:
            kind = "best"
        elif row["number"] == 0 and kind == "finished":
            kind = "recipe"
        points.append(plots.Point(row["number"], float(value), kind, row["values"]))
    return points


def _headline(known: dict[str, Any], result: dict[str, Any], best: dict[str, Any] | None) -> str:
    if not result:
        return "Not finished"
    if best is not None and best["number"] == 0:
        return "The recipe itself was best"
    word = result.get("word")
    return {
        "the gain is real": "A better setting: the gain is real",
        "not told apart": "Best on validation, not told apart on test",
        "the winner is worse": "Best on validation, worse on test",
    }.get(word or "", "Best on validation; not tested")


def _evidence(
    facts: dict[str, Any], result: dict[str, Any], trials: list[dict[str, Any]], known: dict[str, Any]
) -> list[str]:
    lines = []
    if validation := result.get("validation"):
        gain = validation["winner"] - validation["default"]
        lines.append(
            f"Validation {validation['metric']} ({validation['n']:,} rows): {validation['winner']:.4f} against "
            f"{validation['default']:.4f}, {gain:+.4f}. It chose the winner, so it flatters: of "
            f"{result['trials_finished']} equally good settings the best would look better by about "
            f"{result['luck']:.4f}."
        )
    lines.append("No trial was given the test rows; the two models above were measured on them after the choice.")
    if known.get("looks", 0) > 1:
        lines.append(
            f"The test rows were looked at {known['looks']} times, since the search went on after a result: the "
            "interval no longer covers that."
        )
    if best := next((row for row in trials if result.get("trials") and row["name"] == result["trials"][0]), None):
        lines.append(
            f"The winner's weights are trial {best['number']}'s own best checkpoint: nothing is trained again."
        )
    return lines


def _facts(
    recipe: Recipe, facts: dict[str, Any], known: dict[str, Any], trials: list[dict[str, Any]]
) -> list[tuple[str, str]]:
    counts = Counter(row["state"] for row in trials)
    order = ("finished", "outside", "pruned", "diverged", "failed", "skipped", "paused", "running")
    states = ", ".join(f"{counts[state]} {state}" for state in order if counts[state])
    budget = f" of {recipe.search.budget}" if recipe.search.budget else ""
    rows = ", ".join(f"{n:,} {name}" for name, n in facts["rows"].items())
    drawn = {"tpe": "TPE", "random": "at random"}[recipe.search.sampler]
    pruner = {"asha": "successive halving (ASHA)", "hyperband": "Hyperband", "none": "no pruning"}
    return [
        ("trials", states),
        ("time", f"{words.seconds(known['seconds'])}{budget}"),
        ("rows", rows),
        ("drawn and pruned", f"{drawn}, {pruner[recipe.search.pruner]}"),
        ("side by side", f"{_count(recipe.search.workers, 'trial')}, {_count(known['threads'], 'thread')} each"),
    ]


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'s' if number != 1 else ''}"


def _forest(result: dict[str, Any]) -> dict[str, Any]:
    rows = [("best setting", result.get("winner"), "c3"), ("recipe as it was", result.get("default"), "c1")]
    shown = [(name, figure, kind) for name, figure, kind in rows if figure and figure["low"] is not None]
    if not shown:
        return {"rows": []}
    share = result["metric"].startswith(SHARES)
    ends = charts.scale([(figure["low"], figure["high"]) for _, figure, _ in shown], (0, 1) if share else None)
    versus = words.versus(result) if "difference" in result else ""
    return {
        "metric": result["metric"],
        "n": f"{result['n']:,}",
        "rows": [
            {
                "name": name,
                "value": words.number(figure["value"]),
                "interval": words.interval(figure),
                "plot": page.safe(charts.whisker(figure["value"], figure["low"], figure["high"], ends, kind=kind)),
                "versus": versus if number == 0 else "",
            }
            for number, (name, figure, kind) in enumerate(shown)
        ],
        "axis": page.safe(charts.axis(ends)),
    }


def _row(row: dict[str, Any], keys: list[str], best: dict[str, Any] | None, figure: str) -> dict[str, Any]:
    value = row["value"] if row["value"] is not None else row["best"]
    return {
        "number": row["number"],
        "best": best is not None and row["number"] == best["number"],
        "state": "the recipe itself" if row["number"] == 0 and row["state"] == "finished" else row["state"],
        "value": words.number(value),
        "seconds": words.seconds(row["seconds"]) if row["seconds"] else words.NOTHING,
        "share": f"{100 * row['share']:.0f} %" if row["share"] else words.NOTHING,
        "values": [_value(row, key) for key in keys],
        "reason": row["reason"],
    }


def _value(trial: dict[str, Any] | None, key: str) -> str:
    """What a trial had for a key, in words."""
    return words.NOTHING if trial is None or trial["values"].get(key) is None else in_words(trial["values"][key])
