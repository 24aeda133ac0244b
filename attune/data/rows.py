"""Rows of a data file, one at a time and strictly: what is not a row is named by file, line and column."""

from __future__ import annotations

import io
import json
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attune.data.files import files_of, kind_of, open_bytes
from attune.data.json_rows import json_file, json_lines, whole_text
from attune.data.lines import DOCUMENT_LIMIT_BYTES, LINE_LIMIT_BYTES, BadRow, OnBad, Rows, Where
from attune.data.tables import conll_sentences, csv_rows
from attune.errors import DataError, MachineError

__all__ = ["Where", "BadRow", "iter_rows", "LINE_LIMIT_BYTES", "DOCUMENT_LIMIT_BYTES"]


def iter_rows(
    path: str | Path, *, on_bad: str | OnBad = "raise", notices: Counter[str] | None = None
) -> Iterator[tuple[Where, dict[str, Any]]]:
    """Every row of a file, folder or pattern, with where it stands.

    `on_bad` is called with each bad row and reading goes on; "raise" stops at the first. What was accepted but is worth
    saying (BOM, CRLF, blank lines) is counted in `notices`. A text file is one row `{"document": text}`, a CoNLL
    sentence one row `{"conll": [[cell, ...], ...]}`, a JSON file that is an object one row.
    Raises: DataError; MachineError if a package for this kind of file is missing.
    """
    notices = Counter() if notices is None else notices

    def stop(bad: BadRow) -> None:
        raise DataError(bad.reason, where=str(bad.where))

    report: OnBad = stop if isinstance(on_bad, str) else on_bad
    for file in files_of(path, notices):
        yield from _READERS[kind_of(file) or ""](file, report, notices)


def _document(path: Path, bad: OnBad, notices: Counter[str]) -> Rows:
    with open_bytes(path) as stream:
        text = whole_text(stream, str(path), notices)
    if "\r\n" in text:
        notices["line ends in CRLF"] += text.count("\r\n")
        text = text.replace("\r\n", "\n")
    yield Where(str(path), 1), {"document": text}


def _parquet(path: Path, bad: OnBad, notices: Counter[str]) -> Rows:
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise MachineError(
            f"{path} is Parquet and pyarrow is not installed", fix='pip install "attune[hub]"'
        ) from error
    packed = path.suffix.lower() in (".gz", ".zst")
    try:
        with open_bytes(path) as stream:
            source = io.BytesIO(stream.read()) if packed else stream
            number = 0
            for batch in parquet.ParquetFile(source).iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    number += 1
                    yield Where(str(path), number), {key: _plain(value) for key, value in row.items()}
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise DataError(
            f"Parquet cannot be read: {str(error).splitlines()[0]}",
            where=str(path),
            fix="it is cut off or damaged: copy it again",
        ) from error


def _plain(value: Any) -> Any:
    """Values that JSON has; NaN is how a table says that a number is missing."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, (str, int, float, list, dict, type(None))):
        return value
    return json.loads(json.dumps(value, default=lambda item: item.hex() if isinstance(item, bytes) else str(item)))


_READERS = {
    "jsonl": json_lines,
    "json": json_file,
    "csv": csv_rows,
    "conll": conll_sentences,
    "text": _document,
    "parquet": _parquet,
}
