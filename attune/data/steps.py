"""What a preparation step is: it looks at one record and says what it would change, and why.

A step is a small plugin in `data/clean`, `data/filters`, `data/duplicates`, `data/privacy` or `data/augment`, named in
`data.prepare`. It changes nothing itself: `desk` applies what it says and writes every change to the ledger.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from os.path import commonprefix
from pathlib import Path
from typing import Any, ClassVar, Literal

from attune.plugins import Options
from attune.records import Record, Span

__all__ = ["Edit", "Change", "Context", "Step", "TextStep", "apply_edits", "edits_between", "move_spans", "move_words"]

SHOWN_CHARS = 2000
"""Of a record that was left out, the ledger keeps at most this much text."""

DIFF_CELLS = 40_000
"""Two stretches are compared character by character where the product of their lengths is at most this."""

WORD = re.compile(r"\w++")


@dataclass(frozen=True, slots=True)
class Edit:
    """Characters [start, end) of a text become `new`."""

    start: int
    end: int
    new: str
    reason: str


@dataclass(frozen=True, slots=True)
class Change:
    """What a step does to one record. `entries` are its ledger lines, without id and step."""

    record: Record | None
    """The record as it goes on; None leaves it out."""
    entries: tuple[dict[str, Any], ...]
    added: tuple[Record, ...] = ()
    """New records that follow it (augmentation)."""

    @classmethod
    def drop(cls, record: Record, reason: str, *, private: bool = False, **more: Any) -> Change:
        """Leave the record out. `more` are plain JSON facts, such as `kept="id of the row that stays"`."""
        text = {} if private else {"before": record.full_text[:SHOWN_CHARS]}
        return cls(None, ({"action": "drop", "reason": reason, **text, **more},))

    @classmethod
    def relabel(cls, record: Record, label: Any, reason: str) -> Change:
        entry = {"action": "label", "before": record.label, "after": label, "reason": reason}
        return cls(replace(record, label=label), (entry,))

    @classmethod
    def add(cls, record: Record, added: Sequence[Record], reason: str) -> Change:
        """Keep the record and let new ones follow it, each marked with where it comes from."""
        entries = [
            {"action": "add", "added": new.id, "after": new.text[:SHOWN_CHARS], "reason": reason} for new in added
        ]
        return cls(record, tuple(entries), tuple(added))


@dataclass(frozen=True)
class Context:
    """What a step may know besides the records."""

    task: str = "classification"
    """As in `data.task`."""
    seed: int = 0
    journal: Path | None = None
    """A folder that outlives a crash: what was paid for (answers of an endpoint) is kept there. None: nothing is."""


class Step(ABC):
    """One step of the data desk. The same records, options and seed give the same changes, in every process."""

    name: ClassVar[str]
    version: ClassVar[int] = 1
    """Raised when the same options begin to give other results; part of the prepared data's address."""
    scope: ClassVar[Literal["all", "train"]] = "train"
    """`all`: part of what the model reads, so every part of the data and every later request gets it (whitespace,
    masking). `train`: decides what is learned from (duplicates, filters, augmentation); held-out rows stay."""
    tasks: ClassVar[tuple[str, ...] | None] = None
    """Tasks (as in `data.task`) it makes sense for; None is all."""
    learns: ClassVar[bool] = False
    """Whether it must see the training records before it can say anything."""
    private: ClassVar[bool] = False
    """Whether the ledger must not hold the texts it took out."""

    class Config(Options):
        """No options."""

    def __init__(self, options: Any = None, context: Context | None = None):
        self.options: Any = options if options is not None else self.Config()
        self.context = context or Context()

    def learn(self, train: Sequence[Record]) -> None:  # noqa: B027 - most steps need not
        """See all training records, as the steps before left them. They may lie on disk: read them in order, keep
        little."""

    def reads(self) -> Sequence[Path | str]:
        """What decides beside the options and is part of the prepared data's address: files by what stands in them,
        anything else by a mark of its own."""
        return ()

    @abstractmethod
    def apply(self, record: Record, number: int) -> Change | None:
        """What happens to a record; None if nothing does. `number` is its position among those that `learn` saw (for
        training records; -1 for others)."""

    def apply_held_out(self, record: Record) -> Change | None:
        """What happens to a record of the validation or test part: the same with `scope = "all"`, else nothing."""
        return self.apply(record, -1) if self.scope == "all" else None

    def facts(self) -> dict[str, Any]:
        """Plain JSON for the manifest: what was learned, counted or left undecided. `questions` asks the user: a list
        of {"text", "options"}, where `options` are those of this step that say yes."""
        return {}

    def state(self) -> dict[str, Any]:
        """Plain JSON of what was learned, enough to `apply` to later requests; only for `scope = "all"`."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:  # noqa: B027
        """Take back what `state` gave."""


class TextStep(Step):
    """A step that edits texts. Spans of tagged records move with the text."""

    scope = "all"

    @abstractmethod
    def edits(self, text: str) -> list[Edit]:
        """What to change in one text: in order, not overlapping, none that changes nothing."""

    def apply(self, record: Record, number: int = -1) -> Change | None:
        entries: list[dict[str, Any]] = []
        prompt, label, meta, offset = [], record.label, record.meta, 0
        for at, message in enumerate(record.prompt):
            edits = self.edits(message.content) if message.content else []
            if edits:
                entries += self._entries(f"prompt.{at}", message.content, edits)
                placed = [replace(edit, start=edit.start + offset, end=edit.end + offset) for edit in edits]
                if isinstance(label, tuple) and label and isinstance(label[0], Span):
                    label = move_spans(label, placed)  # type: ignore[arg-type]
                meta = move_words(meta, placed)
                message = replace(message, content=apply_edits(message.content, edits))
            prompt.append(message)
            offset += len(message.content) + 1  # texts of a record are joined by one newline
        completions = []
        for at, completion in enumerate(record.completions):
            messages = []
            for turn, message in enumerate(completion.messages):
                edits = self.edits(message.content) if message.content else []
                if edits:
                    entries += self._entries(f"completions.{at}.{turn}", message.content, edits)
                    message = replace(message, content=apply_edits(message.content, edits))
                messages.append(message)
            completions.append(replace(completion, messages=tuple(messages)))
        if not entries:
            return None
        return Change(
            replace(record, prompt=tuple(prompt), completions=tuple(completions), label=label, meta=meta),
            tuple(entries),
        )

    def _entries(self, where: str, text: str, edits: list[Edit]) -> list[dict[str, Any]]:
        rows = []
        for edit in edits:
            row: dict[str, Any] = {"action": "edit", "field": where, "at": edit.start}
            if self.private:
                row |= {"before_chars": edit.end - edit.start, "after": edit.new}
            else:
                row |= {"before": text[edit.start : edit.end], "after": edit.new}
            rows.append({**row, "reason": edit.reason})
        return rows


def apply_edits(text: str, edits: Sequence[Edit]) -> str:
    """The text after the edits, which are in order and do not overlap."""
    parts, done = [], 0
    for edit in edits:
        parts += [text[done : edit.start], edit.new]
        done = edit.end
    return "".join([*parts, text[done:]])


def edits_between(before: str, after: str, reason: str) -> list[Edit]:
    """Edits that turn one text into another, for changes known only by their result; as small as is cheap to find."""
    return [Edit(a, b, new, reason) for a, b, new in _differences(before, after, 0)]


def _differences(old: str, new: str, offset: int) -> Iterator[tuple[int, int, str]]:
    """Places of `old` (plus `offset`) and what stands there in `new`. Time is linear but for short stretches."""
    start = len(commonprefix((old, new)))
    stop = len(commonprefix((old[start:][::-1], new[start:][::-1])))
    old, new, offset = old[start : len(old) - stop], new[start : len(new) - stop], offset + start
    if not old or not new:
        if old or new:
            yield offset, offset + len(old), new
    elif len(old) * len(new) <= DIFF_CELLS:
        from difflib import SequenceMatcher

        for kind, a, b, c, d in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
            if kind != "equal":
                yield offset + a, offset + b, new[c:d]
    elif anchors := _anchors(old, new):
        a = c = 0
        for left, right, size in [*anchors, (len(old), len(new), 0)]:
            yield from _differences(old[a:left], new[c:right], offset + a)
            a, c = left + size, right + size
    else:
        yield offset, offset + len(old), new


def _anchors(old: str, new: str) -> list[tuple[int, int, int]]:
    """(place in old, place in new, length) of words that stand exactly once in both, in the same order in both."""

    def once(text: str) -> dict[str, int]:
        words: dict[str, int] = {}
        for match in WORD.finditer(text):
            words[match[0]] = -1 if match[0] in words else match.start()
        return {word: at for word, at in words.items() if at >= 0}

    places = once(new)
    pairs = [(at, places[word], len(word)) for word, at in once(old).items() if word in places]
    best: list[int] = []
    before: dict[int, int] = {}
    ends: list[int] = []  # longest rising row of places in new: ends[n] is the smallest end of a row of n + 1
    for number, (_, place, _) in enumerate(pairs):
        length = bisect_left(ends, place)
        ends[length : length + 1] = [place]
        best[length : length + 1] = [number]
        before[number] = best[length - 1] if length else -1
    chain, number = [], best[-1] if best else -1
    while number >= 0:
        chain.append(pairs[number])
        number = before[number]
    return chain[::-1]


def move_spans(spans: tuple[Span, ...], edits: Sequence[Edit]) -> tuple[Span, ...]:
    """The same spans in the edited text. A border inside an edit moves to the end of the edit on its own side; a span
    whose text is gone is gone."""

    ends = [edit.end for edit in edits]
    shifts = [0, *accumulate(len(edit.new) - (edit.end - edit.start) for edit in edits)]

    def moved(position: int, at_start: bool) -> int:
        # What is put in exactly at a border stays outside of the span: before its start, behind its end.
        before = (bisect_right if at_start else bisect_left)(ends, position)
        if not at_start and before < len(edits) and edits[before].end == position > edits[before].start:
            before += 1
        if before < len(edits) and edits[before].start < position:  # strictly inside
            return edits[before].start + shifts[before] + (0 if at_start else len(edits[before].new))
        return position + shifts[before]

    kept = (Span(moved(span.start, True), moved(span.end, False), span.label) for span in spans)
    return tuple(span for span in kept if span.start < span.end)


def move_words(meta: dict[str, Any], edits: Sequence[Edit]) -> dict[str, Any]:
    """A record's meta with the places of its words (`tokens`, of a text that came in words) in the edited text. Words
    that an edit made one are one."""
    tokens = meta.get("tokens")
    if not isinstance(tokens, list) or not all(isinstance(token, (list, tuple)) for token in tokens):
        return meta
    words: list[list[int]] = []
    for word in move_spans(tuple(Span(start, end, "") for start, end in tokens), edits):
        if words and word.start < words[-1][1]:
            words[-1][1] = max(words[-1][1], word.end)
        else:
            words.append([word.start, word.end])
    return {**meta, "tokens": words}
