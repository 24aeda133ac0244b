"""The cost of much work from the cost of a little: runs of growing size until the picture is clear or time is up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Cost", "grow"]

FACTOR = 4


@dataclass(frozen=True)
class Cost:
    """Seconds that something will take."""

    seconds: float
    measured: float
    """Share of the work that was really done to know it: 1 means that all of it was."""
    spent: float
    """Seconds that measuring took."""


def grow(run: Callable[[int], float], total: int, *, start: int, limit: float) -> Cost:
    """What `run(total)` would take. `run(n)` does n parts of the work and returns its seconds.

    From the two largest sizes as fixed + each x n, where two could be afforded within `limit` seconds; else in
    proportion. What the first call loads and compiles would look like a fixed part, and the rest too cheap: a cheap
    first call is made twice, and only the second counts.
    """
    points: list[tuple[int, float]] = []
    size, spent = min(start, total), 0.0
    while True:
        seconds = run(size)
        spent += seconds
        if not points and size < total and 3 * seconds <= limit:
            seconds = run(size)
            spent += seconds
        points.append((size, seconds))
        if size == total:
            return Cost(seconds, 1.0, spent)
        larger = min(total, size * FACTOR)
        # one size tells no fixed part: a second one is wanted unless it is hopeless
        if spent + seconds * (larger / size) ** (0.5 if len(points) == 1 else 1) > limit and (
            len(points) > 1 or seconds > limit
        ):
            break
        size = larger
    size, seconds = points[-1]
    each = seconds / size
    if len(points) > 1:
        (before, less), _ = points[-2:]
        # a part ten times cheaper than the mean is noise of the clock
        each = max((seconds - less) / (size - before), each / 10)
    return Cost(seconds + min(each, seconds / size) * (total - size), size / total, spent)
