"""What dividing the data must know of each row once it has passed by: all but its text, in few bytes."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from attune.data.dedupe import digest, first_rows, normalise
from attune.errors import DataError
from attune.plugins import nearest
from attune.records import Message, Record, Span

__all__ = ["Keyed", "Kind", "RowFacts", "conversation"]

INSTRUCTION_ROWS, INSTRUCTION_SHARE = 20, 0.05
"""A prompt that more rows than both of these share is an instruction, not content: it ties nothing."""


class Kind(NamedTuple):
    """Task and label of a row, as far as a split asks for it."""

    task: str
    name: str | None
    """The label where two different ones contradict each other (numbers and spans may differ by a shade)."""
    names: tuple[str, ...]
    """Every class or kind of span in the label."""
    number: float | None
    single: bool
    """Whether the label is one class."""


class Keyed:
    """Digests of something that some rows have and others have not, numbered. `codes`: [rows], -1 is none."""

    def __init__(self) -> None:
        self.rows = array("q")
        self.digests = bytearray()
        self.codes = np.zeros(0, np.int64)
        self.firsts = np.zeros(0, np.int64)

    def add(self, row: int, text: str) -> None:
        self.rows.append(row)
        self.digests += digest(text)

    def number(self, count: int, most: float) -> None:
        """Give each distinct one that at most `most` rows share its number."""
        firsts, code = first_rows(self.digests)
        common = np.bincount(code, minlength=len(firsts)) > most
        numbers = np.where(common, -1, np.cumsum(~common) - 1)
        self.codes = np.full(count, -1, np.int64)
        self.codes[np.array(self.rows, np.int64)] = numbers[code]
        self.firsts = firsts[~common]

    def __len__(self) -> int:
        return len(self.firsts)

    def key(self, code: int) -> str:
        at = 16 * int(self.firsts[code])
        return self.digests[at : at + 16].hex()


class RowFacts:
    """Filled while records pass by (`passing`), and complete after the last one."""

    def __init__(self, group: str | None):
        self.group = group
        self.ids: list[str] = []
        self.kinds: list[Kind] = []
        self.kind = array("i")
        """Position in `kinds` of each row."""
        self.prompts, self.groups = Keyed(), Keyed()

    def passing(self, records: Iterable[Record]) -> Iterator[str]:
        """The text of each record that duplicate search compares; its facts are noted on the way.

        Raises: DataError at the end if no record has the named group column.
        """
        known: dict[Any, int] = {}
        columns: set[str] = set()
        named = False
        column = self.group or "group"
        for row, record in enumerate(records):
            self.ids.append(record.id)
            key = _kind_key(record)
            code = known.setdefault(key, len(known))
            if code == len(self.kinds):
                self.kinds.append(_kind(record))
            self.kind.append(code)
            if record.completions:
                asked = "\n".join(_said(record.prompt))
                if asked.strip():
                    self.prompts.add(row, normalise(asked))
            value = record.meta.get(column)
            named |= value is not None
            if value not in (None, ""):
                self.groups.add(row, f"{column}={value}")
            elif self.group:
                columns.update(record.meta)
            yield conversation(record)
        if self.group and self.ids and not named:
            raise DataError(
                f"no row has the group column '{self.group}'{nearest(self.group, sorted(columns))}",
                why=f"columns that were kept: {', '.join(sorted(columns)) or 'none'}",
                fix="name one of them as `data.split.group`, or leave it out",
            )
        count = len(self.ids)
        self.prompts.number(count, max(INSTRUCTION_ROWS, INSTRUCTION_SHARE * count))
        self.groups.number(count, count)

    def of(self, row: int) -> Kind:
        return self.kinds[self.kind[row]]


def _kind_key(record: Record) -> Any:
    label = record.label
    if isinstance(label, tuple) and label and isinstance(label[0], Span):
        return record.task, "spans", _names(label)
    return record.task, type(label), label


def _kind(record: Record) -> Kind:
    label, name, number = record.label, None, None
    if isinstance(label, str):
        name = label
    elif isinstance(label, tuple) and all(isinstance(item, str) for item in label):
        name = ", ".join(sorted(str(item) for item in label))
    elif isinstance(label, (int, float)) and not isinstance(label, bool):
        number = float(label)
    return Kind(record.task, name, _names(label), number, isinstance(label, str))


def _names(label: Any) -> tuple[str, ...]:
    if isinstance(label, str):
        return (label,)
    if isinstance(label, tuple):
        return tuple(sorted({item.label if isinstance(item, Span) else item for item in label}))
    return ()


def _said(messages: Iterable[Message]) -> list[str]:
    said = []
    for message in messages:
        if message.role not in ("system", "developer"):
            said.append(message.content)
            if message.tool_calls:
                said.append(json.dumps(message.tool_calls, sort_keys=True, default=str))
    return said


def conversation(record: Record) -> str:
    """What duplicate search compares: everything said but the system prompt; all of it where nothing else was said."""
    said = _said(record.prompt)
    for completion in record.completions:
        said += _said(completion.messages)
    return "\n".join(said) if any(said) else record.full_text
