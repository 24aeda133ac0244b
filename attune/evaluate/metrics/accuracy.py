"""Share of right answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attune.evaluate.metrics.counts import gold, items

if TYPE_CHECKING:
    import numpy as np

    from attune.evaluate.predictions import Predictions
    from attune.records import Record


class Accuracy:
    """Share of rows whose answer equals the label; for several classes, the whole set. None is wrong."""

    name = "accuracy"
    tasks = ("classification", "multilabel")
    higher_is_better = True

    def statistics(self, records: list[Record], predictions: Predictions) -> np.ndarray:
        import numpy as np

        right = [
            output is not None and items(output) == items(gold(record))
            for record, output in zip(records, predictions.outputs, strict=True)
        ]
        return np.array(right, dtype=float)[:, None]

    def value(self, statistics: np.ndarray) -> float:
        return float(statistics.mean()) if len(statistics) else float("nan")
