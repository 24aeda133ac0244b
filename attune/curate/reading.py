"""Documents of any common kind as sections of text, each read in a process with limits."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from attune.curate.extract import KINDS
from attune.errors import DataError

__all__ = ["Document", "documents", "document_files"]

LONGEST_BYTES = 200 << 20
LONGEST_S = 600


@dataclass(frozen=True, slots=True)
class Document:
    """One document that was read."""

    path: str
    """As the user named it, or relative to the folder that was named."""
    title: str
    sha256: str
    sections: tuple[tuple[str, str], ...]
    """(heading, text) in their order."""


def document_files(sources: Sequence[str | Path]) -> list[tuple[Path, str]]:
    """The document files that paths name, with their names for messages and provenance: files, and folders' files.

    Raises: DataError for what is missing, unreadable, empty, too big or of no known kind.
    """
    found: dict[Path, str] = {}
    for source in map(Path, sources):
        if source.is_dir():
            inside = sorted(
                Path(parent) / name
                for parent, folders, names in os.walk(source)
                for name in names
                if not name.startswith(".") and Path(name).suffix.lower() in KINDS and "/." not in parent
            )
            files = [(file, file.relative_to(source).as_posix()) for file in inside if not file.is_symlink()]
            if not files:
                raise DataError(f"{source} has no document", fix=f"it reads {', '.join(KINDS)}")
        else:
            files = [(source, source.name)]
        for file, name in files:
            _check(file)
            found.setdefault(file, name)
    return list(found.items())


def _check(file: Path) -> None:
    if not file.is_file():
        what = "is missing" if not file.exists() else "is not a plain file"
        raise DataError(f"{file} {what}", fix="check the path")
    if file.suffix.lower() not in KINDS:
        raise DataError(
            f"{file.name} is not a kind of document that attune reads",
            where=str(file),
            fix=f"it reads {', '.join(KINDS)}",
        )
    size = file.stat().st_size
    if not size:
        raise DataError(f"{file} is empty (0 bytes)", fix="leave it out")
    if size > LONGEST_BYTES:
        raise DataError(f"{file} is bigger than {LONGEST_BYTES >> 20} MiB", fix="divide it")


def documents(sources: Sequence[str | Path]) -> Iterator[Document]:
    """Every document, in order, read when asked for.

    Raises: DataError for a file that cannot be read; it names the file.
    """
    for file, name in document_files(sources):
        told = _extracted(file)
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        sections = tuple((heading, text) for heading, text in told["sections"])
        yield Document(name, told["title"] or Path(name).stem, digest, sections)


def _extracted(file: Path) -> dict:
    try:
        done = subprocess.run(
            [sys.executable, "-m", "attune.curate.extract", str(file.absolute())],
            capture_output=True,
            timeout=LONGEST_S,
        )
        told = json.loads(done.stdout)
    except subprocess.TimeoutExpired as error:
        raise DataError(
            f"reading it takes more than {LONGEST_S} s", where=str(file), fix="divide it, or leave it out"
        ) from error
    except ValueError as error:
        last = (done.stderr.decode("utf-8", "replace").strip().splitlines() or [f"status {done.returncode}"])[-1]
        raise DataError(
            "the document cannot be read within the memory and time a document may take",
            where=str(file),
            why=last[:300],
            fix="open it and save it anew, or leave it out",
        ) from error
    if "refused" in told:
        what, why, fix = told["refused"]
        raise DataError(what, where=str(file), why=why or None, fix=fix)
    return told
