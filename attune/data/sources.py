"""From the user's files to Records: what was read, what was kept, what was not and why."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, TypedDict, Unpack

from attune.data.detect import Found, detect, renamed
from attune.data.files import files_of
from attune.data.formats.base import Bad, Drop, Format
from attune.data.rows import BadRow, Where, iter_rows
from attune.data.spool import Spool, spooled, told
from attune.durable import fsync
from attune.errors import DataError, MachineError, UsageError
from attune.records import Record

__all__ = ["Source", "Report", "Loaded", "Spooled", "How", "load_records", "spool_records", "check"]

SAMPLE_ROWS = 2000
SAMPLE_CHARS = 16 << 20
SHOWN = 20
"""Bad rows that are collected before reading stops, so that they are seen together."""
SKIP_LIMIT = 0.01
"""Share of rows that `on_bad_row="skip"` may leave out."""
RAW_LIMIT_CHARS = 2048
LICENCE = re.compile(r"(?im)^[\s#>*|]*licen[cs]e[\s:|*]+([^\s|(,;][^|(,;\n]*)")
KNOWN_LICENCES = (
    ("Apache License", "Apache-2.0"),
    ("MIT License", "MIT"),
    ("Permission is hereby granted, free of charge", "MIT"),
    ("Attribution-ShareAlike 4.0", "CC-BY-SA-4.0"),
    ("Attribution-ShareAlike 3.0", "CC-BY-SA-3.0"),
    ("Attribution-NonCommercial", "CC-BY-NC"),
    ("Attribution 4.0", "CC-BY-4.0"),
    ("Attribution 3.0", "CC-BY-3.0"),
    ("CC0", "CC0-1.0"),
)


@dataclass(frozen=True)
class Source:
    """One file that was read. `licence` is what a PROVENANCE.md or LICENSE beside it says."""

    path: str
    bytes: int
    sha256: str
    rows: int
    licence: str | None = None


@dataclass
class Report:
    """What reading the data found: the shape and why, and the count of everything that happened to the rows."""

    format: str = ""
    task: str = ""
    why: str = ""
    """One sentence: what was seen and what was chosen."""
    columns: list[str] = field(default_factory=list)
    """Names in the rows, ours where the user mapped them."""
    counts: dict[str, Any] = field(default_factory=dict)
    """read, kept, bad: int; dropped: reason -> count; notices: kind -> count."""
    sources: list[Source] = field(default_factory=list)
    rejects: list[BadRow] = field(default_factory=list)
    """Bad and dropped rows, the first 1,000; all of them are in the rejects file if one was asked for."""
    out: Path | None = None


@dataclass
class Loaded(Report):
    """Records, and the report of how they were read."""

    records: list[Record] = field(default_factory=list)


@dataclass
class Spooled(Report):
    """Records on disk, and the report of how they were read."""

    records: Spool = field(default_factory=lambda: Spool(Path(), array("q", [0])))


class How(TypedDict, total=False):
    """How files are read; every key may be left out."""

    format: str
    """`auto` recognises it."""
    columns: dict[str, str]
    """Our names to the user's: `{"text": "note"}`."""
    target: str | None
    """The label column."""
    task: str | None
    """None decides from the columns."""
    on_bad_row: str
    """`error`, or `skip`: leave bad rows out, up to 1 % of them, and write them to `rejects`."""
    max_drop: float
    """Share of rows without a label or an answer that may be left out (0.05)."""
    rejects: Path | None
    """The file for rows that were left out."""
    limit: int | None
    """Stop after so many records."""
    raw: bool
    """Keep prompts and completions that are strings out of the chat template."""


def load_records(path_or_paths: str | Path | Sequence[str | Path], **how: Unpack[How]) -> Loaded:
    """All records of files, folders or patterns, in order.

    Raises: DataError listing up to 20 bad rows with file:line:column; UsageError for an option that is unknown.
    """
    result = Loaded()
    result.records = list(_Reading(path_or_paths, result, **how).records())
    return result


def spool_records(
    path_or_paths: str | Path | Sequence[str | Path],
    spool: Path,
    *,
    say: Callable[[str], None] | None = None,
    **how: Unpack[How],
) -> Spooled:
    """As `load_records`, but the records lie in the file `spool`, and memory holds about 150 bytes of each.

    `say` is told now and then how many were read.
    """
    result = Spooled()
    reading = _Reading(path_or_paths, result, **how)
    result.records = spooled(told(reading.records(), say, "rows read"), spool)
    return result


def check(
    path: str | Path | Sequence[str | Path],
    out: Path | None = None,
    **how: Unpack[How],
) -> Report:
    """Read everything as `load_records` does, in bounded memory (about 150 bytes a row), and write the records as
    JSON lines.

    `out` appears whole or not at all. Its lines are read again by attune as format `record`.
    Raises: as `load_records`; MachineError if `out` cannot be written.
    """
    report = Report()
    reading = _Reading(path, report, **how)
    if out is None:
        for _ in reading.records():
            pass
        return report
    out = Path(out)
    if any(out.exists() and file.samefile(out) for file in reading.files):
        raise UsageError(f"{out} is one of the files to read", fix="choose another --out")
    encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
    with _Replace(out) as file:
        for record in reading.records():
            file.write(encode(record.to_dict()) + "\n")
    report.out = out
    return report


class _Replace:
    """A text file that takes its name only when it is complete."""

    def __init__(self, path: Path):
        self.path, self.temporary = path, path.with_name(f".tmp-{path.name}-{os.getpid()}")

    def __enter__(self) -> IO[str]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.file = open(self.temporary, "w", encoding="utf-8", buffering=1 << 20)
        except OSError as error:
            raise MachineError(f"cannot write {self.path}", why=str(error), fix="choose another place") from error
        return self.file

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        try:
            if kind is None:
                self.file.flush()
                os.fsync(self.file.fileno())
            self.file.close()
            if kind is None:
                os.replace(self.temporary, self.path)
                fsync(self.path.parent)
        except OSError as failure:
            error, kind = failure, OSError
        self.temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise MachineError(
                f"cannot write {self.path}", why=str(error), fix="free disk space or choose another place"
            ) from error


class _Reading:
    """One pass over the files. What it learns goes into `report`."""

    def __init__(
        self,
        paths: str | Path | Sequence[str | Path],
        report: Report,
        *,
        format: str = "auto",
        columns: dict[str, str] | None = None,
        target: str | None = None,
        task: str | None = None,
        on_bad_row: str = "error",
        max_drop: float = 0.05,
        rejects: Path | None = None,
        limit: int | None = None,
        raw: bool = False,
    ):
        if on_bad_row not in ("error", "skip"):
            raise UsageError(f"on_bad_row is '{on_bad_row}'", fix="error or skip")
        self.report, self.format, self.columns, self.target, self.task = report, format, columns, target, task
        self.skip, self.max_drop, self.limit, self.raw = on_bad_row == "skip", max_drop, limit, raw
        self.rejects_path = Path(rejects) if rejects else None
        self.rejects: IO[str] | None = None
        self.notices: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self.expected: Counter[str] = Counter()
        self.examples: dict[str, str] = {}
        self.rows_of: Counter[str] = Counter()
        self.read = self.kept = self.bad = 0
        self.given: dict[int, int] = {}
        self.shown: list[BadRow] = []
        self.same: dict[int, int] = {}
        paths = [paths] if isinstance(paths, (str, Path)) else list(paths)
        if not paths:
            raise UsageError("no data file is named", fix="name a file, a folder or a pattern")
        self.files = list(dict.fromkeys(file for path in paths for file in files_of(path, self.notices)))
        self.numbers = {str(file): number for number, file in enumerate(self.files)}

    def records(self) -> Iterator[Record]:
        """Raises: DataError when the rows end, if too many were bad or dropped."""
        if self.rejects_path is None:
            yield from self._records()
            return
        with _Replace(self.rejects_path) as self.rejects:
            failure = None
            try:
                yield from self._records()
            except DataError as error:
                failure = error
        if failure is not None:
            raise failure

    def _records(self) -> Iterator[Record]:
        rows = itertools.chain.from_iterable(
            iter_rows(file, on_bad=self._bad, notices=self.notices) for file in self.files
        )
        sample, size = [], 0
        for where, row in rows:
            sample.append((where, row))
            size += sum(len(value) for value in row.values() if isinstance(value, str))
            if len(sample) >= SAMPLE_ROWS or size >= SAMPLE_CHARS:
                break
        if not sample:
            self._finish()
        found = detect(
            [row for _, row in sample],
            format=self.format,
            columns=self.columns,
            target=self.target,
            task=self.task,
            where=str(self.files[0]),
        )
        found.mapping.notices, found.mapping.raw = self.notices, self.raw
        self.report.format, self.report.task, self.report.why = found.format.name, found.task, found.why
        self.report.columns = list(
            dict.fromkeys(key for _, row in sample for key in renamed(row, found.mapping.columns))
        )
        yield from self._convert(found, itertools.chain(sample, rows))
        self._finish()

    def _convert(self, found: Found, rows: Iterator[tuple[Where, dict[str, Any]]]) -> Iterator[Record]:
        read, mapping = found.format.read, found.mapping
        expand = None if type(found.format).expand is Format.expand else found.format.expand
        columns = {ours: theirs for ours, theirs in mapping.columns.items() if ours != theirs}
        for outer, whole in rows:
            for where, row in ((outer, whole),) if expand is None else expand(whole, outer):
                if columns:
                    row = renamed(row, columns)
                self.read += 1
                self.rows_of[where.path] += 1
                try:
                    record = self._unique(read(row, where, mapping), row, where)
                except Bad as error:
                    self._bad(BadRow(where, str(error), _raw(row)), counted=True)
                    continue
                except Drop as error:
                    self._drop(where, error, row)
                    continue
                self.kept += 1
                yield record
                if self.limit is not None and self.kept >= self.limit:
                    return

    def _unique(self, record: Record, row: dict[str, Any], where: Where) -> Record:
        """A given id must be the only one; rows of the same content are told apart by a number. Raises: Bad."""
        key = hash(record.id)
        if row.get("id", "") not in ("", None):
            if key in self.given:
                number, line = divmod(self.given[key], 1 << 40)
                raise Bad(f"id {record.id!r} stands already at {self.files[number]}:{line}")
            self.given[key] = (self.numbers[where.path] << 40) + where.line
            return record
        count = self.same[key] = self.same.get(key, 0) + 1
        if count == 1:
            return record
        self.notices["exact duplicate of an earlier row (kept)"] += 1
        return replace(record, id=f"{record.id}-{count}")

    def _bad(self, bad: BadRow, counted: bool = False) -> None:
        if not counted:
            self.read += 1
            self.rows_of[bad.where.path] += 1
        self.bad += 1
        if len(self.shown) < SHOWN:
            self.shown.append(bad)
        self._reject(bad, "bad")
        if not self.skip and self.bad >= SHOWN:
            self._finish()

    def _drop(self, where: Where, drop: Drop, row: dict[str, Any]) -> None:
        reason = str(drop)
        (self.expected if drop.expected else self.dropped)[reason] += 1
        self.examples.setdefault(reason, str(where))
        self._reject(BadRow(where, reason, _raw(row)), "dropped")

    def _reject(self, bad: BadRow, kind: str) -> None:
        if len(self.report.rejects) < 1000:
            self.report.rejects.append(bad)
        if self.rejects is not None:
            line = {"where": str(bad.where), "kind": kind, "reason": bad.reason, "raw": bad.raw[:RAW_LIMIT_CHARS]}
            self.rejects.write(json.dumps(line) + "\n")

    def _finish(self) -> None:
        dropped = dict((self.dropped + self.expected).most_common())
        self.report.counts = {
            "read": self.read,
            "kept": self.kept,
            "bad": self.bad,
            "dropped": dropped,
            "notices": dict(self.notices.most_common()),
        }
        if self.bad and (not self.skip or self.bad > SKIP_LIMIT * self.read):
            raise self._bad_rows()
        lost = sum(self.dropped.values())
        if lost > self.max_drop * self.read:
            reasons = [
                f"{count} x {reason} (first at {self.examples[reason]})" for reason, count in self.dropped.most_common()
            ]
            raise DataError(
                f"{lost} of {self.read} rows have nothing to learn from, more than max_drop = {self.max_drop:.0%}",
                why="; ".join(reasons),
                fix="check the columns (columns:, --target), or raise data.max_drop",
            )
        if not self.kept:
            raise DataError(
                "no row is left", where=str(self.files[0]), why=_counted(dropped) or "the files have no rows"
            )
        self.report.sources = [_source(file, self.rows_of[str(file)]) for file in self.files]

    def _bad_rows(self) -> DataError:
        bad = self.shown
        if self.skip:
            fix = f"on_bad_row=skip leaves out at most {SKIP_LIMIT:.0%}" + (
                f"; all are in {self.rejects_path}" if self.rejects_path else ""
            )
        else:
            fix = "correct the rows, or leave them out with --on-bad-row skip (at most 1 %)"
        if len(bad) == 1 and self.bad == 1:
            return DataError(bad[0].reason, where=str(bad[0].where), fix=fix)
        stopped = "; reading stopped there" if not self.skip and self.bad >= SHOWN else ""
        return DataError("\n".join([f"{self.bad} of {self.read} rows are bad{stopped}", *map(str, bad)]), fix=fix)


def _raw(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, default=str)[:RAW_LIMIT_CHARS]


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} x {reason}" for reason, count in counts.items())


def _source(path: Path, rows: int) -> Source:
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Source(str(path), path.stat().st_size, digest, rows, _licence(path.parent))


def _licence(folder: Path) -> str | None:
    """What a PROVENANCE.md, README.md or LICENSE in the same folder says, as an SPDX name where it is known."""
    for name in ("PROVENANCE.md", "README.md"):
        found = LICENCE.search(_read(folder / name))
        if found:
            return found[1].strip()[:60]
    for name in ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE"):
        text = _read(folder / name)[:4000]
        for words, spdx in KNOWN_LICENCES:
            if words.lower() in text.lower():
                return spdx
    return None


def _read(path: Path) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(20_000)
    except OSError:
        return ""
