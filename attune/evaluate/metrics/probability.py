"""How good the probabilities of the classes are, not only the top one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attune.evaluate.metrics.counts import gold

if TYPE_CHECKING:
    import numpy as np

    from attune.evaluate.predictions import Predictions
    from attune.records import Record


def _truth(records: list[Record], labels: list[str]) -> np.ndarray:
    """1 in the column of the gold label, else 0; a label that has no column leaves its row empty. Shapes: [N, C]."""
    import numpy as np

    column = {label: number for number, label in enumerate(labels)}
    truth = np.zeros((len(records), len(labels)))
    for row, record in enumerate(records):
        if (label := gold(record)) in column:
            truth[row, column[label]] = 1
    return truth


class _Probability:
    tasks = ("classification",)
    higher_is_better = False
    needs = "scores"

    def value(self, statistics: np.ndarray) -> float:
        return float(statistics.mean()) if len(statistics) else float("nan")


def _given(records: list[Record], predictions: Predictions) -> np.ndarray:
    """Probability of the gold label, 0 where the system does not know it; NaN without scores. Shapes: [N]."""
    import numpy as np

    if predictions.scores is None:
        return np.full(len(records), np.nan)
    return (np.asarray(predictions.scores, dtype=float) * _truth(records, predictions.labels)).sum(axis=1)


class Probability(_Probability):
    """Mean probability of the right class: the accuracy of answers drawn at the model's own probabilities.

    It moves with every row where accuracy moves with those that change sides, so far fewer rows tell a difference.
    NaN without scores.
    """

    name = "probability"
    higher_is_better = True

    def statistics(self, records: list[Record], predictions: Predictions) -> np.ndarray:
        return _given(records, predictions)[:, None]


class Brier(_Probability):
    """Squared distance between the probabilities and the truth; halved for two classes, as scikit-learn does.

    A gold label that the system does not know counts as given probability 0. NaN without scores.
    """

    name = "brier"

    def statistics(self, records: list[Record], predictions: Predictions) -> np.ndarray:
        import numpy as np

        if predictions.scores is None:
            return np.full((len(records), 1), np.nan)
        truth = _truth(records, predictions.labels)
        distance = ((np.asarray(predictions.scores, dtype=float) - truth) ** 2).sum(axis=1) + (1 - truth.sum(axis=1))
        return distance[:, None] * (0.5 if len(predictions.labels) < 3 else 1.0)


class LogLoss(_Probability):
    """Surprise at the right class, in nats; no probability counts as less than 2.2e-16, as in scikit-learn.

    A gold label that the system does not know counts as given probability 0. NaN without scores.
    """

    name = "log_loss"

    def statistics(self, records: list[Record], predictions: Predictions) -> np.ndarray:
        import numpy as np

        epsilon = np.finfo(float).eps
        return -np.log(np.clip(_given(records, predictions), epsilon, 1 - epsilon))[:, None]
