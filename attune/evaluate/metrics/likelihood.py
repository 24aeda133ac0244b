"""How probable the system finds the reference text."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from attune.evaluate.predictions import Predictions
    from attune.records import Record


class Loss:
    """Mean surprise per token of the reference, in nats. NaN where likelihood was not measured."""

    name = "loss"
    tasks = ("generation", "text")
    higher_is_better = False
    needs = "logp"

    def statistics(self, records: list[Record], predictions: Predictions) -> np.ndarray:
        """Negative log-probability and number of tokens of each row. Shapes: [N, 2]."""
        import numpy as np

        if predictions.logp is None:
            return np.full((len(records), 2), np.nan)
        return np.asarray(predictions.logp, dtype=float) * (-1, 1)

    def value(self, statistics: np.ndarray) -> float:
        surprise, tokens = statistics.sum(axis=0) if len(statistics) else (0.0, 0.0)
        return float(surprise / tokens) if tokens else float("nan")


class Perplexity(Loss):
    """The number of equally likely tokens that would surprise as much: exp of the loss."""

    name = "perplexity"

    def value(self, statistics: np.ndarray) -> float:
        loss = super().value(statistics)
        return math.exp(loss) if loss < 700 else loss if math.isnan(loss) else math.inf
