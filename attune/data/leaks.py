"""What a given test or validation file shares with train: found, judged, and told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from attune.data.ties import TIES, Ties, Touch
from attune.errors import DataError
from attune.records import Record

__all__ = ["MODES", "Leaks", "find_leaks"]

MODES = ("drop_train", "report", "error")
TOO_MANY = 0.2
"""Above this share of test rows with a duplicate in train, dropping is refused: the two files are not two samples."""
SHOWN = 20


@dataclass(frozen=True, slots=True)
class Leaks:
    """Rows that are tied to a row of another part, each with its strongest tie."""

    ties: Ties
    records: Sequence[Record]
    test_rows: np.ndarray
    validation_rows: np.ndarray
    train_to_test: dict[int, Touch]
    validation_to_test: dict[int, Touch]
    train_to_validation: dict[int, Touch]
    test: dict[int, Touch]
    """test row -> its tie to train"""
    validation: dict[int, Touch]
    """validation row -> its tie to train"""

    @property
    def duplicated_test(self) -> list[int]:
        """Test rows with a duplicate in train (a shared group alone is none)."""
        return [row for row, touch in self.test.items() if touch.kind != "group"]

    def judge(self, mode: str) -> None:
        """Refuse files that leak more than the mode allows.

        Raises: DataError naming the first such row and its copy.
        """
        if mode == "error":
            self._refuse("test", list(self.test), self.test, len(self.test_rows), "drop_train")
            self._refuse("validation", list(self.validation), self.validation, len(self.validation_rows), "drop_train")
        elif mode == "drop_train" and len(self.duplicated_test) > TOO_MANY * len(self.test_rows):
            self._refuse("test", self.duplicated_test, self.test, len(self.test_rows), "report")

    def _refuse(self, name: str, rows: list[int], found: dict[int, Touch], total: int, milder: str) -> None:
        if not rows:
            return
        here, touch = self.records[rows[0]], found[rows[0]]
        there = self.records[touch.other]
        raise DataError(
            f"{len(rows)} of {total} {name} rows ({len(rows) / total:.1%}) are also in train",
            where=here.where or None,
            why=f"for example {name} row '{here.id}' and train row '{there.id}' ({touch.kind})",
            fix=f"take a {name} file that was not drawn from the training rows, or set `data.leakage: {milder}`",
        )

    def dropped(self) -> dict[int, tuple[str, str]]:
        """Rows of train and validation that have to go: row -> (kind, sentence)."""
        found: dict[int, tuple[str, str]] = {}
        for place, touches in (
            ("test", self.train_to_test),
            ("test", self.validation_to_test),
            ("validation", self.train_to_validation),
        ):
            for row, touch in touches.items():
                found.setdefault(row, (touch.kind, self._sentence(touch, place)))
        return found

    def _sentence(self, touch: Touch, place: str) -> str:
        other = self.ties.facts.ids[touch.other]
        if touch.kind == "group":
            return f"its {self.ties.group_name} is in the {place} file (row '{other}')"
        if touch.kind == "prompt":
            return f"same prompt as {place} row '{other}'"
        exactly = f" (Jaccard {touch.jaccard:.2f})" if touch.kind == "near" else ""
        return f"{touch.kind} duplicate of {place} row '{other}'{exactly}"

    def statement(self, mode: str, dropped: dict[int, tuple[str, str]], train_rows: int) -> dict[str, Any]:
        """What was found and done, as plain JSON."""
        total, duplicated = len(self.test_rows), len(self.duplicated_test)
        counts = Counter(touch.kind for touch in self.test.values())
        return {
            "mode": mode,
            "removed_from_train": sum(row < train_rows for row in dropped),
            "removed_from_validation": sum(row >= train_rows for row in dropped),
            "test_rows": total,
            "test_rows_with_duplicate": duplicated,
            "share": round(duplicated / max(total, 1), 6),
            "by_kind": {kind: counts[kind] for kind in TIES},
            "validation_rows_tied_to_train": len(self.validation),
            "within_test": total - len(np.unique(self.ties.clusters.ids[self.test_rows])),
            "clean_test_rows": total - duplicated,
            "examples": [
                {
                    "test": self.records[row].id,
                    "train": self.records[touch.other].id,
                    "kind": touch.kind,
                    "jaccard": round(touch.jaccard, 4),
                }
                for row, touch in sorted(self.test.items())[:SHOWN]
            ],
        }


def find_leaks(ties: Ties, records: Sequence[Record], train_rows: int, test_rows: int) -> Leaks:
    """Compare the parts of `records`: first the train rows, then the test file's, then the validation file's."""
    train = np.arange(train_rows)
    test = np.arange(train_rows, train_rows + test_rows)
    validation = np.arange(train_rows + test_rows, len(records))
    return Leaks(
        ties,
        records,
        test,
        validation,
        ties.touches(train, test),
        ties.touches(validation, test),
        ties.touches(train, validation),
        ties.touches(test, train),
        ties.touches(validation, train),
    )
