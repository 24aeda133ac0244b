"""The texts to label: any file that attune reads, whether or not it has labels yet."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from attune.data.detect import renamed
from attune.data.files import kind_of
from attune.data.formats.base import Bad, filled, make
from attune.data.formats.base import Mapping as Columns
from attune.data.formats.labelled import TEXT_NAMES
from attune.data.formats.record import Own
from attune.data.rows import Where, iter_rows
from attune.data.tags import offsets_of
from attune.errors import DataError
from attune.plugins import nearest
from attune.records import Label, Message, Record

__all__ = ["Texts", "load_texts"]

SAMPLE_ROWS = 200


@dataclass
class Texts:
    """Records to label, by id, in the file's order. `known`: labels that the file has already."""

    records: dict[str, Record]
    known: dict[str, Label]
    column: str
    """Where the text stands."""
    copies: int
    """Rows left out because their text stands earlier in the file."""
    empty: int


def load_texts(path: str | Path, *, text: str | None = None, target: str | None = None) -> Texts:
    """All texts of a file or folder. A plain text file is one text a line; a folder of them one text a file.

    `text` names the column that is shown; without it, one called like a text, else the one with the longest values.
    `target` names a column with labels that some rows have already; these are not asked again.
    Raises: DataError naming file:line.
    """
    lines = Path(path).is_file() and kind_of(Path(path)) == "text"
    rows = [(where, row) for outer, whole in iter_rows(path) for where, row in _rows(outer, whole, lines)]
    if not rows:
        raise DataError("there is no text in it", where=str(path))
    column = text or _text_column([row for _, row in rows[:SAMPLE_ROWS]], str(path))
    columns = Columns({"text": column})
    found = Texts({}, {}, column, 0, 0)
    for where, row in rows:
        if text and text not in row and not isinstance(row.get("prompt"), list):
            raise DataError(
                f"there is no column '{text}'{nearest(text, list(row))}",
                where=str(where),
                fix=f"one of: {', '.join(row)}",
            )
        known = row.get(target) if target else None
        if target and target not in row:
            raise DataError(f"there is no column '{target}'{nearest(target, list(row))}", where=str(where))
        try:
            record = _record(row, where, columns, target)
        except Bad as error:
            if "is empty" in str(error) or "is null" in str(error):
                found.empty += 1
                continue
            raise DataError(str(error), where=str(where), fix="correct the row") from None
        if record.id in found.records:
            earlier = found.records[record.id]
            if earlier.text != record.text:
                raise DataError(
                    f"id {record.id!r} stands already at {earlier.where} with another text",
                    where=str(where),
                    fix="give every row its own id, or drop the column",
                )
            found.copies += 1
            continue
        if record.label is not None:
            known, record = record.label, replace(record, label=None)
        found.records[record.id] = record
        if isinstance(known, list):
            found.known[record.id] = tuple(str(part) for part in known)
        elif isinstance(known, tuple):
            found.known[record.id] = known
        elif known is not None and str(known).strip():
            found.known[record.id] = str(known).strip()
    if not found.records:
        raise DataError(f"every '{column}' is empty", where=str(path), fix="name the column: --text COLUMN")
    return found


def _rows(where: Where, row: dict[str, Any], lines: bool) -> list[tuple[Where, dict[str, Any]]]:
    if "conll" in row:
        tokens = [cells[0] for cells in row["conll"]]
        return [(where, {"text": " ".join(tokens), "tokens": offsets_of(tokens)})]
    if lines and isinstance(row.get("document"), str):
        texts = enumerate(row["document"].split("\n"), start=1)  # a line separator of Unicode ends no line of a file
        return [(Where(where.path, number), {"text": line.strip()}) for number, line in texts if line.strip()]
    return [(where, row)]


def _record(row: dict[str, Any], where: Where, columns: Columns, target: str | None) -> Record:
    """A label that the row has is no part of its id: the same text keeps its id when it is labelled."""
    if isinstance(row.get("prompt"), list) and "id" in row:
        return Own().read(row, where, columns)
    row = renamed(row, {"text": columns.columns["text"]}) if columns.columns["text"] != "text" else dict(row)
    tokens = row.pop("tokens", None)
    if target:
        row.pop(target, None)
    text = filled(row, "text", columns)
    meta = {"tokens": tokens} if tokens else None
    return make(row, where, ("text", "tokens"), prompt=(Message("user", text),), meta=meta)


def _text_column(rows: list[dict[str, Any]], path: str) -> str:
    if isinstance(rows[0].get("prompt"), list):
        return "prompt"
    sizes: Counter[str] = Counter()
    for row in rows:
        sizes.update({key: len(value) for key, value in row.items() if isinstance(value, str) and key != "id"})
    if not sizes:
        raise DataError("no column holds text", where=path, fix="name it: --text COLUMN")
    named = [name for name in (*TEXT_NAMES, "note") if name in sizes]
    return named[0] if named else sizes.most_common(1)[0][0]
