"""The step `pii`: personal data is found and counted, masked, replaced by invented values, or its rows are left out."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

from pydantic import field_validator

from attune.data.privacy.detectors import kinds as known_kinds
from attune.data.privacy.detectors.base import Found
from attune.data.privacy.find import Finder, mask
from attune.data.privacy.pseudonyms import Pseudonyms
from attune.data.steps import Change, Context, Edit, TextStep, apply_edits
from attune.errors import RecipeError
from attune.plugins import Options, nearest
from attune.records import Message, Record

__all__ = ["PersonalData"]

KEPT_COLUMNS = ("source", "licence", "split")
"""Entries of a record's `meta` that attune sets or reads; they name files, not people."""


class PersonalData(TextStep):
    """Personal data in every text the model reads or learns to write, and in the columns that are kept with it.

    Its ledger lines hold the kind, the place and the length, never the value. It must stand first in `data.prepare`,
    since the ledger lines of the steps before it hold the texts as they were.
    """

    name = "pii"
    private = True

    class Config(Options):
        action: Literal["detect", "mask", "pseudonymise", "drop"] = "mask"
        """detect: count only. mask: `[EMAIL]` in its place. pseudonymise: an invented value of the same shape, the
        same one wherever the value comes again. drop: leave the training row out (held-out rows stay as they are)."""
        kinds: Literal["all"] | list[str] = "all"
        """Kinds to look for, or `all`: address, card, date_of_birth, email, iban, ip, name, national_id, phone,
        secret, ssn, url_credentials."""
        names: Literal["auto", "off", "presidio", "light"] = "auto"
        """How people's names are found. light: titles, words around them, and a list of first names. presidio: its
        tagger, beside the light one. auto: light. off: names are left alone."""
        presidio_model: str = "en_core_web_sm"
        """The spaCy model (an installed package, or a folder) that presidio runs on."""
        keep: list[str] = []
        """Values that are no secret, such as your own help line; letter case and spacing do not matter."""
        secret_env: str | None = None
        """The environment variable that holds the key of the invented values. Without one, the key is the recipe's
        seed: whoever knows that and guesses a value can check the guess."""

        @field_validator("kinds")
        @classmethod
        def _known(cls, value: Any) -> Any:
            for kind in [] if value == "all" else value:
                if kind not in known_kinds():
                    raise ValueError(
                        f"unknown kind '{kind}'{nearest(kind, list(known_kinds()))} (one of {', '.join(known_kinds())})"
                    )
            return value

    def __init__(self, options: Any = None, context: Context | None = None):
        super().__init__(options, context)
        if self.options.action == "drop":
            self.scope = "train"  # type: ignore[assignment,misc]  # a row that is served or tested on cannot be left out
        kinds = set(known_kinds() if self.options.kinds == "all" else self.options.kinds)
        if self.options.names == "off":
            kinds.discard("name")
        more: list[tuple[int, Callable[[str], list[Found]]]] = []
        if self.options.names == "presidio" and "name" in kinds:
            from attune.data.privacy.tagger import tagger

            more.append((25, tagger(self.options.presidio_model)))
        self.finder = Finder(kinds, keep=self.options.keep, more=more)
        self.invented = Pseudonyms(self._key()) if self.options.action == "pseudonymise" else None
        self.counts: Counter[str] = Counter()
        self.by_field: dict[str, Counter[str]] = {}
        self.touched = 0
        self.seen = 0

    def _key(self) -> bytes:
        seed = f"attune pii {self.context.seed}".encode()
        if self.options.secret_env is None:
            return hashlib.sha256(seed).digest()
        secret = os.environ.get(self.options.secret_env)
        if not secret:
            raise RecipeError(
                f"step 'pii': the environment variable {self.options.secret_env} is not set",
                why="`secret_env` names the variable that holds the key of the invented values",
                fix=f"export {self.options.secret_env}=..., or leave secret_env out",
            )
        return hashlib.sha256(seed + b"\0" + secret.encode()).digest()

    def reads(self) -> list[str]:
        if self.invented is None or self.options.secret_env is None:
            return []
        return [hashlib.sha256(b"mark " + self._key()).hexdigest()[:8]]  # too short to try a key by

    def edits(self, text: str) -> list[Edit]:
        return [Edit(hit.start, hit.end, self._new(text, hit), hit.kind) for hit in self.finder(text)]

    def _new(self, text: str, hit: Found) -> str:
        return self.invented(text[hit.start : hit.end], hit.kind) if self.invented else mask(hit.kind)

    def apply(self, record: Record, number: int = -1) -> Change | None:
        self.seen += 1
        change = super().apply(record, number)
        after = change.record if change and change.record else record
        entries = list(change.entries) if change else []
        after, more = self._rest(after)
        entries += more
        if not entries:
            return None
        self.touched += 1
        for entry in entries:
            self.counts[entry["reason"]] += 1
            field = entry["field"] if entry["field"].startswith("meta") else entry["field"].partition(".")[0]
            self.by_field.setdefault(field, Counter())[entry["reason"]] += 1
        if self.options.action == "drop":
            found = sorted({entry["reason"] for entry in entries})
            return Change.drop(record, f"personal data: {', '.join(found)}", private=True)
        if self.options.action == "detect":
            told = [{**{k: v for k, v in entry.items() if k != "after"}, "action": "detect"} for entry in entries]
            return Change(record, tuple(told))
        return Change(after, tuple(entries))

    def _rest(self, record: Record) -> tuple[Record, list[dict[str, Any]]]:
        """What is no message text: the answer, kept columns, names of speakers, arguments of tool calls."""
        entries: list[dict[str, Any]] = []
        answer = self._value(record.answer, "answer", entries)
        meta = {
            key: value if key in KEPT_COLUMNS else self._value(value, f"meta.{key}", entries)
            for key, value in record.meta.items()
        }
        prompt = tuple(self._calls(message, f"prompt.{at}", entries) for at, message in enumerate(record.prompt))
        completions = tuple(
            replace(
                completion,
                messages=tuple(
                    self._calls(message, f"completions.{at}.{turn}", entries)
                    for turn, message in enumerate(completion.messages)
                ),
            )
            for at, completion in enumerate(record.completions)
        )
        if not entries:
            return record, entries
        return replace(record, answer=answer, meta=meta, prompt=prompt, completions=completions), entries

    def _calls(self, message: Message, where: str, entries: list[dict[str, Any]]) -> Message:
        if not message.tool_calls and not message.name:
            return message
        name = self._value(message.name, f"{where}.name", entries)
        calls = tuple(self._value(call, f"{where}.tool_calls", entries) for call in message.tool_calls)
        return replace(message, name=name, tool_calls=calls)

    def _value(self, value: Any, where: str, entries: list[dict[str, Any]]) -> Any:
        """The same JSON with its texts edited. A text that is JSON itself (a tool call's arguments) stays valid."""
        if isinstance(value, dict):
            return {key: self._value(inner, where, entries) for key, inner in value.items()}
        if isinstance(value, (list, tuple)):
            return [self._value(inner, where, entries) for inner in value]
        if not isinstance(value, str) or not value:
            return value
        if value[0] in "{[":
            try:
                inner = json.loads(value)
            except ValueError:
                inner = None
            if isinstance(inner, (dict, list)):
                before = len(entries)
                new = self._value(inner, where, entries)
                return json.dumps(new, ensure_ascii=False) if len(entries) > before else value
        edits = self.edits(value)
        entries += self._entries(where, value, edits)
        return apply_edits(value, edits)

    def facts(self) -> dict[str, Any]:
        """The data-protection summary: what was found and where it stood, no values."""
        return {
            "privacy": {
                "action": self.options.action,
                "names": "light" if self.options.names == "auto" else self.options.names,
                "records": self.seen,
                "records_touched": self.touched,
                "kinds": dict(sorted(self.counts.items())),
                "fields": {field: dict(sorted(kinds.items())) for field, kinds in sorted(self.by_field.items())},
                "keyed": self.options.secret_env is not None,
            }
        }
