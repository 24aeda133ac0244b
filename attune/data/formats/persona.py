"""Yes/no statements with the answer that matches a behaviour."""

from __future__ import annotations

from typing import Any

from attune.data.formats.base import Bad, Drop, Format, Mapping, filled, make
from attune.data.rows import Where
from attune.records import Completion, Message, Record

SIDES = ("answer_matching_behavior", "answer_not_matching_behavior")


class Persona(Format):
    """`{"question": text, "answer_matching_behavior": " Yes", "answer_not_matching_behavior": " No"}` (Anthropic's
    persona sets)
    """

    name = "persona"
    task = "preference"

    def sniff(self, row: dict[str, Any]) -> int:
        return 60 if SIDES[0] in row else 0

    def read(self, row: dict[str, Any], where: Where, mapping: Mapping) -> Record:
        question = filled(row, "question", mapping)
        texts = []
        for key in SIDES:
            value = row.get(key)
            if isinstance(value, list) and value:
                value = value[0]
            if not isinstance(value, str):
                raise Bad(f"{key} is missing or not a text")
            texts.append(value.strip())
        if not all(texts):
            raise Drop("an answer is empty")
        if texts[0] == texts[1]:
            raise Bad(f"{SIDES[0]} and {SIDES[1]} are the same")
        completions = tuple(Completion((Message("assistant", text),)) for text in texts)
        return make(
            row, where, ("question", "statement", *SIDES), prompt=(Message("user", question),), completions=completions
        )
