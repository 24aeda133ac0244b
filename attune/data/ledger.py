"""The split ledger: which split each record went to at first sight, so that adding rows later moves no old row.

A JSONL file of content keys (digests, never text). Its first line says how the split was made; then one line per
record: `key` (text, task and label), `text` (the normalised text), `split`, `cluster`; and one line per group and
shared prompt.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from attune.durable import write_text
from attune.errors import DataError, MachineError

__all__ = ["Ledger", "Place", "SPLITS"]

SPLITS = ("train", "validation", "test")
VERSION = 1


class Place(NamedTuple):
    """Where something was put: the split, and the cluster it was put there with."""

    split: str
    cluster: str


class Ledger:
    """What is remembered. Without a path it is empty and is never written."""

    def __init__(self, path: Path | None, *, made: list[str], seed: int):
        """`made`: the splits that attune makes itself here (the others are files that the user gives).

        Raises: DataError if the file is damaged or belongs to another kind of split; MachineError if it is unreadable.
        """
        self.path = path
        self.head: dict[str, Any] = {"attune_split_ledger": VERSION, "made": sorted(made), "seed": seed}
        self.records: dict[str, tuple[str, Place]] = {}
        """record key -> (key of its normalised text, place)"""
        self.places: dict[str, Place] = {}
        """key of a normalised text, group or prompt -> place"""
        self.changed = False
        if path is not None and path.exists():
            self._read(path)

    def _read(self, path: Path) -> None:
        fix = f"restore {path} from a copy; if there is none, delete it: all rows are then split anew"
        head: dict[str, Any] | None = None
        for number, line in enumerate(_lines_of(path), 1):
            where = f"{path}:{number}"
            try:
                row = json.loads(line)
                if head is None:
                    head = row
                    if head["attune_split_ledger"] != VERSION:
                        raise DataError(
                            "this split ledger was written by another version of attune", where=where, fix=fix
                        )
                    continue
                if row["split"] not in SPLITS or not isinstance(row["cluster"], str):
                    raise ValueError(f"split is {row['split']!r}")
                text = row.get("text")
                # A row that is tied to none is its own cluster: its key is kept once. A million rows are read here.
                place = Place(sys.intern(row["split"]), text if text == row["cluster"] else row["cluster"])
                if text is not None:
                    self.records[row["key"]] = (text, place)
                    self.places[text] = place
                else:
                    self.places[row["key"]] = place
            except (ValueError, KeyError, TypeError) as error:
                what = "this line of the split ledger is damaged"
                raise DataError(what, where=where, why=repr(error), fix=fix) from error
        if head is None:
            raise DataError("the split ledger is empty", where=str(path), why="its first line is missing", fix=fix)
        if head["made"] != self.head["made"]:
            raise DataError(
                f"the split ledger was made for another split: attune made {_listed(head['made'])} then, "
                f"and {_listed(self.head['made'])} now",
                where=f"{path}:1",
                why="a test or validation file was added or taken away since, so old rows would have to move",
                fix="name another ledger, or delete this one to split all rows anew",
            )
        self.head = head

    def record(self, key: str, text: str, place: Place) -> None:
        """Remember a record, if it is not known."""
        if key not in self.records:
            self.records[key] = (text, place)
            self.changed = True
        self.places.setdefault(text, place)

    def tie(self, key: str, place: Place) -> None:
        """Remember a group or a prompt, if it is not known."""
        if key not in self.places:
            self.places[key] = place
            self.changed = True

    def write(self) -> None:
        """Replace the file in one step, if there is something new: a crash leaves the old ledger or the new one."""
        if self.path is None or not (self.changed or not self.path.exists()):
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            what = f"cannot create the folder {self.path.parent}"
            raise MachineError(what, why=str(error), fix="choose another place for the split ledger") from error
        write_text(self.path, self._lines())
        self.changed = False

    def _lines(self) -> Iterator[str]:
        yield json.dumps(self.head) + "\n"
        texts = set()
        for key in sorted(self.records):
            text, place = self.records[key]
            texts.add(text)
            yield json.dumps({"key": key, "text": text, **place._asdict()}) + "\n"
        for key in sorted(self.places.keys() - texts):
            yield json.dumps({"key": key, **self.places[key]._asdict()}) + "\n"


def _lines_of(path: Path) -> Iterator[str]:
    try:
        with open(path, encoding="utf-8") as file:
            yield from file
    except (OSError, UnicodeDecodeError) as error:
        raise MachineError(f"cannot read the split ledger {path}", why=str(error), fix="check the file") from error


def _listed(names: list[str]) -> str:
    return " and ".join(names) if names else "none"
