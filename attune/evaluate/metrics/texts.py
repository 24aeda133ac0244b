"""Reference answers of a record, and what a system wrote, as plain text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attune.errors import DataError

if TYPE_CHECKING:
    from attune.evaluate.predictions import Predictions
    from attune.records import Record

__all__ = ["references", "answers"]


def references(record: Record) -> list[str]:
    """All answers that count as right, the record's own first; others come from `meta["references"]`.

    Raises: DataError if there is none.
    """
    own = [record.completions[0].text] if record.completions else [record.answer] if record.answer is not None else []
    found = list(dict.fromkeys([*own, *(record.meta.get("references") or [])]))
    if not found:
        raise DataError("this row has no reference answer to compare with", where=record.where or record.id)
    return found


def answers(predictions: Predictions) -> list[str]:
    """What was written; None becomes the empty text, which scores nothing."""
    return ["" if output is None else str(output) for output in predictions.outputs]
