"""Missing values: texts and labels that are empty or only say that there is nothing (N/A, null, -)."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any, Literal

from pydantic import model_validator

from attune.data.steps import Change, Step
from attune.plugins import Options
from attune.records import LABEL_TASKS, Completion, Message, Record

Action = Literal["ask", "drop", "fill", "keep"]
SHOWN = 5


class Missing(Step):
    """Finds training rows whose text or label is missing or a placeholder, and leaves them out, fills them, or asks."""

    name = "missing"

    class Config(Options):
        """What counts as missing, and what happens then."""

        text: Action = "ask"
        """A text (or an answer to be learned) that is missing: leave the row out, fill it, keep it, or keep it and
        ask."""
        label: Action = "ask"
        """A label that is missing: the same."""
        fill_text: str | None = None
        """What a missing text becomes with `text: fill`."""
        fill_label: str | None = None
        """What a missing label becomes with `label: fill`."""
        placeholders: list[str] = [
            "", "-", "--", "---", "?", "??", ".", "n/a", "n.a.", "n.a", "na", "#n/a", "nan", "nil", "null", "<null>",
            "none", "(none)", "missing", "unknown", "not available", "not applicable", "not known", "not specified",
            "tbd", "to be determined", "empty", "(empty)", "(blank)",
        ]  # fmt: skip
        """What means missing where it is all there is; case and blanks around it do not matter."""

        @model_validator(mode="after")
        def _filled(self) -> Missing.Config:
            for field, value in (("text", self.fill_text), ("label", self.fill_label)):
                if getattr(self, field) == "fill" and value is None:
                    raise ValueError(f"{field}: fill needs fill_{field}")
                if value is not None and value.strip().casefold() in {word.casefold() for word in self.placeholders}:
                    raise ValueError(f"fill_{field} '{value}' means missing itself")
            return self

    def __init__(self, options: Any = None, context: Any = None):
        super().__init__(options, context)
        self.placeholders = frozenset(word.strip().casefold() for word in self.options.placeholders)
        self.actions = {"text": self.options.text, "label": self.options.label}
        self.counts: dict[str, Counter[str]] = {"text": Counter(), "label": Counter()}
        self.rows: dict[str, list[str]] = {"text": [], "label": []}

    def apply(self, record: Record, number: int = -1) -> Change | None:
        entries: list[dict[str, Any]] = []
        texts = [record.text] if record.prompt else []
        if self.context.task not in LABEL_TASKS:
            texts += [one.text for one in record.completions if not any(m.tool_calls for m in one.messages)]
        for text in texts:
            if (found := self._missing(text)) is not None:
                if self._seen("text", found, record) == "drop":
                    return Change.drop(record, f"text is missing: {found!r}")
                if self.actions["text"] == "fill":
                    record, made = self._fill(record)
                    entries += made
                    break
        if self.context.task in LABEL_TASKS and (found := self._missing_label(record.label)) is not None:
            if self._seen("label", found, record) == "drop":
                return Change.drop(record, f"label is missing: {found!r}")
            if self.actions["label"] == "fill":
                change = self._label_filled(record, found)
                record, entries = change.record or record, [*entries, *change.entries]
        return Change(record, tuple(entries)) if entries else None

    def apply_held_out(self, record: Record) -> Change | None:
        """A held-out row without a label measures nothing: it goes, or is filled, as in training. Texts stay."""
        if self.context.task not in LABEL_TASKS or (found := self._missing_label(record.label)) is None:
            return None
        if self.actions["label"] == "drop":
            return Change.drop(record, f"label is missing: {found!r}; nothing to measure an answer by")
        if self.actions["label"] == "fill":
            return self._label_filled(record, found)
        return None

    def _label_filled(self, record: Record, found: str) -> Change:
        label = (self.options.fill_label,) if self.context.task == "multilabel" else self.options.fill_label
        return Change.relabel(record, label, f"label is missing: {found!r}")

    def _missing(self, text: str) -> str | None:
        """The placeholder that the text is; None if it says something."""
        return text.strip() if text.strip().casefold() in self.placeholders else None

    def _missing_label(self, label: Any) -> str | None:
        if label is None:
            return ""
        if isinstance(label, str):
            return self._missing(label)
        if isinstance(label, tuple) and label and all(isinstance(one, str) for one in label):
            found = [self._missing(one) for one in label]
            return None if None in found else ", ".join(map(str, found))
        return None  # an empty tuple is a label: no class, no span

    def _seen(self, field: str, found: str, record: Record) -> str:
        self.counts[field][found.casefold()] += 1
        if len(self.rows[field]) < SHOWN:
            self.rows[field].append(record.where or record.id)
        return self.actions[field]

    def _fill(self, record: Record) -> tuple[Record, list[dict[str, Any]]]:
        """Missing texts replaced by `fill_text`; a prompt of several messages is filled as one that says nothing."""
        entries = []

        def filled(message: Message, where: str) -> Message:
            if self._missing(message.content) is None or message.tool_calls:
                return message
            new = str(self.options.fill_text)
            entries.append(
                {"action": "edit", "field": where, "at": 0, "before": message.content, "after": new,
                 "reason": f"text is missing: {message.content.strip()!r}"}
            )  # fmt: skip
            return replace(message, content=new)

        prompt = tuple(filled(message, f"prompt.{at}") for at, message in enumerate(record.prompt))
        completions: tuple[Completion, ...] = record.completions
        if self.context.task not in LABEL_TASKS:
            completions = tuple(
                replace(one, messages=tuple(filled(m, f"completions.{at}.{n}") for n, m in enumerate(one.messages)))
                for at, one in enumerate(record.completions)
            )
        label, meta = record.label, record.meta
        if self.context.task == "tagging" and entries:
            label = ()  # what was marked in a placeholder marks nothing now, and its words are gone
            meta = {key: value for key, value in meta.items() if key != "tokens"}
        return replace(record, prompt=prompt, completions=completions, label=label, meta=meta), entries

    def facts(self) -> dict[str, Any]:
        missing = {field: dict(sorted(counts.items())) for field, counts in self.counts.items()}
        asked = [field for field, counts in self.counts.items() if counts and self.actions[field] == "ask"]
        if not asked:
            return {"missing": missing}
        told = " and ".join(
            f"{self.counts[field].total():,} training rows have no {field} "
            f"({', '.join(repr(word) for word in missing[field])}; such as {', '.join(self.rows[field])})"
            for field in asked
        )
        options = self.options.model_dump(mode="json", exclude_unset=True) | dict.fromkeys(asked, "drop")
        return {"missing": missing, "questions": [{"text": f"{told}: leave them out?", "options": options}]}
