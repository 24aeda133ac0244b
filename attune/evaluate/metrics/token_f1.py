"""Answers to questions about a text, as SQuAD compares them: shared words, and knowing when there is no answer."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from attune.evaluate.metrics.exact_match import normalised
from attune.evaluate.metrics.texts import answers, references

if TYPE_CHECKING:
    import numpy as np

    from attune.evaluate.predictions import Predictions
    from attune.records import Record


def _words(text: str) -> list[str]:
    """Words after SQuAD's normalisation; none where the text says that there is no answer."""
    from attune.data.formats.squad import NO_ANSWER

    plain = normalised(text)
    return [] if plain == normalised(NO_ANSWER) else plain.split()


def _f1(said: list[str], true: list[str]) -> float:
    if not said or not true:  # no answer is right only where there is none
        return float(said == true)
    shared = sum((Counter(said) & Counter(true)).values())
    return 2 * shared / (len(said) + len(true))


class TokenF1:
    """Mean over rows of the words shared with the best reference, as F-measure after SQuAD's normalisation.

    Source: the SQuAD 2.0 evaluation script (Rajpurkar et al. 2018, arXiv:1806.03822).
    """

    name = "token_f1"
    tasks = ("generation",)
    higher_is_better = True

    def statistics(self, records: list[Record], predictions: Predictions) -> np.ndarray:
        import numpy as np

        scores = [
            max(_f1(_words(answer), _words(text)) for text in references(record))
            for record, answer in zip(records, answers(predictions), strict=True)
        ]
        return np.array(scores, dtype=float)[:, None]

    def value(self, statistics: np.ndarray) -> float:
        return float(statistics.mean()) if len(statistics) else float("nan")


class NoAnswerF1:
    """Saying that the text does not say: F-measure over rows whose question has no answer. NaN where there are none
    and none was said."""

    name = "no_answer_f1"
    tasks = ("generation",)
    higher_is_better = True

    def statistics(self, records: list[Record], predictions: Predictions) -> np.ndarray:
        """Rightly, wrongly and not said. Shapes: [N, 3]."""
        import numpy as np

        rows = []
        for record, answer in zip(records, answers(predictions), strict=True):
            true, said = not all(_words(text) for text in references(record)), not _words(answer)
            rows.append((true and said, said and not true, true and not said))
        return np.array(rows, dtype=float).reshape(-1, 3)

    def value(self, statistics: np.ndarray) -> float:
        right, wrong, missed = statistics.sum(axis=0)
        return float(2 * right / (2 * right + wrong + missed)) if right + wrong + missed else float("nan")
