"""Documents read one by one from text files of any size, and the turns that some of them consist of."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from attune.errors import DataError, MachineError

__all__ = ["Document", "documents", "as_turns"]

BLOCK_BYTES = 1 << 20
LONGEST_LINE_BYTES = 64 << 20
"""A longer line is taken for a file that is not JSON Lines; without a limit it would fill the memory."""


@dataclass(frozen=True, slots=True)
class Document:
    """One piece of running text, with what its row says of its origin."""

    text: str
    source: str | None = None
    title: str | None = None


def documents(paths: Iterable[str | Path], field: str = "text") -> Iterator[Document]:
    """The documents of .jsonl, .jsonl.zst and .txt files, in order; empty ones are passed over.

    A JSON line gives the document in `field`, and its `source` and `title` where it has them. A text file is one
    document; one that is longer than 1 MiB is cut at line ends into pieces of about that size.

    Raises: DataError with file:line:column for what cannot be read.
    """
    for path in map(Path, paths):
        if path.suffix == ".txt":
            yield from _pieces(path)
        elif path.name.endswith((".jsonl", ".jsonl.zst")):
            yield from _rows(path, field)
        else:
            raise DataError(
                f"files of the kind {path.suffix or 'without a suffix'} hold no corpus text",
                where=str(path),
                fix="give .jsonl, .jsonl.zst or .txt files",
            )


def _rows(path: Path, field: str) -> Iterator[Document]:
    for number, line in enumerate(_lines(path), 1):
        if line.isspace():
            continue
        where = f"{path}:{number}"
        text = _decode(line, where)
        try:
            row = json.loads(text)
        except json.JSONDecodeError as error:
            raise DataError("not a JSON line", where=f"{where}:{error.colno}", why=error.msg) from error
        value = row.get(field) if isinstance(row, dict) else None
        if not isinstance(value, str):
            have = f"it has {', '.join(map(repr, row))}" if isinstance(row, dict) else "the line is not an object"
            raise DataError(f"no text in the field {field!r}", where=where, why=have, fix="name the field of the text")
        try:
            value.encode()
        except UnicodeEncodeError as error:
            why = "an escape like \\ud83d stands for no character without its other half"
            raise DataError("half a character in the text", where=where, why=why) from error
        if value.strip():
            source, title = row.get("source"), row.get("title")
            yield Document(value, *(item if isinstance(item, str) else None for item in (source, title)))


def _decode(line: bytes, where: str) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError("not UTF-8", where=f"{where}:{error.start + 1}", why=error.reason) from error


def _lines(path: Path) -> Iterator[bytes]:
    """Lines with their end, read block by block."""
    rest = b""
    with path.open("rb") as file:
        for block in _unpacked(file, path) if path.suffix == ".zst" else iter(lambda: file.read(BLOCK_BYTES), b""):
            *whole, rest = (rest + block).split(b"\n")
            yield from (line + b"\n" for line in whole)
            if len(rest) > LONGEST_LINE_BYTES:
                raise DataError(f"a line is longer than {LONGEST_LINE_BYTES >> 20} MiB", where=str(path))
    if rest:
        yield rest


def _unpacked(file: IO[bytes], path: Path) -> Iterator[bytes]:
    try:
        import zstandard
    except ImportError as error:
        raise MachineError("reading .zst needs zstandard", where=str(path), fix="pip install zstandard") from error
    frame = zstandard.ZstdDecompressor().decompressobj()
    try:
        while raw := file.read(BLOCK_BYTES // 8):
            while raw:
                if frame.eof:  # another frame follows, as after `cat a.zst b.zst`
                    frame = zstandard.ZstdDecompressor().decompressobj()
                yield frame.decompress(raw)
                raw = frame.unused_data if frame.eof else b""
    except zstandard.ZstdError as error:
        raise DataError("the compressed data is damaged", where=str(path), why=str(error)) from error
    if not frame.eof:
        raise DataError("the compressed file is cut off", where=str(path), fix="fetch it again")


def _pieces(path: Path) -> Iterator[Document]:
    piece: list[str] = []
    size = 0
    for number, line in enumerate(_lines(path), 1):
        piece.append(_decode(line, f"{path}:{number}"))
        size += len(line)
        if size >= BLOCK_BYTES:
            yield Document("".join(piece))
            piece, size = [], 0
    if (text := "".join(piece)).strip():
        yield Document(text)


_TURN = re.compile(r"(User|Assistant): ?(.*)")


def as_turns(document: Document) -> list[dict[str, str]] | None:
    """The document as chat messages if it visibly is one, else None.

    Two shapes count: every line is `User: ...` or `Assistant: ...` in alternation, starting with the user; or the
    first paragraph is the title and asks a question, and the rest answers it.
    """
    lines = document.text.strip().split("\n")
    found = [_TURN.fullmatch(line) for line in lines]
    turns = [{"role": match[1].lower(), "content": match[2].strip()} for match in found if match]
    if len(turns) == len(lines) > 1 and all(
        turn["content"] and turn["role"] == ("user", "assistant")[i % 2] for i, turn in enumerate(turns)
    ):
        return turns[: len(turns) // 2 * 2]  # a last question without an answer teaches no answer
    question, _, answer = document.text.partition("\n\n")
    if question.endswith("?") and question == document.title and answer.strip():
        return [{"role": "user", "content": question}, {"role": "assistant", "content": answer.strip()}]
    return None
