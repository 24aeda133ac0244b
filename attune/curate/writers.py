"""Who writes: an endpoint, or a model on this machine, behind one call."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from attune.endpoint import Answer, Ask
from attune.errors import UsageError
from attune.journal import Journal, key_of
from attune.records import Message

__all__ = ["LocalWriter", "Writer", "json_items"]

Writer = Callable[[Sequence[Ask]], list[Answer]]
"""Questions -> answers, in their order. An `Endpoint` is one."""

GROUP = 32
"""Questions that a local model reads together; the journal is written after each group."""


class LocalWriter:
    """A tuned language model of this machine as a writer; with a journal, a killed job does not write again.

    Raises: UsageError for a model with a head for labels.
    """

    def __init__(
        self, tuned: Any, *, temperature: float = 0.7, max_tokens: int = 512, journal: str | Path | None = None
    ):
        if not tuned.writes:
            raise UsageError("this run's model gives labels and writes no text", fix="name a run of a language model")
        self.engine, self.prompt_ids = tuned.engine, tuned.prompt_ids
        self.name = str(tuned.run.path)
        self.temperature, self.max_tokens = temperature, max_tokens
        self.journal = Journal(journal) if journal is not None else None

    def __call__(self, asks: Sequence[Ask]) -> list[Answer]:
        keys = [key_of([self.name, self.temperature, self.max_tokens, asdict(ask)]) for ask in asks]
        found: dict[str, Answer] = {}
        for key in keys:
            if self.journal is not None and (kept := self.journal.get(key)) is not None:
                found[key] = Answer(**kept)
        todo = {key: ask for key, ask in zip(keys, asks) if key not in found}
        for group in self._groups(todo):
            for key, answer in zip(group, self._write([todo[key] for key in group])):
                found[key] = answer
                if self.journal is not None:
                    self.journal.put(key, asdict(answer))
        return [found[key] for key in keys]

    def close(self) -> None:
        """Leave the journal to others."""
        if self.journal is not None:
            self.journal.close()

    def _groups(self, todo: dict[str, Ask]) -> list[list[str]]:
        """Questions that are written together. A sampled answer depends on its place in the group: those stand alone,
        so that a job that goes on after a kill writes the same."""
        groups: list[list[str]] = []
        for key, ask in todo.items():
            likeliest = (self.temperature if ask.temperature is None else ask.temperature) == 0
            last = todo[groups[-1][-1]] if groups else None
            if last and likeliest and last.temperature == ask.temperature and last.max_tokens == ask.max_tokens:
                if len(groups[-1]) < GROUP:
                    groups[-1].append(key)
                    continue
            groups.append([key])
        return groups

    def _write(self, asks: list[Ask]) -> list[Answer]:
        answers: list[Answer | None] = [None] * len(asks)
        ids, places = [], []
        most = min(asks[0].max_tokens or self.max_tokens, self.max_tokens)
        for at, ask in enumerate(asks):
            tokens = self.prompt_ids([Message(message["role"], message["content"]) for message in ask.messages])
            room = self.engine.context_length
            if room is not None and len(tokens) + self.engine.virtual_tokens >= room:
                answers[at] = Answer(None, f"the question has {len(tokens)} tokens, the model reads {room}")
            else:
                ids.append(tokens)
                places.append(at)
        temperature = self.temperature if asks[0].temperature is None else asks[0].temperature
        wrote = self.engine.generate(ids, max_new_tokens=most, temperature=temperature, seed=asks[0].seed or 0)
        for at, tokens, one in zip(places, ids, wrote):
            finish = "stop" if one.stopped else "length"
            answers[at] = Answer(self.engine.text(one.ids), finish, len(tokens), len(one.ids), float(one.logp))
        return answers  # type: ignore[return-value]


def json_items(text: str) -> list[dict[str, Any]] | None:
    """The objects of the first JSON array (or the one object) in a model's answer; None where there is none."""
    decoder = json.JSONDecoder()
    for at, char in enumerate(text[:100_000]):
        if char in "[{":
            try:
                value, _ = decoder.raw_decode(text, at)
            except RecursionError:
                return None
            except ValueError:
                if char == "{" or at > 2000:
                    return None
                continue
            items = value if isinstance(value, list) else [value]
            return [item for item in items if isinstance(item, dict)]
    return None
