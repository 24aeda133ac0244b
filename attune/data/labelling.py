"""Labels on tokens: a class for a text, a BIO tag for every word, and back again."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from attune.data.examples import IGNORED, Example
from attune.data.tags import spans_of
from attune.data.truncation import Truncation
from attune.errors import DataError
from attune.plugins import nearest
from attune.records import Record, Span

if TYPE_CHECKING:
    from attune.data.render import Renderer

__all__ = ["classify", "tag", "tag_layout", "words_of", "bio", "spans_of"]


def _pieces(renderer: Renderer, text: str, where: str, report: Truncation) -> list[Any]:
    """The text's encodings under the truncation policy: one, none, or overlapping windows (a quarter shared)."""
    backend = renderer.encoder.text_backend(text)
    encoding = backend.encode(text)
    if not report.saw(len(encoding.ids), where) or renderer.truncate == "error":
        return [encoding]
    if renderer.truncate == "drop":
        report.dropped += 1
        report.tokens_lost += len(encoding.ids)
        return []
    window = renderer.truncate == "window"
    backend.enable_truncation(
        renderer.max_length,
        stride=renderer.max_length // 4 if window else 0,
        direction="left" if renderer.truncate == "left" else "right",
    )
    try:
        short = backend.encode(text)
    finally:
        backend.no_truncation()
    if window:
        return [short, *short.overflowing]
    report.tokens_lost += len(encoding.ids) - len(short.ids)
    return [short]


def _number(name: str, known: Sequence[str] | Mapping[str, int], where: str) -> int:
    if isinstance(known, Mapping):
        found = known.get(name)
    else:
        found = known.index(name) if name in known else None
    if found is None:
        raise DataError(
            f"label '{name}' is not one of the labels{nearest(name, list(known))}",
            where=where or None,
            fix="add it to the labels, or correct the row",
        )
    return found


def classify(
    renderer: Renderer, record: Record, labels: Sequence[str] | Mapping[str, int], task: str | None, index: int
) -> list[Example]:
    """See `Renderer.classify`."""
    label, where = record.label, record.where
    if task is None:
        kinds = {tuple: "multilabel", str: "classification"}
        task = next((name for kind, name in kinds.items() if isinstance(label, kind)), "regression")
    fits: Any = {"classification": str, "multilabel": tuple, "regression": (int, float)}[task]
    if not isinstance(label, fits) or isinstance(label, bool):
        raise DataError(f"the label {label!r} does not fit {task}", where=where or None)
    target: int | float | np.ndarray
    if isinstance(label, str):
        target = _number(label, labels, where)
    elif isinstance(label, tuple):
        target = np.zeros(len(labels), dtype=np.float32)
        target[[_number(str(name), labels, where) for name in label]] = 1
    else:
        target = float(label)  # type: ignore[arg-type]
        if not np.isfinite(target):
            raise DataError(f"the label {label!r} is not a finite number", where=where or None)
    examples = []
    for turn, encoding in enumerate(_pieces(renderer, record.text, where or record.id, renderer.truncation)):
        ids = np.array(encoding.ids, dtype=np.int32)
        if not len(ids):
            raise DataError("the text has no tokens", where=where or None, fix="drop empty rows")
        weight = np.zeros(len(ids), dtype=np.float32)
        weight[-1] = 1
        examples.append(Example(ids, weight, target, index, turn))
    return examples


def words_of(record: Record) -> list[tuple[int, int]]:
    """Characters [start, end) of each word: `meta["tokens"]` (words, or [start, end] pairs), else found.

    Raises: DataError if `meta["tokens"]` names a word that is not in the text.
    """
    text, given = record.text, record.meta.get("tokens")
    if not given:
        return [match.span() for match in re.finditer(r"\w+|[^\w\s]", text)]
    words, at = [], 0
    for token in given:
        if isinstance(token, str):
            start = text.find(token, at)
            if start < 0:
                raise DataError(f"the word '{token}' of tokens is not in the text", where=record.where or None)
            at = start + len(token)
            words.append((start, at))
        else:
            words.append((int(token[0]), int(token[1])))
    return words


def bio(words: Sequence[tuple[int, int]], spans: Sequence[Span]) -> list[str]:
    """A BIO tag for each word. A word belongs to the first span it overlaps."""
    tags = ["O"] * len(words)
    for span in sorted(spans, key=lambda span: (span.start, -span.end)):
        inside = [n for n, (start, end) in enumerate(words) if start < span.end and end > span.start]
        if all(tags[n] == "O" for n in inside):
            for n in inside:
                tags[n] = f"{'B' if n == inside[0] else 'I'}-{span.label}"
    return tags


def tag_layout(
    renderer: Renderer, record: Record, report: Truncation | None = None
) -> list[tuple[list[int], list[int], list[int]]]:
    """(ids, position of each scored token, number of the word it begins) of each window; a word is scored once.

    A word that has no token of its own (removed by the normaliser, or sharing its neighbour's) is in no window.
    `report`: where to count truncation; None when the records were counted before.
    """
    report = report or Truncation(renderer.truncate, renderer.max_length)
    words = words_of(record)
    done: set[int] = set()
    layout = []
    for encoding in _pieces(renderer, record.text, record.where or record.id, report):
        first: dict[int, int] = {}
        word = 0
        ends = [
            (n, start, end)
            for n, (start, end) in enumerate(encoding.offsets)
            if end > start and not encoding.special_tokens_mask[n]
        ]
        for position, start, end in ends:
            while word < len(words) and words[word][1] <= start:
                word += 1
            # A token may begin with the space before its word.
            if word < len(words) and words[word][0] < end and words[word][0] >= start and word not in done:
                first[word] = position
                done.add(word)
                word += 1
        layout.append((encoding.ids, list(first.values()), list(first)))
    return layout


def tag(renderer: Renderer, record: Record, tags: Sequence[str] | Mapping[str, int], index: int) -> list[Example]:
    """See `Renderer.tag`."""
    spans = record.label
    if not isinstance(spans, tuple) or not all(isinstance(span, Span) for span in spans):
        raise DataError(f"the label {spans!r} is not a list of spans", where=record.where or None)
    wanted = [_number(name, tags, record.where) for name in bio(words_of(record), spans)]  # type: ignore[arg-type]
    layout = tag_layout(renderer, record, renderer.truncation)
    renderer.truncation.supervised_lost += len(wanted) - sum(len(words) for _, _, words in layout)
    examples = []
    for turn, (ids, positions, words) in enumerate(layout):
        weight = np.zeros(len(ids), dtype=np.float32)
        target = np.full(len(ids), IGNORED, dtype=np.int32)
        weight[positions] = 1
        target[positions] = [wanted[word] for word in words]
        if positions:
            examples.append(Example(np.array(ids, dtype=np.int32), weight, target, index, turn))
    return examples
