"""Rows of JSON lines and JSON documents."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, BinaryIO

from attune.data import strict_json
from attune.data.files import open_bytes
from attune.data.lines import (
    DOCUMENT_LIMIT_BYTES,
    LINE_LIMIT_BYTES,
    SAMPLE_BYTES,
    BadRow,
    OnBad,
    Rows,
    Where,
    encoding_reason,
    strip_bom,
)
from attune.data.strict_json import Fault
from attune.errors import DataError

__all__ = ["json_lines", "json_file", "whole_text"]


def json_lines(path: Path, bad: OnBad, notices: Counter[str]) -> Rows:
    shown = str(path)
    with open_bytes(path) as stream:
        yield from _lines(stream, shown, bad, notices)


def _lines(stream: BinaryIO, shown: str, bad: OnBad, notices: Counter[str]) -> Rows:
    parse, readline = strict_json.parse, stream.readline
    number = 0
    while raw := readline(LINE_LIMIT_BYTES + 1):
        number += 1
        if number == 1:
            raw = strip_bom(raw, shown, notices)
        if len(raw) > LINE_LIMIT_BYTES and raw[-1:] != b"\n":
            while (more := readline(1 << 20)) and more[-1:] != b"\n":
                pass
            bad(BadRow(Where(shown, number, 1), f"the line is longer than {LINE_LIMIT_BYTES >> 20} MiB", _head(raw)))
            continue
        if raw[-2:] == b"\r\n":
            notices["line ends in CRLF"] += 1
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            column = len(raw[: error.start].decode("utf-8")) + 1
            bad(BadRow(Where(shown, number, column), encoding_reason(error), _head(raw)))
            continue
        if "\0" in text:
            bad(BadRow(Where(shown, number, text.index("\0") + 1), "NUL byte in text", _head(raw)))
            continue
        try:
            row = parse(text)
        except Fault as found:
            text = text.rstrip("\r\n")
            if not text.strip():
                notices["blank line skipped"] += 1
                continue
            try:  # a string that is cut off has swallowed the line end: say where without it
                parse(text)
                fault = found
            except Fault as plain:
                fault = plain
            bad(BadRow(Where(shown, number, fault.offset + 1), fault.reason, _head(raw)))
            continue
        if type(row) is dict:
            yield Where(shown, number), row
        else:
            bad(BadRow(Where(shown, number, 1), _not_object(row), _head(raw)))


def _head(raw: bytes) -> str:
    return raw[:2048].decode("utf-8", "replace").rstrip("\r\n")


def _not_object(value: Any) -> str:
    names = {list: "an array", str: "a string", bool: "true or false", type(None): "null"}
    return f"the row is {names.get(type(value), 'a number')}, an object {{...}} is meant"


def json_file(path: Path, bad: OnBad, notices: Counter[str]) -> Rows:
    """An array of rows (read element by element), one object, or, with a notice, JSON lines under another name."""
    shown = str(path)
    with open_bytes(path) as stream:
        head = stream.peek(SAMPLE_BYTES)[:SAMPLE_BYTES] if hasattr(stream, "peek") else b""
        first = strip_bom(head, shown, Counter()).lstrip()
        lines = [line for line in first.splitlines() if line.strip()]
        if first[:1] == b"{" and len(lines) > 1 and _is_object(lines[0]):
            notices["JSON lines in a file named .json"] += 1
            yield from _lines(stream, shown, bad, notices)
        elif first[:1] == b"[":
            yield from _array(_Text(stream, shown, notices), bad)
        else:
            text = whole_text(stream, shown, notices)
            try:
                value = strict_json.parse(text)
            except Fault as fault:
                raise DataError(fault.reason, where=_place(shown, text, fault.offset)) from None
            if type(value) is not dict:
                raise DataError(_not_object(value), where=f"{shown}:1:1", fix="an array of objects, or one object")
            yield Where(shown, text[: len(text) - len(text.lstrip())].count("\n") + 1), value


def _is_object(line: bytes) -> bool:
    try:
        return type(strict_json.parse(line.decode("utf-8"))) is dict
    except (Fault, UnicodeDecodeError):
        return False


def _place(shown: str, text: str, offset: int) -> str:
    return f"{shown}:{text.count(chr(10), 0, offset) + 1}:{offset - text.rfind(chr(10), 0, offset)}"


def whole_text(stream: BinaryIO, shown: str, notices: Counter[str]) -> str:
    text = _Text(stream, shown, notices)
    while text.more():
        if len(text.buffer) > DOCUMENT_LIMIT_BYTES:
            raise DataError(
                f"one document of more than {DOCUMENT_LIMIT_BYTES >> 20} MiB",
                where=shown,
                fix="split it, or write JSON lines",
            )
    return text.buffer


class _Text:
    """Decoded text of a stream with a movable beginning, so that an array of any length needs little memory."""

    def __init__(self, stream: BinaryIO, shown: str, notices: Counter[str]):
        self.stream, self.shown, self.notices = stream, shown, notices
        self.buffer, self.tail, self.started = "", b"", False
        self.first = self.known = (0, 1, 1)
        """Offset, line and column of the buffer's beginning, and of a place that was counted already."""

    def more(self) -> bool:
        """Read on; False at the end. Raises: DataError if a byte is not UTF-8."""
        raw = self.stream.read(max(1 << 20, len(self.buffer) // 2))
        if not self.started:
            raw, self.started = strip_bom(raw, self.shown, self.notices), True
        data = self.tail + raw
        try:
            text, self.tail = data.decode("utf-8"), b""
        except UnicodeDecodeError as error:
            if error.reason == "unexpected end of data" and raw:
                text, self.tail = data[: error.start].decode("utf-8"), data[error.start :]
            else:
                self.buffer += data[: error.start].decode("utf-8")
                raise DataError(
                    encoding_reason(error), where=self.where(len(self.buffer)), fix="convert it to UTF-8"
                ) from error
        if "\0" in text:
            at = len(self.buffer) + text.index("\0")
            self.buffer += text
            raise DataError("NUL byte in text", where=self.where(at))
        self.buffer += text
        return bool(raw)

    def where(self, offset: int) -> str:
        return str(self.at(offset))

    def at(self, offset: int) -> Where:
        start, line, column = self.known if offset >= self.known[0] else self.first
        lines = self.buffer.count("\n", start, offset)
        column = offset - self.buffer.rfind("\n", start, offset) if lines else column + offset - start
        self.known = (offset, line + lines, column)
        return Where(self.shown, line + lines, column)

    def drop(self, offset: int) -> None:
        """Forget what stands before `offset`."""
        _, line, column = self.at(offset)
        self.first = self.known = (0, line, column)
        self.buffer = self.buffer[offset:]


def _array(text: _Text, bad: OnBad) -> Rows:
    def token(at: int) -> tuple[int, str]:
        """Offset of the next character that is not white space, and the character (empty at the end)."""
        while True:
            at = strict_json.SPACE.match(text.buffer, at).end()  # type: ignore[union-attr]
            if at < len(text.buffer) or not text.more():
                return at, text.buffer[at : at + 1]

    at, _ = token(0)
    at, mark = token(at + 1)
    while mark != "]":
        start = text.at(at)
        while True:
            try:
                value, end = strict_json.parse_prefix(text.buffer, at)
                fault = None
                strict_json.refuse(text.buffer, at) if "\\ud" in text.buffer[at:end].lower() else None
            except Fault as found:
                fault = found
                end = strict_json.skip(text.buffer, at) or 0
            if (fault is None or end) and end < len(text.buffer):
                break
            if len(text.buffer) - at > DOCUMENT_LIMIT_BYTES:
                raise DataError(f"an element of more than {DOCUMENT_LIMIT_BYTES >> 20} MiB", where=str(start))
            if not text.more():
                break
        if fault is not None and not end:
            raise DataError(fault.reason, where=text.where(fault.offset), fix="the rest of the array cannot be read")
        raw = text.buffer[at : min(end, at + 2048)]
        if fault is not None:
            bad(BadRow(text.at(fault.offset), fault.reason, raw))
        elif type(value) is not dict:
            bad(BadRow(start, _not_object(value), raw))
        else:
            yield Where(start.path, start.line), value
        at, mark = token(end)
        if mark == ",":
            at, mark = token(at + 1)
            if mark == "]":
                raise DataError("invalid JSON: a comma before ]", where=text.where(at))
        elif mark != "]":
            what = "the file ends inside the array" if not mark else f"',' or ']' is meant here, not {mark!r}"
            raise DataError(f"invalid JSON: {what}", where=text.where(at))
        if at > 1 << 20:
            text.drop(at)
            at = 0
    at, mark = token(at + 1)
    if mark:
        raise DataError("more text after the end of the array", where=text.where(at))
