"""What every section of the audit looks at: the parts, an even sample of each, and how texts become words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import Field

from attune.data.audit.terms import language_of
from attune.plugins import Options
from attune.records import Record, Span

__all__ = ["AuditOptions", "View", "Section", "words", "excerpt", "classes_of", "label_sets", "text_of", "finding"]

Section = dict[str, Any]
"""Plain JSON. `skipped` says why there is nothing; `findings` are sentences for the top of the page."""

WORD = re.compile(r"[^\W\d_]+(?:['\N{RIGHT SINGLE QUOTATION MARK}][^\W\d_]+)*+|\d+")


class AuditOptions(Options):
    rows: Annotated[int, Field(ge=100, le=200_000)] = 20_000
    """Rows of each part that the slower measures look at, evenly spread; labels and gaps are counted in all."""
    embeddings: bool = False
    """Judge labels by sentence embeddings too (extra `offline`): slower, better where the same is said in new words."""
    texts: bool = True
    """Show excerpts of rows. `false` names rows by id only, for a page that leaves the team."""
    recheck: Annotated[int, Field(ge=0, le=10_000)] = 200
    """Rows with a doubtful label that are listed."""
    max_lengths: tuple[Annotated[int, Field(ge=1)], ...] = (64, 128, 256, 512, 1024, 2048)
    """Lengths whose truncation cost is worked out: tokens with a tokenizer, else words."""
    languages: tuple[Literal["en", "de", "fr", "es"], ...] = ("en", "de", "fr", "es")
    """Languages whose group terms are looked for; each row is searched in the one it seems to be in."""
    columns: tuple[str, ...] = ()
    """Columns that name a group, such as `gender` or `region`: label rates are compared between their values."""


@dataclass
class View:
    """The data under audit. Texts are read as the model will read them."""

    parts: Mapping[str, Sequence[Record]]
    task: str
    options: AuditOptions
    facts: list[dict[str, Any]] = field(default_factory=list)
    manifest: dict[str, Any] = field(default_factory=dict)
    tokenizer: Any = None

    @cached_property
    def samples(self) -> dict[str, list[Record]]:
        """At most `options.rows` rows of each part, evenly spread, in order."""
        most = self.options.rows
        found = {}
        for name, records in self.parts.items():
            count = len(records)
            if count <= most:
                found[name] = list(records)
            else:
                wanted = {row * count // most for row in range(most)}
                found[name] = [record for row, record in enumerate(records) if row in wanted]
        return found

    @property
    def train(self) -> list[Record]:
        return self.samples.get("train", [])

    @cached_property
    def train_words(self) -> list[list[str]]:
        return [words(text_of(record)) for record in self.train]

    @cached_property
    def train_languages(self) -> list[str]:
        """The language of each sampled training row, empty where it shows none."""
        return [language_of(row, self.options.languages) for row in self.train_words]

    def shown(self, record: Record, longest: int = 160, around: str = "") -> dict[str, str]:
        """A row as the page names it: its id and, where allowed, its beginning or what is around a word."""
        row = {"id": record.id}
        if record.where:
            row["where"] = record.where
        if self.options.texts:
            row["text"] = excerpt(text_of(record), longest, around)
        return row


def text_of(record: Record) -> str:
    """What the model reads, or all of it where answers are part of it."""
    return record.full_text if record.completions else record.text


def words(text: str) -> list[str]:
    """The words and numbers of a text, in small letters."""
    return WORD.findall(text.casefold())


def excerpt(text: str, longest: int = 160, around: str = "") -> str:
    """At most about so many characters of a text, with the given word (in small letters) among them."""
    text = " ".join(text.split())
    if len(text) <= longest:
        return text
    at = next((hit.start() for hit in WORD.finditer(text) if hit[0].casefold() == around), 0) if around else 0
    start = 0 if at < longest * 2 // 3 else at - longest // 2
    before = "\N{HORIZONTAL ELLIPSIS}" if start else ""
    after = "\N{HORIZONTAL ELLIPSIS}" if start + longest < len(text) else ""
    return before + text[start : start + longest].strip() + after


def classes_of(record: Record) -> tuple[str, ...]:
    """The class names of a row: one, several, or the types of its spans; none for numbers and unlabelled rows."""
    label = record.label
    if isinstance(label, str):
        return (label,)
    if isinstance(label, tuple):
        return tuple(sorted({item.label if isinstance(item, Span) else item for item in label}))
    return ()


def label_sets(view: View) -> tuple[list[tuple[str, ...]], str]:
    """The classes of each sampled training row, and a note where they had to be made: numbers are parted at their
    median."""
    if view.task != "regression":
        return [classes_of(record) for record in view.train], ""
    values = [record.label for record in view.train]
    known = sorted(value for value in values if isinstance(value, (int, float)))
    if not known:
        return [()] * len(values), ""
    middle = known[(len(known) - 1) // 2]
    names = [
        (("above the median" if value > middle else "up to the median"),) if isinstance(value, (int, float)) else ()
        for value in values
    ]
    return names, f"Numbers are compared above and up to their median, {middle:g}."  # type: ignore[return-value]


def finding(level: Literal["warn", "note", "good"], text: str) -> dict[str, str]:
    """One sentence for the top of the page: something to act on, to know, or that is in order."""
    return {"level": level, "text": text}
