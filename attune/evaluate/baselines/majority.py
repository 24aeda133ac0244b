"""Always the commonest answer: what knowing nothing about the text scores."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from attune.evaluate.baselines.base import Context
from attune.evaluate.predictions import Predictions

__all__ = ["Majority"]


class Majority:
    """The commonest class; for several classes each one's own majority; the mean number; no span at all."""

    name = "majority"
    tasks = ("classification", "multilabel", "regression", "tagging")

    def why(self, context: Context) -> str | None:
        return None if context.labelled else "no training record has a label"

    def predict(self, context: Context) -> Predictions:
        import numpy as np

        start = time.perf_counter()
        train = [record.label for record in context.labelled]
        shares = None
        answer: Any
        if context.task == "classification":
            counts = Counter(train)
            # Ties go to the class that the label list names first.
            order = {label: at for at, label in enumerate(context.labels)}
            answer = min(counts, key=lambda label: (-counts[label], order.get(label, len(order))))  # type: ignore[arg-type]
            shares = [counts[label] / len(train) for label in context.labels]
            note = f"always '{answer}', {counts[answer] / len(train):.1%} of train"
        elif context.task == "multilabel":
            counts = Counter(label for row in train for label in row)  # type: ignore
            shares = [counts[label] / len(train) for label in context.labels]
            answer = tuple(label for label, share in zip(context.labels, shares) if share > 0.5)
            note = f"always {', '.join(answer) or 'no class'}: those of more than half of train"
        elif context.task == "regression":
            answer = float(np.mean(np.array(train, dtype=float)))
            note = f"always {answer:.4g}, the mean of train"
        else:
            answer, note = (), "no span anywhere"
        trained = time.perf_counter()
        outputs = [answer] * len(context.test)
        scores = None if shares is None else np.tile(np.array(shares, dtype=float), (len(outputs), 1))
        return Predictions(
            self.name,
            outputs,
            scores=scores,
            labels=list(context.labels) if scores is not None else [],
            seconds=time.perf_counter() - trained,
            trained_seconds=trained - start,
            note=note,
        )
