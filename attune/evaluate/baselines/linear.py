"""Linear models on fixed features, strength of regularisation chosen by cross-validation on train."""

from __future__ import annotations

import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from attune.evaluate.predictions import Predictions

if TYPE_CHECKING:
    import numpy as np

    from attune.evaluate.baselines.base import Context

__all__ = ["Represent", "predict_linear"]

Represent = Callable[[list[str]], Callable[[list[str]], Any]]
"""Training texts -> a function from texts to features, fitted on those texts only."""

FOLDS = 3
CV_CELLS = 250_000
"""Rows x classes of one cross-validation fit at most; more rows are sampled. A limit on work, not on the clock, so that
the choice is the same on every machine."""


def predict_linear(
    context: Context, name: str, represent: Represent, strengths: Sequence[float], what: str
) -> Predictions:
    """Fit on the labelled train records with the best of `strengths` (scikit-learn's C) and answer test."""
    import numpy as np
    from threadpoolctl import threadpool_limits

    start = time.perf_counter()
    train = context.labelled
    texts = [record.text for record in train]
    targets = _targets(context.task, [record.label for record in train], context.labels)
    weights = [None, "balanced"] if context.task != "regression" else [None]
    grid = [(strength, weight) for strength in strengths for weight in weights]
    # One thread: these products are small, and on a busy machine BLAS threads that wait for each other made 20 s of 2.
    with warnings.catch_warnings(), threadpool_limits(1, user_api="blas"):
        # Constant columns (a class in no or every row) and slow convergence are expected and harmless here.
        warnings.simplefilter("ignore")
        (strength, weight), chosen = _choose(context, represent, texts, targets, grid)
        transform = represent(texts)
        model = _model(context.task, strength, weight)
        constant = context.task == "classification" and len(set(targets)) < 2
        if not constant:
            model.fit(transform(texts), targets)
    trained = time.perf_counter()
    scores = None
    outputs: list[Any]
    asked = [record.text for record in context.test]
    if constant:
        outputs = [str(targets[0])] * len(asked)
        scores = np.tile(np.array([float(label == targets[0]) for label in context.labels]), (len(asked), 1))
    elif context.task == "regression":
        outputs = [float(value) for value in model.predict(transform(asked))] if asked else []
    else:
        chances = model.predict_proba(transform(asked)) if asked else np.zeros((0, len(model.classes_)))
        if context.task == "multilabel":
            scores = chances
            outputs = [tuple(context.labels[c] for c in np.flatnonzero(row >= 0.5)) for row in chances]
        else:
            outputs = [str(model.classes_[at]) for at in chances.argmax(1)]
            column = {label: at for at, label in enumerate(model.classes_)}
            scores = np.zeros((len(asked), len(context.labels)))
            for at, label in enumerate(context.labels):
                if label in column:
                    scores[:, at] = chances[:, column[label]]
    return Predictions(
        name,
        outputs,
        scores=scores,
        labels=list(context.labels) if scores is not None else [],
        seconds=time.perf_counter() - trained,
        trained_seconds=trained - start,
        note=f"{what}; {chosen}",
    )


def _targets(task: str, found: list[Any], labels: Sequence[str]) -> np.ndarray:
    import numpy as np

    if task == "regression":
        return np.array(found, dtype=float)
    if task == "multilabel":
        return np.array([[int(label in row) for label in labels] for row in found]).reshape(len(found), len(labels))
    return np.array(found, dtype=object)


def _model(task: str, strength: float, weight: str | None) -> Any:
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.multiclass import OneVsRestClassifier

    if task == "regression":
        return Ridge(alpha=1 / strength)
    logistic = LogisticRegression(C=strength, class_weight=weight, max_iter=300)
    return OneVsRestClassifier(logistic) if task == "multilabel" else logistic


def _choose(
    context: Context,
    represent: Represent,
    texts: list[str],
    targets: np.ndarray,
    grid: list[tuple[float, str | None]],
) -> tuple[tuple[float, str | None], str]:
    """The best point of the grid and how it was found. Ties go to the earlier, that is the stronger regularisation."""
    import numpy as np
    from sklearn.metrics import f1_score, mean_squared_error
    from sklearn.model_selection import KFold, StratifiedKFold, train_test_split

    middle = grid[len(grid) // 2]
    measure = "mean squared error" if context.task == "regression" else "macro F1"
    if len(texts) < 2 * FOLDS:
        return middle, f"C={middle[0]:g}, too few rows for cross-validation"
    rows = np.arange(len(texts))
    counts = Counter(targets.tolist()) if context.task == "classification" else Counter()
    strata = bool(counts) and min(counts.values()) >= FOLDS and len(counts) > 1
    width = len(counts) if counts else max(1, targets.shape[-1] if targets.ndim > 1 else 1)
    most = max(1000, CV_CELLS // width)
    if len(rows) > most:
        rows, _ = train_test_split(
            rows, train_size=most, random_state=context.seed, stratify=targets if strata else None
        )
        if strata:
            counts = Counter(targets[rows].tolist())
            strata = min(counts.values()) >= FOLDS
    folds = (StratifiedKFold if strata else KFold)(FOLDS, shuffle=True, random_state=context.seed)
    results = np.zeros((len(grid), FOLDS))
    for fold, (fitted, held) in enumerate(folds.split(rows, targets[rows] if strata else None)):
        fitted, held = rows[fitted], rows[held]
        try:
            transform = represent([texts[i] for i in fitted])
        except ValueError:  # the fold has no usable word
            return middle, f"C={middle[0]:g}, cross-validation not possible on so little text"
        features, asked = transform([texts[i] for i in fitted]), transform([texts[i] for i in held])
        if context.task == "classification" and len(set(targets[fitted])) < 2:
            return middle, f"C={middle[0]:g}, one class in a fold"
        for at, (strength, weight) in enumerate(grid):
            answer = _model(context.task, strength, weight).fit(features, targets[fitted]).predict(asked)
            if context.task == "regression":
                results[at, fold] = -mean_squared_error(targets[held], answer)
            else:
                truth = targets[held]
                if context.task == "classification":
                    truth, answer = truth.astype(str), answer.astype(str)
                results[at, fold] = f1_score(truth, answer, average="macro", zero_division=0)
    strength, weight = grid[int(results.mean(1).argmax())]
    sampled = f" on {len(rows)} of {len(texts)} rows" if len(rows) < len(texts) else ""
    weighted = f", class_weight={weight}" if context.task != "regression" else ""
    name = f"alpha={1 / strength:g}" if context.task == "regression" else f"C={strength:g}{weighted}"
    return (strength, weight), f"{name}, chosen by {FOLDS}-fold cross-validation{sampled} ({measure})"
