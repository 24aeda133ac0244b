"""Rewriting."""

from __future__ import annotations

from attune.data.templates.base import Template
from attune.records import Record


class Rewrite(Template):
    """A text in other words: simpler, shorter, more formal. `data.instruction` says which way."""

    name = "rewrite"
    columns = (("complex", "simple"), ("original", "rewritten"), ("original", "simplified"), ("informal", "formal"),
               ("draft", "revised"))  # fmt: skip
    formats = ("text_pairs",)
    metrics = ("sari", "chrf", "edit_similarity", "copied", "length_ratio", "exact_match", "loss", "stop_rate",
               "invalid_rate")  # fmt: skip
    primary = "sari"

    def instruction(self, record: Record) -> str:
        return "Rewrite the text.\n\n"

    def brief(self, record: Record) -> str:
        return "rewrite: "
