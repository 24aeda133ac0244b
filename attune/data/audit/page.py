"""The audit as a page that opens from disk, and as JSON beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attune import charts, page, words
from attune.durable import write_json, write_text

__all__ = ["write_page", "view"]

SHOWN, MOST = 20, 100
"""Rows to re-check that are open, and that stand in the page at all; audit.json holds the rest."""
LEVELS = {"warn": ("To do", "tone-warn"), "note": ("To know", "tone-note"), "good": ("In order", "tone-good")}
TEMPLATE = Path(__file__).with_name("audit.html.jinja")


def write_page(result: Mapping[str, Any], folder: Path) -> None:
    """Write `audit.html` and `audit.json` into a folder, each in one step.

    Raises: MachineError if they cannot be written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "audit.html", page.render(TEMPLATE, view(result)))
    write_json(folder / "audit.json", _writable(result))


def _writable(value: Any) -> Any:
    """Lone surrogates cannot be written as UTF-8."""
    if isinstance(value, str):
        return page.clean(value)
    if isinstance(value, Mapping):
        return {page.clean(str(key)): _writable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_writable(item) for item in value]
    return value


def percent(value: float | None, digits: int = 1) -> str:
    return words.NOTHING if value is None else f"{100 * value:.{digits}f}\N{NO-BREAK SPACE}%"


def few(value: float | None, digits: int = 2) -> str:
    """A small number for a table: 5.6, 0.71."""
    if value is None:
        return words.NOTHING
    return f"{value:,.{digits}f}".replace("-", "\N{MINUS SIGN}")


def changes(counts: Mapping[str, int]) -> str:
    """What a step did, in words."""
    said = {"edit": "edits", "drop": "rows left out", "label": "labels changed", "add": "rows added"}
    told = [f"{count:,} {said.get(kind, kind)}" for kind, count in counts.items() if count]
    return ", ".join(told) or "nothing to change"


def view(result: Mapping[str, Any]) -> dict[str, Any]:
    """Everything the template shows. Charts are drawn here; texts are escaped by the template."""
    sections = result["sections"]
    parts = list(result["rows"])
    findings = [
        {
            **one,
            "word": LEVELS[one["level"]][0],
            "tone": LEVELS[one["level"]][1],
            "title": sections[one["section"]]["title"],
        }
        for one in result["findings"]
    ]
    return {
        "task": result["task"],
        "rows": ", ".join(f"{count:,} {name}" for name, count in result["rows"].items()),
        "facts": _facts(result),
        "parts": parts,
        "sampled": ", ".join(
            f"{count:,} of {result['rows'][name]:,} {name}" for name, count in result["sampled"].items()
        ),
        "findings": findings,
        "sections": [(name, section["title"]) for name, section in sections.items()],
        "s": sections,
        "shown": SHOWN,
        "most": MOST,
        "histogram": _histogram(sections["lengths"]),
        "class_bars": _class_bars(sections["balance"]),
        "forest": _forest(sections["rates"]),
        "number": words.number,
        "signed": words.signed,
        "whole": words.whole,
        "p_value": words.p_value,
        "percent": percent,
        "few": few,
        "changes": changes,
        "plain": lambda value: words.number(value) if isinstance(value, float) else value,
    }


def _facts(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    sections = result["sections"]
    facts = [("Task", result["task"])]
    facts += [(f"{name.capitalize()} rows", f"{count:,}") for name, count in result["rows"].items()]
    if classes := sections["balance"].get("classes"):
        facts.append(("Classes", f"{len(classes):,}"))
    if licences := sections["overview"]["licences"]:
        facts.append(("Licences", ", ".join(licences)))
    lengths = sections["lengths"].get("parts", {}).get("train")
    if lengths:
        unit = sections["lengths"]["unit"]
        facts.append((f"Longest, median ({unit})", f"{lengths[unit]['largest']:,}, {lengths[unit]['median']:,}"))
    if sections["labels"].get("examined"):
        facts.append(("Labels in doubt", f"{sections['labels']['counted_as_wrong']:,}"))
    return facts


def _histogram(section: Mapping[str, Any]) -> Any:
    found = section.get("histogram")
    if not found:
        return ""
    limits = [row["max_length"] for row in section["truncation"]]
    right = found["width"] * len(found["counts"])
    # Limits that lie close together would write over one another.
    marks: list[float] = []
    for limit in limits:
        if limit < right and (not marks or limit - marks[-1] > 0.07 * right):
            marks.append(limit)
    title = f"Lengths of the {section['histogram_of']} rows in {section['unit']}"
    return page.safe(charts.bars(found["counts"], found["width"], title=title, unit=section["unit"], marks=marks))


def _class_bars(section: Mapping[str, Any]) -> list[Any]:
    rows = section.get("classes") or []
    most = max((row["share"] for row in rows), default=0) or 1
    return [page.safe(charts.share(row["share"] / most)) for row in rows]


def _forest(section: Mapping[str, Any]) -> dict[str, Any]:
    """The clearest label rates on one scale; the dashed line is the rate among the others."""
    rows = section.get("rows") or []
    chosen = [row for row in rows if row["p"] < 0.05][:20] or rows[:8]
    if not chosen:
        return {"rows": [], "axis": ""}
    ends = charts.scale([(min(r["low"], r["other_rate"]), max(r["high"], r["other_rate"])) for r in chosen], (0.0, 1.0))
    drawn = []
    for row in chosen:
        kind = "c1" if row["p"] < 0.05 else "c2"
        plot = charts.whisker(row["rate"], row["low"], row["high"], ends, kind=kind, line=row["other_rate"])
        drawn.append({**row, "plot": page.safe(plot)})
    return {"rows": drawn, "axis": page.safe(charts.axis(ends))}
