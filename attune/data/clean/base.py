"""What cleaners share: cleaning until nothing is left to clean, as one list of edits."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace

from attune.data.steps import Edit, apply_edits

__all__ = ["PASSES", "compose", "matches", "settled"]

PASSES = 8
"""A text that is still not clean after this many passes was made to be so; it is left as it is."""


def settled(text: str, once: Callable[[str], list[Edit]]) -> list[Edit]:
    """The edits after which `once` finds nothing more; none if there is no end to it."""
    edits, now = once(text), text
    if not edits:
        return edits
    total: list[Edit] = []
    for _ in range(PASSES):
        middle, now = now, apply_edits(now, edits)
        total = compose(total, middle, edits) if total else edits
        edits = once(now)
        if not edits:
            return [edit for edit in total if text[edit.start : edit.end] != edit.new]
    return []


def matches(pattern: re.Pattern[str], first: re.Pattern[str], text: str) -> Iterator[re.Match[str]]:
    """What `pattern.finditer` gives, tried only where `first` matches: far faster where `first` begins with one of a
    few characters."""
    end = 0
    for start in first.finditer(text):
        if start.start() >= end and (match := pattern.match(text, start.start())):
            end = match.end()
            yield match


def compose(first: list[Edit], middle: str, second: list[Edit]) -> list[Edit]:
    """One list of edits for two in a row: `first` made the text `middle`, and `second` edits that."""
    placed, shift = [], 0
    for edit in first:
        placed.append((edit.start + shift, edit.start + shift + len(edit.new), 0, edit))
        shift += len(edit.new) - (edit.end - edit.start)
    rows = sorted([*placed, *((edit.start, edit.end, 1, edit) for edit in second)], key=lambda row: row[:3])
    shift, made = 0, []
    for start, end, group in _touching(rows):
        old = [edit for _, _, which, edit in group if which == 0]
        new = [replace(e, start=e.start - start, end=e.end - start) for _, _, which, e in group if which]
        grown = sum(len(edit.new) - (edit.end - edit.start) for edit in old)
        reason = "; ".join(dict.fromkeys(edit.reason for _, _, _, edit in group))
        made.append(Edit(start - shift, end - shift - grown, apply_edits(middle[start:end], new), reason))
        shift += grown
    return made


Row = tuple[int, int, int, Edit]


def _touching(rows: list[Row]) -> Iterator[tuple[int, int, list[Row]]]:
    """Rows in groups that meet one another, each with the first start and the last end."""
    group: list[Row] = []
    start = end = 0
    for row in rows:
        if group and row[0] > end:
            yield start, end, group
            group = []
        start, end = (start, max(end, row[1])) if group else row[:2]
        group.append(row)
    if group:
        yield start, end, group
