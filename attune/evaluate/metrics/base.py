"""What a metric is. A metric reduces to per-record statistics, so that any resample costs one array look-up."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    import numpy as np

    from attune.evaluate.predictions import Predictions
    from attune.records import Record

__all__ = ["Metric"]


class Metric(Protocol):
    """One figure of merit.

    `statistics` gives one row of sufficient statistics per record; `value` turns any set of rows into the figure, so
    `value(statistics)` is the figure itself and `value(statistics[sample])` one bootstrap replicate.

    Shapes: statistics [N, K] float64; value takes [N', K] and gives a float (NaN where undefined).
    """

    name: ClassVar[str]
    tasks: ClassVar[tuple[str, ...]]
    """Tasks (see `predictions.TASKS`) it is computed for by default."""
    higher_is_better: ClassVar[bool]
    # A metric may have a `signature`: settings and version behind the figure, for the report.
    # A metric may also name the optional field of Predictions it cannot do without: `needs = "scores"`.

    def statistics(self, records: list[Record], predictions: Predictions) -> np.ndarray: ...

    def value(self, statistics: np.ndarray) -> float: ...
