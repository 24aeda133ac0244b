"""Questions about a text."""

from __future__ import annotations

from attune.data.formats.squad import NO_ANSWER
from attune.data.templates.base import Template
from attune.records import Record


class Answer(Template):
    """A text, a question about it, and the answer in the text's own words; or that the text does not say."""

    name = "answer"
    formats = ("squad",)
    metrics = ("token_f1", "exact_match", "no_answer_f1", "loss", "stop_rate", "invalid_rate")
    primary = "token_f1"

    def instruction(self, record: Record) -> str:
        return f'Answer the question below the text in its own words, or with "{NO_ANSWER}"\n\n'

    def brief(self, record: Record) -> str:
        return "answer the question: "
