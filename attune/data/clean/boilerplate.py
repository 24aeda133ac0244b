"""Boilerplate: lines and sentences that many documents share, such as disclaimers, signatures and page headers."""

from __future__ import annotations

import hashlib
import math
import re
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from pydantic import Field

from attune.data.clean.base import settled
from attune.data.steps import Edit, TextStep, apply_edits
from attune.plugins import Options
from attune.records import Record

SLOTS = 1 << 22
"""Counters of the first look, 4 bytes each; two lines that share one only make the second look longer."""
SHOWN = 20

LINE = re.compile(r"[^\n]++")
SENTENCE_END = re.compile(r"(?<![.!?])[.!?]++(?P<gap>[^\S\n]++)")
DIGITS = re.compile(r"\d++")
LETTER = re.compile(r"[^\W\d_]")

LabelCounts = Counter[Any]


class Boilerplate(TextStep):
    """Takes out lines and sentences that many training documents share, whatever their numbers (`Page 3 of 9`).

    A text that is nothing but boilerplate stays. In label tasks a sentence that tells the label stays too.
    """

    name = "boilerplate"
    learns = True

    class Config(Options):
        """When something counts as boilerplate."""

        units: Literal["lines", "sentences", "both"] = "both"
        """What is compared: whole lines, single sentences, or lines first and then the sentences of the others."""
        share: float = Field(default=0.1, gt=0, le=1)
        """In how many of the training documents it must stand, as a share."""
        min_count: int = Field(default=5, ge=2, strict=True)
        """In how many of the training documents it must stand at least."""
        min_chars: int = Field(default=12, ge=1, strict=True)
        """Shorter lines and sentences always stay (`Thank you.`, closing brackets)."""
        keep_telling: bool = Field(default=True, strict=True)
        """Whether what stands clearly more often with some labels than with others stays: it may be the evidence."""

    def __init__(self, options: Any = None, context: Any = None):
        super().__init__(options, context)
        self.known: frozenset[str] = frozenset()
        self.found: list[dict[str, Any]] = []
        self.telling: list[dict[str, Any]] = []

    def learn(self, train: Sequence[Record]) -> None:
        slots = array("I", bytes(4 * SLOTS))
        for record in train:
            for key in self._of(record):
                slots[int(key, 16) % SLOTS] += 1
        least = max(self.options.min_count, math.ceil(self.options.share * len(train)))
        labels: LabelCounts = Counter()
        counts: dict[str, LabelCounts] = {}
        texts: dict[str, str] = {}
        for record in train:
            told = record.label if isinstance(record.label, str) else None
            labels[told] += 1
            for key, text in self._of(record).items():
                if slots[int(key, 16) % SLOTS] >= least:
                    counts.setdefault(key, Counter())[told] += 1
                    texts.setdefault(key, text)
        known = []
        for key, count in sorted(counts.items(), key=lambda item: (-item[1].total(), item[0])):
            if count.total() < least:
                continue
            row = {"text": texts[key][:200], "documents": count.total()}
            if self.options.keep_telling and tells(count, labels):
                self.telling.append(row)
            else:
                known.append(key)
                self.found.append(row)
        self.known = frozenset(known)

    def _of(self, record: Record) -> dict[str, str]:
        """What a document has of lines and sentences: key -> text. Each counts once for a document."""
        messages = [*record.prompt, *(message for one in record.completions for message in one.messages)]
        return {key: text for message in messages for _, _, text, key in self._units(message.content)}

    def _units(self, text: str) -> Iterator[tuple[int, int, str, str]]:
        """(start, end, text, key) of lines and of the sentences in them, a line before its sentences."""
        for line in LINE.finditer(text):
            start, end = _trimmed(text, line.start(), line.end())
            if self.options.units != "sentences" and (key := self._key(text[start:end])):
                yield start, end, text[start:end], key
            if self.options.units == "lines":
                continue
            at = start
            for stop in [*(match.start("gap") for match in SENTENCE_END.finditer(text, start, end)), end]:
                left, right = _trimmed(text, at, stop)
                whole = (left, right) == (start, end) and self.options.units == "both"  # the line, seen already
                if not whole and (key := self._key(text[left:right])):
                    yield left, right, text[left:right], key
                at = stop

    def _key(self, text: str) -> str:
        """16 hex digits for a line whatever its case, spacing and numbers; empty where it is too short to judge."""
        if len(text) < self.options.min_chars or not LETTER.search(text):
            return ""
        plain = " ".join(DIGITS.sub("0", text.casefold()).split())
        return hashlib.blake2b(plain.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()

    def edits(self, text: str) -> list[Edit]:
        return settled(text, self._once) if self.known else []

    def _once(self, text: str) -> list[Edit]:
        edits: list[Edit] = []
        for start, end, _, key in self._units(text):
            if key not in self.known or (edits and start < edits[-1].end):
                continue
            while end < len(text) and text[end].isspace():  # the gap after it goes with it
                end += 1
                if text[end - 1] == "\n":
                    break
            edits.append(Edit(start, end, "", "stands in many documents"))
        return edits if apply_edits(text, edits).strip() else []

    def facts(self) -> dict[str, Any]:
        return {
            "boilerplate": len(self.found),
            "most_common": self.found[:SHOWN],
            "kept_because_they_tell_the_label": self.telling[:SHOWN],
        }

    def state(self) -> dict[str, Any]:
        return {"known": sorted(self.known)}

    def restore(self, state: dict[str, Any]) -> None:
        self.known = frozenset(state["known"])


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    part = text[start:end]
    return start + len(part) - len(part.lstrip()), end - len(part) + len(part.rstrip())


def tells(count: LabelCounts, labels: LabelCounts) -> bool:
    """Whether the labels of the documents with a line differ from those of all: by more than a tenth of the documents,
    and more than chance does (chi-square, p < 0.01)."""
    if len(labels) < 2:
        return False
    from scipy.stats import chi2

    total, with_line = labels.total(), count.total()
    distance, statistic = 0.0, 0.0
    for label, number in sorted(labels.items(), key=str):
        expected = with_line * number / total
        distance += abs(count[label] - expected) / with_line / 2
        statistic += (count[label] - expected) ** 2 / expected
        if number > expected:
            statistic += (count[label] - expected) ** 2 / (number - expected)
    return distance > 0.1 and float(chi2.sf(statistic, len(labels) - 1)) < 0.01
