"""What was made and what became of it: accepted, rejected, or waiting for a person; decisions survive a new run."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from attune.durable import fsync
from attune.errors import DataError, MachineError, UsageError
from attune.records import Record

__all__ = ["Candidate", "Review"]

Status = Literal["pending", "accepted", "rejected"]
ANSWERS = frozenset(("label", "spans", "completions"))


@dataclass(frozen=True, slots=True)
class Candidate:
    """One record that was made, with the reasons for its status."""

    record: Record
    status: Status
    reasons: tuple[str, ...] = ()
    evidence: dict[str, Any] = field(default_factory=dict)
    """What a reviewer needs to see: the text it was made from, scores."""

    def to_dict(self) -> dict[str, Any]:
        row: dict[str, Any] = {"id": self.record.id, "status": self.status, "reasons": list(self.reasons)}
        return row | {"record": self.record.to_dict(), "evidence": self.evidence}

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> Candidate:
        return cls(Record.from_dict(row["record"]), row["status"], tuple(row["reasons"]), row["evidence"])


class Review:
    """`review.jsonl` (what was made), `decisions.jsonl` (what people said of it) and `records.jsonl` (what is accepted)
    in one folder.

    A decision belongs to a record's id, which is made of its content: when the same work is done again, it holds.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.decisions: dict[str, dict[str, Any]] = {}
        self._made: dict[str, bool] | None = None
        """What can be decided, and whether it has an answer to accept; read when the first decision is made."""
        for where, row in self._lines("decisions.jsonl", torn=True):
            if not isinstance(row.get("id"), str) or row.get("status") not in ("accepted", "rejected", "pending"):
                raise DataError("this line is no decision", where=where, fix="delete the line")
            self.decisions[row["id"]] = row

    def _lines(self, name: str, *, torn: bool = False) -> Iterator[tuple[str, dict[str, Any]]]:
        path = self.folder / name
        if not path.exists():
            return
        with open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                if torn and not line.endswith(b"\n"):
                    return
                try:
                    row = json.loads(line)
                    if not isinstance(row, dict):
                        raise ValueError
                except ValueError as error:
                    raise DataError("this line is not JSON", where=f"{path}:{number}", fix="delete the line") from error
                yield f"{path}:{number}", row

    def write(self, candidates: Iterable[Candidate]) -> Counter[str]:
        """Replace what was made; returns how many have each status, decisions included. Writes `records.jsonl` too."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._made = None
        self._replace("review.jsonl", (candidate.to_dict() for candidate in candidates))
        return self.export()

    def __iter__(self) -> Iterator[Candidate]:
        """Everything that was made, as decided."""
        for where, row in self._lines("review.jsonl"):
            try:
                yield self._decided(Candidate.from_dict(row))
            except (KeyError, TypeError, ValueError) as error:
                raise DataError("this line is no candidate", where=where, fix="run the synthesis again") from error

    def _decided(self, candidate: Candidate) -> Candidate:
        said = self.decisions.get(candidate.record.id)
        if said is None:
            return candidate
        record = Record.from_dict(said["record"]) if said.get("record") else candidate.record
        note = (f"reviewed: {said['note']}",) if said.get("note") else ("reviewed",)
        return replace(candidate, record=record, status=said["status"], reasons=(*candidate.reasons, *note))

    def pending(self) -> list[Candidate]:
        return [candidate for candidate in self if candidate.status == "pending"]

    def decide(self, id: str, status: Status, *, note: str = "", record: Record | None = None) -> None:
        """Say what becomes of a candidate; `record` is it as the reviewer put it right. On the disk when it returns.

        Raises: UsageError for an id that is not there, and for a record without an answer that would be accepted;
        MachineError if it cannot be written.
        """
        if self._made is None:
            rows = (row for _, row in self._lines("review.jsonl"))
            self._made = {row.get("id", ""): not ANSWERS.isdisjoint(row.get("record", ())) for row in rows}
        if id not in self._made:
            raise UsageError(f"nothing with the id {id} waits in {self.folder}", fix="take the id from review.jsonl")
        if status == "accepted" and record is None and not self._made[id]:
            raise UsageError(f"{id} has no answer to accept", fix="reject or skip it, or give the record put right")
        row: dict[str, Any] = {"id": id, "status": status} | ({"note": note} if note else {})
        if record is not None:
            row["record"] = replace(record, id=id).to_dict()
        path = self.folder / "decisions.jsonl"
        new = not path.exists()
        try:
            with open(path, "ab+") as file:
                _cut_torn(file)
                file.write((json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8", "surrogatepass"))
                file.flush()
                os.fsync(file.fileno())
            if new:
                fsync(self.folder)
        except OSError as error:
            raise _unwritten(path, error) from error
        self.decisions[id] = row

    def export(self) -> Counter[str]:
        """Write what is accepted to `records.jsonl`; returns how many candidates have each status."""
        counts: Counter[str] = Counter({"accepted": 0, "pending": 0, "rejected": 0})

        def accepted() -> Iterator[dict[str, Any]]:
            for candidate in self:
                counts[candidate.status] += 1
                if candidate.status == "accepted":
                    yield candidate.record.to_dict()

        self._replace("records.jsonl", accepted())
        return counts

    def _replace(self, name: str, rows: Iterable[dict[str, Any]]) -> None:
        path = self.folder / name
        part = path.with_name(f".{name}.part")
        try:
            with open(part, "wb") as file:
                for row in rows:
                    line = json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"
                    file.write(line.encode("utf-8", "surrogatepass"))
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
            fsync(self.folder)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise _unwritten(path, error) from error


def _unwritten(path: Path, error: OSError) -> MachineError:
    return MachineError(
        f"cannot write {path}",
        why=str(error),
        fix="free disk space and run it again: answers and decisions before it are kept",
    )


def _cut_torn(file: Any) -> None:
    """Cut away a last line that a kill left without its end."""
    size = file.seek(0, os.SEEK_END)
    if not size:
        return
    file.seek(max(0, size - (1 << 20)))
    tail = file.read()
    if not tail.endswith(b"\n"):
        file.truncate(size - len(tail) + tail.rfind(b"\n") + 1)
    file.seek(0, os.SEEK_END)
