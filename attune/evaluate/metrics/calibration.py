"""Whether confidence can be believed: of the answers given with 80 %, are 80 % right?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attune.evaluate.metrics.counts import gold

if TYPE_CHECKING:
    import numpy as np

    from attune.evaluate.predictions import Predictions
    from attune.records import Record

BINS = 15


class Ece:
    """Expected calibration error: mean gap between confidence and accuracy, over 15 equal bins of top-1 confidence.

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks". NaN without scores.
    """

    name = "ece"
    tasks = ("classification",)
    higher_is_better = False
    needs = "scores"

    def statistics(self, records: list[Record], predictions: Predictions) -> np.ndarray:
        """Bin, confidence and correctness of each row. Shapes: [N, 3]."""
        import numpy as np

        if predictions.scores is None:
            return np.full((len(records), 3), np.nan)
        scores = np.asarray(predictions.scores, dtype=float)
        confidence = scores.max(axis=1)
        answered = [predictions.labels[best] for best in scores.argmax(axis=1)]
        right = [label == gold(record) for label, record in zip(answered, records, strict=True)]
        # A bin includes its upper edge, as in the paper.
        bins = np.clip(np.ceil(confidence * BINS) - 1, 0, BINS - 1)
        return np.stack([bins, confidence, np.array(right, dtype=float)], axis=1)

    def value(self, statistics: np.ndarray) -> float:
        import numpy as np

        if not len(statistics) or np.isnan(statistics).any():
            return float("nan")
        bins = statistics[:, 0].astype(np.int64)
        gap = np.bincount(bins, statistics[:, 1] - statistics[:, 2], minlength=BINS)
        return float(np.abs(gap).sum() / len(statistics))


def reliability(records: list[Record], predictions: Predictions) -> list[dict[str, Any]] | None:
    """The bins of the reliability diagram that hold rows (see `charts.Bin`); None without scores."""
    if predictions.scores is None or not records:
        return None
    statistics = Ece().statistics(records, predictions)
    rows = []
    for number in range(BINS):
        inside = statistics[statistics[:, 0] == number]
        if len(inside):
            _, confidence, accuracy = (float(mean) for mean in inside.mean(axis=0))
            place = {"low": number / BINS, "high": (number + 1) / BINS}
            rows.append({**place, "n": len(inside), "confidence": confidence, "accuracy": accuracy})
    return rows
