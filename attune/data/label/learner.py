"""The small model behind pre-labels: logistic regression on the labels so far."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["chances_of", "MOST_ROWS"]

MOST_ROWS = 5000
"""Labelled texts that one fit learns from at most, so that its time stays bounded."""
STRENGTH = 10.0
ITERATIONS = 100


def chances_of(
    features: Any,
    labelled: np.ndarray,
    targets: Sequence[Any],
    labels: Sequence[str],
    asked: np.ndarray,
    *,
    several: bool = False,
    model: str = "logistic",
    seed: int = 0,
) -> np.ndarray | None:
    """Probability of each label for the rows `asked`; None while there is nothing to tell apart.

    A label that no labelled text has gets 0. `several`: labels are independent of each other.
    Shapes: features [N, F]; labelled [L]; targets: label, or tuple of labels, [L]; result [asked, labels].
    """
    if len(labelled) > MOST_ROWS:
        keep = np.sort(np.random.default_rng(seed).permutation(len(labelled))[:MOST_ROWS])
        labelled, targets = labelled[keep], [targets[row] for row in keep]
    known = features[labelled]
    if hasattr(known, "getnnz"):
        # With this penalty the weight of a term that no labelled text has is 0: leaving it out changes nothing.
        used = np.flatnonzero(known.getnnz(axis=0))
        if not len(used):  # texts of signs alone, beside others with words
            return None
        known, rest = known[:, used], features[asked][:, used]
    else:
        rest = features[asked]
    chances = np.zeros((len(asked), len(labels)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # slow convergence is bounded and harmless here
        if several:
            for column, label in enumerate(labels):
                yes = np.array([label in target for target in targets])
                if yes.all() or not yes.any():
                    chances[:, column] = (yes.sum() + 1) / (len(yes) + 2)
                else:
                    chances[:, column] = _fitted(model, known, yes).predict_proba(rest)[:, 1]
            return chances if len(targets) > 1 else None
        if len(set(targets)) < 2:
            return None
        column_of = {label: column for column, label in enumerate(labels)}
        codes = np.array([column_of[target] for target in targets])
        fitted = _fitted(model, known, codes)
    chances[:, fitted.classes_] = fitted.predict_proba(rest)
    return chances


def _fitted(model: str, known: Any, targets: np.ndarray) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.naive_bayes import MultinomialNB

    if model == "bayes":
        return MultinomialNB(alpha=0.1).fit(known, targets)
    return LogisticRegression(C=STRENGTH, max_iter=ITERATIONS, tol=1e-3).fit(known, targets)
