"""What an answer takes over from the text it is about, and how long it is."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from attune.data.templates.base import source_text
from attune.evaluate.metrics.texts import answers, references

if TYPE_CHECKING:
    import numpy as np

    from attune.evaluate.predictions import Predictions
    from attune.records import Record

WORD = re.compile(r"\w+|[^\w\s]")


def words(text: str) -> list[str]:
    """Words and marks, lower case."""
    return WORD.findall(text.lower())


class _Ratio:
    """A ratio of two counts, each summed over all rows. Shapes: statistics [N, 2]."""

    tasks = ("generation",)
    higher_is_better = True

    def value(self, statistics: np.ndarray) -> float:
        part, whole = statistics.sum(axis=0)
        return float(part / whole) if whole else float("nan")


class LengthRatio(_Ratio):
    """Words of the answers over words of the references: 1 is as long as they are; neither more nor less is better."""

    name = "length_ratio"

    def statistics(self, records: list[Record], predictions: Predictions) -> np.ndarray:
        import numpy as np

        rows = [
            (len(words(answer)), len(words(references(record)[0])))
            for record, answer in zip(records, answers(predictions), strict=True)
        ]
        return np.array(rows, dtype=float).reshape(-1, 2)


class NovelBigrams(_Ratio):
    """Share of the answers' word pairs that do not stand in their texts: 0 copies, 1 shares nothing.

    Source: See et al. 2017 (arXiv:1704.04368), section 6.
    """

    name = "novel_bigrams"

    def statistics(self, records: list[Record], predictions: Predictions) -> np.ndarray:
        import numpy as np

        rows = []
        for record, answer in zip(records, answers(predictions), strict=True):
            read, said = words(source_text(record)), words(answer)
            known, pairs = set(zip(read, read[1:])), list(zip(said, said[1:]))
            rows.append((sum(pair not in known for pair in pairs), len(pairs)))
        return np.array(rows, dtype=float).reshape(-1, 2)


class Coverage(_Ratio):
    """Share of the answers' words that lie in runs copied from their texts.

    Source: Grusky et al. 2018 (arXiv:1804.11283), extractive fragment coverage.
    """

    name = "coverage"

    def statistics(self, records: list[Record], predictions: Predictions) -> np.ndarray:
        import numpy as np

        rows = []
        for record, answer in zip(records, answers(predictions), strict=True):
            read, said = words(source_text(record)), words(answer)
            rows.append((sum(_fragments(read, said)), len(said)))
        return np.array(rows, dtype=float).reshape(-1, 2)


def _fragments(read: list[str], said: list[str]) -> list[int]:
    """Lengths of the longest runs of `said` that stand in `read`, taken from left to right."""
    places: dict[str, list[int]] = {}
    for at, word in enumerate(read):
        places.setdefault(word, []).append(at)
    found, at = [], 0
    while at < len(said):
        longest = 0
        for start in places.get(said[at], ()):
            length = 0
            while at + length < len(said) and start + length < len(read) and said[at + length] == read[start + length]:
                length += 1
            longest = max(longest, length)
        if longest:
            found.append(longest)
        at += max(1, longest)
    return found


class Copied:
    """Share of answers that are the text itself: nothing was done."""

    name = "copied"
    tasks = ("generation",)
    higher_is_better = False

    def statistics(self, records: list[Record], predictions: Predictions) -> np.ndarray:
        import numpy as np

        same = [
            bool(answer.strip()) and words(source_text(record)) == words(answer)
            for record, answer in zip(records, answers(predictions), strict=True)
        ]
        return np.array(same, dtype=float)[:, None]

    def value(self, statistics: np.ndarray) -> float:
        return float(statistics.mean()) if len(statistics) else float("nan")
