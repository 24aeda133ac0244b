"""Answers that a teacher writes to the data's prompts, for sequence-level distillation."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from attune.durable import write_json
from attune.errors import DataError
from attune.records import Completion, Message, Record
from attune.train.teacher import Teacher

if TYPE_CHECKING:
    from attune.data.prepare import Read
    from attune.recipe import Recipe
    from attune.runs import Run

__all__ = ["answered"]

Say = Callable[[str], None]
MOST_UNUSABLE = 0.5
"""Share of prompts that the teacher may leave without a usable answer."""


def answered(recipe: Recipe, found: Read, run: Run, *, say: Say = lambda line: None) -> Read:
    """For `mode: sequence`, the training and validation rows with the teacher's answers in place of their own; test
    rows keep theirs. The run keeps the answers (data/answers.json), so that nobody is asked again.

    Raises: RecipeError if the data is not of prompts and answers; DataError if half have no usable answer.
    """
    options: Any = recipe.objective.options
    if recipe.objective.name != "distill" or options.mode != "sequence":
        return found
    if found.task != "generation":
        return found  # refused by the objective, with the reason
    kept = run.path / "data" / "answers.json"
    parts = {"train": list(found.split.train), "validation": list(found.split.validation)}
    known: dict[str, str] = json.loads(kept.read_text()) if kept.exists() else {}
    if not known:
        writer, name = _writer(options, run.path.parent / ".cache")
        try:
            for records in parts.values():
                known |= _written(recipe, records, writer, name, say)
        finally:
            writer.close()  # another stage, or another run of this process, may ask the same teacher
        if run.writes:
            write_json(kept, known)
    told = {
        part: [
            replace(record, completions=(Completion((Message("assistant", known[record.id]),)),))
            for record in records
            if record.id in known
        ]
        for part, records in parts.items()
    }
    return replace(found, split=replace(found.split, train=told["train"], validation=told["validation"]))


def _written(recipe: Recipe, records: Sequence[Record], writer: Any, name: str, say: Say) -> dict[str, str]:
    """Record id -> the teacher's answer, where it has one."""
    from attune.data.templates.base import wrapped
    from attune.endpoint import Ask

    options: Any = recipe.objective.options
    asks = []
    for record in (wrapped(record, brief=False) for record in records):  # the teacher is told what is asked, too
        rows = [(message.role, message.content) for message in record.prompt]
        if options.endpoint is not None:  # servers know no raw text
            rows = [("user" if role == "text" else role, content) for role, content in rows]
        messages = tuple({"role": role, "content": content} for role, content in rows)
        asks.append(Ask(messages, seed=recipe.seed, temperature=options.sampling_temperature or 0.0,
                        max_tokens=options.max_new_tokens))  # fmt: skip
    found, lost = {}, Counter[str]()
    for record, answer in zip(records, writer(asks)):
        text = (answer.text or "").strip()
        if not text or answer.finish == "length":
            lost["cut at max_new_tokens" if text else "no answer"] += 1
            continue
        found[record.id] = text
    why = "; ".join(f"{count:,} x {reason}" for reason, count in lost.items())
    say(f"teacher: {name} wrote {len(found):,} answers" + (f" (left out: {why})" if why else ""))
    if len(found) < len(records) * (1 - MOST_UNUSABLE):
        raise DataError(
            f"the teacher answered only {len(found):,} of {len(records):,} prompts", why=why,
            fix="raise objective.max_new_tokens, or choose another teacher",
        )  # fmt: skip
    return found


def _writer(options: Any, cache: Path) -> tuple[Any, str]:
    if options.endpoint is not None:
        from attune.endpoint import Endpoint

        given = options.endpoint.model_copy(update={"base_url": options.teacher})
        key = hashlib.sha256(json.dumps([options.teacher, given.model]).encode()).hexdigest()[:24]
        return Endpoint(given, journal=cache / f"answers-{key}"), given.model
    from attune.curate.writers import LocalWriter

    teacher = Teacher(options.teacher)
    source = teacher.tuned() if teacher.run is not None else _Base(teacher)
    journal = cache / f"answers-{teacher.fingerprint[:24]}"
    return LocalWriter(source, temperature=0.0, max_tokens=options.max_new_tokens, journal=journal), options.teacher


class _Base:
    """A base that was not tuned, with what `LocalWriter` asks of a tuned model."""

    writes = True

    def __init__(self, teacher: Teacher):
        from attune.data.seq2seq import renderer_for
        from attune.generate.seq2seq import engine_of

        self.run = SimpleNamespace(path=teacher.where)  # its name in the journal
        policy, _ = teacher.policy()
        tokenizer = teacher.tokenizer()
        self.renderer = renderer_for(tokenizer, policy.config, template=None, max_length=1 << 20, truncate="left")
        device = next(policy.parameters()).device
        self.engine = engine_of(policy.model, tokenizer, self.renderer, device=device)

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        return self.renderer.prompt_ids(tuple(messages))
