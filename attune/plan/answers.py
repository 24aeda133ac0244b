"""What the final evaluation will take: every system answers a few rows for real, and the rest is reckoned from them."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from attune import plugins
from attune.data.prepare import Windows
from attune.evaluate.baselines.base import Context
from attune.evaluate.measure import metrics_for
from attune.evaluate.predictions import Predictions
from attune.evaluate.stats import bootstrap
from attune.evaluate.systems import baseline_names, context_of, placed_base, spread, tuned_answers
from attune.plan.grow import Cost, grow

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from attune.data.prepare import Prepared
    from attune.objectives.base import Objective
    from attune.recipe import Recipe
    from attune.records import Record
    from attune.runs import Run

__all__ = ["measure_answers", "ESSENTIAL"]

ESSENTIAL = ("tuned", "base", "majority", "lead", "lexicon", "tfidf")
"""Systems without which a report proves nothing; the others may give way to a budget, dearest first."""
SHOWN_TRAIN = 16
"""Training rows that a prompted baseline is rehearsed with; those it tries itself on are taken from them."""
CHECKED = 64
"""Training rows on which label likelihoods are normalised (`prompting.CHECKED`)."""
CV_WEIGHT = 12
"""Fits of a linear baseline's cross-validation, in passes over its rows: 6 settings x 3 folds x 2/3 of the rows."""
LINEAR = ("tfidf", "frozen_encoder")
PROMPTED = ("zero_shot", "zero_shot_generated", "few_shot", "few_shot_retrieved")


def measure_answers(
    run: Run,
    recipe: Recipe,
    prepared: Prepared,
    objective: Objective,
    tokenizer: PreTrainedTokenizerBase,
    *,
    seconds: float,
    until: float,
) -> dict[str, Any]:
    """System -> seconds it will take on all rows asked, share measured; the figures' own cost; zero-shot on train rows.

    `seconds` is what each system may be measured for; at `until` (monotonic) the baselines that remain are skipped, the
    essential ones never. Costs are taken from test texts, accuracy from training rows only.
    """
    part = next((name for name in ("test", "validation") if name in prepared.stores), None)
    if part is None:
        return {}
    records = list(getattr(prepared, part))
    asked = records
    if prepared.task == "generation":
        asked = [records[at] for at in spread(len(records), recipe.evaluate.generate_rows)]
    costs: dict[str, Cost] = {}
    store = prepared.stores[part]

    def tuned(size: int) -> float:
        began = time.monotonic()
        some = _some(asked, size)
        fewer: Any = Windows(store.rows[:size]) if prepared.task == "text" else objective.store(some, prepared.renderer)
        small = replace(prepared, stores={**prepared.stores, part: fewer})
        tuned_answers(run, recipe, small, objective, tokenizer, part, some, some)
        return time.monotonic() - began

    writes = prepared.task == "generation"
    total = len(asked) if prepared.task != "text" else len(store)
    start = _group(recipe, prepared, asked) if writes else 16
    costs["tuned"] = grow(tuned, total, start=start, limit=seconds / 3)
    found: dict[str, Any] = {"part": part, "rows": total, "writes": writes}
    began = time.monotonic()
    names = baseline_names(recipe, prepared.task)
    if prepared.task == "text":
        if recipe.evaluate.baselines != []:
            costs["base"] = costs["tuned"]
    elif names:
        base, _ = placed_base(recipe, fast=True)
        context = context_of(recipe, prepared, tokenizer, asked, base)
        found["base_seconds"] = time.monotonic() - began
        each = seconds / max(1, len(names))
        found["skipped"] = []
        for name in sorted(names, key=lambda name: name not in ESSENTIAL):
            baseline: Any = plugins.get("baseline", name)()
            if baseline.why(context) is None:
                if time.monotonic() > until and name not in ESSENTIAL:
                    found["skipped"].append(name)
                    continue
                if name == "zero_shot" and prepared.task in ("classification", "multilabel"):
                    costs[name], found["zero_shot"] = _tried(baseline, context)
                else:
                    costs[name] = _baseline_cost(baseline, context, limit=each, group=start)
    found["systems"] = {
        name: {"seconds": cost.seconds, "measured": cost.measured, "spent": cost.spent} for name, cost in costs.items()
    }
    found["figures_seconds"] = _figures_seconds(recipe, prepared, asked, len(costs)) if asked else 0.0
    return found


def _baseline_cost(baseline: Any, context: Context, *, limit: float, group: int) -> Cost:
    if baseline.name in LINEAR:
        return _linear_cost(baseline, context, limit=limit)
    prompted = baseline.name in PROMPTED and context.engine is not None
    train = _some(context.train, SHOWN_TRAIN) if prompted else context.train
    by_likelihood = context.task in ("classification", "multilabel") and baseline.name != "zero_shot_generated"
    checks = min(CHECKED, len(context.labelled) // 2) / max(1, min(CHECKED, len(train) // 2)) if prompted else 1.0
    fitting: list[float] = []

    def run(size: int) -> float:
        answer = baseline.predict(replace(context, train=train, test=_some(context.test, size)))
        fitting.append(answer.trained_seconds)
        return answer.seconds

    # prompts full of examples are all as long as the context allows: four of them tell what each costs
    start = group if prompted and not by_likelihood else 4 if prompted else 16
    rows = grow(run, len(context.test), start=start, limit=0.0 if prompted else limit)
    return Cost(rows.seconds + min(fitting) * checks, rows.measured, rows.spent + sum(fitting))


def _linear_cost(baseline: Any, context: Context, *, limit: float) -> Cost:
    """Linear models: reading texts grows with the rows, cross-validation only up to its own limit of rows."""
    from attune.evaluate.baselines.linear import CV_CELLS

    embedding = 0.0
    encode = context.encoder
    if baseline.name == "frozen_encoder" and encode is None:
        from attune.data.embeddings import minilm

        encode = minilm()
    if encode is not None:
        encode(["The first call loads what the others use."])

    def timed(texts: list[str]) -> np.ndarray:
        nonlocal embedding
        began = time.monotonic()
        found = encode(texts)  # type: ignore[misc]
        embedding += time.monotonic() - began
        return found

    rows, asked = context.labelled, len(context.test)
    most = max(1000, CV_CELLS // max(1, len(context.labels)))

    def work(size: int) -> float:
        return float(CV_WEIGHT * min(size, most) + size)

    def sample(size: int) -> Context:
        few = _some(context.test, max(1, round(asked * size / len(rows))))
        return replace(context, train=_some(rows, size), test=few, encoder=timed if encode is not None else None)

    # The first call loads libraries, and every call has a part that does not grow: two sizes tell what grows.
    spent = _timed(baseline, sample(min(len(rows), 32)))
    size, before = min(len(rows), 48), (0.0, 0.0)
    while True:
        embedding = 0.0
        seconds = _timed(baseline, sample(size))
        spent += seconds
        now = (work(size), seconds - embedding)
        if size == len(rows) or (before[0] and spent + 3 * seconds > limit):
            break
        size, before = min(len(rows), 3 * size), now
    growth = max(0.0, (now[1] - before[1]) / (now[0] - before[0]))
    fitted = now[1] + growth * (work(len(rows)) - now[0])
    return Cost(fitted + embedding * len(rows) / size, size / len(rows), spent)


def _timed(baseline: Any, context: Context) -> float:
    began = time.monotonic()
    baseline.predict(context)
    return time.monotonic() - began


def _tried(baseline: Any, context: Context) -> tuple[Cost, dict[str, int]]:
    """Zero-shot on some training rows: its cost, and how many it gets right, to tell whether prompting may do."""
    began = time.monotonic()
    rows = _some(context.labelled, min(32, max(1, len(context.labelled) // 2)))
    asked = {record.id for record in rows}
    others = [record for record in context.labelled if record.id not in asked][:SHOWN_TRAIN]
    answer = baseline.predict(replace(context, train=others, test=rows))
    right = sum(output == record.label for output, record in zip(answer.outputs, rows))
    checks = min(CHECKED, len(context.labelled) // 2) / max(1, min(CHECKED, len(others) // 2))
    fitting = answer.trained_seconds * (checks if context.engine is not None else 1.0)
    seconds = answer.seconds * len(context.test) / len(rows) + fitting
    cost = Cost(seconds, len(rows) / max(1, len(context.test)), time.monotonic() - began)
    return cost, {"right": int(right), "rows": len(rows)}


def _figures_seconds(recipe: Recipe, prepared: Prepared, asked: list[Record], systems: int) -> float:
    """Metrics and their intervals: one system's cost with few resamples, times systems and resamples."""
    train = prepared.train
    answers = [train[at % len(train)] for at in range(len(asked))]
    outputs: list[Any] = [one.completions[0].text if one.completions else one.label for one in answers]
    scores = None
    if prepared.task in ("classification", "multilabel"):
        scores = np.full((len(asked), len(prepared.labels)), 1 / len(prepared.labels))
    logp = np.tile([-1.0, 1.0], (len(asked), 1)) if prepared.task == "generation" else None
    same = Predictions("reference", outputs, scores=scores, labels=list(prepared.labels), logp=logp)
    same.stopped = [True] * len(asked) if prepared.task == "generation" else same.stopped
    began, draws = time.monotonic(), 0.0
    for metric in metrics_for(prepared.task, recipe.evaluate.metrics, asked):
        table = metric.statistics(asked, same)
        if not np.isfinite(metric.value(table)):
            continue
        before = time.monotonic()
        bootstrap(metric, table, n=100)
        draws += time.monotonic() - before
    once = time.monotonic() - began - draws
    return systems * (once + 1.3 * draws * recipe.evaluate.bootstrap / 100)


def _group(recipe: Recipe, prepared: Prepared, asked: list[Record]) -> int:
    """Rows that are written side by side."""
    some = _some(asked, 32)
    mean = np.mean([len(prepared.renderer.prompt_ids(record)) for record in some]) if some else 1
    return max(2, int(recipe.evaluate.batch_tokens / (mean + recipe.evaluate.max_new_tokens)))


def _some(records: list[Record], size: int) -> list[Record]:
    """Rows spread over the lengths, the longest among them."""
    if size >= len(records):
        return list(records)
    order = sorted(range(len(records)), key=lambda at: len(records[at].text))
    return [records[order[at]] for at in spread(len(records), size)]
