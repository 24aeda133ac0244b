"""Texts with marked spans."""

from __future__ import annotations

from typing import Any

from attune.data.formats.base import Bad, Drop, Format, Mapping, filled, make, parsed
from attune.data.rows import Where
from attune.records import Message, Record, Span

SPANS = ("label", "entities", "spans")


class Spans(Format):
    """`{"text": text, "entities"|"spans": [{"start": 0, "end": 3, "label": "PER"}, ...]}`, or [0, 3, "PER"]; end is
    exclusive

    In a table the list is JSON text. An empty list is a text without spans; an empty cell is a text nobody has marked.
    """

    name = "spans"
    task = "tagging"

    def sniff(self, row: dict[str, Any]) -> int:
        if not isinstance(row.get("text"), str):
            return 0
        return 50 if any(spans_like(row.get(key)) or row.get(key) == [] for key in SPANS) else 0

    def read(self, row: dict[str, Any], where: Where, mapping: Mapping) -> Record:
        text = filled(row, "text", mapping)
        key = next((name for name in SPANS if name in row), "spans")
        name = mapping.name(key)
        if row.get(key) is None or row[key] == "":
            raise Drop(f"{name} is empty")
        marks = parsed(row[key], name)
        if not isinstance(marks, list):
            raise Bad(f"{name} is not a list of spans")
        spans = sorted({_span(mark, f"{name}[{number}]", text) for number, mark in enumerate(marks)}, key=_order)
        if any(left.end > right.start for left, right in zip(spans, spans[1:])):
            mapping.notices["text with overlapping spans"] += 1
        return make(row, where, ("text", *SPANS), prompt=(Message("user", text),), label=tuple(spans))


def _order(span: Span) -> tuple[int, int, str]:
    return span.start, span.end, span.label


def spans_like(value: Any) -> bool:
    """Whether a cell is a list of spans, or the text of one."""
    if isinstance(value, str) and value.lstrip()[:1] == "[":
        try:
            value = parsed(value, "")
        except Bad:
            return False
    if not isinstance(value, list) or not value:
        return False
    first = value[0]
    if isinstance(first, dict):
        return "start" in first and "end" in first
    return isinstance(first, list) and len(first) == 3 and isinstance(first[0], int) and isinstance(first[1], int)


def _span(mark: Any, name: str, text: str) -> Span:
    if isinstance(mark, dict):
        label = next((mark[key] for key in ("label", "type", "entity", "tag", "entity_group") if key in mark), None)
        start, end = mark.get("start"), mark.get("end")
    elif isinstance(mark, (list, tuple)) and len(mark) == 3:
        start, end, label = mark
    else:
        raise Bad(f"{name} is not {{start, end, label}}")
    if not isinstance(label, str) or not label:
        raise Bad(f"{name} has no label")
    if type(start) is not int or type(end) is not int:
        raise Bad(f"{name}: start {start!r} and end {end!r} are not whole numbers")
    if not 0 <= start < end <= len(text):
        raise Bad(f"{name}: [{start}, {end}) does not lie in the text, which has {len(text)} characters")
    return Span(start, end, label)
