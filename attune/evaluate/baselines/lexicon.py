"""A dictionary of the words seen in train: how far memory alone gets at finding entities."""

from __future__ import annotations

import re
import time
from collections import Counter, defaultdict

from attune.evaluate.baselines.base import Context
from attune.evaluate.predictions import Predictions
from attune.records import Record, Span

__all__ = ["Lexicon"]

WORD = re.compile(r"\w+|[^\w\s]")


def _tags(record: Record) -> list[tuple[str, str]]:
    """(word, B-label | I-label | O) of each word of the record."""
    found = []
    spans = [span for span in record.label if isinstance(span, Span)] if isinstance(record.label, tuple) else []
    for match in WORD.finditer(record.text):
        span = next((span for span in spans if span.start <= match.start() < span.end), None)
        tag = "O" if span is None else ("B-" if match.start() == span.start else "I-") + span.label
        found.append((match.group(), tag))
    return found


class Lexicon:
    """Each word gets the tag it most often had in train, an unseen word that of its lower-case form, else none."""

    name = "lexicon"
    tasks = ("tagging",)

    def why(self, context: Context) -> str | None:
        return None if context.labelled else "no training record has a label"

    def predict(self, context: Context) -> Predictions:
        start = time.perf_counter()
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        lowered: dict[str, Counter[str]] = defaultdict(Counter)
        for record in context.labelled:
            for word, tag in _tags(record):
                counts[word][tag] += 1
                lowered[word.lower()][tag] += 1
        tag_of = {word: _commonest(tags) for word, tags in counts.items()}
        lower_of = {word: _commonest(tags) for word, tags in lowered.items()}
        trained = time.perf_counter()
        outputs = []
        for record in context.test:
            spans: list[Span] = []
            last = "O"
            for match in WORD.finditer(record.text):
                word = match.group()
                tag = tag_of.get(word) or lower_of.get(word.lower(), "O")
                if tag != "O":
                    if tag.startswith("I-") and last != "O" and spans[-1].label == tag[2:]:
                        spans[-1] = Span(spans[-1].start, match.end(), tag[2:])
                    else:
                        spans.append(Span(match.start(), match.end(), tag[2:]))
                last = tag
            outputs.append(tuple(spans))
        return Predictions(
            self.name,
            outputs,
            seconds=time.perf_counter() - trained,
            trained_seconds=trained - start,
            note=f"most frequent tag of {len(tag_of)} words seen in train",
        )


def _commonest(tags: Counter[str]) -> str:
    return min(tags, key=lambda tag: (-tags[tag], tag))
