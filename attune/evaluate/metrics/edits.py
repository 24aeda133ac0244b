"""Rewriting: words kept, deleted and added (SARI), and how many edits part an answer from its reference."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from attune.data.templates.base import source_text
from attune.evaluate.metrics.texts import answers, references

if TYPE_CHECKING:
    import numpy as np

    from attune.evaluate.predictions import Predictions
    from attune.records import Record

Ngrams = Counter[tuple[str, ...]]


def _ngrams(words: list[str], n: int) -> Ngrams:
    return Counter(zip(*(words[at:] for at in range(n))))


def _share(part: float, whole: float) -> float:
    """0 / 0 is 1: nothing was asked and nothing done."""
    return part / whole if whole else 1.0


def _harmonic(one: float, other: float) -> float:
    return 2 * one * other / (one + other) if one + other else 0.0


def _operations(read: Ngrams, said: Ngrams, true: list[Ngrams]) -> float:
    """Sum of the scores of keeping, deleting and adding n-grams of one size, each 0 to 1."""
    count = len(true)
    wanted: Ngrams = sum(true, Counter())
    # Source and answer count once for each reference, so that counts can be compared.
    before, after = (Counter({gram: number * count for gram, number in grams.items()}) for grams in (read, said))
    kept, to_keep = before & after, before & wanted
    rightly_kept = kept & wanted
    keep = _harmonic(
        _share(sum(rightly_kept[gram] / kept[gram] for gram in rightly_kept), len(kept)),
        _share(rightly_kept.total(), to_keep.total()),
    )
    deleted = before - after
    rightly_deleted = deleted - wanted
    delete = _share(sum(rightly_deleted[gram] / deleted[gram] for gram in rightly_deleted), len(deleted))
    added, to_add = set(said) - set(read), set(wanted) - set(read)
    right = len(added & set(wanted))
    add = _harmonic(_share(right, len(added)), _share(right, len(to_add)))
    return keep + delete + add


class Sari:
    """Words rightly kept, deleted and added against the text itself, 0 to 100: copying scores low (13a tokens, lower
    case, 1- to 4-grams, mean over rows).

    Source: Xu et al. 2016 (TACL 4), with 0/0 = 1 and the corrected recall of keeping, as in HF evaluate's `sari`.
    """

    name = "sari"
    tasks = ("generation",)
    higher_is_better = True

    def statistics(self, records: list[Record], predictions: Predictions) -> np.ndarray:
        import numpy as np
        from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

        tokens = Tokenizer13a()
        rows = []
        for record, answer in zip(records, answers(predictions), strict=True):
            read, said, *true = (
                tokens(text.lower()).split() for text in (source_text(record), answer, *references(record))
            )
            sizes = [
                _operations(_ngrams(read, n), _ngrams(said, n), [_ngrams(words, n) for words in true])
                for n in range(1, 5)
            ]
            rows.append(100 * sum(sizes) / 12)
        return np.array(rows, dtype=float)[:, None]

    def value(self, statistics: np.ndarray) -> float:
        return float(statistics.mean()) if len(statistics) else float("nan")


class EditSimilarity:
    """1 minus the word edits (insert, delete, replace) to the nearest reference, over the longer of the two; mean."""

    name = "edit_similarity"
    tasks = ("generation",)
    higher_is_better = True

    def statistics(self, records: list[Record], predictions: Predictions) -> np.ndarray:
        import numpy as np

        rows = []
        for record, answer in zip(records, answers(predictions), strict=True):
            said = answer.split()
            pairs = [(said, text.split()) for text in references(record)]
            rows.append(max(1 - distance(a, b) / max(len(a), len(b), 1) for a, b in pairs))
        return np.array(rows, dtype=float)[:, None]

    def value(self, statistics: np.ndarray) -> float:
        return float(statistics.mean()) if len(statistics) else float("nan")


def distance(one: list[str], other: list[str]) -> int:
    """Levenshtein distance in words."""
    before = list(range(len(other) + 1))
    for row, left in enumerate(one, 1):
        now = [row]
        for column, right in enumerate(other, 1):
            now.append(min(before[column] + 1, now[-1] + 1, before[column - 1] + (left != right)))
        before = now
    return before[-1]
