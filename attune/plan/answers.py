"""What the final evaluation will take: every system answers a few rows for real, and the rest is reckoned from them."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from attune import plugins
from attune.data.prepared import Windows
from attune.data.some import spread
from attune.evaluate.baselines.base import Context
from attune.evaluate.measure import metrics_for
from attune.evaluate.predictions import Predictions
from attune.evaluate.stats import bootstrap
from attune.evaluate.systems import answers_of, asked_rows, baseline_names, context_of, placed, placed_base
from attune.model.save import open_model
from attune.plan.grow import Cost, grow
from attune.plan.suites import suite_costs

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from attune.data.prepared import Prepared
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
    """What the final evaluation costs: each system on each task, the suites, the figures, the loading of models; and
    zero-shot on training rows.

    `seconds` is what each system may be measured for; at `until` (monotonic) the baselines that remain are skipped, the
    essential ones never. Costs are taken from test texts, accuracy from training rows only.
    """
    part = next((name for name in ("test", "validation") if name in prepared.stores), None)
    if part is None:
        return {}
    began = time.monotonic()
    model, _ = open_model(run.model_dir, recipe)
    tuned = placed(model, objective.head, recipe)
    found: dict[str, Any] = {"part": part, "load_seconds": time.monotonic() - began, "base_seconds": 0.0}
    found |= {"systems": [], "skipped": [], "zero_shot": {}}
    tasks = {name: one for name, one in (prepared.tasks or {"": prepared}).items() if part in one.stores}
    began = time.monotonic()
    base = None
    if any(_asks_base(recipe, one) for one in tasks.values()):
        base, _ = placed_base(recipe, fast=prepared.task != "text")
    found["base_seconds"] = time.monotonic() - began
    for name, one in tasks.items():
        asking = _Task(run, recipe, one, objective, tokenizer, part, seconds / len(tasks), bool(prepared.tasks))
        costs = {"tuned": asking.tuned(*tuned)}
        if one.task == "text":
            if recipe.evaluate.baselines != []:
                costs["base"] = costs["tuned"]
        else:
            costs |= asking.baselines(base, until, found["skipped"])
        if asking.tried:
            found["zero_shot"][name] = asking.tried
        each = _figures_seconds(recipe, one, asking.asked) if asking.asked else 0.0
        for system, cost in costs.items():
            row = {"system": system, "task": name, "rows": asking.total, "writes": asking.writes, "figures": each}
            found["systems"].append(row | vars(cost))
    found["suites"], found["loads"] = suite_costs(recipe, objective, tokenizer, model, seconds=seconds)
    return found


def _asks_base(recipe: Recipe, prepared: Prepared) -> bool:
    if prepared.task == "text":
        return recipe.evaluate.baselines != []
    return bool(baseline_names(recipe, prepared.task, one_of_several=True))


class _Task:
    """What asking each system the rows of one task takes."""

    def __init__(
        self,
        run: Run,
        recipe: Recipe,
        prepared: Prepared,
        objective: Objective,
        tokenizer: PreTrainedTokenizerBase,
        part: str,
        seconds: float,
        one_of_several: bool,
    ):
        self.run, self.recipe, self.prepared, self.objective = run, recipe, prepared, objective
        self.tokenizer, self.part, self.seconds, self.one_of_several = tokenizer, part, seconds, one_of_several
        self.asked = asked_rows(recipe, prepared, objective, list(getattr(prepared, part)))
        self.store = prepared.stores[part]
        self.writes = objective.head == "lm" and prepared.task != "text"
        self.total = len(self.store) if prepared.task == "text" else len(self.asked)
        self.group = _group(recipe, prepared, self.asked) if self.writes else 16
        self.tried: dict[str, int] = {}

    def tuned(self, policy: Any, layout: str) -> Cost:
        common = (self.recipe, self.prepared, self.objective, self.tokenizer, self.part)

        def run(size: int) -> float:
            began = time.monotonic()
            some = _some(self.asked, size)
            fewer: Any = self.store
            if self.prepared.task == "text":
                fewer = Windows(self.store.rows[:size])
            elif self.objective.head != "lm":
                fewer = self.objective.store(some, self.prepared.renderer)
            small = replace(self.prepared, stores={**self.prepared.stores, self.part: fewer})
            answers_of(policy, layout, common[0], small, *common[2:], some, some)
            return time.monotonic() - began

        return grow(run, self.total, start=self.group, limit=self.seconds / 3)

    def baselines(self, base: Any, until: float, skipped: list[str]) -> dict[str, Cost]:
        """Each baseline of the task; `skipped` gets the names of those that there was no time to measure."""
        names = baseline_names(self.recipe, self.prepared.task, one_of_several=self.one_of_several)
        context = context_of(self.recipe, self.prepared, self.tokenizer, self.asked, base)
        each = self.seconds / max(1, len(names))
        costs: dict[str, Cost] = {}
        for name in sorted(names, key=lambda name: name not in ESSENTIAL):
            baseline: Any = plugins.get("baseline", name)()
            if baseline.why(context) is not None:
                continue
            if time.monotonic() > until and name not in ESSENTIAL:
                if name not in skipped:
                    skipped.append(name)
            elif name == "zero_shot" and self.prepared.task in ("classification", "multilabel"):
                costs[name], self.tried = _tried(baseline, context)
            else:
                costs[name] = _baseline_cost(baseline, context, limit=each, group=self.group)
        return costs


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

    # prompts full of examples are all as long as the context allows: a few of them tell what each costs
    start = group if prompted and not by_likelihood else 4 if prompted else 16
    rows = grow(run, len(context.test), start=start, limit=limit)
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


def _figures_seconds(recipe: Recipe, prepared: Prepared, asked: list[Record]) -> float:
    """Metrics and their intervals for one system: their cost with few resamples, times resamples."""
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
    return once + 1.3 * draws * recipe.evaluate.bootstrap / 100


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
