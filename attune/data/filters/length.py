"""Rows that are too short or too long to learn from."""

from __future__ import annotations

from pydantic import Field, model_validator

from attune.data.filters.base import Broken, Filter
from attune.plugins import Options


class Length(Filter):
    """Leaves out rows with too little or too much text, in characters or words."""

    name = "length"

    class Config(Options):
        min_chars: int = Field(default=1, ge=0)
        """Fewest characters, spaces at the ends not counted."""
        max_chars: int | None = Field(default=None, ge=1)
        """Most characters; null for no limit."""
        min_words: int = Field(default=0, ge=0)
        """Fewest words, as spaces divide them (Chinese and Japanese write none: use characters there)."""
        max_words: int | None = Field(default=None, ge=1)
        """Most words; null for no limit."""

        @model_validator(mode="after")
        def _in_order(self) -> Length.Config:
            for unit in ("chars", "words"):
                least, most = getattr(self, f"min_{unit}"), getattr(self, f"max_{unit}")
                if most is not None and most < least:
                    raise ValueError(f"max_{unit} {most} is less than min_{unit} {least}")
            return self

    def judge(self, text: str) -> Broken | None:
        rules = self.options
        for unit, value in (("chars", len(text.strip())), ("words", len(text.split()))):
            least, most = getattr(rules, f"min_{unit}"), getattr(rules, f"max_{unit}")
            name = {"chars": "characters", "words": "words"}[unit]
            if value < least:
                return Broken(f"min_{unit}", value, f"{value} {name}, fewer than {least}")
            if most is not None and value > most:
                return Broken(f"max_{unit}", value, f"{value} {name}, more than {most}")
        return None
