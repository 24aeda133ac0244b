"""What is not there: empty texts, placeholders, unlabelled rows, empty columns, broken characters."""

from __future__ import annotations

from collections import Counter
from typing import Any

from attune.data.audit.view import Section, View, finding, text_of, words
from attune.records import LABEL_TASKS

__all__ = ["missing"]

PLACEHOLDERS = frozenset(
    "n/a na none null nil nan - -- . ? ?? ??? unknown tbd todo test xxx lorem ipsum missing unbekannt keine entfällt "
    "inconnu aucun néant desconocido ninguno #n/a #value! undefined".split()
)
TINY = 2
"""Words; a text with at most so many says little."""
COLUMNS = 40
OWN = frozenset({"source", "licence", "split"})


def missing(view: View) -> Section:
    counts: dict[str, Counter[str]] = {}
    columns: dict[str, Counter[str]] = {}
    examples: dict[str, list[dict[str, str]]] = {}
    total = 0
    for name, records in view.parts.items():
        count = counts[name] = Counter(rows=0)
        for record in records:
            count["rows"] += 1
            total += 1
            for kind in _kinds(record, view.task):
                count[kind] += 1
                if len(examples.setdefault(kind, [])) < 5:
                    examples[kind].append(view.shown(record, 80))
            for key, value in record.meta.items():
                if key not in OWN:
                    seen = columns.setdefault(key, Counter())
                    seen["filled"] += not _blank(value)
                    seen["placeholder"] += _blank(value)
    table = [
        {"column": key, "empty": total - seen["filled"], "share": round(1 - seen["filled"] / total, 4)}
        for key, seen in sorted(columns.items())
    ][:COLUMNS]
    kinds = sorted({kind for count in counts.values() for kind in count} - {"rows"})
    found: Section = {
        "rows": {name: count["rows"] for name, count in counts.items()},
        "kinds": [{"kind": kind, **{name: count[kind] for name, count in counts.items()}} for kind in kinds],
        "examples": {kind: examples[kind] for kind in kinds},
        "columns": table,
        "findings": [],
    }
    for kind in ("empty text", "placeholder instead of a text", "no label"):
        rows = sum(count[kind] for count in counts.values())
        if rows:
            found["findings"].append(finding("warn", f"{rows:,} rows: {kind}"))
    broken = sum(count["broken characters"] for count in counts.values())
    if broken:
        found["findings"].append(
            finding("note", f"{broken:,} rows hold characters that were lost in an earlier conversion")
        )
    if not kinds:
        found["findings"].append(finding("good", "No text is empty or a placeholder, and no label is missing"))
    return found


def _kinds(record: Any, task: str) -> list[str]:
    text = text_of(record)
    stripped = text.strip()
    kinds = []
    if not stripped:
        kinds.append("empty text")
    elif stripped.casefold() in PLACEHOLDERS:
        kinds.append("placeholder instead of a text")
    elif len(words(stripped)) <= TINY and len(stripped) < 20:
        kinds.append(f"{TINY} words or fewer")
    if task in LABEL_TASKS:
        if record.label is None:
            kinds.append("no label")
        elif isinstance(record.label, str) and record.label.strip().casefold() in PLACEHOLDERS:
            kinds.append("placeholder instead of a label")
    elif record.completions and not record.completions[0].text.strip():
        kinds.append("empty answer")
    if "\ufffd" in text or any("\ud800" <= char <= "\udfff" for char in text):
        kinds.append("broken characters")
    return kinds


def _blank(value: Any) -> bool:
    return value is None or (isinstance(value, str) and (not value.strip() or value.strip().casefold() in PLACEHOLDERS))
