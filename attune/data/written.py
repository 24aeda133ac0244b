"""Label tasks as text: what a language model is told, the answer it should write, and how a written answer is read.

A class is its name; several classes stand on one line with commas; each span is one JSON object on a line of its own.
Reading is strict: what is not exactly of that form, or names what does not exist, is no answer.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from attune.errors import DataError
from attune.records import Completion, Message, Record, Span

__all__ = [
    "WRITABLE",
    "NOTHING",
    "instruction_for",
    "default_instruction",
    "answer_text",
    "asked",
    "written",
    "read_back",
    "refuse_unreadable",
]

WRITABLE = ("classification", "multilabel", "tagging")
"""Label tasks that a language model can learn as text."""
NOTHING = "none"
"""What a model answers where no class and no span applies."""
LISTED = 20
"""Label names up to which an instruction for training lists them all: a trained model no longer needs to read them."""


def default_instruction(task: str, labels: Sequence[str], *, listed: bool = True) -> str:
    """What a model is told where the recipe gives no `instruction`."""
    names = f": {', '.join(labels)}" if listed else ""
    if task == "classification":
        return f"Classify the text into exactly one class{names}. Answer with the name of the class only."
    if task == "multilabel":
        return (
            f"Name every class that applies to the text{names}. "
            f"Answer with the names separated by commas, or '{NOTHING}'."
        )
    return (
        f"Find every entity in the text. The kinds are{names or ' as in the examples'}. Answer with one JSON object "
        f'per line, as {{"text": "the exact words", "label": "the kind"}}, or \'{NOTHING}\'.'
    )


def instruction_for(task: str, labels: Sequence[str], name: str | None = None) -> str:
    """The instruction that training puts before each text; `name` tells one of several tasks from the others."""
    told = default_instruction(task, labels, listed=len(labels) <= LISTED)
    if task == "tagging" and len(labels) > LISTED:
        told = told.replace("The kinds are as in the examples. ", "")
    return told if name is None or len(labels) <= LISTED else f"Task: {name}. {told}"


def answer_text(record: Record) -> str:
    """The record's label as a model should write it."""
    if isinstance(record.label, tuple):
        if record.label and isinstance(record.label[0], Span):
            spans = sorted(record.label, key=lambda span: span.start)  # type: ignore[union-attr]
            rows = [{"text": record.text[span.start : span.end], "label": span.label} for span in spans]  # type: ignore[union-attr]
            return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
        return ", ".join(map(str, record.label)) or NOTHING
    return str(record.label)


def asked(record: Record, instruction: str | None) -> Record:
    """The record with the instruction in front of its first user turn (or its raw text)."""
    if not instruction:
        return record
    prompt = list(record.prompt)
    at = next((n for n, message in enumerate(prompt) if message.role in ("user", "text")), None)
    if at is None:
        prompt.insert(0, Message("user", instruction))
    else:
        prompt[at] = replace(prompt[at], content=f"{instruction}\n\n{prompt[at].content}")
    return replace(record, prompt=tuple(prompt))


def written(record: Record, instruction: str | None) -> Record:
    """A label record as a conversation: instruction and text, answered by the label; others get the instruction."""
    if record.label is None:
        return asked(record, instruction)
    answer = Completion((Message("assistant", answer_text(record) or NOTHING),))
    question = f"{instruction}\n\n{record.text}" if instruction else record.text
    return replace(record, prompt=(Message("user", question),), completions=(answer,), label=None)


def read_back(
    answer: str, record: Record, task: str, labels: Sequence[str]
) -> str | tuple[str, ...] | tuple[Span, ...] | None:
    """The label that a written answer names; None where it is not exactly of the form that was taught."""
    said = answer.strip()
    if task == "classification":
        return said if said in labels else None
    if said == NOTHING and said not in labels:
        return ()
    if task == "multilabel":
        parts = [part.strip() for part in said.split(",")]
        if len(set(parts)) != len(parts) or not all(part in labels for part in parts):
            return None
        return tuple(label for label in labels if label in parts)
    return _spans(said, record.text, labels)


def refuse_unreadable(task: str, labels: Sequence[str]) -> None:
    """Raises: DataError for labels that no written answer could name: it would be read as something else."""
    if task == "tagging":
        return
    several = task == "multilabel"
    for label in labels:
        record = Record("", (), label=(label,) if several else label)
        if read_back(answer_text(record), record, task, labels) != record.label:
            raise DataError(
                f"the label {label!r} cannot be read back from what a model writes",
                why="several labels are written with commas between them" if several else "blanks around it are lost",
                fix="rename it (data.prepare: [labels: {map: {OLD: NEW}}]), or objective: classify",
            )


def _spans(said: str, text: str, labels: Sequence[str]) -> tuple[Span, ...] | None:
    """Every line one known kind of words that stand in the text; the same words twice mean their next occurrence."""
    spans: list[Span] = []
    after: dict[str, int] = {}
    for line in said.split("\n"):  # U+2028 and its like stand inside a line
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError):
            return None
        if not isinstance(row, dict) or set(row) != {"text", "label"} or row["label"] not in labels:
            return None
        words = row["text"]
        start = text.find(words, after.get(words, 0)) if isinstance(words, str) and words else -1
        if start < 0:
            return None
        after[words] = start + len(words)
        spans.append(Span(start, start + len(words), row["label"]))
    return tuple(sorted(spans, key=lambda span: span.start)) if spans else None
