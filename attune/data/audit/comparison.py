"""Whether the held-out parts are like the training part: labels, lengths, words, and a model that tells them apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from attune.data.audit.association import associations
from attune.data.audit.view import Section, View, classes_of, finding, text_of, words
from attune.records import Record

__all__ = ["comparison"]

TELLS_ROWS = 3000
"""Rows of each part that the telling-apart model sees."""
WORDS = 12
NEW = 0.5


def comparison(view: View) -> Section:
    pairs = []
    notes = []
    for name in ("validation", "test"):
        if view.train and view.samples.get(name):
            one, said = _compare(view, name)
            pairs.append(one)
            notes += said
    if not pairs:
        return {"skipped": "there is no held-out part to compare with"}
    return {"pairs": pairs, "findings": notes}


def _compare(view: View, name: str) -> tuple[dict[str, Any], list[dict[str, str]]]:
    other = view.samples[name]
    read = [words(text_of(record)) for record in other]
    one: dict[str, Any] = {"part": name, "rows": len(other)}
    one["labels"] = _labels(view.train, other)
    one["lengths"] = _lengths(view.train_words, read)
    one["vocabulary"] = _vocabulary(view.train_words, read)
    one["telling"] = _telling(view, other, read)
    notes = []
    labels, telling = one["labels"], one["telling"]
    if labels and labels["p"] < 0.01 and labels["distance"] > 0.05:
        text = f"Labels of {name} are distributed otherwise than in train (distance {labels['distance']:.2f})"
        notes.append(finding("warn", text))
    if telling and telling["low"] > 0.6:
        text = f"A model tells {name} rows from training rows (AUC {telling['auc']:.2f}): they come from another source"
        notes.append(finding("warn" if telling["auc"] > 0.75 else "note", text))
    elif telling and telling["low"] <= 0.5:
        notes.append(finding("good", f"No model tells {name} rows from training rows (AUC {telling['auc']:.2f})"))
    unseen = one["vocabulary"]["unseen_share"]
    if unseen > 0.1:
        notes.append(finding("note", f"{unseen:.1%} of the words of {name} never occur in train"))
    return one, notes


def _labels(train: Sequence[Record], other: Sequence[Record]) -> dict[str, Any] | None:
    """Total variation distance (0: the same shares, 1: nothing in common) and a chi-square test."""
    from scipy.stats import chi2_contingency, ks_2samp

    numbers = [[record.label for record in part if isinstance(record.label, (int, float))] for part in (train, other)]
    if all(numbers):
        found = ks_2samp(*numbers)
        return {"kind": "numbers", "distance": round(float(found.statistic), 4), "p": float(f"{found.pvalue:.3g}")}
    a, b = (Counter(label for record in part for label in classes_of(record)) for part in (train, other))
    names = sorted({*a, *b})
    if not a or not b:
        return None
    shares = [(a[name] / sum(a.values()), b[name] / sum(b.values())) for name in names]
    distance = sum(abs(x - y) for x, y in shares) / 2
    p = (
        float(chi2_contingency([[a[name] for name in names], [b[name] for name in names]])[1])
        if len(names) > 1
        else 1.0
    )
    shifts = sorted(zip(names, shares), key=lambda item: (-abs(item[1][0] - item[1][1]), item[0]))[:5]
    return {
        "kind": "classes",
        "distance": round(distance, 4),
        "p": float(f"{p:.3g}"),
        "shifts": [{"label": name, "train": round(x, 4), "other": round(y, 4)} for name, (x, y) in shifts],
        "missing": [name for name in names if not b[name]],
        "new": [name for name in names if not a[name]],
    }


def _lengths(train: Sequence[list[str]], other: Sequence[list[str]]) -> dict[str, Any]:
    """Words a row: medians, and the largest gap between the two distributions (Kolmogorov-Smirnov)."""
    import numpy as np
    from scipy.stats import ks_2samp

    a, b = [len(row) for row in train], [len(row) for row in other]
    found = ks_2samp(a, b, method="asymp")
    return {
        "median_train": float(np.median(a)),
        "median_other": float(np.median(b)),
        "distance": round(float(found.statistic), 4),
        "p": float(f"{found.pvalue:.3g}"),
    }


def _vocabulary(train: Sequence[list[str]], other: Sequence[list[str]]) -> dict[str, Any]:
    known = {word for row in train for word in row}
    running = sum(map(len, other))
    unseen = Counter(word for row in other for word in row if word not in known)
    types = {word for row in other for word in row}
    strange = sum(bool(row) and sum(word not in known for word in row) / len(row) >= NEW for row in other)
    return {
        "unseen_share": round(unseen.total() / running, 4) if running else 0.0,
        "unseen_types": round(len(unseen) / len(types), 4) if types else 0.0,
        "rows_half_unseen": strange,
        "most_frequent": [word for word, _ in sorted(unseen.items(), key=lambda item: (-item[1], item[0]))[:WORDS]],
    }


def _telling(view: View, other: Sequence[Record], read: Sequence[list[str]]) -> dict[str, Any] | None:
    """Area under the curve of a model that tells the parts apart, out of fold: 0.5 means that it cannot."""
    import numpy as np
    from scipy.stats import rankdata

    from attune.data.features import condensed, ridge_out_of_fold, text_folds, tfidf

    ours = np.unique(np.linspace(0, len(view.train) - 1, TELLS_ROWS).astype(int)).tolist()
    theirs = np.unique(np.linspace(0, len(other) - 1, TELLS_ROWS).astype(int)).tolist()
    if min(len(ours), len(theirs)) < 20:
        return None
    texts = [text_of(view.train[row]) for row in ours] + [text_of(other[row]) for row in theirs]
    given = np.repeat([0, 1], (len(ours), len(theirs)))
    matrix = tfidf(texts)
    if matrix is None:
        return None
    # The rarer side counts as much as the other: else the model says "train" to everything.
    weights = np.where(given, len(given) / (2 * len(theirs)), -len(given) / (2 * len(ours)))[:, None]
    folds = text_folds(texts, [str(one) for one in given.tolist()])
    scores = ridge_out_of_fold(condensed(matrix, 128), weights, folds, 1.0)[:, 0]
    n, m = len(theirs), len(ours)
    auc = float((rankdata(np.round(scores, 9))[given == 1].sum() - n * (n + 1) / 2) / (n * m))
    # Hanley and McNeil 1982
    q1, q2 = auc / (2 - auc), 2 * auc * auc / (1 + auc)
    error = max(0.0, (auc * (1 - auc) + (n - 1) * (q1 - auc * auc) + (m - 1) * (q2 - auc * auc)) / (n * m)) ** 0.5
    rows = [view.train_words[row] for row in ours] + [read[row] for row in theirs]
    sides = [("train",) if not one else ("other",) for one in given.tolist()]
    typical: dict[str, list[str]] = {"train": [], "other": []}
    for found in associations(rows, sides):
        if len(typical[found.label]) < WORDS:
            typical[found.label].append(found.word)
    return {
        "auc": round(auc, 4),
        "low": round(max(0.0, auc - 1.96 * error), 4),
        "high": round(min(1.0, auc + 1.96 * error), 4),
        "rows": [m, n],
        "typical_of_train": typical["train"],
        "typical_of_other": typical["other"],
    }
