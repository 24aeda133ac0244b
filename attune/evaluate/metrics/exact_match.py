"""Share of written answers that equal a reference, as SQuAD compares them."""

from __future__ import annotations

import re
import string
from typing import TYPE_CHECKING

from attune.evaluate.metrics.texts import references

if TYPE_CHECKING:
    import numpy as np

    from attune.evaluate.predictions import Predictions
    from attune.records import Record

PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalised(text: str) -> str:
    """Lower case, without ASCII punctuation, English articles and extra space. Source: SQuAD 1.1 evaluation script."""
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text.lower().translate(PUNCTUATION)).split())


class ExactMatch:
    """Share of answers that equal a reference after SQuAD's normalisation. None is wrong."""

    name = "exact_match"
    tasks = ("generation",)
    higher_is_better = True

    def statistics(self, records: list[Record], predictions: Predictions) -> np.ndarray:
        import numpy as np

        right = [
            output is not None and normalised(str(output)) in {normalised(text) for text in references(record)}
            for record, output in zip(records, predictions.outputs, strict=True)
        ]
        return np.array(right, dtype=float)[:, None]

    def value(self, statistics: np.ndarray) -> float:
        return float(statistics.mean()) if len(statistics) else float("nan")
