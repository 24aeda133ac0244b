"""What an annotator is shown: a text, and where the work stands."""

from __future__ import annotations

from dataclasses import dataclass

from attune.records import Label, Record

__all__ = ["Item", "Progress"]


@dataclass(frozen=True)
class Item:
    """A text to label."""

    record: Record
    why: str
    """Why this one."""
    prelabel: Label = None
    """What the model would say; None while it cannot."""
    confidence: float | None = None
    likely: tuple[tuple[str, float], ...] = ()
    """The likeliest labels and their probabilities."""
    said: tuple[tuple[str, Label], ...] = ()
    """Who said what; only where a disagreement is to be settled."""

    @property
    def id(self) -> str:
        return self.record.id

    @property
    def text(self) -> str:
        return self.record.text


@dataclass(frozen=True)
class Progress:
    """Where the work stands, for this annotator and in all."""

    texts: int
    labelled: int
    """Texts with a label, by anybody or from the file."""
    mine: int
    skipped: int
    disputed: int
    """Texts on which no majority decides."""
    by_label: dict[str, int]
    proposed: int
    """Answers of this annotator to texts with a pre-label."""
    right: int
    """Those where the answer was the pre-label."""
    seconds: float | None
    """Median time of an answer."""
