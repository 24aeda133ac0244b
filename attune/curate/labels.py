"""Labels given by a model, with how sure it was."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from attune.curate.review import Candidate, Review
from attune.curate.writers import Writer
from attune.endpoint import Ask
from attune.errors import DataError, MachineError
from attune.plugins import Options
from attune.records import Message, Record

__all__ = ["LabelOptions", "Vote", "distill_labels", "unlabelled", "vote"]

WINDOW = 1024
"""Texts that are asked about before the next ones are read."""
TOLD = "Classify the user's text into exactly one of these classes. Answer with the name of the class alone."


class LabelOptions(Options):
    """Which classes, and when a label is taken without a person."""

    classes: tuple[str, ...] = Field(min_length=2)
    """Names of the classes."""
    descriptions: dict[str, str] = {}
    """Class -> what belongs to it, for the prompt."""
    instruction: str = TOLD
    """What the model is told; the classes follow it."""
    confidence: Literal["agreement", "probability"] = "agreement"
    """`agreement`: the share of several answers that name the class. `probability`: that of one answer, by the
    log-probabilities of its tokens (the server must give them)."""
    samples: int = Field(default=5, ge=2, le=50)
    """Answers for `agreement`."""
    threshold: float = Field(default=0.8, gt=0, le=1)
    """Below this confidence a row waits for review."""
    seed: int = 0
    """Starts the samples' seeds."""

    @field_validator("classes")
    @classmethod
    def _apart(cls, classes: tuple[str, ...]) -> tuple[str, ...]:
        if len({name.casefold() for name in classes}) < len(classes) or not all(name.strip() for name in classes):
            raise ValueError("classes must have different names, none of them empty")
        return classes


@dataclass(frozen=True, slots=True)
class Vote:
    """What the answers say about one text."""

    label: str | None
    confidence: float
    votes: dict[str, int]
    """Class -> answers; under `(none)` those that name no class."""


def vote(writer: Writer, texts: Sequence[str], options: LabelOptions) -> list[Vote]:
    """The class of each text. Among equal votes the class that is listed first has it.

    Raises: MachineError if log-probabilities are wanted and not given.
    """
    from attune.generate.prompts import parse_label

    listed = ", ".join(options.classes)
    about = "".join(f"\n- {name}: {text}" for name, text in options.descriptions.items())
    system = {"role": "system", "content": f"{options.instruction}\nClasses: {listed}{about}"}
    agree = options.confidence == "agreement"
    count = options.samples if agree else 1
    asks = [
        Ask(
            (system, {"role": "user", "content": text}),
            seed=options.seed * 1000 + sample,
            temperature=None if agree else 0.0,
            logprobs=not agree,
        )
        for text in texts
        for sample in range(count)
    ]
    answers = writer(asks)
    votes = []
    for at in range(0, len(answers), count):
        group = answers[at : at + count]
        said = [parse_label(answer.whole or "", options.classes) for answer in group]
        counts = Counter(name if name is not None else "(none)" for name in said)
        best = max(options.classes, key=lambda name: (counts[name], -options.classes.index(name)))
        if agree:
            sure = counts[best] / count
        else:
            if group[0].text is not None and group[0].logp is None:
                raise MachineError(
                    "the endpoint gives no log-probabilities",
                    fix="use confidence: agreement, or a server that gives them",
                )
            sure = math.exp(group[0].logp or 0.0) if counts[best] else 0.0
        votes.append(Vote(best if counts[best] else None, round(sure, 6), dict(sorted(counts.items()))))
    return votes


def unlabelled(path: str | Path, column: str = "text") -> list[Record]:
    """The texts of a file's column as records without a label.

    Raises: DataError for a row without that text, with file:line.
    """
    from attune.data.rows import iter_rows

    records: list[Record] = []
    for where, row in iter_rows(path):
        text = row.get(column, row.get("document") if column == "text" else None)
        if not isinstance(text, str) or not text.strip():
            have = ", ".join(map(repr, row))
            raise DataError(
                f"no text in the column {column!r}", where=str(where), why=f"the row has {have}", fix="name the column"
            )
        kept = {key: value for key, value in row.items() if key != column and isinstance(value, str | int | float)}
        given = row.get("id")
        name = str(given) if isinstance(given, str | int) else Record.content_id([text, len(records)])
        kept.pop("id", None)
        records.append(Record(name, (Message("user", text),), meta=kept, where=str(where)))
    return records


def distill_labels(
    records: Iterable[Record],
    out: str | Path,
    writer: Writer,
    options: LabelOptions,
    *,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Label records by a model. `out/records.jsonl` has those above the threshold, `out/review.jsonl` all of them; what
    waits is decided through `Review(out)`. Returns how many have each status, and each class.

    Records of one text are labelled once. Same answers, same files.
    """
    candidates: list[Candidate] = []
    classes: Counter[str] = Counter()
    window: list[Record] = []

    def label() -> None:
        for record, found in zip(window, vote(writer, [record.text for record in window], options)):
            meta = {**record.meta, "made_by": "distill_labels", "confidence": found.confidence}
            labelled = Record(record.id, record.prompt, label=found.label, meta=meta, where=record.where)
            reasons: tuple[str, ...] = ()
            if found.label is None:
                reasons = ("no answer names a class",)
            elif found.confidence < options.threshold:
                reasons = (f"confidence {found.confidence:.2f} is below {options.threshold:g}",)
            else:
                classes[found.label] += 1
            status: Literal["pending", "accepted"] = "pending" if reasons else "accepted"
            candidates.append(Candidate(labelled, status, reasons, {"votes": found.votes}))
        say(f"{len(candidates):,} texts labelled")
        window.clear()

    for record in records:
        window.append(record)
        if len(window) == WINDOW:
            label()
    if window:
        label()
    counts = Review(out).write(candidates)
    return {"counts": dict(counts), "classes": dict(sorted(classes.items()))}
