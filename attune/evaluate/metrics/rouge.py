"""Overlap of words with the reference: ROUGE, by the rouge-score library."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from attune.evaluate.metrics.texts import answers, references

if TYPE_CHECKING:
    import numpy as np

    from attune.evaluate.predictions import Predictions
    from attune.records import Record


class _Rouge:
    """Mean over rows of the F-measure, best of the references, no stemming. Words are runs of a-z and 0-9 (English)."""

    tasks = ("generation",)
    higher_is_better = True
    name: ClassVar[str]

    def statistics(self, records: list[Record], predictions: Predictions) -> np.ndarray:
        import numpy as np
        from rouge_score.rouge_scorer import RougeScorer

        scorer = RougeScorer([self.name])
        scores = [
            scorer.score_multi(references(record), answer)[self.name].fmeasure
            for record, answer in zip(records, answers(predictions), strict=True)
        ]
        return np.array(scores, dtype=float)[:, None]

    def value(self, statistics: np.ndarray) -> float:
        return float(statistics.mean()) if len(statistics) else float("nan")


class Rouge1(_Rouge):
    """Shared words, as F-measure (ROUGE-1)."""

    name = "rouge1"


class Rouge2(_Rouge):
    """Shared pairs of words, as F-measure (ROUGE-2)."""

    name = "rouge2"


class RougeL(_Rouge):
    """Longest common run of words in order, gaps allowed, as F-measure (ROUGE-L)."""

    name = "rougeL"
