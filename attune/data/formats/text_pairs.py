"""Pairs written as two lines of a text file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from attune.data.formats.base import Bad, Drop, Format, Mapping, make
from attune.data.rows import Where
from attune.records import Completion, Message, Record

RULE = "*******"


class TextPairs(Format):
    """A .txt file of two lines (original, rewritten), then a line `*******`, and again (as OneStopEnglish)"""

    name = "text_pairs"
    task = "generation"

    def sniff(self, row: dict[str, Any]) -> int:
        text = row.get("document")
        if not isinstance(text, str):
            return 0
        lines = text[:200_000].split("\n", 10)
        return 60 if len(lines) > 2 and lines[2].strip() == RULE else 0

    def expand(self, row: dict[str, Any], where: Where) -> Iterator[tuple[Where, dict[str, Any]]]:
        if not isinstance(row.get("document"), str):
            yield where, row
            return
        block: list[str] = []
        start = where.line
        for number, line in enumerate([*row["document"].split("\n"), RULE], where.line):
            if line.strip() == RULE:
                if block:
                    yield where._replace(line=start), {"lines": block}
                block = []
            elif line.strip():
                start = start if block else number
                block.append(line.strip())

    def read(self, row: dict[str, Any], where: Where, mapping: Mapping) -> Record:
        lines = row.get("lines")
        if not isinstance(lines, list) or len(lines) != 2:
            raise Bad(f"{len(lines) if isinstance(lines, list) else 0} lines before the {RULE} line, two are meant")
        if lines[0] == lines[1]:
            raise Drop("both lines are the same", expected=True)
        answer = Completion((Message("assistant", lines[1]),))
        return make(row, where, ("lines",), prompt=(Message("user", lines[0]),), completions=(answer,))
