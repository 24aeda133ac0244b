"""Words that go with a class more than chance explains.

Source: Monroe, Colaresi, Quinn: Fightin' Words (2008), log-odds with an informative Dirichlet prior.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Association", "associations", "holm"]

RAREST = 5
VOCABULARY = 20_000
CELLS = 4_000_000


class Association(NamedTuple):
    """One word and one class. Rows are counted, not repetitions in a row."""

    word: str
    label: str
    z: float
    """Log-odds, shrunk towards what all rows say, in standard errors."""
    p: float
    """Chi-square with continuity correction, times the number of pairs tried (Bonferroni), at most 1."""
    rows: int
    """Rows with the word."""
    hits: int
    """Of these, rows of the class."""
    label_rows: int


def associations(rows: Sequence[Sequence[str]], classes: Sequence[Sequence[str]]) -> list[Association]:
    """All pairs that pass at p < 0.01 and point to the class, the strongest first."""
    import numpy as np
    from scipy.stats import chi2

    present = [sorted(set(row)) for row in rows]
    frequency = Counter(word for row in present for word in row)
    labels = sorted({label for row in classes for label in row})
    most = min(VOCABULARY, CELLS // max(1, len(labels)))
    common = sorted(
        (word for word in frequency if frequency[word] >= RAREST), key=lambda word: (-frequency[word], word)
    )
    column = {word: at for at, word in enumerate(common[:most])}
    if not column or len(labels) < 2:
        return []
    place = {label: at for at, label in enumerate(labels)}
    hits = np.zeros((len(column), len(labels)))
    of_label = np.zeros(len(labels))
    for row, names in zip(present, classes):
        at = [place[name] for name in names]
        of_label[at] += 1
        known = [column[word] for word in row if word in column]
        if known and at:
            hits[np.ix_(known, at)] += 1
    n = len(rows)
    total = np.array([frequency[word] for word in column], dtype=float)[:, None]
    outside = total - hits
    # Prior counts: what all rows say, worth a tenth of the rows.
    prior, weight = 0.1 * total, 0.1 * n
    inside_odds = np.log((hits + prior) / (of_label + weight - hits - prior).clip(1e-9))
    outside_odds = np.log((outside + prior) / (n - of_label + weight - outside - prior).clip(1e-9))
    z = (inside_odds - outside_odds) / np.sqrt(1 / (hits + prior) + 1 / (outside + prior))
    rest = n - total - of_label + hits
    cross = np.abs(hits * rest - outside * (of_label - hits))
    below = total * (n - total) * of_label * (n - of_label)
    square = np.divide(n * np.maximum(cross - n / 2, 0) ** 2, below, out=np.zeros_like(hits), where=below > 0)
    p = np.minimum(1.0, chi2.sf(square, 1) * hits.size)
    words = list(column)
    found = [
        Association(
            words[w], labels[c], round(float(z[w, c]), 3), float(f"{p[w, c]:.3g}"), int(total[w, 0]), int(hits[w, c]),
            int(of_label[c]),
        )
        for w, c in zip(*np.nonzero((p < 0.01) & (z > 0)))
    ]  # fmt: skip
    return sorted(found, key=lambda one: (-one.z, one.word, one.label))


def holm(ps: Sequence[float]) -> list[float]:
    """p-values corrected for their number (Holm), in the order given."""
    adjusted, worst = [0.0] * len(ps), 0.0
    for rank, at in enumerate(sorted(range(len(ps)), key=lambda at: (ps[at], at))):
        worst = max(worst, min(1.0, ps[at] * (len(ps) - rank)))
        adjusted[at] = worst
    return adjusted
