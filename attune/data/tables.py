"""Rows of tables: CSV and its relatives, and CoNLL columns."""

from __future__ import annotations

import csv
import itertools
from collections import Counter
from pathlib import Path

from attune.data.files import open_bytes
from attune.data.lines import LINE_LIMIT_BYTES, SAMPLE_BYTES, BadRow, OnBad, Rows, Where, text_lines
from attune.errors import DataError

__all__ = ["csv_rows", "conll_sentences"]


def csv_rows(path: Path, bad: OnBad, notices: Counter[str]) -> Rows:
    shown = str(path)
    csv.field_size_limit(LINE_LIMIT_BYTES)
    with open_bytes(path) as stream:
        lines = text_lines(stream, shown, notices)
        head, size = [], 0
        for line in lines:
            head.append(line)
            size += len(line)
            if size > SAMPLE_BYTES:
                break
        delimiter = _delimiter(head)
        name = {",": "comma", "\t": "tab", ";": "semicolon", "|": "bar"}[delimiter]
        if name != ("tab" if path.name.lower().split(".")[-1] in ("tsv", "tab") else "comma"):
            notices[f"columns separated by {name}"] += 1
        reader = csv.reader(itertools.chain(head, lines), delimiter=delimiter, strict=True)
        header: list[str] | None = None
        while True:
            before = reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                break
            except csv.Error as error:
                reason = str(error)
                if "unexpected end of data" in reason or "field larger" in reason:
                    reason = "a quote that opens in this row is never closed"
                bad(BadRow(Where(shown, before), f"invalid CSV: {reason}"))
                continue
            if not cells or (len(cells) == 1 and not cells[0].strip() and header is not None and len(header) > 1):
                notices["blank line skipped"] += 1
            elif header is None:
                header = _header(cells, head, delimiter, f"{shown}:{before}")
            elif len(cells) != len(header):
                reason = f"{len(cells)} columns, the header has {len(header)}"
                bad(BadRow(Where(shown, before), reason, delimiter.join(cells)[:2048]))
            else:
                yield Where(shown, before), dict(zip(header, cells))
        if header is None:
            raise DataError("no line with data", where=shown)


def _delimiter(head: list[str]) -> str:
    """The separator that splits the header, and the rows most evenly like it. One column = comma."""
    best, choice = (0.0, 0), ","
    for mark in ",\t;|":
        try:
            rows = [row for row in itertools.islice(csv.reader(head, delimiter=mark), 50) if row]
        except csv.Error:
            continue
        if rows and len(rows[0]) > 1:
            even = sum(len(row) == len(rows[0]) for row in rows) / len(rows)
            best, choice = max((best, choice), ((round(even, 1), len(rows[0])), mark), key=lambda pair: pair[0])
    return choice


def _header(cells: list[str], head: list[str], delimiter: str, where: str) -> list[str]:
    """Names of the columns; a first column without a name is `index` (what pandas writes).

    Raises: DataError if the first line looks like data or has a name twice.
    """
    names = [cell.strip() for cell in cells]
    rows = [row for row in itertools.islice(csv.reader(head, delimiter=delimiter), 1, 200) if len(row) == len(names)]
    for column, name in enumerate(names):
        why = None
        if not name and column == 0 and len(names) > 1 and "index" not in names:
            names[0] = "index"
        elif not name:
            why = f"column {column + 1} has no name"
        elif _numeric(name):
            why = f"{name!r} is a number"
        elif len(name) > 80 or (len(name.split()) > 4 and name[-1] in ".!"):
            why = f"{name[:60]!r} reads like a text"
        elif any(row[column] == cells[column] for row in rows):
            why = f"{name!r} stands again below it in the same column"
        if why:
            raise DataError(
                "the first line is not a header",
                where=where,
                why=why,
                fix="add a first line that names the columns, as text,label",
            )
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"two columns are named {twice[0]!r}", where=where, fix="rename one of them")
    return names


def _numeric(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def conll_sentences(path: Path, bad: OnBad, notices: Counter[str]) -> Rows:
    shown = str(path)
    with open_bytes(path) as stream:
        cells: list[list[str]] = []
        start, width, fault = 0, 0, None
        for number, line in enumerate(itertools.chain(text_lines(stream, shown, notices), [""]), 1):
            text = line.strip()
            if text.startswith("-DOCSTART-") or (text.startswith("# ") and "\t" not in text):
                notices["comment or document line skipped"] += 1
            elif text:
                parts = [part for part in line.rstrip("\r\n").split("\t")] if "\t" in line else text.split()
                start = start or number
                width = width or len(parts)
                if fault is None and (len(parts) < 2 or len(parts) != width):
                    need = "a token and its tag are meant" if len(parts) < 2 else f"the lines above have {width}"
                    fault = BadRow(Where(shown, number), f"{len(parts)} columns, {need}", line[:2048].rstrip())
                cells.append(parts)
            elif cells:
                if fault is not None:
                    bad(fault)
                else:
                    yield Where(shown, start), {"conll": cells}
                cells, start, fault = [], 0, None
