"""Simple sentences to be finished, by choice."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from attune.evaluate.suites.base import Questions, Subject, Suite
from attune.evaluate.suites.texts import GENERAL

if TYPE_CHECKING:
    from attune.evaluate.predictions import Predictions


class Completions(Suite):
    """Which of three endings belongs to a simple English sentence: 100 of them, on words, grammar and everyday facts.

    The likeliest ending per character is the answer; guessing gets a third.
    """

    name = "completions"

    def load(self) -> Questions:
        from attune.records import Message, Record

        file = GENERAL / "completions.jsonl"
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        records = [
            Record(
                id=f"{file.name}:{number}",
                prompt=(Message("user", row["start"]),),
                label=row["endings"][0],
                meta={"endings": row["endings"]},
            )
            for number, row in enumerate(rows)
        ]
        return Questions("classification", records, ["accuracy"], "accuracy")

    def why_not(self, questions: Questions, subject: Subject) -> str | None:
        return None if subject.policy.head == "lm" else "the model has a head for labels and writes no text"

    def answer(self, questions: Questions, subject: Subject) -> Predictions:
        from attune.evaluate.likelihood import text_logp
        from attune.evaluate.predictions import Predictions

        asked = [(record.text, f" {ending}") for record in questions.records for ending in record.meta["endings"]]
        logp = iter(text_logp(subject, asked)[:, 0].tolist())
        chosen = []
        for record in questions.records:
            scores = {ending: next(logp) / (1 + len(ending)) for ending in record.meta["endings"]}
            chosen.append(max(scores, key=scores.__getitem__))
        return Predictions("suite", chosen)
