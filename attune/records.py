"""One piece of data as text: one schema for every task and method."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Message", "Completion", "Span", "Record", "Label", "ROLES", "LABEL_TASKS", "rows_hash"]

ROLES = ("system", "developer", "user", "assistant", "tool", "text")
"""`text` is raw text outside any chat template (continued pre-training, plain prompt/completion)."""
LABEL_TASKS = ("classification", "multilabel", "regression", "tagging")
"""Tasks whose records have a `label`; those of other tasks have answers, or are raw text."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. `content` is text; a turn that only calls tools has empty content."""

    role: str
    content: str
    name: str | None = None
    weight: float | None = None
    """None = the objective decides (answers count, prompts do not); 0 = never trained on."""
    tool_calls: tuple[dict, ...] = ()
    tool_call_id: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The OpenAI message, without empty fields."""
        row: dict[str, Any] = {"role": self.role, "content": self.content}
        for key in ("name", "weight", "tool_call_id"):
            if getattr(self, key) is not None:
                row[key] = getattr(self, key)
        if self.tool_calls:
            row["tool_calls"] = list(self.tool_calls)
        return row

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> Message:
        return cls(**{**row, "tool_calls": tuple(row.get("tool_calls") or ())})


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer to a prompt: usually a single assistant message, or several turns with tool results between."""

    messages: tuple[Message, ...]
    score: float | None = None
    good: bool | None = None

    @property
    def text(self) -> str:
        return "\n".join(message.content for message in self.messages)


@dataclass(frozen=True, slots=True)
class Span:
    """Characters [start, end) of the record's text carry `label`."""

    start: int
    end: int
    label: str


Label = str | float | tuple[str, ...] | tuple[Span, ...] | None
"""class (str) | number (float) | classes (tuple of str) | spans (tuple of Span) | unlabelled (None).
An empty tuple is "no class" or "no span", which is a label; None is not."""


@dataclass(frozen=True, slots=True)
class Record:
    """One piece of data.

    SFT: one completion. DPO / reward: two or more, best first. KTO: one with `good`. GRPO: none. Classification and
    tagging: the text is the prompt and `label` is set. Pre-training: no prompt and one raw completion (role `text`).
    """

    id: str
    prompt: tuple[Message, ...] = ()
    completions: tuple[Completion, ...] = ()
    label: Label = None
    answer: str | None = None
    task: str = "default"
    tools: tuple[dict, ...] = ()
    meta: dict[str, Any] = field(default_factory=dict)
    """source, licence, group, and whatever columns the user kept."""
    where: str = ""
    """`file:line` it was read from; for messages only, not part of its identity."""

    @property
    def text(self) -> str:
        """What is shown to a classifier: the prompt's contents, joined by newlines."""
        return "\n".join(message.content for message in self.prompt)

    @property
    def full_text(self) -> str:
        """Prompt and completions: what duplicate search compares."""
        return "\n".join([self.text, *(completion.text for completion in self.completions)]).strip("\n")

    def to_dict(self) -> dict[str, Any]:
        row: dict[str, Any] = {"id": self.id, "prompt": [message.to_dict() for message in self.prompt]}
        if self.completions:
            row["completions"] = [
                {
                    "messages": [message.to_dict() for message in completion.messages],
                    **({} if completion.score is None else {"score": completion.score}),
                    **({} if completion.good is None else {"good": completion.good}),
                }
                for completion in self.completions
            ]
        if isinstance(self.label, tuple) and self.label and isinstance(self.label[0], Span):
            row["spans"] = [[span.start, span.end, span.label] for span in self.label]  # type: ignore[union-attr]
        elif self.label is not None:
            row["label"] = list(self.label) if isinstance(self.label, tuple) else self.label
        if self.answer is not None:
            row["answer"] = self.answer
        if self.task != "default":
            row["task"] = self.task
        if self.tools:
            row["tools"] = list(self.tools)
        if self.meta:
            row["meta"] = self.meta
        if self.where:
            row["where"] = self.where
        return row

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> Record:
        label: Any = row.get("label")
        if "spans" in row:
            label = tuple(Span(*span) for span in row["spans"])
        elif isinstance(label, list):
            label = tuple(label)
        completions = tuple(
            Completion(
                tuple(Message.from_dict(message) for message in completion["messages"]),
                completion.get("score"),
                completion.get("good"),
            )
            for completion in row.get("completions", ())
        )
        return cls(
            id=row["id"],
            prompt=tuple(Message.from_dict(message) for message in row["prompt"]),
            completions=completions,
            label=label,
            answer=row.get("answer"),
            task=row.get("task", "default"),
            tools=tuple(row.get("tools", ())),
            meta=row.get("meta", {}),
            where=row.get("where", ""),
        )

    @staticmethod
    def content_id(payload: Any) -> str:
        """A stable id from the content: 16 hex digits of SHA-256 over canonical JSON."""
        text = json.dumps(payload, ensure_ascii=False, sort_keys=True, default=str)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def rows_hash(records: Iterable[Record], *, answers_only: bool = False) -> str:
    """SHA-256 over what is asked and what is expected, row by row, where it was read from left aside.

    `answers_only` takes ids and what is expected: equal for rows that are only read differently.
    """
    digest = hashlib.sha256()
    for record in records:
        row = {key: value for key, value in record.to_dict().items() if key not in ("where", "meta")}
        if answers_only:
            row = {key: value for key, value in row.items() if key not in ("prompt", "spans", "tools")}
        digest.update(json.dumps(row, ensure_ascii=False, sort_keys=True).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
