"""What augmentation steps share: which records are made from, chance that does not depend on their order, made rows."""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from attune.data.steps import Edit, apply_edits, move_spans, move_words
from attune.records import Record, Span

__all__ = ["chance", "drawn", "edited", "is_made", "made", "shipped", "spans_of", "touches", "WORD"]

WORD = re.compile(r"[^\W\d_]++(?:['’][^\W\d_]++)*+")
"""Letters, with apostrophes inside."""


def is_made(record: Record) -> bool:
    """Whether a step made it; nothing is made from such records, or copies would drift from what people wrote."""
    return "made_by" in record.meta


def chance(*what: Any) -> random.Random:
    """A stream of chance that depends on `what` alone."""
    return random.Random(hashlib.sha256(json.dumps(what, default=str).encode("utf-8", "surrogatepass")).digest())


def drawn(record: Record, share: float, seed: int, step: str) -> bool:
    """Whether the record is among the share that a step works on. A smaller share is a part of a bigger one."""
    return share >= 1 or chance(seed, step, "share", record.id).random() < share


def made(record: Record, content: Record, step: str, number: int, **more: Any) -> Record:
    """`content` as the `number`-th record that `step` made from `record` (numbers from 1)."""
    meta = {**content.meta, "made_by": step, "from": record.id, **more}
    return replace(content, id=f"{record.id}+{step}-{number}", meta=meta)


def spans_of(record: Record) -> tuple[Span, ...]:
    label = record.label
    return label if isinstance(label, tuple) and label and isinstance(label[0], Span) else ()  # type: ignore[return-value]


def touches(edit: Edit, spans: Iterable[tuple[int, int]]) -> bool:
    """Whether an edit changes what one of the spans covers."""
    return any(edit.start < end and start < edit.end for start, end in spans)


def edited(
    record: Record,
    edits_of: Callable[[str, list[tuple[int, int]]], list[Edit]],
    *,
    roles: Iterable[str] = ("user", "text"),
    completions: bool = False,
) -> Record:
    """The record with its texts edited; spans and words move along.

    `edits_of(text, spans)` is asked for each message of the prompt with one of the roles (and, if wanted, for every
    message of the completions); `spans` are the places in the text that carry a label.
    """
    prompt, spans, meta, offset = [], spans_of(record), record.meta, 0
    for message in record.prompt:
        if message.role in roles and message.content:
            inside = [
                (span.start - offset, span.end - offset)
                for span in spans
                if span.start >= offset and span.end <= offset + len(message.content)
            ]
            edits = edits_of(message.content, inside)
            if edits:
                placed = [replace(edit, start=edit.start + offset, end=edit.end + offset) for edit in edits]
                spans, meta = move_spans(spans, placed), move_words(meta, placed)
                message = replace(message, content=apply_edits(message.content, edits))
        prompt.append(message)
        offset += len(message.content) + 1
    answers = record.completions
    if completions:
        answers = tuple(
            replace(
                answer,
                messages=tuple(
                    replace(message, content=apply_edits(message.content, edits_of(message.content, [])))
                    for message in answer.messages
                ),
            )
            for answer in answers
        )
    label = spans if spans_of(record) else record.label
    return replace(record, prompt=tuple(prompt), completions=answers, label=label, meta=meta)


@cache
def shipped(name: str) -> Any:
    """A word list that lies beside this file."""
    return json.loads(Path(__file__).with_name(name).read_text(encoding="utf-8"))
