"""What asking the suites takes: some questions of each are asked for real, of the model that the rehearsal saved."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from attune.data.some import spread
from attune.evaluate.retained import halves, retained_suites, subject_for
from attune.evaluate.suites.base import Questions, Subject, Suite, measure
from attune.evaluate.suites.compared import load_suites, subject_of
from attune.evaluate.systems import placed
from attune.model.language import language_model, no_language_model
from attune.plan.grow import Cost, grow

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from attune.objectives.base import Objective
    from attune.recipe import Recipe

__all__ = ["suite_costs"]

START = 32
"""Questions asked first; enough of them to fill a forward pass, so that its memory is met."""


def suite_costs(
    recipe: Recipe, objective: Objective, tokenizer: PreTrainedTokenizerBase, model: Any, *, seconds: float
) -> tuple[list[dict[str, Any]], int]:
    """What `retain.suites` and `evaluate.suites` take, every model that is asked together, and how many are loaded.

    `model` is the tuned one, opened; `seconds` is what all of them may be measured for.
    """
    writes = objective.head == "lm"
    kept = [] if no_language_model(recipe) else retained_suites(recipe)
    if recipe.retain.limit is not None:  # the other half was asked while training
        kept = halves(kept)[1]
    further = load_suites(recipe.evaluate.suites)
    base_too = writes and recipe.model.from_config is None
    rows: list[dict[str, Any]] = []
    loads = 0
    for suites, models, which in ((kept, 2, "retained"), (further, 1 + base_too, "suite")):
        if not suites:
            continue
        if which == "retained":
            policy, layout = placed(model, objective.head, recipe)
            subject = subject_for(language_model(policy, recipe), tokenizer, recipe, layout)
            loads += models + (not writes)
        else:
            subject = subject_of(model, objective.head, recipe, tokenizer, objective)
            loads += models
        for suite, questions in suites:
            if suite.why_not(questions, subject):
                continue
            cost = _asked(suite, questions, subject, limit=seconds / len([*kept, *further]))
            seconds_all = models * cost.seconds
            rows.append({"suite": f"{which} {suite.label}", "seconds": seconds_all, "measured": cost.measured})
    return rows, loads


def _asked(suite: Suite, questions: Questions, subject: Subject, *, limit: float) -> Cost:
    """One model's time for all questions."""
    order = np.argsort([len(record.full_text) for record in questions.records], kind="stable")

    def run(size: int) -> float:
        some = [
            questions.records[int(order[at])] for at in spread(len(order), size)
        ]  # over the lengths, the longest too
        began = time.monotonic()
        measure(suite, replace(questions, records=some), subject)
        return time.monotonic() - began

    return grow(run, len(order), start=START, limit=limit)
