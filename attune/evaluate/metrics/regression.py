"""How close the numbers are."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from attune.errors import DataError
from attune.evaluate.metrics.counts import gold

if TYPE_CHECKING:
    import numpy as np

    from attune.evaluate.predictions import Predictions
    from attune.records import Record


class _Numbers:
    """A missing answer (None or not finite) counts as the worst number in the range of the gold values.

    Leaving such rows out would reward a system that answers only what it is sure of.
    """

    tasks = ("regression",)
    higher_is_better = True

    def statistics(self, records: list[Record], predictions: Predictions) -> np.ndarray:
        """Gold and answered number of each row. Shapes: [N, 2].

        Raises: DataError if a label is not a finite number.
        """
        import numpy as np

        true = np.array([_number(record) for record in records], dtype=float)
        said = np.array([math.nan if output is None else float(output) for output in predictions.outputs], dtype=float)
        if len(true):
            low, high = true.min(), true.max()
            said = np.where(np.isfinite(said), said, np.where(true - low > high - true, low, high))
        return np.stack([true, said], axis=1)


def _number(record: Record) -> float:
    label = gold(record)
    if isinstance(label, bool) or not isinstance(label, (int, float)) or not math.isfinite(label):
        raise DataError(f"the label {label!r} is not a finite number", where=record.where or record.id)
    return float(label)


class Mse(_Numbers):
    """Mean squared error."""

    name = "mse"
    higher_is_better = False

    def value(self, statistics: np.ndarray) -> float:
        return float(((statistics[:, 0] - statistics[:, 1]) ** 2).mean()) if len(statistics) else float("nan")


class Mae(_Numbers):
    """Mean absolute error, in the unit of the label."""

    name = "mae"
    higher_is_better = False

    def value(self, statistics: np.ndarray) -> float:
        return float(abs(statistics[:, 0] - statistics[:, 1]).mean()) if len(statistics) else float("nan")


class R2(_Numbers):
    """Share of the variance explained; 0 is as good as always saying the mean, below is worse. NaN for one row."""

    name = "r2"

    def value(self, statistics: np.ndarray) -> float:
        if len(statistics) < 2:
            return float("nan")
        true, said = statistics.T
        error, spread = float(((true - said) ** 2).sum()), float(((true - true.mean()) ** 2).sum())
        return 1 - error / spread if spread else float(error == 0)


def _correlation(true: np.ndarray, said: np.ndarray) -> float:
    import numpy as np

    if len(true) < 2 or np.ptp(true) == 0 or np.ptp(said) == 0:
        return float("nan")
    true, said = true - true.mean(), said - said.mean()
    true, said = true / np.linalg.norm(true), said / np.linalg.norm(said)
    return float(np.clip(true @ said, -1, 1))


class Pearson(_Numbers):
    """Linear correlation, -1 to 1. NaN where either side is constant."""

    name = "pearson"

    def value(self, statistics: np.ndarray) -> float:
        return _correlation(statistics[:, 0], statistics[:, 1])


class Spearman(_Numbers):
    """Correlation of the ranks, -1 to 1. NaN where either side is constant."""

    name = "spearman"

    def value(self, statistics: np.ndarray) -> float:
        from scipy.stats import rankdata

        return _correlation(rankdata(statistics[:, 0]), rankdata(statistics[:, 1])) if len(statistics) else float("nan")
