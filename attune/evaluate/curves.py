"""What the curves of a training say: good, overfit, underfit, diverging or too short, with the numbers and a remedy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

__all__ = ["Course", "course", "course_of", "gap_of"]

Name = Literal["good", "overfit", "underfit", "diverging", "too short", "unknown"]

MOVED = 0.01
"""Relative fall of the validation loss below which it did not move."""
LEARNED = 0.05
"""Relative fall of the training loss below which even the training rows were not learned."""
ROSE = 0.05
"""Relative rise of the validation loss over its best from which on it is overfitting."""
FALLING = 0.1
"""Share of its whole fall that the validation loss makes in the last third of a run that ends too early."""
GAP = 0.5
"""Share of the validation loss below which the loss on training rows means that they are known by heart."""
SMOOTH = 3
"""Evaluations that the gap is the mean of."""


class Course(NamedTuple):
    """`sentence` tells the numbers; `fix` what to try, empty where nothing is wrong."""

    name: Name
    sentence: str
    fix: str = ""

    @property
    def words(self) -> list[str]:
        """As lines of evidence."""
        if self.name == "unknown":
            return []
        return [f"{self.name}: {self.sentence}" + (f"; try {self.fix}" if self.fix else "")]


def gap_of(validation: Sequence[float], training: Sequence[float]) -> float:
    """Validation minus training loss, the mean over the last three evaluations; NaN where there is none."""
    pairs = [b - a for a, b in zip(training, validation) if math.isfinite(a) and math.isfinite(b)][-SMOOTH:]
    return sum(pairs) / len(pairs) if pairs else math.nan


def course(
    validation: Sequence[float],
    steps: Sequence[float] = (),
    sample: Sequence[float] = (),
    *,
    kept: int | None = None,
    stopped: str = "",
) -> Course:
    """Name the course of a training.

    `validation` is the validation loss of each evaluation, `steps` the training loss of each step (with dropout and
    noise, on changing rows), `sample` the loss on a fixed sample of training rows at each evaluation, measured like
    validation. `kept` is the evaluation (from 0) whose weights are the result; None is the one of lowest loss.

    In this order: diverging (the loss rose or became no number), underfit (not even the training loss fell by 5 %),
    overfit (validation rose 5 % over its best while training went on falling, or the kept weights' loss on training
    rows is below half of validation's, by more than a tenth of the first loss), too short (the best evaluation is the
    last, and a tenth of the whole fall came in the last third), else good. Without validation only the first two can be
    told.
    """
    held = [value for value in validation if math.isfinite(value)]
    seen = [value for value in steps if math.isfinite(value)]
    tenth = max(1, len(seen) // 10)
    start = sum(seen[:tenth]) / tenth if seen else math.nan
    end = sum(seen[-tenth:]) / tenth if seen else math.nan
    told_steps = f"training loss {_number(start)} at first, {_number(end)} at the end" if seen else ""
    lost = len(held) < len(validation) or len(seen) < len(steps)
    enough = len(seen) >= 10  # single steps are noisy
    if lost or (enough and end > start * (1 + ROSE) and (not held or held[-1] >= held[0])):
        what = "the loss became no number" if lost else told_steps
        return Course("diverging", what, "a lower learning_rate, a longer warm-up or max_grad_norm: 0.5")
    moved = len(held) >= 2 and min(held) <= held[0] * (1 - MOVED)
    if enough and end > start * (1 - LEARNED) and not moved:
        return Course(
            "underfit",
            f"{told_steps}: even the training rows were not learned",
            "a higher learning_rate, more epochs, or an adapter that trains more weights",
        )
    if len(held) < 2:
        return Course("unknown", told_steps)
    best_at = min(range(len(held)), key=held.__getitem__)
    first, best, last = held[0], held[best_at], held[-1]
    told = f"validation loss {_number(first)} first, {_number(best)} best, {_number(last)} last"
    at = best_at if kept is None or not 0 <= kept < len(held) else kept
    train_loss = sample[at] if at < len(sample) else math.nan
    told_gap = ""
    if math.isfinite(train_loss):
        told_gap = f"; at the step kept {_number(held[at])}, on training rows {_number(train_loss)}"
    rose = last > best * (1 + ROSE) and last - best > 0.1 * (first - best)
    fell_on = (math.isfinite(train_loss) and len(sample) == len(held) and sample[-1] < sample[best_at]) or (
        not sample and enough and end < start
    )
    calm = "fewer epochs, a lower learning_rate, weight_decay, dropout or neftune_alpha, or more training rows"
    if rose and (fell_on or not (sample or enough)):
        return Course("overfit", f"{told}: it rose again{told_gap}", f"{calm} (the weights kept are those before it)")
    if rose:
        return Course(
            "diverging",
            f"{told}: it rose again, and so did training{told_gap}",
            "a lower learning_rate or more warm-up",
        )
    if math.isfinite(train_loss) and train_loss < GAP * held[at] and held[at] - train_loss > 0.1 * first:
        return Course("overfit", f"{told}{told_gap}: the training rows are known by heart", calm)
    if not moved:
        if enough and end < start * (1 - LEARNED):
            return Course("overfit", f"{told}: it did not fall, while {told_steps}", calm)
        return Course("underfit", f"{told}: it did not fall", "a higher learning_rate or more epochs")
    third = held[min(len(held) - 2, (2 * len(held)) // 3 - 1 if len(held) >= 3 else 0)]
    if (
        best_at == len(held) - 1
        and not stopped == "early"
        and len(held) >= 3
        and third - last > FALLING * (first - best)
    ):
        return Course("too short", f"{told}: it was still falling at the end{told_gap}", "more epochs")
    return Course("good", f"{told}{told_gap}")


def course_of(history: Sequence[Mapping[str, Any]], *, best_step: int | None, stopped: str = "") -> Course:
    """The course of a run, from its rows of metrics.jsonl."""
    evaluated = [row for row in history if isinstance(row.get("validation/loss"), float)]
    kept = next((number for number, row in enumerate(evaluated) if row.get("step") == best_step), None)
    return course(
        [row["validation/loss"] for row in evaluated],
        [row["loss"] for row in history if isinstance(row.get("loss"), float)],
        [row.get("train_sample/loss", math.nan) for row in evaluated] if _sampled(evaluated) else (),
        kept=kept,
        stopped=stopped,
    )


def _sampled(evaluated: Sequence[Mapping[str, Any]]) -> bool:
    return any("train_sample/loss" in row for row in evaluated)


def _number(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{value:.3f}"
