"""The suppression list: who was removed must not come back with the next export. It holds no plain personal data.

An entry is a keyed digest (HMAC-SHA256) of the words that were removed, and how many words they are; a record is
dropped when so many words in a row have that digest. Without the key nobody can tell whom an entry is about. The key is
a random one in the file itself, or better the environment variable ATTUNE_SUPPRESSION_KEY: whoever holds file and key
can test a guess ("is Ann Lee on it?"), and could go through all phone numbers.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from attune.durable import write_text
from attune.errors import DataError, MachineError

__all__ = ["Suppression", "words_of", "digit_runs", "strings_of", "KEY_VARIABLE"]

VERSION = 1
KEY_VARIABLE = "ATTUNE_SUPPRESSION_KEY"
WORD = re.compile(r"\w+")
DIGITS = re.compile(r"\d+")
LONGEST = 12
"""Words of an entry at most; digits of a number are at most 20."""


def words_of(text: str) -> list[str]:
    """The words of a text in one spelling: letter case, punctuation, spacing and how accents are encoded make no
    difference."""
    return WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def digit_runs(text: str) -> Iterator[str]:
    """Numbers of 6 to 20 digits as they may be meant, whatever stands between their groups: `555-010 99` gives
    55501099."""
    text = unicodedata.normalize("NFKC", text)
    groups = [(match.start(), match.end(), match.group()) for match in DIGITS.finditer(text)]
    for first, (_, end, digits) in enumerate(groups):
        if 6 <= len(digits) <= 20:
            yield digits
        for start, next_end, more in groups[first + 1 : first + 8]:
            gap = text[end:start]
            digits += more
            if len(gap) > 3 or any(char.isalnum() or char == "\n" for char in gap) or len(digits) > 20:
                break
            end = next_end
            if len(digits) >= 6:
                yield digits


def strings_of(value: Any) -> Iterator[str]:
    """Every text in a JSON value, at any depth; numbers too, since a phone number may be one."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from strings_of(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from strings_of(inner)
    elif isinstance(value, int) and not isinstance(value, bool):
        yield str(value)


class Suppression:
    """Who is on the list. `holds(record.to_dict())` is what a later prepare asks of each record."""

    def __init__(self, path: Path, salt: bytes, entries: list[tuple[int, str]], *, outside_key: bool):
        self.path, self.salt, self.entries, self.outside_key = path, salt, entries, outside_key
        outside = os.environ.get(KEY_VARIABLE, "") if outside_key else ""
        if outside_key and not outside:
            raise MachineError(
                f"{path} was written with a key from the environment, and {KEY_VARIABLE} is not set",
                why="without it nobody can tell whether a record is on the list",
                fix=f"export {KEY_VARIABLE}=...",
            )
        self.key = hashlib.sha256(salt + outside.encode()).digest()
        self.lengths = sorted({words for words, _ in entries if words})
        self.known = frozenset(entries)

    @classmethod
    def load(cls, path: str | Path) -> Suppression:
        """Raises: DataError if the file is damaged; MachineError if its key is missing or another one."""
        path = Path(path)
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
            head = json.loads(lines[0])
            if head["attune_suppression"] != VERSION:
                raise ValueError(f"version {head['attune_suppression']}")
            rows = [json.loads(line) for line in lines[1:]]
            entries = [(int(row["words"]), str(row["digest"])) for row in rows]
            found = cls(path, bytes.fromhex(head["salt"]), entries, outside_key=bool(head["outside_key"]))
        except OSError as error:
            raise MachineError(f"cannot read the suppression list {path}", why=str(error), fix="check it") from error
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise DataError(
                "the suppression list is damaged",
                where=str(path),
                why=repr(error),
                fix="restore it from a copy: without it, people who were removed may come back",
            ) from error
        if head.get("check", found.check) != found.check:
            raise MachineError(
                f"{KEY_VARIABLE} is not the key that {path} was written with",
                why="with another one nobody on the list would be known, and people who were removed come back",
                fix=f"export {KEY_VARIABLE}=... as it was then",
            )
        return found

    @classmethod
    def open(cls, path: str | Path) -> Suppression:
        """The list at `path`, or a new empty one (not written yet)."""
        path = Path(path)
        if path.exists():
            return cls.load(path)
        return cls(path, secrets.token_bytes(16), [], outside_key=bool(os.environ.get(KEY_VARIABLE)))

    def add(self, values: Iterable[str]) -> int:
        """Put identifiers on the list and write it; returns how many were new. A number of 6 digits and more is known
        again in every spacing."""
        new = []
        for value in values:
            for entry in self._entries_of(value):
                if entry not in self.known and entry not in new:
                    new.append(entry)
        entries = sorted({*self.entries, *new})
        head = {"attune_suppression": VERSION, "salt": self.salt.hex(), "outside_key": self.outside_key}
        head["check"] = self.check
        rows = [{"words": words, "digest": digest} for words, digest in entries]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_text(self.path, "".join(json.dumps(row) + "\n" for row in [head, *rows]))
        self.__init__(self.path, self.salt, entries, outside_key=self.outside_key)  # type: ignore[misc]
        return len(new)

    def _entries_of(self, value: str) -> list[tuple[int, str]]:
        words = words_of(value)
        if not words:
            return []
        digits = "".join(words)
        if digits.isdecimal() and 6 <= len(digits) <= 20:
            return [(0, self._digest(digits))]
        words = words[:LONGEST]  # whoever has more of them has these
        return [(len(words), self._digest(" ".join(words)))]

    @property
    def check(self) -> str:
        """Tells this key from another."""
        return self._digest("")

    def _digest(self, value: str) -> str:
        return hmac.new(self.key, value.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[:32]

    def holds(self, value: Any) -> bool:
        """Whether a record (any JSON value) has a text with somebody on the list."""
        return bool(self.entries) and any(self._holds(text) for text in strings_of(value))

    def _holds(self, text: str) -> bool:
        if self.lengths:
            words = words_of(text)
            for size in self.lengths:
                for at in range(len(words) - size + 1):
                    if (size, self._digest(" ".join(words[at : at + size]))) in self.known:
                        return True
        if any(words == 0 for words, _ in self.entries):
            return any((0, self._digest(digits)) in self.known for digits in digit_runs(text))
        return False
