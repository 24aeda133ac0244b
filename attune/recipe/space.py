"""How the range of a searched key is written: `{low, high}` or a list of choices, below its dotted key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Range", "ranges"]

LOG_FROM = 20
"""A range whose high end is at least this many times its low end is drawn on a log scale where nothing is said."""


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included."""

    low: float
    high: float
    log: bool
    """Whether factors count, not differences: a step from 1e-5 to 1e-4 is as long as one from 1e-4 to 1e-3."""
    step: float | None = None

    @property
    def whole(self) -> bool:
        """Whether only whole numbers are meant: both ends are written as such."""
        return isinstance(self.low, int) and isinstance(self.high, int)


def ranges(space: Mapping[str, Any], at: str = "") -> dict[str, Range | list[Any]]:
    """The space as written, `{train.learning_rate: {low: 1e-5, high: 1e-3}, adapter.r: [4, 8]}`, checked in its form.

    Keys may be dotted or nested.
    Raises: ValueError naming the key and what is wrong with it.
    """
    found: dict[str, Range | list[Any]] = {}
    for name, value in space.items():
        key = f"{at}{name}"
        if isinstance(value, list):
            found[key] = _choices(key, value)
        elif isinstance(value, Mapping) and ("low" in value or "high" in value):
            found[key] = _range(key, value)
        elif isinstance(value, Mapping) and value:
            found |= ranges(value, f"{key}.")
        else:
            raise ValueError(f"{key} needs a list of choices, [4, 8, 16], or a range, {{low: 1e-5, high: 1e-3}}")
    return found


def _choices(key: str, value: list[Any]) -> list[Any]:
    if len(value) < 2:
        raise ValueError(f"{key} has {len(value)} choice{'s' * (len(value) != 1)}; a search needs two or more")
    if any(value.count(one) > 1 for one in value):
        raise ValueError(f"{key} names a choice twice")
    return list(value)


def _range(key: str, value: Mapping[str, Any]) -> Range:
    if unknown := set(value) - {"low", "high", "log", "step"}:
        raise ValueError(f"{key} has '{min(unknown)}'; a range has low, high, log and step")
    for end in ("low", "high", *(["step"] if value.get("step") is not None else [])):
        number = value.get(end)
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise ValueError(f"{key}.{end} must be a number")
    low, high, step = value["low"], value["high"], value.get("step")
    if not low < high:
        raise ValueError(f"{key}: low must be below high")
    log = value.get("log")
    if not isinstance(log, bool | None):
        raise ValueError(f"{key}.log must be true or false")
    if log and low <= 0:
        raise ValueError(f"{key}: a log range begins above zero")
    if log and step is not None:
        raise ValueError(f"{key}: a log range has no step")
    if step is not None and not 0 < step <= high - low:
        raise ValueError(f"{key}.step must lie between zero and high - low")
    chosen = log if log is not None else step is None and low > 0 and high >= LOG_FROM * low
    return Range(low, high, bool(chosen), step)
