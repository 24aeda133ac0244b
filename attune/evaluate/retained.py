"""What a tuned model forgot: the retained suites before and after, in points."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from attune.evaluate.suites.base import Measured, Questions, Subject, Suite, change, measure

if TYPE_CHECKING:
    import numpy as np
    from transformers import PreTrainedTokenizerBase

    from attune.evaluate.results import Retained
    from attune.model.policy import Policy
    from attune.objectives.base import Objective
    from attune.recipe import Recipe
    from attune.runs import Run

__all__ = [
    "Lost",
    "Suites",
    "halves",
    "retained_suites",
    "ask",
    "lost",
    "subject_for",
    "untouched",
    "retained",
    "told",
    "WORDS",
]

WORDS = {
    True: "{} was kept",
    False: "{} was NOT kept",
    None: "{} may have been exceeded: these questions are too few to tell",
}
"""Whether a limit was kept, by `Retained.inside`."""

Suites = list[tuple[Suite, Questions]]

LONGEST = 512
"""Tokens of a retained text that are read."""


class Lost(NamedTuple):
    """Points that a suite lost (negative: gained), with their 95 % interval, over `n` questions.

    A point is one per cent: of the answers, where they are right or wrong; of the base's loss, where text is scored.
    """

    points: float
    low: float
    high: float
    n: int
    relative: bool
    """Whether it is a change of the loss, not a difference of shares."""

    @property
    def counted(self) -> float:
        """What a choice of weights compares a limit with: the upper end of the interval for text, whose intervals are
        narrow; for shares of answers the points themselves, since an interval over n answers is wider than any useful
        limit."""
        return self.high if self.relative else self.points


def retained_suites(recipe: Recipe) -> Suites:
    """The suites of `retain.suites` with their questions.

    Raises: DataError or MachineError if one cannot be read.
    """
    from attune.evaluate.suites.compared import load_suites

    return load_suites(recipe.retain.suites)


def halves(suites: Suites) -> tuple[Suites, Suites]:
    """Every other question to choose by, the rest to report: a figure that a choice was made by flatters."""
    parts: tuple[Suites, Suites] = ([], [])
    for suite, questions in suites:
        for number, part in enumerate(parts):
            part.append((suite, replace(questions, records=questions.records[number::2])))
    return parts


def subject_for(policy: Policy, tokenizer: PreTrainedTokenizerBase, recipe: Recipe, layout: str) -> Subject:
    """A language model as it is, ready to be asked."""
    from attune.data.render import Renderer

    context = getattr(policy.config.get_text_config(), "max_position_embeddings", None) or LONGEST
    renderer = Renderer(
        tokenizer, template=recipe.model.chat_template, max_length=min(LONGEST, context), truncate="left"
    )
    return Subject(policy, tokenizer, renderer, layout, recipe.evaluate, seed=recipe.seed)


def untouched(recipe: Recipe, tokenizer: PreTrainedTokenizerBase) -> Subject:
    """The model that losses count from (`retain.base`, or the one that training starts from), ready to be asked."""
    from attune.evaluate.suites.compared import subject_of
    from attune.model.load import load_model

    base = subject_of(load_model(recipe.retain.base or recipe.model, head="lm"), "lm", recipe, tokenizer, None)
    base.renderer = subject_for(base.policy, tokenizer, recipe, base.layout).renderer
    return base


def ask(suites: Suites, subject: Subject, say: Callable[[str], None] = lambda line: None) -> dict[str, Measured]:
    """Figures by suite; one that cannot be asked of this model is left out, and the reason said."""
    found = {}
    for suite, questions in suites:
        if reason := suite.why_not(questions, subject):
            say(f"retained suite {suite.label} left out: {reason}")
            continue
        found[suite.label] = measure(suite, questions, subject)
    return found


def lost(before: Measured, after: Measured, *, n: int = 1000, seed: int = 0) -> Lost:
    """What was lost between two measurements of the same questions, paired by question."""
    import numpy as np

    from attune.evaluate.measure import metrics_for
    from attune.evaluate.stats import bootstrap

    name = "loss" if after.primary == "perplexity" and "loss" in after.statistics else after.primary
    (metric,) = metrics_for(after.task, [name])
    first, second = before.statistics[name], after.statistics[name]
    is_share = metric.higher_is_better and 0 <= metric.value(first) <= 1 and 0 <= metric.value(second) <= 1
    points: Any = _Points(metric, first.shape[1], relative=not is_share)
    value, low, high, rows = bootstrap(points, np.hstack([first, second]), n=n, seed=seed)
    return Lost(value, low, high, rows, not is_share)


class _Points:
    """Points lost as a metric over paired rows, so that the bootstrap of the rest applies."""

    def __init__(self, metric: Any, width: int, *, relative: bool):
        self.metric, self.width, self.relative = metric, width, relative

    def value(self, table: np.ndarray) -> float:
        before, after = self.metric.value(table[:, : self.width]), self.metric.value(table[:, self.width :])
        sign = 1 if self.metric.higher_is_better else -1
        if not self.relative:
            return 100 * sign * (before - after)
        return 100 * sign * (before - after) / abs(before) if before else math.nan


def retained(
    run: Run,
    recipe: Recipe,
    objective: Objective,
    tokenizer: PreTrainedTokenizerBase,
    facts: Mapping[str, Any],
    *,
    say: Callable[[str], None] = lambda line: None,
) -> Retained | None:
    """What was forgotten: every retained suite, asked of the base and of the saved model. None where nothing is asked.

    Where retained suites chose the weights, only the questions that had no part in it are asked. `facts` is what
    training left under `retain`.
    """
    from attune.evaluate.suites.compared import subject_of
    from attune.model.language import language_model, no_language_model
    from attune.model.save import open_model

    suites = retained_suites(recipe)
    if not suites:
        return None
    limit = recipe.retain.limit
    found: Retained = {
        "rows": [], "limit": limit, "inside": None, "note": "", "why": facts.get("why", ""),
        "points": facts.get("points", []), "figure": facts.get("figure", ""), "kept": facts.get("kept"),
    }  # fmt: skip
    if reason := no_language_model(recipe):
        found["note"] = f"Not measured: {reason}."
        say(f"forgetting is not measured: {reason}")
        return found
    if limit is not None:
        suites = halves(suites)[1]
        found["note"] = "The other half of the questions chose the weights, so they are not asked here."
    if objective.head != "lm":
        found["note"] += " Measured under the base's own output layer, since the tuned head is for labels."
    if recipe.retain.base is not None:
        found["note"] += f" Counted from {recipe.retain.base.base}, not from the model that training started from."
    started = time.monotonic()
    before = ask(suites, untouched(recipe, tokenizer), say)
    tuned = subject_of(open_model(run.model_dir, recipe)[0], objective.head, recipe, tokenizer, objective)
    after = ask(suites, subject_for(language_model(tuned.policy, recipe), tokenizer, recipe, tuned.layout))
    drops = []
    for name, then in before.items():
        now = after[name]
        drop = lost(then, now, n=recipe.evaluate.bootstrap, seed=recipe.seed)
        drops.append(drop)
        found["rows"].append(
            {
                "suite": name,
                "figure": then.primary,
                "n": drop.n,
                "before": then.value._asdict(),  # type: ignore[typeddict-item]
                "after": now.value._asdict(),  # type: ignore[typeddict-item]
                "points": drop.points,
                "low": drop.low,
                "high": drop.high,
                "p": change(then, now, n=recipe.evaluate.bootstrap, seed=recipe.seed).p,
                "relative": drop.relative,
            }
        )
        say(f"retained {name}: {then.primary} {then.value.value:.4g} -> {now.value.value:.4g}, {told(drop)}")
    found["note"] = f"{found['note']} Asking took {time.monotonic() - started:.1f} s.".strip()
    if limit is not None and before:
        found["inside"] = _inside(drops, limit)
        say(WORDS[found["inside"]].format(f"the limit of {limit:g} points"))
    return found


def _inside(drops: list[Lost], limit: float) -> bool | None:
    """Whether every suite lost no more than the limit; None where one lies above it, but not its whole interval.

    The weights were chosen by the upper end of the interval. To ask that of these questions too would fail every other
    choice that lies at the limit.
    """
    if all(drop.points <= limit for drop in drops):
        return True
    return False if any(drop.low > limit for drop in drops) else None


def told(drop: Lost) -> str:
    """`lost 1.2 points (0.4 to 2.0)`, or gained."""
    word = "lost" if drop.points > 0 else "gained"
    low, high = (drop.low, drop.high) if drop.points > 0 else (0 - drop.high, 0 - drop.low)
    span = f"{low:.2f} to {high:.2f}".replace("-", "\N{MINUS SIGN}")
    return f"{word} {abs(drop.points):.2f} points ({span})"
