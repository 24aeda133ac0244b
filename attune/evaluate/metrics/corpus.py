"""Overlap of n-grams over the whole corpus: BLEU and chrF, by sacrebleu.

Both are ratios of sums over rows, so a row's statistics are its counts and any resample is one sum.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from attune.evaluate.metrics.texts import answers, references

if TYPE_CHECKING:
    import numpy as np

    from attune.evaluate.predictions import Predictions
    from attune.records import Record


class _Corpus(ABC):
    tasks = ("generation",)
    higher_is_better = True

    @abstractmethod
    def scorer(self) -> Any: ...

    @property
    def signature(self) -> str:
        """Everything that the figure depends on, as sacrebleu writes it."""
        scorer = self.scorer()
        scorer.num_refs = -1  # as many as a row has
        return str(scorer.get_signature())

    def statistics(self, records: list[Record], predictions: Predictions) -> np.ndarray:
        """Counts of each row, as sacrebleu's own significance tests take them. Shapes: [N, 10] BLEU, [N, 18] chrF."""
        import numpy as np

        streams = list(zip_longest(*(references(record) for record in records)))
        rows = self.scorer()._extract_corpus_statistics(answers(predictions), streams) if streams else []
        return np.array(rows, dtype=float)

    def value(self, statistics: np.ndarray) -> float:
        if not len(statistics):
            return float("nan")
        totals = [int(total) for total in statistics.sum(axis=0)]
        return float(self.scorer()._compute_score_from_stats(totals).score)


class Bleu(_Corpus):
    """BLEU of the whole corpus, 0 to 100 (4-grams, 13a tokens, exponential smoothing: sacrebleu's defaults)."""

    name = "bleu"

    def scorer(self) -> Any:
        from sacrebleu.metrics import BLEU

        # force: sentences that end in a tokenised full stop are the user's business, not worth a warning.
        return BLEU(force=True)


class Chrf(_Corpus):
    """chrF2 of the whole corpus, 0 to 100 (character n-grams up to 6): works in every language."""

    name = "chrf"

    def scorer(self) -> Any:
        from sacrebleu.metrics import CHRF

        return CHRF()
