"""Plain text that a model should still find likely."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pydantic

from attune.evaluate.suites.base import Questions, Subject, Suite
from attune.plugins import Options

if TYPE_CHECKING:
    from attune.evaluate.predictions import Predictions
    from attune.records import Record

__all__ = ["Texts", "GENERAL"]

GENERAL = Path(__file__).parent / "general"
"""English written for attune, which nobody else trained on: texts.txt and completions.jsonl to measure with, replay.txt
to train with."""


class Texts(Suite):
    """Loss and perplexity on raw text, each text read by itself; without a path, on 199 short English texts."""

    name = "texts"

    class Config(Options):
        path: str | None = None
        """A file or folder of text, or rows with a text column. null takes the texts that come with attune."""
        title: str | None = None
        """What its figures are called. null takes the file's name."""
        limit: int = pydantic.Field(200, ge=2)
        """Texts that are read, evenly spaced."""

    @property
    def label(self) -> str:
        return self.options.title or (Path(self.options.path).name.split(".")[0] if self.options.path else self.name)

    def load(self) -> Questions:
        import numpy as np

        records = paragraphs(GENERAL / "texts.txt") if self.options.path is None else read_texts(self.options.path)
        at = np.unique(np.linspace(0, len(records) - 1, num=min(len(records), self.options.limit)).astype(int))
        return Questions("text", [records[number] for number in at], ["loss", "perplexity"], "loss")

    def answer(self, questions: Questions, subject: Subject) -> Predictions:
        from attune.evaluate.likelihood import text_logp
        from attune.evaluate.predictions import Predictions

        logp = text_logp(subject, [("", record.full_text) for record in questions.records])
        return Predictions("suite", [""] * len(logp), logp=logp)


def read_texts(path: str) -> list[Record]:
    """Texts of a plain file (by paragraph), of a folder of them, or of a file of rows with a text column.

    Raises: DataError if there are none.
    """
    from attune.data.files import files_of
    from attune.data.sources import load_records
    from attune.errors import DataError

    found: list[Record] = []
    for file in files_of(path):
        if file.suffix in (".txt", ".md"):
            found += paragraphs(file)
        else:
            found += load_records(str(file), task="text").records
    if not found:
        raise DataError(f"{path} holds no text", fix="paragraphs divided by empty lines, or rows with a text column")
    return found


def paragraphs(file: Path) -> list[Record]:
    """The paragraphs of a plain text file, which empty lines divide."""
    from attune.records import Completion, Message, Record

    parts = [part.strip() for part in file.read_text(encoding="utf-8").split("\n\n")]
    return [
        Record(id=f"{file.name}:{number}", completions=(Completion((Message("text", part),)),))
        for number, part in enumerate(part for part in parts if part)
    ]
