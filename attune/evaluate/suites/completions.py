"""Simple sentences to be finished, by choice."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from attune.evaluate.suites.base import Questions, Subject, Suite
from attune.evaluate.suites.texts import GENERAL

if TYPE_CHECKING:
    from attune.evaluate.predictions import Predictions


RIGHT = "right"
LABELS = (RIGHT, "wrong", "wrong too")
"""The endings, in the order of the file."""


class Completions(Suite):
    """Which of three endings belongs to a simple English sentence: 100 of them, on words, grammar and everyday facts.

    What counts is the probability of the right ending, its likelihood's share among the three: guessing gets a third.
    For accuracy, the likeliest ending per character is the answer.
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
                label=RIGHT,
                meta={"endings": row["endings"]},
            )
            for number, row in enumerate(rows)
        ]
        return Questions("classification", records, ["probability", "accuracy"], "probability")

    def why_not(self, questions: Questions, subject: Subject) -> str | None:
        return None if subject.policy.head == "lm" else "the model has a head for labels and writes no text"

    def answer(self, questions: Questions, subject: Subject) -> Predictions:
        import numpy as np

        from attune.evaluate.likelihood import text_logp
        from attune.evaluate.predictions import Predictions
        from attune.generate.labels import to_probabilities

        endings = [[f" {ending}" for ending in record.meta["endings"]] for record in questions.records]
        asked = [(record.text, ending) for record, three in zip(questions.records, endings) for ending in three]
        logp = np.asarray(text_logp(subject, asked)[:, 0], dtype=float).reshape(-1, len(LABELS))
        lengths = np.array([[len(ending) for ending in three] for three in endings])
        chosen = [LABELS[best] for best in (logp / lengths).argmax(axis=1)]
        return Predictions("suite", chosen, scores=to_probabilities(logp), labels=list(LABELS))
