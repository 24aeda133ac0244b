"""Rows of a table as the bytes they are, so that one can be left out and no other byte of the file changes."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attune.data.files import kind_of
from attune.data.suppress import strings_of
from attune.errors import DataError

__all__ = ["head_of", "raw_rows"]

CELL_BYTES = 256 << 20
OWN_ID = re.compile(r"[0-9a-f]{16}(?:\+.*)?")
"""An id that attune made of a record's content says nothing of anybody; one of the user's may be an e-mail address."""


def raw_rows(file: Path) -> Iterator[tuple[int, bytes, list[str], str | None]]:
    """Rows of a table: the first line's number, the bytes as they stand, the texts in them, the record's id."""
    with open(file, "rb") as stream:
        if kind_of(file) == "jsonl":
            for number, raw in enumerate(stream, 1):
                try:
                    value = json.loads(raw)
                except ValueError:
                    yield number, raw, [raw.decode("utf-8", "replace")], None
                    continue
                id = value.get("id") if isinstance(value, dict) else None
                if isinstance(id, str) and OWN_ID.fullmatch(id):
                    value = {key: part for key, part in value.items() if key != "id"}
                yield number, raw, list(strings_of(value)), id if isinstance(id, str) else None
            return
        yield from _csv_rows(stream)


def _csv_rows(stream: Any) -> Iterator[tuple[int, bytes, list[str], str | None]]:
    """As above; a row of CSV may run over several lines, and its first row is the header, which stays."""
    raw: list[bytes] = []

    def lines() -> Iterator[str]:
        for line in stream:
            raw.append(line)
            yield line.decode("utf-8", "surrogateescape")

    head = stream.readline()
    stream.seek(0)
    delimiter = max(",;\t|", key=lambda mark: head.count(mark.encode()))
    first, header = 1, None
    csv.field_size_limit(CELL_BYTES)
    reader = csv.reader(lines(), delimiter=delimiter, strict=True)
    while True:
        try:
            cells = next(reader, None)
        except csv.Error:
            # Where a quote goes wrong, up to all that follows reads as one row: only the lines themselves can be told.
            for number, line in enumerate(raw, first):
                if b"\r" in line.rstrip(b"\r\n"):
                    raise DataError(
                        "a line of this CSV file has a bare carriage return in it",
                        where=f"{stream.name}:{number}",
                        why="where its rows end cannot be told, so a row too many could be removed",
                        fix="end lines in line feeds, as `tr '\\r' '\\n'` does",
                    ) from None
                yield number, line, [line.decode("utf-8", "surrogateescape")], None
        else:
            if cells is None:
                return
            if header is None:
                header = [name.removeprefix("\ufeff") for name in cells]
            else:
                row = dict(zip(header, cells))
                yield first, b"".join(raw), cells, row.get("id")
        first += len(raw)
        raw.clear()


def head_of(file: Path) -> bytes:
    """The header of a CSV file, which may have line breaks too."""
    for line, _, _, _ in raw_rows(file):
        with open(file, "rb") as stream:
            return b"".join(stream.readline() for _ in range(line - 1))
    return file.read_bytes()
