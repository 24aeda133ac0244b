"""What the figures allow to be said: intervals, paired comparisons, and the verdict.

A metric is reduced to per-record statistics (see `metrics.base`), so every resample is one array look-up.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np

    from attune.evaluate.metrics.base import Metric

__all__ = ["Interval", "Paired", "bootstrap", "paired", "mcnemar", "permutation", "percentiles"]

NAN = float("nan")


class Interval(NamedTuple):
    """A figure, where it lies with the stated confidence, and the rows it rests on. NaN where undefined."""

    value: float
    low: float
    high: float
    n: int


class Paired(NamedTuple):
    """The first system minus the second on the same rows; `p` is two-sided. NaN where undefined."""

    difference: float
    low: float
    high: float
    p: float

    def detectable(self, level: float = 0.95) -> float:
        """The smallest true difference that these rows would show 4 times in 5 (80 % power, normal approximation)."""
        from scipy.stats import norm

        two_sided = norm.ppf((1 + level) / 2)
        return (two_sided + norm.ppf(0.8)) * (self.high - self.low) / (2 * two_sided)


def bootstrap(
    metric: Metric,
    statistics: np.ndarray,
    *,
    n: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    groups: Sequence[object] | None = None,
) -> Interval:
    """A figure with its percentile bootstrap interval over records, or over whole `groups` of records.

    A plain share of rows (accuracy, exact match) without groups has Wilson's interval instead: it needs no resampling
    and stays honest for few rows or a share near 0 or 1, where the bootstrap's collapses to a point. Other figures
    still collapse when every row is right: read such an interval as "too few rows", with its n.

    Shapes: statistics [N, K]; groups [N].
    """
    value, rows = metric.value(statistics), len(statistics)
    if not rows or math.isnan(value):
        return Interval(NAN, NAN, NAN, rows)
    if groups is None and _is_share(metric, statistics):
        return Interval(value, *_wilson(value, rows, level), rows)
    replicates = [metric.value(statistics[sample]) for sample in _resamples(rows, n, seed, groups)]
    return Interval(value, *percentiles(replicates, level), rows)


def paired(
    metric: Metric,
    first: np.ndarray,
    second: np.ndarray,
    *,
    n: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    groups: Sequence[object] | None = None,
) -> Paired:
    """How far two systems differ on the same rows: paired percentile bootstrap of the difference.

    p is McNemar's exact one for a share of right answers, a sign-flip permutation's for other means over rows, and
    else twice the smaller share of bootstrap differences on either side of zero (ties count on both sides). With
    groups it is always the bootstrap's.

    Shapes: first, second [N, K], same rows in the same order.
    """
    if len(first) != len(second):
        raise ValueError(f"paired systems answer the same rows, not {len(first)} and {len(second)}")
    difference = metric.value(first) - metric.value(second)
    if not len(first) or math.isnan(difference):
        return Paired(NAN, NAN, NAN, NAN)
    samples = _resamples(len(first), n, seed, groups)
    replicates = [metric.value(first[sample]) - metric.value(second[sample]) for sample in samples]
    low, high = percentiles(replicates, level)
    if groups is None and _is_share(metric, first) and _is_share(metric, second):
        p = mcnemar(first[:, 0], second[:, 0])
    elif groups is None and _is_mean(metric, first) and _is_mean(metric, second):
        p = permutation(first[:, 0], second[:, 0], seed=seed)
    else:
        finite = [replicate for replicate in replicates if not math.isnan(replicate)]
        below, above = sum(value <= 0 for value in finite), sum(value >= 0 for value in finite)
        # +1: the observed sample is one of the possible ones, so that no finite number of resamples gives p = 0.
        p = min(1.0, 2 * (min(below, above) + 1) / (len(finite) + 1))
    return Paired(difference, low, high, p)


def mcnemar(correct_a: Sequence[float] | np.ndarray, correct_b: Sequence[float] | np.ndarray) -> float:
    """Exact two-sided p that two systems are right equally often, from the rows where only one of them is right."""
    import numpy as np
    from scipy.stats import binomtest

    a, b = np.asarray(correct_a, dtype=bool), np.asarray(correct_b, dtype=bool)
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    return float(binomtest(only_a, only_a + only_b, 0.5).pvalue) if only_a + only_b else 1.0


def permutation(first: np.ndarray, second: np.ndarray, *, n: int = 9999, seed: int = 0) -> float:
    """Two-sided p that two means over the same rows are equal: each row's difference takes a random sign."""
    import numpy as np

    differences = np.asarray(first, dtype=float) - np.asarray(second, dtype=float)
    differences = differences[differences != 0]
    if not len(differences):
        return 1.0
    random, observed, extreme = np.random.default_rng(seed), abs(differences.sum()), 0
    for start in range(0, n, 500):
        signs = random.integers(0, 2, (min(500, n - start), len(differences)), dtype=np.int8) * 2 - 1
        # The tolerance keeps equal sums equal after rounding.
        extreme += int((np.abs(signs @ differences) >= observed * (1 - 1e-12)).sum())
    return (extreme + 1) / (n + 1)


def _is_mean(metric: Metric, statistics: np.ndarray) -> bool:
    """Whether the figure is the plain mean of one number per row."""
    if statistics.shape[1] != 1:
        return False
    return math.isclose(metric.value(statistics), statistics.mean(), rel_tol=1e-12, abs_tol=1e-15)


def _is_share(metric: Metric, statistics: np.ndarray) -> bool:
    """Whether the figure is the plain share of rows that are 1."""
    return _is_mean(metric, statistics) and bool(((statistics == 0) | (statistics == 1)).all())


def _wilson(share: float, rows: int, level: float) -> tuple[float, float]:
    from scipy.stats import binomtest

    interval = binomtest(round(share * rows), rows).proportion_ci(level, method="wilson")
    return float(interval.low), float(interval.high)


def _resamples(rows: int, n: int, seed: int, groups: Sequence[object] | None) -> Iterator[np.ndarray]:
    """Row numbers of each resample: of rows, or of whole groups, drawn with replacement."""
    import numpy as np

    random = np.random.default_rng(seed)
    if groups is None:
        for _ in range(n):
            yield random.integers(rows, size=rows)
        return
    members: dict[object, list[int]] = {}
    for row, group in enumerate(groups):
        members.setdefault(group, []).append(row)
    clusters = [np.array(cluster) for cluster in members.values()]
    for _ in range(n):
        yield np.concatenate([clusters[number] for number in random.integers(len(clusters), size=len(clusters))])


def percentiles(replicates: list[float], level: float) -> tuple[float, float]:
    """Ends of the middle `level` of the replicates; those that are undefined are left out."""
    import numpy as np

    finite = np.array([value for value in replicates if math.isfinite(value)])
    if not len(finite):
        return NAN, NAN
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
