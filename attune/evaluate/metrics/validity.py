"""Whether the system answered at all, and knew when to stop."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from attune.evaluate.predictions import Predictions
    from attune.records import Record


class InvalidRate:
    """Share of rows without a usable answer (None), such as text that names no class."""

    name = "invalid_rate"
    tasks = ("classification", "multilabel", "regression", "tagging", "generation")
    higher_is_better = False

    def statistics(self, records: list[Record], predictions: Predictions) -> np.ndarray:
        import numpy as np

        return np.array([output is None for output in predictions.outputs], dtype=float)[:, None]

    def value(self, statistics: np.ndarray) -> float:
        return float(statistics.mean()) if len(statistics) else float("nan")


class StopRate:
    """Share of generated answers that ended by themselves, not at the length limit. NaN where nothing was generated."""

    name = "stop_rate"
    tasks = ("generation",)
    higher_is_better = True
    needs = "stopped"

    def statistics(self, records: list[Record], predictions: Predictions) -> np.ndarray:
        import numpy as np

        if predictions.stopped is None:
            return np.full((len(records), 1), np.nan)
        return np.array(predictions.stopped, dtype=float)[:, None]

    def value(self, statistics: np.ndarray) -> float:
        return float(statistics.mean()) if len(statistics) else float("nan")
