"""The input's first sentence as the answer: hard to beat at summaries of news and papers."""

from __future__ import annotations

import os
import re
import time

from attune.evaluate.baselines.base import Context
from attune.evaluate.predictions import Predictions
from attune.records import Record

__all__ = ["Lead"]

SENTENCE_END = re.compile(r"(?<=[.!?])[\"'”’)\]]*\s+(?=[\"'“‘(\[]?\w)|\n+")
LIKE_A_SUMMARY = 0.5


def _asked(record: Record) -> str:
    """The last turn of the prompt."""
    return record.prompt[-1].content.strip() if record.prompt else ""


def _instruction(texts: list[str]) -> str:
    """What all inputs begin with, up to a line's end or a colon: the instruction, which is no part of the text."""
    common = os.path.commonprefix(texts) if len(set(texts)) > 1 else ""
    return common[: max(common.rfind("\n"), common.rfind(":")) + 1]


class Lead:
    """First sentence of the input, below its instruction; only where answers are much shorter than inputs."""

    name = "lead"
    tasks = ("generation",)

    def why(self, context: Context) -> str | None:
        train = [record for record in context.answered if record.prompt]
        if not train:
            return "no training record has an input and an answer"
        ratios = sorted(len(record.completions[0].text) / max(1, len(_asked(record))) for record in train)
        middle = ratios[len(ratios) // 2]
        if middle > LIKE_A_SUMMARY:
            return f"not a summarisation task: half of the answers have more than {middle:.0%} of their input's length"
        return None

    def predict(self, context: Context) -> Predictions:
        start = time.perf_counter()
        told = _instruction([_asked(record) for record in context.answered])
        texts = [_asked(record).removeprefix(told).strip() for record in context.test]
        outputs = [SENTENCE_END.split(text, maxsplit=1)[0].strip() for text in texts]
        seconds = time.perf_counter() - start
        return Predictions(self.name, outputs, seconds=seconds, note="first sentence of the input")
