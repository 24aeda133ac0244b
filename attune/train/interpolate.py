"""Weights between the base and the tuned model, tried after training."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from attune.train.pull import Pair

__all__ = ["GRID", "Point", "between", "choose", "sweep"]

GRID = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0)
"""How far from the base (0) to the tuned model (1)."""


@dataclass(frozen=True)
class Point:
    """A checkpoint, how far towards it, and what was measured there."""

    step: int
    share: float
    value: float | None
    """The deciding figure on validation rows; None where there are none."""
    drop: float | None
    """The most that a retained suite lost, in points (`Lost.counted`), on the half to choose by."""


def between(
    start: Mapping[str, Tensor], tuned: Mapping[str, Tensor], share: float, pairs: Sequence[Pair] = ()
) -> dict[str, Tensor]:
    """start + share * (tuned - start); 0 and 1 give exactly these.

    A low-rank update that starts at nothing is scaled instead (its B times `share`), which is the same straight line in
    the merged weights. One that does not (PiSSA, OLoRA) goes straight in its factors, so only its ends are exact.
    Source: Wortsman et al. 2022 (arXiv:2109.01903), equation 1.
    Checked: tests/train/test_interpolate.py.
    """
    if share in (0.0, 1.0):
        return dict(start if share == 0.0 else tuned)
    scaled = {pair.b for pair in pairs if not bool(start[pair.b].any())}
    held = {pair.a for pair in pairs if pair.b in scaled}
    found = {}
    for name, value in tuned.items():
        if name in held:
            found[name] = value
        elif name in scaled:
            found[name] = share * value
        else:
            found[name] = torch.lerp(start[name].to(value), value, share)
    return found


def sweep(
    candidates: Mapping[int, Mapping[str, Tensor]],
    start: Mapping[str, Tensor],
    pairs: Sequence[Pair],
    measure: Callable[[Mapping[str, Tensor]], tuple[float | None, float | None]],
    *,
    shares: Sequence[float] = GRID,
) -> list[Point]:
    """Measure every share of every candidate (step -> weights); the base itself only once."""
    points = []
    for number, (step, tuned) in enumerate(candidates.items()):
        for share in shares:
            if share == 0.0 and number:
                continue
            points.append(Point(step, share, *measure(between(start, tuned, share, pairs))))
    return points


def choose(points: Sequence[Point], *, limit: float | None, higher: bool) -> tuple[Point, str]:
    """The point to keep, and why in a sentence.

    Of those that stay within the limit the best on validation, at a tie the one that forgot least; without validation
    rows the one furthest from the base. Where none stays within it, the one that forgot least.
    """

    def merit(point: Point) -> tuple[float, float, float]:
        value = -math.inf if point.value is None or math.isnan(point.value) else point.value * (1 if higher else -1)
        drop = 0.0 if point.drop is None else point.drop
        return (value, -drop, point.share) if point.value is not None else (point.share, point.step, -drop)

    inside = [point for point in points if limit is None or point.drop is None or point.drop <= limit]
    if not inside:
        kept = min(points, key=lambda point: math.inf if point.drop is None else point.drop)
        return kept, f"nothing that was tried stays within {limit:g} points: {_told(kept)} forgot least"
    kept = max(inside, key=merit)
    if limit is None:
        return kept, f"{_told(kept)} is the best on validation of {len(points)} that were tried"
    why = f"{_told(kept)} is the best on validation of the {len(inside)} of {len(points)} within {limit:g} points"
    if kept.share == 0.0:
        only = all(point.share == 0.0 for point in inside)
        why += ": nothing that was learned fits" if only else ": training made validation worse"
    return kept, why


def _told(point: Point) -> str:
    if point.share in (0.0, 1.0):
        return "the start of training" if point.share == 0.0 else f"step {point.step} unchanged"
    return f"step {point.step} with {point.share:g} of its change"


def as_rows(points: Sequence[Point]) -> list[dict[str, Any]]:
    """For the report."""
    return [asdict(point) for point in points]
