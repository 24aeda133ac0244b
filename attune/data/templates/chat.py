"""Conversations and instructions."""

from __future__ import annotations

from attune.data.templates.base import Template


class Chat(Template):
    """Conversations and instructions, which say themselves what is asked: nothing is added."""

    name = "chat"
    formats = ("chat", "sharegpt", "sgd_dialogues", "single_text_chat", "alpaca", "openai_preference", "preference",
               "kto", "votes", "persona", "verifiable")  # fmt: skip
    columns = (("question", "answer"),)
    metrics = ("rougeL", "loss", "perplexity", "stop_rate", "clean_format", "distinct_1", "distinct_2", "chrf",
               "invalid_rate")  # fmt: skip
    primary = "rougeL"

    def fits(self, format: str, columns: frozenset[str]) -> bool:
        return format in self.formats or (format == "pairs" and super().fits(format, columns))
