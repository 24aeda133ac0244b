"""The answers of annotators: `labels.jsonl`, one line an answer, on the disk before the next text is shown.

Lines are only ever added, also by an undo; several people may write to one file at once.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from attune.durable import fsync
from attune.errors import DataError, MachineError
from attune.records import Label, Span

__all__ = ["Row", "Setup", "Store", "plain", "from_plain"]

SOURCES = ("human", "prelabel", "adjudicated")
ACTIONS = ("label", "skip", "undo")
BEGINNINGS = (b'{"id": "', b'{"task": "')


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that an annotator did."""

    id: str
    annotator: str
    label: Label = None
    action: Literal["label", "skip", "undo"] = "label"
    at: str = ""
    """UTC, to the second."""
    seconds: float | None = None
    """From showing the text to the answer."""
    source: Literal["human", "prelabel", "adjudicated"] = "human"
    """`human`: chosen; `prelabel`: what the model proposed was accepted; `adjudicated`: settles a disagreement."""
    note: str = ""
    prelabel: Label = None
    """What the model proposed, where it was shown."""
    confidence: float | None = None

    def to_dict(self) -> dict[str, Any]:
        row: dict[str, Any] = {"id": self.id, "annotator": self.annotator}
        if self.action == "label":
            row["label"] = plain(self.label)
        else:
            row["action"] = self.action
        row |= {"at": self.at, "seconds": self.seconds, "source": self.source, "note": self.note}
        if self.prelabel is not None:
            row |= {"prelabel": plain(self.prelabel), "confidence": self.confidence}
        return row


@dataclass(frozen=True, slots=True)
class Setup:
    """What is asked: written when a file begins, and again when the labels change."""

    task: str
    labels: tuple[str, ...]


def plain(label: Label) -> Any:
    """A label as JSON has it; spans are [start, end, label]."""
    if isinstance(label, tuple):
        return [[part.start, part.end, part.label] if isinstance(part, Span) else part for part in label]
    return label


def from_plain(value: Any) -> Label:
    """Raises: ValueError if it is no label."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return tuple(value)
    if isinstance(value, list) and all(
        isinstance(part, list) and [type(cell) for cell in part] == [int, int, str] for part in value
    ):
        return tuple(Span(*part) for part in value)
    raise ValueError(f"label {json.dumps(value)[:60]} is not a text, a list of texts or a list of [start, end, text]")


class Store:
    """All answers in a file, and the way to add one.

    A last line that a crash cut off is no answer: it is left out (`torn` holds it), and removed at the next write.
    """

    def __init__(self, path: str | Path, *, write: bool = True):
        self.path = Path(path)
        self.torn = ""
        self.setup: Setup | None = None
        self.labels: dict[str, dict[str, Row]] = {}
        """Item -> annotator (see `_slot`) -> the label that holds now."""
        self.skipped: dict[str, set[str]] = {}
        """Annotator -> items."""
        self._done: dict[str, list[tuple[Row, Row | None]]] = {}
        """Annotator -> what was done, and the label that stood there before; an undo takes the last away."""
        self._offset, self._line = 0, 0
        self._file: int | None = None
        try:
            if write:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                new = not self.path.exists()
                self._file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
                if new:
                    fsync(self.path.parent)
                with self._alone():
                    self._read(repair=True)
            else:
                self._read(repair=False)
        except FileNotFoundError:
            raise DataError(f"{self.path} is not there", fix="check the path; labelling makes it") from None
        except OSError as error:
            raise MachineError(f"{self.path} cannot be opened: {error.strerror}", fix="choose another --out") from error

    def add(self, row: Row) -> Row:
        """Write an answer; when this returns it is on the disk. An undo takes back the annotator's last one.

        Returns: the row that was written; for an undo, the row that was taken back.
        Raises: DataError if there is nothing to undo; MachineError if it cannot be written (then nothing was).
        """
        row = Row(**{**{key: getattr(row, key) for key in Row.__slots__}, "at": row.at or _now()})
        with self._alone():
            self._read(repair=True)
            back = row
            if row.action == "undo":
                if not self._done.get(row.annotator):
                    raise DataError(f"{row.annotator} has nothing to undo", where=str(self.path))
                back = self._done[row.annotator][-1][0]
                row = Row(back.id, row.annotator, action="undo", at=row.at, note=row.note)
            self._append(row.to_dict())
            self._take(row)
        return back

    def define(self, setup: Setup, annotator: str) -> None:
        """Write down what is asked, if it is new."""
        with self._alone():
            self._read(repair=True)
            if setup != self.setup:
                self._append({"task": setup.task, "labels": list(setup.labels), "annotator": annotator, "at": _now()})
                self.setup = setup

    def refresh(self) -> None:
        """See what others wrote meanwhile."""
        with self._alone():
            self._read(repair=True)

    def last(self, annotator: str) -> Row | None:
        """What an undo would take back."""
        done = self._done.get(annotator)
        return done[-1][0] if done else None

    @property
    def annotators(self) -> list[str]:
        return sorted({row.annotator for rows in self.labels.values() for row in rows.values()})

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Nobody else writes meanwhile. The system frees the lock of a process that dies."""
        if self._file is None:
            raise MachineError(f"{self.path} is not open for writing", fix="open it again")
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def _append(self, row: dict[str, Any]) -> None:
        assert self._file is not None
        line = (json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8", "surrogatepass")
        try:
            left = memoryview(line)
            while left:
                left = left[os.write(self._file, left) :]
            os.fsync(self._file)
        except OSError as error:
            with suppress(OSError):  # where this fails too, the next reader takes the rest for a crash
                os.ftruncate(self._file, self._offset)
            raise MachineError(
                f"the answer could not be written to {self.path}: {error.strerror}",
                why="nothing of it was kept; all answers before it are safe",
                fix="free disk space and answer again",
            ) from error
        self._offset += len(line)
        self._line += 1

    def _read(self, *, repair: bool) -> None:
        """Take in the lines that are new. `repair` (only while alone): finish or remove a last line that was cut."""
        with open(self.path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            if size < self._offset:
                raise DataError(
                    "the file became shorter while it was in use", where=str(self.path), fix="start the command again"
                )
            file.seek(self._offset)
            for raw in file:
                whole = raw.endswith(b"\n")
                try:
                    row = self._parse(raw)
                except DataError:
                    if whole or not _cut(raw):
                        raise
                    self.torn = raw.decode("utf-8", "replace")
                    if repair:
                        assert self._file is not None
                        os.ftruncate(self._file, self._offset)
                        os.fsync(self._file)
                    return
                self._offset += len(raw)
                self._line += 1
                if row is not None:
                    self._take(row)
                if not whole:
                    if repair:
                        assert self._file is not None
                        os.write(self._file, b"\n")
                        os.fsync(self._file)
                        self._offset += 1
                    return

    def _parse(self, raw: bytes) -> Row | Setup | None:
        where = f"{self.path}:{self._line + 1}"
        fix = "correct the line, or delete it"
        if not raw.strip():
            return None
        try:
            row = json.loads(raw.decode("utf-8", "surrogatepass"))
        except json.JSONDecodeError as error:
            raise DataError(f"not JSON: {error.msg}", where=f"{where}:{error.colno}", fix=fix) from None
        except (ValueError, RecursionError) as error:
            raise DataError(f"not JSON: {error}", where=f"{where}:1", fix=fix) from None
        if not isinstance(row, dict):
            raise DataError("the line is not an object", where=f"{where}:1", fix=fix)
        if "id" not in row and "task" in row:
            labels = row.get("labels")
            if not isinstance(labels, list) or not all(isinstance(name, str) for name in labels):
                raise DataError("labels is not a list of texts", where=f"{where}:1", fix=fix)
            return Setup(str(row["task"]), tuple(labels))
        for key in ("id", "annotator"):
            if not isinstance(row.get(key), str) or not row[key]:
                raise DataError(f"{key} is missing or not a text", where=f"{where}:1", fix=fix)
        action, source = row.get("action", "label"), row.get("source", "human")
        if action not in ACTIONS or source not in SOURCES:
            raise DataError(f"action {action!r} or source {source!r} is unknown", where=f"{where}:1", fix=fix)
        try:
            label, prelabel = from_plain(row.get("label")), from_plain(row.get("prelabel"))
        except ValueError as error:
            raise DataError(str(error), where=f"{where}:1", fix=fix) from None
        if action == "label" and label is None:
            raise DataError("label is missing", where=f"{where}:1", fix=fix)
        return Row(
            row["id"],
            row["annotator"],
            label,
            action,
            str(row.get("at") or ""),
            row.get("seconds"),
            source,
            str(row.get("note") or ""),
            prelabel,
            row.get("confidence"),
        )

    def _take(self, row: Row | Setup) -> None:
        if isinstance(row, Setup):
            self.setup = row
            return
        done, of_item = self._done.setdefault(row.annotator, []), self.labels.setdefault(row.id, {})
        skipped = self.skipped.setdefault(row.annotator, set())
        if row.action == "undo":
            if done:
                back, before = done.pop()
                if back.action == "skip":
                    skipped.discard(back.id)
                elif before is None:
                    self.labels.get(back.id, {}).pop(_slot(back), None)
                else:
                    self.labels[back.id][_slot(back)] = before
        elif row.action == "skip":
            done.append((row, None))
            skipped.add(row.id)
        else:
            done.append((row, of_item.get(_slot(row))))
            of_item[_slot(row)] = row
            skipped.discard(row.id)
        if not of_item:
            self.labels.pop(row.id, None)


def _slot(row: Row) -> str:
    """Who settles a disagreement has often voted on it: the vote stays one, and agreement is measured on it."""
    return f"{row.annotator}\0adjudicated" if row.source == "adjudicated" else row.annotator


def _cut(raw: bytes) -> bool:
    """Whether it is the beginning of a line that `Store` writes: only that is ever removed, nothing of other files."""
    try:
        json.loads(raw.decode("utf-8", "surrogatepass"))
    except ValueError:
        return any(raw.startswith(begin) or begin.startswith(raw) for begin in BEGINNINGS)
    return False


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
