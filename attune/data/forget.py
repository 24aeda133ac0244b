"""Remove a person's records everywhere: prepared data, ledgers, rejects, and the source files when asked."""

from __future__ import annotations

import codecs
import hashlib
import html
import json
import os
import re
import shutil
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from attune.data.desk import sweep
from attune.data.files import kind_of
from attune.data.privacy.find import Finder
from attune.data.raw_rows import head_of, raw_rows
from attune.data.suppress import Suppression, digit_runs, strings_of, words_of
from attune.durable import fsync, write_json
from attune.errors import MachineError, UsageError
from attune.runs import list_runs

__all__ = ["forget", "Forgotten", "Removed", "RunUse"]

IDENTIFIERS = ("email", "phone", "card", "iban", "ssn", "national_id")
REWRITTEN = ("jsonl", "csv")
READ_ONLY = (".json", ".txt", ".md", ".html", ".yaml", ".text", ".conll")
LIMIT_BYTES = 256 << 20
"""A file that is no table is searched only up to this size."""
PREPARED = ".prepared"
"""Where, beside runs, what their recipes' `data.prepare` made is kept."""
OWN = (".rejects.jsonl", PREPARED)
"""Hidden names that hold rows."""
WITHIN = re.compile(r"\w\w")
MARKUP = re.compile(r"<[^<>]*+>")


@dataclass(frozen=True)
class Removed:
    """One row that is (or would be) removed. `id` is the record's, where the row has one."""

    file: str
    line: int
    id: str | None = None

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class RunUse:
    """A run that learned from a file with the person's records, or still holds their text."""

    run: str
    why: str


@dataclass
class Forgotten:
    """What `forget` did, or would do. It repeats nothing of what was searched for."""

    applied: bool
    removed: list[Removed] = field(default_factory=list)
    by_hand: list[str] = field(default_factory=list)
    """Files that hold the person and cannot be rewritten row by row (a report, a JSON document): delete them, or make
    them again."""
    unsearched: list[str] = field(default_factory=list)
    """Files that could not be searched, or not all of them: packed, binary, too large, not UTF-8."""
    runs: list[RunUse] = field(default_factory=list)
    suppression: str | None = None
    """The list that keeps them from coming back."""

    @property
    def files(self) -> dict[str, int]:
        """File -> rows removed."""
        counts: dict[str, int] = {}
        for row in self.removed:
            counts[row.file] = counts.get(row.file, 0) + 1
        return counts

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "files": self.files}


def forget(
    match: str,
    folders: str | Path | Sequence[str | Path],
    *,
    regex: bool = False,
    sources: Sequence[str | Path] = (),
    runs: str | Path | Sequence[str | Path] = (),
    suppression: str | Path | None = None,
    identifiers: bool = False,
    apply: bool = False,
) -> Forgotten:
    """Find (and with `apply` remove) every record that names a person, and say which runs used them.

    `match` is a name, an address or a number: its words in a row, whatever their case, accents' encoding and what
    stands between them; a number of 6 digits and more is found in every spacing. With `regex` it is a pattern over the
    text as it is. `folders` hold prepared data; `sources` are the user's own files (JSON lines or CSV), rewritten only
    when they are named here; `runs` are folders that hold runs, and what was prepared for them. `suppression` is the
    list that a later prepare reads: the words that matched go on it, and with `identifiers` also every e-mail, phone,
    card, account and identity number in the removed rows (they may be another person's too).
    Raises: UsageError for a match that says too little, or a path that is not there; DataError for a CSV file whose
    rows cannot be told apart; MachineError if a file cannot be written (none is changed then).
    """
    found_in = _matcher(match, regex)
    report = Forgotten(applied=apply)
    matched: set[str] = set()
    places = [Path(folders)] if isinstance(folders, (str, Path)) else [Path(folder) for folder in folders]
    run_folders = [Path(runs)] if isinstance(runs, (str, Path)) else [Path(folder) for folder in runs]
    for place in [*places, *map(Path, sources), *run_folders]:
        if not place.exists():
            raise UsageError(f"{place} is not there", fix="check the path")
    found_runs = [run for folder in run_folders for run in list_runs(folder)]
    of_runs = [folder / PREPARED for folder in run_folders if (folder / PREPARED).exists()]
    files = list(dict.fromkeys(file for place in [*places, *of_runs, *map(Path, sources)] for file in _files(place)))
    finder = Finder(IDENTIFIERS) if identifiers else None
    digests: dict[str, str] = {}
    for file in files:
        before = len(report.removed)
        _search(file, found_in, report, matched, finder)
        if len(report.removed) > before or str(file) in report.by_hand:
            digests[_sha256(file)] = str(file.resolve())
    report.removed += _linked(files, report.removed, digests)
    _used(found_runs, digests, report, found_in, matched)
    report.removed = sorted(set(report.removed), key=lambda row: (row.file, row.line))
    if apply:
        for place in [*places, *of_runs]:
            sweep(place)
        if suppression is not None:
            # first: a crash later then leaves rows to remove, never people who come back
            Suppression.open(suppression).add(sorted(matched))
            report.suppression = str(suppression)
        _rewrite(
            {Path(name): {row.line for row in rows} for name, rows in groupby(report.removed, lambda row: row.file)}
        )
        for folder in sorted({Path(name).parent for name in report.files}):
            _restated(folder)
    return report


Match = Callable[[str], list[str]]
"""The stretches of a text that match, in the spelling that the suppression list takes."""


def _matcher(match: str, regex: bool) -> Match:
    if regex:
        try:
            pattern = re.compile(match)
        except re.error as error:
            raise UsageError(
                "this is not a regular expression", why=str(error), fix="escape what is meant as it stands"
            ) from error
        if pattern.search("") is not None:
            raise UsageError(
                "this pattern matches an empty text, so it would remove every record", fix="make it say more"
            )
        return lambda text: _whole_words(pattern, unicodedata.normalize("NFC", text))
    words = words_of(match)
    digits = "".join(words)
    if len(digits) < 3:
        raise UsageError("--match says too little to tell a person by", fix="give a full name, an e-mail or a number")
    if digits.isdecimal() and 6 <= len(digits) <= 20:
        return lambda text: [digits] if digits in digit_runs(text) else []

    def find(text: str) -> list[str]:
        if words[0] not in unicodedata.normalize("NFKC", text).casefold():
            return []
        there = words_of(text)
        size = len(words)
        return [" ".join(words)] if any(there[at : at + size] == words for at in range(len(there) - size + 1)) else []

    return find


def _whole_words(pattern: re.Pattern[str], text: str) -> list[str]:
    """What a pattern finds, with the rest of the words at its ends: the suppression list knows whole words."""
    found = []
    for hit in pattern.finditer(text):
        start, end = hit.span()
        while start and WITHIN.match(text, start - 1):
            start -= 1
        while WITHIN.match(text, end - 1):
            end += 1
        found.append(text[start:end])
    return found


def _files(place: Path) -> Iterator[Path]:
    if place.is_file():
        yield place
        return
    for parent, folders, names in os.walk(place):
        folders[:] = sorted(name for name in folders if _shown(name))
        for name in sorted(names):
            if _shown(name) and not (Path(parent) / name).is_symlink():
                yield Path(parent) / name


def _shown(name: str) -> bool:
    return not name.startswith(".") or name in OWN


def _search(file: Path, found_in: Match, report: Forgotten, matched: set[str], finder: Finder | None) -> None:
    packed = file.suffix.lower() in (".gz", ".zst")
    kind = kind_of(file)
    if kind in REWRITTEN and not packed:
        for line, _, texts, id in raw_rows(file):
            hits = [hit for text in texts for hit in found_in(text)]
            if hits:
                report.removed.append(Removed(str(file), line, id))
                matched.update(hits)
                for text in texts if finder else ():
                    matched.update(text[hit.start : hit.end] for hit in finder(text))  # type: ignore[misc]
    elif packed or file.suffix.lower() not in READ_ONLY or file.stat().st_size > LIMIT_BYTES:
        report.unsearched.append(str(file))
        return
    elif hits := [hit for text in _readings(file) for hit in found_in(text)]:
        report.by_hand.append(str(file))
        matched.update(hits)
    if not _is_utf8(file):
        report.unsearched.append(str(file))


def _readings(file: Path) -> Iterator[str]:
    """The text of a file that is no table, as it stands and as it is meant: JSON and HTML write letters as escapes."""
    text = file.read_text(encoding="utf-8", errors="replace")
    yield text
    if file.suffix.lower() == ".html":
        yield html.unescape(text)
        yield html.unescape(MARKUP.sub("", text))
    elif file.suffix.lower() == ".json":
        yield from strings_of(_json(file))


def _json(file: Path) -> Any:
    """What a JSON file says; None for a file that is none."""
    try:
        return json.loads(file.read_bytes())
    except (ValueError, RecursionError):
        return None


def _is_utf8(file: Path) -> bool:
    """Whether all of it is text as attune reads it: in Latin-1 or UTF-16 a name is written in other bytes."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    with open(file, "rb") as stream:
        try:
            while chunk := stream.read(1 << 20):
                if "\0" in decoder.decode(chunk):
                    return False
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return False
    return True


def _linked(files: Sequence[Path], removed: Sequence[Removed], digests: dict[str, str]) -> list[Removed]:
    """Rows of prepared data that are the same records and do not name the person themselves: lines of the ledger, and
    records whose text was masked. They are known by their id, or by the line of the source they were read from, as long
    as the folder's manifest says that the source is still the one that was read."""
    ids = {row.id for row in removed if row.id}
    lines = {(str(Path(row.file).resolve()), row.line) for row in removed}
    known = {(row.file, row.line) for row in removed}
    found = []
    for file in files:
        if kind_of(file) != "jsonl" or file.suffix.lower() in (".gz", ".zst"):
            continue
        # Data prepared for a run has no manifest; its facts name the sources too.
        told = [file.parent / name for name in ("manifest.json", "facts.json")]
        listed = [source for path in told if path.exists() for source in _sources(_json(path))]
        unchanged = {digests[sha256] for _, sha256 in listed if sha256 in digests}
        if not ids and not unchanged:
            continue
        with open(file, "rb") as stream:
            for number, raw in enumerate(stream, 1):
                try:
                    row = json.loads(raw)
                except ValueError:
                    continue
                if not isinstance(row, dict) or (str(file), number) in known:
                    continue
                id = row.get("id") if isinstance(row.get("id"), str) else None
                path, _, line = str(row.get("where", "")).rpartition(":")
                source = str(Path(path).resolve())
                if id in ids or (source in unchanged and line.isdecimal() and (source, int(line)) in lines):
                    found.append(Removed(str(file), number, id))
    return found


def _sha256(file: Path) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _used(runs: list[Any], digests: dict[str, str], report: Forgotten, found_in: Match, matched: set[str]) -> None:
    """Runs whose manifest names a file with the person in it, or whose own files hold the text."""
    for run in runs:
        why = []
        manifest = run.path / "data" / "manifest.json"
        if manifest.exists():
            for path, sha256 in _sources(_json(manifest)):
                if sha256 in digests:
                    why.append(f"learned from {path}, as it is now (the same SHA-256)")
                elif path and str(Path(path).resolve()) in digests.values():
                    why.append(f"learned from {path}, which has changed since")
        held = Forgotten(applied=False)
        for file in _files(run.path):
            inside = file.relative_to(run.path).parts
            if "checkpoints" not in inside and inside[0] != "model":
                _search(file, found_in, held, matched, None)
        report.removed += held.removed
        report.by_hand += held.by_hand
        if names := sorted({*held.files, *held.by_hand}):
            why.append(f"holds their text in {', '.join(str(Path(name).relative_to(run.path)) for name in names)}")
        if why:
            report.runs.append(RunUse(str(run.path), "; ".join(why)))


def _sources(manifest: Any) -> Iterator[tuple[str, str]]:
    """Every `{path, sha256}` in a manifest, wherever it stands."""
    if isinstance(manifest, dict):
        if isinstance(manifest.get("sha256"), str):
            yield str(manifest.get("path", "")), manifest["sha256"]
        for inner in manifest.values():
            yield from _sources(inner)
    elif isinstance(manifest, list):
        for inner in manifest:
            yield from _sources(inner)


def _rewrite(lines: dict[Path, set[int]]) -> None:
    """The files without these rows, every other byte as it was. What is linked to a row is found by the row, so none is
    replaced before all are written: a full disk leaves every file as it was, to be searched again."""
    written: dict[Path, Path] = {}
    try:
        for file, gone in lines.items():
            written[file] = file.with_name(f".tmp-{file.name}-{os.getpid()}")
            with open(written[file], "wb") as out:
                if kind_of(file) == "csv":
                    out.write(head_of(file))
                for line, raw, _, _ in raw_rows(file):
                    if line not in gone:
                        out.write(raw)
                out.flush()
                os.fsync(out.fileno())
            shutil.copymode(file, written[file])
        for file, temporary in written.items():
            os.replace(temporary, file)
    except OSError as error:
        raise MachineError(
            f"cannot write {file}", why=str(error), fix="free disk space, check its permissions; then run it again"
        ) from error
    finally:
        for temporary in written.values():
            temporary.unlink(missing_ok=True)
    for folder in {file.parent for file in lines}:
        fsync(folder)


def _restated(folder: Path) -> None:
    """Prepared data says again what its files are, and that rows were forgotten."""
    path = folder / "facts.json"
    facts = _json(path) if path.exists() else None
    if isinstance(facts, dict) and "made_by" in facts:
        for name in facts["sha256"]:
            facts["sha256"][name] = _sha256(folder / f"{name}.jsonl")
        for name, rows in facts["rows"].items():
            with open(folder / f"{name}.jsonl", "rb") as file:
                now = sum(1 for _ in file)
            facts["forgotten"] = facts.get("forgotten", 0) + rows - now
            facts["rows"][name] = now
        write_json(path, facts)
