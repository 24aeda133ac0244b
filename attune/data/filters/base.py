"""What the filters share: a rule that a text breaks, its count, and the ledger's line."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from typing import Any, ClassVar, NamedTuple

from attune.data.steps import Change, Step
from attune.records import Record

__all__ = ["Broken", "Filter"]


class Broken(NamedTuple):
    """The rule that a text breaks, the value that was found, and what is allowed, as a sentence."""

    rule: str
    value: Any
    reason: str


class Filter(Step):
    """Leaves out training rows that break a rule; held-out rows stay."""

    apart: ClassVar[bool] = False
    """Whether the prompt and each answer are judged apart, rather than all that the row says together."""

    def __init__(self, options: Any = None, context: Any = None):
        super().__init__(options, context)
        self.broken: Counter[str] = Counter()
        self.seen = 0

    @abstractmethod
    def judge(self, text: str) -> Broken | None:
        """The first rule that the text breaks."""

    def apply(self, record: Record, number: int) -> Change | None:
        self.seen += 1
        texts = _texts(record) if self.apart else [record.full_text]
        found = next((broken for text in texts if (broken := self.judge(text))), None)
        if found is None:
            return None
        self.broken[found.rule] += 1
        return Change.drop(record, found.reason, rule=found.rule, value=found.value)

    def facts(self) -> dict[str, Any]:
        return {"rows": self.seen, "left_out": self.broken.total(), "by_rule": dict(sorted(self.broken.items()))}


def _texts(record: Record) -> list[str]:
    return [text for text in (record.text, *(one.text for one in record.completions)) if text] or [""]
