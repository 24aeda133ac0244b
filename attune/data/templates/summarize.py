"""Summaries."""

from __future__ import annotations

from attune.data.templates.base import Template
from attune.records import Record


class Summarize(Template):
    """A text and its summary."""

    name = "summarize"
    columns = (("document", "summary"), ("article", "highlights"), ("article", "summary"), ("text", "summary"),
               ("dialogue", "summary"))  # fmt: skip
    metrics = ("rougeL", "rouge1", "rouge2", "length_ratio", "novel_bigrams", "coverage", "loss", "stop_rate",
               "invalid_rate")  # fmt: skip
    primary = "rougeL"

    def instruction(self, record: Record) -> str:
        return "Summarise the text.\n\n"

    def brief(self, record: Record) -> str:
        return "summarize: "
