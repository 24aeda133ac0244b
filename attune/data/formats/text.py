"""Plain text, for continued pre-training."""

from __future__ import annotations

from typing import Any

from attune.data.formats.base import Bad, Drop, Format, Mapping, make
from attune.data.rows import Where
from attune.records import Completion, Message, Record

ABOUT = frozenset(
    ("id", "source", "title", "url", "date", "timestamp", "lang", "language", "licence", "license", "author")
    + ("split", "meta", "metadata", "ari", "file", "path", "group")
)


class Text(Format):
    """`{"text": text}`, with nothing beside it but facts about the text (title, source, url, date ...); a .txt or
    .md file
    """

    name = "text"
    task = "text"

    def sniff(self, row: dict[str, Any]) -> int:
        if isinstance(row.get("document"), str) and len(row) == 1:
            return 10
        return 10 if isinstance(row.get("text"), str) and all(key in ABOUT for key in row if key != "text") else 0

    def read(self, row: dict[str, Any], where: Where, mapping: Mapping) -> Record:
        key = "text" if "text" in row else "document"
        text = row.get(key)
        if not isinstance(text, str):
            raise Bad(f"{mapping.name(key)} is {'missing' if text is None else 'not a text'}")
        if not text.strip():
            raise Drop(f"{mapping.name(key)} is empty")
        return make(row, where, (key,), completions=(Completion((Message("text", text),)),))
