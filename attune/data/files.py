"""Which files a path means, and their bytes: folders, patterns, compression, and what is refused before it is read."""

from __future__ import annotations

import glob
import gzip
import io
import os
import stat
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from attune.errors import DataError
from attune.plugins import nearest

__all__ = ["KINDS", "kind_of", "files_of", "open_bytes", "BOMB_RATIO", "BOMB_BYTES"]

BOMB_RATIO = 200
BOMB_BYTES = 1 << 30
"""A file that unpacks to more than BOMB_RATIO times its size and more than BOMB_BYTES is refused as a bomb."""

ZST_CHUNK_BYTES = 4096
"""Small, because one zst block of 4 bytes may unpack to 128 KiB."""

KINDS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".tab": "csv",
    ".conll": "conll",
    ".bio": "conll",
    ".iob": "conll",
    ".txt": "text",
    ".text": "text",
    ".md": "text",
    ".parquet": "parquet",
    ".pq": "parquet",
}
"""End of a file's name -> how it is read; `.gz` and `.zst` may follow any of them."""

ABOUT = ("readme", "license", "licence", "provenance", "changelog", "dataset_info", "dataset_infos")


def kind_of(path: Path) -> str | None:
    """jsonl | json | csv | conll | text | parquet, or None for a name attune cannot read."""
    name = path.name.lower()
    for packed in (".gz", ".zst"):
        name = name.removesuffix(packed)
    kind = KINDS.get(os.path.splitext(name)[1])
    if kind in (None, "text") and ("conll" in name or name.endswith(".annotated")):
        return "conll"
    return kind


def files_of(path: str | Path, notices: Counter[str] | None = None) -> list[Path]:
    """The files a path names: itself, a folder's readable files in sorted order, or what a pattern matches.

    A folder's README, LICENSE and PROVENANCE are not data; its texts are left out where it also has tables.
    Raises: DataError for what is missing, empty, not a plain file, or a link that leaves the folder.
    """
    notices = Counter() if notices is None else notices
    path = Path(path)
    if path.is_dir():
        if kind_of(path):
            raise DataError(f"{path} is a folder, its name says it is a file", fix=f"name the file in it: {path}/...")
        found = _walk(path, notices)
    elif not os.path.lexists(path) and glob.has_magic(str(path)):
        found = [Path(name) for name in sorted(glob.glob(str(path), recursive=True)) if not os.path.isdir(name)]
        if not found:
            raise DataError(f"no file matches {path}", fix="quote the pattern, and check it with ls")
    else:
        found = [path]
    for file in found:
        _check(file)
    return found


def _walk(folder: Path, notices: Counter[str]) -> list[Path]:
    root = folder.resolve()
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in folders + sorted(names):
            item = Path(parent) / name
            if item.is_symlink() and not item.resolve().is_relative_to(root):
                raise DataError(
                    f"{item} is a link that leaves the folder",
                    why=f"it points to {item.resolve()}",
                    fix="copy the file into the folder, or name it directly",
                )
            if name in folders:
                continue
            about = name.lower().split(".")[0] in ABOUT or name.startswith(".")
            if not about and kind_of(item):
                found.append(item)
            elif not about:
                notices["file left out: unknown kind"] += 1
    tables = [item for item in found if kind_of(item) != "text"]
    if tables and len(tables) < len(found):
        notices["text file left out beside data files"] += len(found) - len(tables)
        found = tables
    if not found:
        raise DataError(
            f"{folder} has no file that attune can read", fix=f"it reads {', '.join(KINDS)}, also as .gz or .zst"
        )
    return sorted(found, key=lambda item: item.as_posix())


def _check(path: Path) -> None:
    try:
        facts = path.stat()
    except OSError as error:
        beside = [item.name for item in path.parent.iterdir()] if path.parent.is_dir() else []
        guess = nearest(path.name, beside) if not path.is_symlink() else ""
        what = f"{path} is a broken link" if path.is_symlink() else f"{path} cannot be read: {error.strerror}{guess}"
        raise DataError(what, fix="check the path") from error
    for test, name in (
        (stat.S_ISFIFO, "a pipe (FIFO)"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISBLK, "a device"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISDIR, "a folder"),
    ):
        if test(facts.st_mode):
            raise DataError(f"{path} is {name}, a file is meant", fix="write the data to a file first")
    if facts.st_size == 0:
        raise DataError(f"{path} is empty (0 bytes)", fix="check how it was made or copied")
    if kind_of(path) is None:
        archive = path.suffix.lower() in (".zip", ".tar", ".tgz", ".7z", ".bz2", ".xz")
        raise DataError(
            f"{path.name} is not a kind of file that attune reads",
            where=str(path),
            fix="unpack it and name the folder" if archive else f"one of {', '.join(KINDS)}, also as .gz or .zst",
        )


def open_bytes(path: Path) -> BinaryIO:
    """A file's bytes, unpacked on the way.

    Raises: DataError while reading, if the file is cut off, damaged, or a bomb (see BOMB_RATIO).
    """
    suffix = path.suffix.lower()
    try:
        file = open(path, "rb", buffering=0 if suffix in (".gz", ".zst") else 1 << 20)
    except OSError as error:
        raise DataError(f"{path} cannot be opened: {error.strerror}", fix="check its permissions") from error
    if suffix == ".gz":
        unpacked = gzip.GzipFile(fileobj=file)
        return io.BufferedReader(_Unpacked(path, file, unpacked.read1), 1 << 20)  # type: ignore[return-value,type-var]
    if suffix == ".zst":
        chunks = _zst(file)
        return io.BufferedReader(_Unpacked(path, file, lambda size: next(chunks, b"")), 1 << 20)  # type: ignore[return-value]
    return file  # type: ignore[return-value]


class _Unpacked(io.RawIOBase):
    """Unpacked bytes with a limit. `more(size)` gives some bytes (it may give more than asked), nothing at the end."""

    def __init__(self, path: Path, file: BinaryIO, more: Callable[[int], bytes]):
        self.path, self.file, self.more = path, file, more
        self.packed, self.total, self.left = path.stat().st_size, 0, b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:  # type: ignore[override]
        if not self.left:
            self.left = self._next(len(buffer))
        part, self.left = self.left[: len(buffer)], self.left[len(buffer) :]
        buffer[: len(part)] = part
        return len(part)

    def _next(self, size: int) -> bytes:
        try:
            chunk = self.more(size)
        except EOFError as error:
            raise DataError(
                f"{self.path} is cut off: the packed data ends too early", fix="copy or download it again"
            ) from error
        except (OSError, zlib.error, ValueError) as error:
            raise DataError(f"{self.path} cannot be unpacked: {error}", fix="copy or download it again") from error
        self.total += len(chunk)
        if self.total > BOMB_BYTES and self.total > BOMB_RATIO * self.packed:
            raise DataError(
                f"{self.path} unpacks to more than {BOMB_RATIO} times its size",
                why=f"{self.packed} bytes gave {self.total} so far; such a file can fill memory and disk",
                fix="if it is yours, unpack it first and name the unpacked file",
            )
        return chunk

    def close(self) -> None:
        self.file.close()
        super().close()


def _zst(file: BinaryIO) -> Iterator[bytes]:
    """Frames one after the other; the library's own stream reader does not tell a cut-off frame from the end."""
    import zstandard

    frame, left = None, b""
    while chunk := left or file.read(ZST_CHUNK_BYTES):
        if frame is None:
            frame = zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj()
        try:
            unpacked = frame.decompress(chunk)
        except zstandard.ZstdError as error:
            raise ValueError(str(error)) from error
        left = frame.unused_data if frame.eof else b""
        if frame.eof:
            frame = None
        if unpacked:
            yield unpacked
    if frame is not None:
        raise EOFError
