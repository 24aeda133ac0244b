"""Lines of a text file, decoded strictly, and how a place in a file is named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from attune.errors import DataError

__all__ = ["Where", "BadRow", "OnBad", "Rows", "LINE_LIMIT_BYTES", "DOCUMENT_LIMIT_BYTES", "SAMPLE_BYTES"]

LINE_LIMIT_BYTES = 32 << 20
"""One line, one CSV cell, or one element of a JSON array."""
DOCUMENT_LIMIT_BYTES = 256 << 20
"""One text file, or one JSON file that is a single object: these are held in memory whole."""
SAMPLE_BYTES = 256 << 10


class Where(NamedTuple):
    """Where a row stands; line and column count from 1, column 0 = the whole row. In Parquet, line is the row's
    number.
    """

    path: str
    line: int
    column: int = 0

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}" if self.column else f"{self.path}:{self.line}"


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be read: where, why, and its beginning."""

    where: Where
    reason: str
    raw: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"


OnBad = Callable[[BadRow], None]
Rows = Iterator[tuple[Where, dict[str, Any]]]


def strip_bom(raw: bytes, shown: str, notices: Counter[str]) -> bytes:
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(
            "the file is UTF-16, attune reads UTF-8",
            where=f"{shown}:1:1",
            fix=f"iconv -f UTF-16 -t UTF-8 {shown} > utf8-{Path(shown).name}",
        )
    if raw.startswith(b"\xef\xbb\xbf"):
        notices["byte order mark (BOM) skipped"] += 1
        return raw[3:]
    return raw


def encoding_reason(error: UnicodeDecodeError) -> str:
    return f"byte 0x{error.object[error.start]:02x} is not UTF-8"


def text_lines(stream: BinaryIO, shown: str, notices: Counter[str]) -> Iterator[str]:
    """Decoded lines of a table; here one wrong byte means that the whole file has another encoding.

    Raises: DataError naming byte, line and column, and how to convert.
    """
    number = 0
    while raw := stream.readline(LINE_LIMIT_BYTES + 1):
        number += 1
        if number == 1:
            raw = strip_bom(raw, shown, notices)
        if len(raw) > LINE_LIMIT_BYTES:
            raise DataError(f"the line is longer than {LINE_LIMIT_BYTES >> 20} MiB", where=f"{shown}:{number}:1")
        try:
            line = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            column = len(raw[: error.start].decode("utf-8")) + 1
            raise DataError(
                f"{encoding_reason(error)}",
                where=f"{shown}:{number}:{column}",
                why="the file seems to be Latin-1 or Windows-1252",
                fix=f"iconv -f WINDOWS-1252 -t UTF-8 {shown} > utf8-{Path(shown).name}",
            ) from error
        if "\0" in line:
            raise DataError(
                "NUL byte in text", where=f"{shown}:{number}:{line.index(chr(0)) + 1}", fix="check how it was written"
            )
        if raw.endswith(b"\r\n"):
            notices["line ends in CRLF"] += 1
        yield line
