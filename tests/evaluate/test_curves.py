"""The course of a training is named, with the numbers and a remedy."""

from __future__ import annotations

import math

import pytest

from attune.evaluate.curves import course, course_of, gap_of

DOWN = [3.0 * 0.9**step + 1 for step in range(40)]


@pytest.mark.parametrize(
    ("validation", "steps", "sample", "name"),
    [
        ([2.0, 1.3, 1.05, 1.01, 1.0], DOWN, [1.9, 1.2, 1.0, 0.97, 0.95], "good"),
        ([2.0, 1.0, 0.9, 0.89], [], [], "good"),
        ([2.0, 1.0, 1.1, 1.4], DOWN, [1.9, 0.8, 0.5, 0.2], "overfit"),
        ([2.0, 1.0, 1.4], DOWN, [], "overfit"),
        ([2.0, 1.2, 1.1, 1.1], DOWN, [1.5, 0.7, 0.3, 0.1], "overfit"),  # never rose: the gap alone tells
        ([2.0, 1.999, 2.01], DOWN, [], "overfit"),  # training fell, validation did not
        ([2.0, 2.0, 1.999], [2.0] * 40, [2.0, 2.0, 2.0], "underfit"),
        ([2.0, 1.999, 2.01], [], [], "underfit"),
        ([2.0, 1.7, 1.4, 1.1], DOWN, [2.0, 1.7, 1.4, 1.1], "too short"),
        ([2.0, 1.0, 1.3], DOWN, [1.9, 0.9, 1.2], "diverging"),  # both rise: not overfitting
        ([2.0, 3.0], [2.0] * 20 + [4.0] * 20, [], "diverging"),
        ([2.0, math.nan], DOWN, [], "diverging"),
        ([1.0], DOWN, [], "unknown"),
    ],
)
def test_the_course_is_named(validation: list[float], steps: list[float], sample: list[float], name: str) -> None:
    found = course(validation, steps, sample)
    assert found.name == name, found
    assert bool(found.fix) == (name not in ("good", "unknown"))


def test_early_stopping_is_not_too_short() -> None:
    assert course([2.0, 1.7, 1.4, 1.1], DOWN, stopped="early").name == "good"


def test_the_numbers_stand_in_the_evidence() -> None:
    (line,) = course([2.0, 1.0, 1.1, 1.4], DOWN, [1.9, 0.8, 0.5, 0.2], kept=1).words
    assert line.startswith("overfit: ") and "2.000 first, 1.000 best, 1.400 last" in line
    assert "at the step kept 1.000, on training rows 0.800" in line and "try fewer epochs" in line


def test_a_runs_rows_are_read() -> None:
    rows = [{"step": step, "loss": loss} for step, loss in enumerate(DOWN, 1)]
    for step, held, seen in ((10, 2.0, 1.5), (20, 1.2, 0.7), (30, 1.1, 0.3), (40, 1.1, 0.1)):
        rows[step - 1] |= {"validation/loss": held, "train_sample/loss": seen}
    found = course_of(rows, best_step=30)
    assert found.name == "overfit" and "on training rows 0.300" in found.sentence
    # runs of before the sample was measured
    assert (
        course_of([{k: v for k, v in row.items() if k != "train_sample/loss"} for row in rows], best_step=30).name
        == "good"
    )


def test_the_gap_is_smoothed_over_three_evaluations() -> None:
    assert gap_of([5.0, 2.0, 2.0, 2.0], [1.0, 1.0, 1.5, 1.7]) == pytest.approx((1 + 0.5 + 0.3) / 3)
    assert math.isnan(gap_of([], []))


def test_real_curves() -> None:
    """CLINC150, Dolly and WNUT17 as logged by the runs of docs/LOG.md: none went wrong."""
    for validation in (
        [1.242, 1.108, 1.101],
        [3.793, 3.684, 3.663, 3.651, 3.651],
        [1.296, 0.693, 0.729, 0.265, 0.381, 0.274, 0.298, 0.254, 0.255, 0.253, 0.253],
    ):
        assert course(validation).name == "good"
