"""Charts of a search: its history, a slice for each key, all keys side by side, the curve of a range test."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any, NamedTuple

from attune.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, short, svg, ticks
from attune.search.space import in_words

__all__ = ["Axis", "Point", "axis_of", "history", "courses", "cut", "parallel", "sweep"]


class Axis(NamedTuple):
    """Where values of a key lie, from 0 to 1, and what is written there."""

    low: float
    high: float
    log: bool
    choices: list[str]

    def at(self, value: Any) -> float | None:
        """Place of a value; None for one that is not on the axis."""
        if self.choices:
            name = in_words(value)
            if name not in self.choices:
                return None
            return (self.choices.index(name) + 0.5) / len(self.choices)
        if not isinstance(value, int | float) or (self.log and value <= 0):
            return None
        low, high, here = (math.log(x) if self.log else x for x in (self.low, self.high, value))
        return min(1.0, max(0.0, (here - low) / (high - low))) if high > low else 0.5

    def marks(self) -> list[tuple[float, str]]:
        """(place, words) of its ticks."""
        if self.choices:
            return [((number + 0.5) / len(self.choices), _cut_off(name)) for number, name in enumerate(self.choices)]
        if not self.log:
            return [(self.at(x) or 0.0, short(x)) for x in ticks(self.low, self.high, 4)]
        powers = [10.0**n for n in range(math.ceil(math.log10(self.low)), math.floor(math.log10(self.high)) + 1)]
        shown = powers if len(powers) > 1 else [self.low, math.sqrt(self.low * self.high), self.high]
        return [(self.at(x) or 0.0, short(float(f"{x:.2g}"))) for x in shown]


class Point(NamedTuple):
    """One trial in a chart."""

    number: int
    value: float
    kind: str
    """`best`, `recipe`, `finished` or `pruned`."""
    values: dict[str, Any]


DOTS = {"best": ("c3", 6), "recipe": ("c1", 6), "finished": ("c1", 4), "pruned": ("c2", 3)}


def _cut_off(text: str) -> str:
    """Words short enough for an axis."""
    return text if len(text) <= 18 else f"{text[:17]}\N{HORIZONTAL ELLIPSIS}"


def axis_of(one: Any) -> Axis:
    """The axis of a searched key: a range, or a list of choices (numbers in order count as choices too)."""
    if isinstance(one, list):
        return Axis(0, 1, False, [in_words(choice) for choice in one])
    return Axis(one.low, one.high, one.log, [])


def heights(points: Sequence[Point], higher: bool) -> Axis:
    """The axis of values: where the finished trials are told apart; far worse ones lie on its edge."""
    values = sorted((point.value for point in points if point.kind != "pruned"), reverse=higher) or [0.0, 1.0]
    best, middle, worst = values[0], values[len(values) // 2], values[-1]
    limit = best + 3 * (middle - best) if middle != best else worst
    worst = max(worst, limit) if higher else min(worst, limit)
    room = abs(best - worst) * 0.08 or abs(best) * 0.05 or 0.05
    return Axis(min(best, worst) - room, max(best, worst) + room, False, [])


def _frame(across: Axis, up: Axis, unit: str) -> list[str]:
    parts = []
    for place, words in up.marks():
        y = _y(place)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{words}</text>')
    for place, words in across.marks():
        parts.append(f'<text x="{_x(place)}" y="{HEIGHT - BOTTOM + 17}" text-anchor="middle">{escape(words)}</text>')
    parts.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 2}" text-anchor="end">{escape(unit)}</text>')
    return parts


def _x(place: float) -> float:
    return round(LEFT + 8 + place * (WIDTH - LEFT - RIGHT - 16), 1)


def _y(place: float) -> float:
    return round(HEIGHT - BOTTOM - place * (HEIGHT - TOP - BOTTOM), 1)


def _dot(point: Point, x: float, y: float) -> str:
    kind, size = DOTS[point.kind]
    ring = f'<circle class="line {kind}" cx="{x}" cy="{y}" r="{size + 3}"/>' if point.kind == "recipe" else ""
    words = f"trial {point.number}: {point.value:.4f}, {point.kind}"
    return f'<g><title>{words}</title>{ring}<circle class="dot {kind}" cx="{x}" cy="{y}" r="{size}"/></g>'


def history(points: Sequence[Point], *, higher: bool, title: str) -> str:
    """Every trial's value in order, and the best so far as a staircase."""
    if not points:
        return ""
    up = heights(points, higher)
    last = max(point.number for point in points)
    across = Axis(0, max(1, last), False, [])
    parts = _frame(across, up, "trial")
    best: float | None = None
    stairs: list[str] = []
    for point in sorted(points, key=lambda point: point.number):
        if point.kind == "pruned":
            continue
        x = _x(across.at(point.number) or 0.0)
        if best is None or (point.value > best if higher else point.value < best):
            if best is not None:
                stairs.append(f"{x},{_y(up.at(best) or 0.0)}")
            best = point.value
            stairs.append(f"{x},{_y(up.at(best) or 0.0)}")
    if best is not None:
        stairs.append(f"{_x(1.0)},{_y(up.at(best) or 0.0)}")
        parts.append(f'<polyline class="line c3" points="{" ".join(stairs)}"/>')
    parts += [_dot(point, _x(across.at(point.number) or 0.0), _y(up.at(point.value) or 0.0)) for point in points]
    return svg("".join(parts), title)


def courses(curves: Sequence[tuple[list[tuple[int, float]], Point]], *, higher: bool) -> str:
    """The best figure so far of every trial along its own schedule: what the pruner saw."""
    up = heights([point for _, point in curves], higher)
    across = Axis(0, 100, False, [])
    parts = _frame(across, up, "% of its schedule")
    for curve, point in sorted(curves, key=lambda item: item[1].kind == "best"):
        kind = {"best": "c3", "pruned": "c2", "recipe": "c1"}.get(point.kind, "c1 faint")
        places = [(_x(across.at(at) or 0.0), _y(up.at(value) or 0.0)) for at, value in curve]
        if len(places) > 1:
            line = " ".join(f"{x},{y}" for x, y in places)
            words = f"trial {point.number}: {point.value:.4f}, {point.kind}"
            parts.append(f'<g><title>{words}</title><polyline class="line {kind}" points="{line}"/></g>')
        parts += [f'<circle class="dot {kind.split()[0]}" cx="{x}" cy="{y}" r="2"/>' for x, y in places]
    return svg("".join(parts), "validation figure of every trial while it trained")


def cut(points: Sequence[Point], key: str, one: Any, *, higher: bool) -> str:
    """Values of the trials against one key."""
    across, up = axis_of(one), heights(points, higher)
    parts = _frame(across, up, key)
    for point in points:
        place = across.at(point.values.get(key))
        if place is not None:
            # trials of one choice stand side by side, not on top of each other
            aside = ((point.number % 7) - 3) / 3 * 0.3 / len(across.choices) if across.choices else 0.0
            parts.append(_dot(point, _x(place + aside), _y(up.at(point.value) or 0.0)))
    return svg("".join(parts), f"value against {key}")


def parallel(points: Sequence[Point], keys: Sequence[tuple[str, Any]], *, higher: bool, figure: str) -> str:
    """One upright axis a key and the value last; a line a trial. The best third is drawn strongly."""
    axes = [(key, axis_of(one)) for key, one in keys] + [(figure, heights(points, higher))]
    width, height, top, foot = max(900, 150 * len(axes)), 330, 46, 26
    left, right = 56, 66

    def x_at(number: int) -> float:
        return round(left + number * (width - left - right) / max(1, len(axes) - 1), 1)

    def y_at(place: float) -> float:
        return round(height - foot - place * (height - top - foot), 1)

    ranked = sorted(
        (point for point in points if point.kind != "pruned"), key=lambda point: point.value, reverse=higher
    )
    strong = {point.number for point in ranked[: max(1, len(ranked) // 3)]}
    parts = []
    order = sorted(points, key=lambda point: (point.kind == "best", point.number in strong))
    for point in order:
        places = [axis.at(point.values.get(key)) for key, axis in axes[:-1]] + [axes[-1][1].at(point.value)]
        line = " ".join(f"{x_at(n)},{y_at(place)}" for n, place in enumerate(places) if place is not None)
        kind = "c3" if point.kind == "best" else "c1" if point.number in strong else "c2 faint"
        words = f"trial {point.number}: {point.value:.4f}"
        parts.append(f'<g><title>{words}</title><polyline class="line {kind}" points="{line}"/></g>')
    for number, (key, axis) in enumerate(axes):
        x = x_at(number)
        parts.append(f'<line class="axis" x1="{x}" x2="{x}" y1="{top}" y2="{height - foot}"/>')
        above = top - 28 if number % 2 else top - 12
        parts.append(f'<text x="{x}" y="{above}" text-anchor="middle">{escape(key.split(".")[-1])}</text>')
        for place, words in axis.marks():
            parts.append(f'<text class="tick" x="{x + 5}" y="{y_at(place) + 4}">{escape(words)}</text>')
    return svg("".join(parts), f"all keys and {figure}", width, height)


def sweep(
    rates: Sequence[float], raw: Sequence[float], smooth: Sequence[float], *, suggestion: float, limit: float | None
) -> str:
    """Loss against the learning rate of a range test; marks at the suggestion and where it diverged."""
    across = Axis(rates[0], rates[-1], True, [])
    first = smooth[0]
    up = Axis(min(smooth) - 0.06 * first, max(first * 1.3, min(max(smooth), first * 1.6)), False, [])
    parts = _frame(across, up, "learning rate")
    for values, kind in ((raw, "c1 faint"), (smooth, "c1")):
        line = " ".join(f"{_x(across.at(x) or 0.0)},{_y(up.at(y) or 0.0)}" for x, y in zip(rates, values))
        parts.append(f'<polyline class="line {kind}" points="{line}"/>')
    for rate, words in ((suggestion, f"{short(suggestion)}"), (limit, "diverges")):
        if rate is not None:
            x = _x(across.at(rate) or 0.0)
            parts.append(f'<line class="mark" x1="{x}" x2="{x}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
            anchor = "end" if x > WIDTH - 90 else "start"
            parts.append(
                f'<text x="{x + (4 if anchor == "start" else -4)}" y="{TOP + 10}" text-anchor="{anchor}">{words}</text>'
            )
    return svg("".join(parts), "loss against the learning rate")
