"""Entities found: a span counts when its start, its end and its label are all right (seqeval's default mode)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from attune.evaluate.metrics.counts import gold, items, ratios

if TYPE_CHECKING:
    import numpy as np

    from attune.evaluate.predictions import Predictions
    from attune.records import Record


class _Spans:
    tasks = ("tagging",)
    higher_is_better = True
    figure: ClassVar[int]

    def statistics(self, records: list[Record], predictions: Predictions) -> np.ndarray:
        """Hits, false alarms and misses of each row. Shapes: [N, 3]."""
        import numpy as np

        rows = []
        for record, output in zip(records, predictions.outputs, strict=True):
            true, said = items(gold(record)), items(output)
            rows.append((len(true & said), len(said - true), len(true - said)))
        return np.array(rows, dtype=float).reshape(-1, 3)

    def value(self, statistics: np.ndarray) -> float:
        return float(ratios(statistics.sum(axis=0))[self.figure]) if len(statistics) else float("nan")


class SpanPrecision(_Spans):
    """Of the spans found, the share that is exactly right."""

    name = "span_precision"
    figure = 0


class SpanRecall(_Spans):
    """Of the spans that are there, the share that is found exactly."""

    name = "span_recall"
    figure = 1


class SpanF1(_Spans):
    """Harmonic mean of span precision and span recall over all rows (micro)."""

    name = "span_f1"
    figure = 2
