"""Prompts for asking a base model to do a label task, and reading its answers back."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from attune.data.written import NOTHING, answer_text, default_instruction
from attune.errors import RecipeError
from attune.records import Message, Record, Span

__all__ = [
    "Prompts",
    "PromptIds",
    "label_prompts",
    "conversation_prompts",
    "fixed_examples",
    "nearest_examples",
    "parse_label",
    "parse_labels",
    "parse_spans",
]

PromptIds = Callable[[Sequence[Message], Sequence[dict]], list[int]]
"""Messages and tools -> the tokens of the prompt, ready for the answer to follow."""


@dataclass
class Prompts:
    """Prompts as token ids, and what a reader of the figures must know about them."""

    ids: list[list[int]]
    shown: list[int]
    """Examples that each prompt really shows; fewer than asked where the context is too short."""
    listed: bool = True
    """The label names stand in the prompt."""
    shortened: int = 0
    """Prompts whose text was cut to fit the context."""

    @property
    def note(self) -> str:
        """The same in words, for the report."""
        low, high = min(self.shown, default=0), max(self.shown, default=0)
        parts = (
            [f"{high} example{'s' * (high > 1)}" if low == high else f"{low} to {high} examples (context limit)"]
            if high
            else []
        )
        if not self.listed:
            parts.append("label names not listed: they do not fit the context")
        if self.shortened:
            parts.append(f"{self.shortened} of {len(self.ids)} texts cut to fit the context")
        return "; ".join(parts)


# choosing examples ----------------------------------------------------------------------------------------------------


def fixed_examples(train: Sequence[Record], k: int, seed: int) -> list[Record]:
    """The same k examples for every question: one of each class in turn, in an order drawn from the seed."""
    shuffled = list(train)
    random.Random(seed).shuffle(shuffled)
    groups: dict[str, list[Record]] = {}
    for record in shuffled:
        key = record.label if isinstance(record.label, str) else answer_text(record) == NOTHING
        groups.setdefault(str(key), []).append(record)
    turns = max(map(len, groups.values()), default=0)
    ordered = (group[turn] for turn in range(min(turns, k)) for group in groups.values() if turn < len(group))
    return [record for record, _ in zip(ordered, range(k))]


def nearest_examples(train: Sequence[Record], test: Sequence[Record], k: int) -> list[list[Record]]:
    """For each test record the k train records nearest in words (TF-IDF cosine), nearest first."""
    import numpy as np
    from sklearn.feature_extraction.text import TfidfVectorizer

    if not train or not test or k < 1:
        return [[] for _ in test]
    vectorizer = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), token_pattern=r"(?u)\S+")
    try:
        base = vectorizer.fit_transform([record.text for record in train])
    except ValueError:  # only empty texts: nothing is nearer than anything else
        return [list(train[:k]) for _ in test]
    asked = vectorizer.transform([record.text for record in test])
    chosen: list[list[Record]] = []
    for low in range(0, len(test), 256):
        near = (asked[low : low + 256] @ base.T).toarray()
        # A stable order decides ties by position in train, so the choice is the same everywhere.
        for row in np.argsort(-near, axis=1, kind="stable")[:, :k]:
            chosen.append([train[i] for i in row])
    return chosen


# building -------------------------------------------------------------------------------------------------------------


def label_prompts(
    records: Sequence[Record],
    *,
    task: str,
    labels: Sequence[str],
    prompt_ids: PromptIds,
    chat: bool,
    context_length: int,
    room: int,
    instruction: str | None = None,
    examples: Sequence[Sequence[Record]] | None = None,
) -> Prompts:
    """Instruction, label names, examples, text. Each prompt leaves `room` tokens of the context for the answer.

    `examples` holds each record's examples, most useful first: they are shown in reverse, so the best stands next to
    the question, and the least useful go first where the context is short. With `chat` they are earlier turns;
    without it, everything is one plain text that ends where the answer starts.

    Raises: RecipeError if not even a short text fits.
    """
    limit = context_length - room

    def build(listed: bool, shown: Sequence[Record], text: str) -> list[int]:
        told = instruction or default_instruction(task, labels, listed=listed)
        if instruction and listed and labels and not all(label in instruction for label in labels):
            told += f"\n{'Kinds' if task == 'tagging' else 'Classes'}: {', '.join(labels)}"
        pairs = [(example.text, answer_text(example) or NOTHING) for example in reversed(shown)]
        return prompt_ids(_chat(told, pairs, text) if chat else [_plain(told, pairs, text)], ())

    # Names that fill half of the context leave too little for text and examples.
    listed = bool(labels) and len(build(True, (), "")) <= limit // 2
    prompts = Prompts([], [], listed)
    for index, record in enumerate(records):
        shown = list(examples[index]) if examples else []
        ids = build(listed, shown, record.text)
        while len(ids) > limit and shown:
            # Estimate how many must go instead of rendering for each one.
            shown = shown[: min(len(shown) - 1, len(shown) * limit // len(ids))]
            ids = build(listed, shown, record.text)
        text = record.text
        while len(ids) > limit:
            if not text:
                raise RecipeError(
                    f"the instruction alone has {len(ids)} tokens",
                    why=f"{limit} fit: the context is {context_length} tokens and {room} are kept for the answer",
                    fix="shorten the instruction, or leave the prompting baselines out",
                )
            text = text[: max(0, min(len(text) - 1, int(len(text) * limit / len(ids)) - 8))]
            ids = build(listed, shown, text)
        prompts.shortened += text != record.text
        prompts.ids.append(ids)
        prompts.shown.append(len(shown))
    return prompts


def conversation_prompts(
    records: Sequence[Record],
    *,
    prompt_ids: PromptIds,
    context_length: int,
    room: int,
    examples: Sequence[Sequence[Record]] | None = None,
) -> Prompts:
    """The records' own prompts, with other records' prompts and answers as earlier turns. A record whose own prompt
    does not fit gets the end of it.
    """
    limit = context_length - room
    prompts = Prompts([], [])
    for index, record in enumerate(records):
        shown = list(examples[index]) if examples else []
        while True:
            ids = prompt_ids([*_earlier(shown, record), *record.prompt], record.tools)
            if len(ids) <= limit or not shown:
                break
            shown = shown[: min(len(shown) - 1, len(shown) * limit // len(ids))]
        prompts.shortened += len(ids) > limit
        prompts.ids.append(ids[-limit:])
        prompts.shown.append(len(shown))
    return prompts


def _earlier(shown: Sequence[Record], record: Record) -> list[Message]:
    turns: list[Message] = []
    raw = any(message.role == "text" for message in record.prompt)
    for example in reversed(shown):
        answer = example.completions[0].messages
        if raw:
            both = "".join(message.content for message in (*example.prompt, *answer))
            turns.append(Message("text", both + "\n\n"))
        else:
            # Only the record's own system message counts: most templates accept one, at the start.
            turns += [message for message in (*example.prompt, *answer) if message.role not in ("system", "developer")]
    return turns


def _chat(told: str, pairs: list[tuple[str, str]], text: str) -> list[Message]:
    """The instruction opens the first user turn: not every template accepts a system role."""
    turns: list[Message] = []
    for question, answer in [*pairs, (text, "")]:
        content = question if turns else f"{told}\n\n{question}"
        turns += [Message("user", content), Message("assistant", answer)]
    return turns[:-1]


def _plain(told: str, pairs: list[tuple[str, str]], text: str) -> Message:
    done = "".join(f"Text: {question}\nAnswer: {answer}\n\n" for question, answer in pairs)
    return Message("text", f"{told}\n\n{done}Text: {text}\nAnswer:")


# reading answers ------------------------------------------------------------------------------------------------------


def _plainly(text: str) -> str:
    return re.sub(r"[\W_]+", " ", text).strip().casefold()


def parse_label(answer: str, labels: Sequence[str]) -> str | None:
    """The one class that the answer names, whatever its case and punctuation; None where it names none or several."""
    first = next((line for line in answer.splitlines() if line.strip()), "")
    if first.strip() in labels:
        return first.strip()
    by_name = {_plainly(label): label for label in labels}
    said = _plainly(first)
    if said in by_name:
        return by_name[said]
    found = {name for name in by_name if name and re.search(rf"\b{re.escape(name)}\b", said)}
    # "card arrival" also contains "card": the longer name is the one meant.
    found = {name for name in found if not any(name != other and name in other for other in found)}
    return by_name[found.pop()] if len(found) == 1 else None


def parse_labels(answer: str, labels: Sequence[str]) -> tuple[str, ...] | None:
    """The classes of a comma-separated answer; () where it says none, None where it names no known class."""
    first = next((line for line in answer.splitlines() if line.strip()), "")
    parts = [parse_label(part, labels) for part in first.split(",") if part.strip()]
    found = {part for part in parts if part is not None}
    if not found and _plainly(first) == NOTHING:
        return ()
    return tuple(label for label in labels if label in found) or None


def parse_spans(answer: str, text: str, labels: Sequence[str]) -> tuple[Span, ...] | None:
    """Spans from one JSON object per line; None where no line can be used and the answer is not "none".

    A line that is no JSON, has an unknown label or words that are not in the text is left out. The same words twice
    mean their next occurrence.
    """
    lines = [line.strip() for line in answer.split("\n") if line.strip()]
    if not lines or _plainly(lines[0]) == NOTHING:
        return () if lines else None
    spans: list[Span] = []
    after: dict[str, int] = {}
    for line in lines:
        try:
            row = json.loads(line.rstrip(","))
        except (json.JSONDecodeError, RecursionError):
            continue
        words, label = (row.get("text"), row.get("label")) if isinstance(row, dict) else (None, None)
        if not isinstance(words, str) or not words or not isinstance(label, str) or label not in labels:
            continue
        start = text.find(words, after.get(words, 0))
        end = start + len(words)
        if start < 0 or any(start < span.end and span.start < end for span in spans):
            continue
        after[words] = end
        spans.append(Span(start, end, label))
    return tuple(sorted(spans, key=lambda span: span.start)) if spans else None
