"""Step `counterfactual`: the same case with another person in it."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Literal

from pydantic import Field, field_validator

from attune.data.augment.base import WORD, chance, drawn, edited, is_made, made
from attune.data.augment.swaps import GROUPS, swap_for
from attune.data.steps import Change, Step, apply_edits
from attune.plugins import Options
from attune.records import Record

Group = Literal["gender", "names", "ethnicity", "religion", "age", "disability"]
ROLES = ("user", "assistant", "text")


class Counterfactual(Step):
    """Adds, to records that tell a person's group, the same record with another group: he for she, Leon for Lorena, 36
    for 66, throughout prompt and answer. The label is kept, so the model cannot learn it from the group (English).

    A record is left alone where the label itself names the group, or where the swap would contradict the text."""

    name = "counterfactual"

    class Config(Options):
        """Which groups are swapped, and where."""

        groups: tuple[Group, ...] = ("gender", "names")
        """Each gives its own record. `names` changes given names to those of another origin, same gender; `gender`
        changes given names along with he and she."""
        pairs: tuple[tuple[str, str], ...] = ()
        """Your own words that stand for each other, as `[[Bronx, Queens]]`: one more record, whole words, both ways."""
        share: float = Field(1.0, gt=0, le=1)
        """Share of the training records that are looked at."""

        @field_validator("pairs")
        @classmethod
        def _words(cls, pairs: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
            words = [word.lower() for pair in pairs for word in pair]
            if any(not word.strip() or word != word.strip() for word in words):
                raise ValueError("pairs: a word is empty or begins or ends with a space")
            if len(set(words)) < len(words):
                raise ValueError("pairs: a word stands in two places, so that its counterpart is not clear")
            return pairs

    def apply(self, record: Record, number: int = -1) -> Change | None:
        if is_made(record) or not drawn(record, self.options.share, self.context.seed, self.name):
            return None
        texts = [message.content for message in record.prompt if message.role in ROLES]
        texts += [message.content for answer in record.completions for message in answer.messages]
        if any(message.tool_calls for message in record.prompt) or any(
            message.tool_calls for answer in record.completions for message in answer.messages
        ):
            return None  # what the tools are told would stay behind
        texts += [record.answer] if record.answer is not None else []
        added: list[Record] = []
        groups = [group for group in GROUPS if group in self.options.groups] + ["own"] * bool(self.options.pairs)
        for at, group in enumerate(groups, 1):
            rng = chance(self.context.seed, self.name, record.id, group)
            swap = swap_for(group, texts, rng, dict(self.options.pairs))
            if swap is None or any(swap(name) for name in _labels(record)):
                continue
            content = edited(record, lambda text, spans: swap(text), roles=ROLES, completions=True)  # noqa: B023
            if record.answer is not None:
                content = replace(content, answer=apply_edits(record.answer, swap(record.answer)))
            if content.text != record.text or content.full_text != record.full_text:
                added.append(made(record, content, self.name, at, swapped=group))
        return Change.add(record, added, "the same case, another group") if added else None


def _labels(record: Record) -> list[str]:
    """The words of the label, where it is made of words."""
    label = record.label
    classes = (label,) if isinstance(label, str) else label if isinstance(label, tuple) else ()
    return [" ".join(WORD.findall(re.sub(r"[_-]", " ", name))) for name in classes if isinstance(name, str)]
