"""Spans: proposed from what was marked before, chosen by word numbers, checked before they are kept."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from attune.data.labelling import words_of
from attune.records import Record, Span

__all__ = ["Remembered", "checked", "numbered", "spans_from"]


class Remembered:
    """Texts that were marked before, and as what: they are proposed where they stand again as whole words."""

    def __init__(self, marked: Iterable[tuple[Record, Sequence[Span]]]):
        self.labels: dict[str, Counter[str]] = defaultdict(Counter)
        for record, spans in marked:
            for span in spans:
                self.labels[record.text[span.start : span.end].casefold()][span.label] += 1
        # The longest first, so that "New York City" is not proposed as "New York".
        words = sorted((word for word in self.labels if word), key=lambda word: (-len(word), word))
        self.pattern = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, words))})(?!\w)", re.I) if words else None

    def propose(self, text: str) -> tuple[tuple[Span, ...], float]:
        """Spans, and the least share of earlier marks that say so."""
        spans, least = [], 1.0
        for match in self.pattern.finditer(text) if self.pattern else ():
            known = self.labels.get(match[0].casefold())
            if known:
                (label, count), *_ = sorted(known.items(), key=lambda pair: (-pair[1], pair[0]))
                spans.append(Span(match.start(), match.end(), label))
                least = min(least, count / known.total())
        return tuple(spans), least if spans else 0.0


def checked(spans: Iterable[Span], text: str, labels: Sequence[str]) -> tuple[Span, ...]:
    """Spans in order. Raises: ValueError for one that is outside the text, overlaps another or has another label."""
    ordered = sorted(spans, key=lambda span: (span.start, span.end))
    for span in ordered:
        if not 0 <= span.start < span.end <= len(text):
            raise ValueError(f"span {span.start}-{span.end} is outside the text of {len(text)} characters")
        if span.label not in labels:
            raise ValueError(f"'{span.label}' is not one of the labels")
    for left, right in zip(ordered, ordered[1:]):
        if left.end > right.start:
            raise ValueError(f"spans {left.start}-{left.end} and {right.start}-{right.end} overlap")
    return tuple(ordered)


def numbered(record: Record) -> list[tuple[int, str]]:
    """The text's words with their numbers, from 1."""
    return [(number, record.text[start:end]) for number, (start, end) in enumerate(words_of(record), start=1)]


def spans_from(answer: str, record: Record, labels: Sequence[str]) -> tuple[Span, ...]:
    """What `3-4 PERSON, 7 2` means: words 3 to 4 are a PERSON, word 7 has the second label.

    Raises: ValueError saying what cannot be read.
    """
    words = words_of(record)
    spans = []
    for part in re.split(r"[,;]", answer):
        if not part.strip():
            continue
        match = re.fullmatch(r"\s*(\d+)(?:\s*-\s*(\d+))?\s+(\S.*?)\s*", part)
        if not match:
            raise ValueError(f"'{part.strip()}' is not `word label` or `first-last label`, such as 3-4 {labels[0]}")
        first, last, label = int(match[1]), int(match[2] or match[1]), match[3]
        if label.isdecimal() and label not in labels and 1 <= int(label) <= len(labels):
            label = labels[int(label) - 1]
        if not 1 <= first <= last <= len(words):
            raise ValueError(f"words {match[1]}-{match[2] or match[1]}: the text has words 1 to {len(words)}")
        spans.append(Span(words[first - 1][0], words[last - 1][1], label))
    return checked(spans, record.text, labels)
