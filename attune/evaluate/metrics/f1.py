"""Precision, recall and F1 of classes, averaged over labels (macro) or over answers (micro)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from attune.evaluate.metrics.counts import coded, ratios, tallies

if TYPE_CHECKING:
    import numpy as np

    from attune.evaluate.predictions import Predictions
    from attune.records import Record


class _Counted:
    """Shared by all of them: `figure` picks precision, recall or F1."""

    tasks = ("classification", "multilabel")
    higher_is_better = True
    figure: ClassVar[int]

    def statistics(self, records: list[Record], predictions: Predictions) -> np.ndarray:
        return coded(records, predictions)


class _Macro(_Counted):
    def value(self, statistics: np.ndarray) -> float:
        counts = tallies(statistics)
        return float(ratios(counts)[self.figure].mean()) if len(counts) else float("nan")


class _Micro(_Counted):
    def value(self, statistics: np.ndarray) -> float:
        return float(ratios(tallies(statistics).sum(axis=0))[self.figure]) if len(statistics) else float("nan")


class PrecisionMacro(_Macro):
    """Of the answers with a label, the share that is right; mean over labels."""

    name = "precision_macro"
    figure = 0


class RecallMacro(_Macro):
    """Of the rows with a label, the share that is found; mean over labels."""

    name = "recall_macro"
    figure = 1


class F1Macro(_Macro):
    """Harmonic mean of precision and recall of each label; mean over labels, so that rare ones count as much."""

    name = "f1_macro"
    figure = 2


class PrecisionMicro(_Micro):
    """Of all answers given, the share that is right."""

    name = "precision_micro"
    figure = 0


class RecallMicro(_Micro):
    """Of all labels that are there, the share that is found."""

    name = "recall_micro"
    figure = 1


class F1Micro(_Micro):
    """Harmonic mean of micro precision and recall; equal to accuracy where every row has one class and one answer."""

    name = "f1_micro"
    figure = 2
