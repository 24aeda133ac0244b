"""Figures of several tasks, and the one number that stands for all: the plain mean of each task's main figure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from attune.evaluate.measure import metrics_for
from attune.evaluate.stats import Paired, bootstrap, paired
from attune.evaluate.systems import placed, placed_base

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from attune.data.prepared import Prepared
    from attune.objectives.base import Objective
    from attune.recipe import Recipe
    from attune.records import Record
    from attune.runs import Run

__all__ = ["Measured", "TaskMean", "measure_tasks", "BEST"]

BEST = "best_baseline"
"""On each task the baseline that is best there: what one would use instead of one model for all."""


@dataclass
class Measured:
    """What all systems came to on the rows of one task, or of several."""

    primary: str
    higher: dict[str, bool]
    rows: list[dict[str, Any]]
    """`results.System`, the tuned one first."""
    versus: dict[str, Paired]
    asked: list[Record]
    groups: list[str] | None
    tables: dict[str, dict[str, np.ndarray]]
    """system -> metric -> statistics."""
    samples: list[dict[str, Any]]
    tasks: list[dict[str, Any]] = field(default_factory=list)
    """`results.Task` of each, where there are several."""

    def worst(self, metric: str, pick: Callable[..., float]) -> float | None:
        """The tuned model's least favourable figure of that name over all tasks and ways of answering."""
        rows = [row for task in self.tasks for row in task["systems"]] if self.tasks else self.rows
        figures = [row["metrics"].get(metric) for row in rows if row["system"].startswith("tuned")]
        found = [figure["value"] for figure in figures if figure and figure["value"] is not None]
        return pick(found) if found else None


class TaskMean:
    """The plain mean of each task's main figure: a small task counts as much as a large one.

    Shapes: statistics [N, 1 + K]: the number of the row's task, then the statistics of that task's metric; NaN where
    that metric has fewer columns than another task's.
    """

    name = "task_mean"
    tasks = ()

    def __init__(self, metrics: Sequence[Any]):
        self.metrics = list(metrics)
        self.higher_is_better = all(metric.higher_is_better for metric in metrics)

    @classmethod
    def of(cls, tasks: Sequence[dict[str, Any]]) -> TaskMean:
        """The mean over the tasks of an evaluation (`results["tasks"]`)."""
        return cls([metrics_for(task["kind"], [task["primary"]])[0] for task in tasks])

    @staticmethod
    def joined(tables: Sequence[np.ndarray]) -> np.ndarray:
        """One table from each task's own."""
        width = max(table.shape[1] for table in tables)
        rows = [
            np.column_stack([np.full(len(table), number), table, np.full((len(table), width - table.shape[1]), np.nan)])
            for number, table in enumerate(tables)
        ]
        return np.concatenate(rows)

    def value(self, statistics: np.ndarray) -> float:
        found = []
        for number, metric in enumerate(self.metrics):
            rows = statistics[statistics[:, 0] == number]
            found.append(metric.value(rows[:, 1:][:, ~np.isnan(rows[0, 1:])]) if len(rows) else float("nan"))
        return float(np.mean(found))


def measure_tasks(
    measure: Callable[..., Measured],
    run: Run,
    recipe: Recipe,
    prepared: Prepared,
    objective: Objective,
    tokenizer: PreTrainedTokenizerBase,
    part: str,
    say: Callable[[str], None],
) -> Measured:
    """Each task by itself, with the metrics and baselines of its kind; then their mean, with a paired comparison."""
    from attune.model.save import open_model

    model, _ = open_model(run.model_dir, recipe)
    tuned = placed(model, objective.head, recipe)
    base = placed_base(recipe, fast=True)
    found: dict[str, Measured] = {}
    for name, one in prepared.tasks.items():
        if part not in one.stores:
            say(f"{name}: no {part} rows")
            continue
        started = f"{name}: "
        found[name] = measure(
            run,
            recipe,
            one,
            objective,
            tokenizer,
            part,
            lambda line, at=started: say(at + line),
            tuned=tuned,
            base=base,
        )
    tasks = [
        {
            "name": name,
            "kind": prepared.tasks[name].task,
            "primary": one.primary,
            "higher_is_better": one.higher,
            "n": len(one.asked),
            "train": len(prepared.tasks[name].stores["train"]),
            "systems": one.rows,
        }
        for name, one in found.items()
    ]
    return _mean(recipe, found, tasks)


def _mean(recipe: Recipe, found: dict[str, Measured], tasks: list[dict[str, Any]]) -> Measured:
    metrics = [metrics_for(task["kind"], [task["primary"]])[0] for task in tasks]
    best: dict[str, str] = {}
    for task, metric in zip(tasks, metrics, strict=True):
        sign = 1 if metric.higher_is_better else -1
        rows = [row for row in task["systems"] if not row["system"].startswith("tuned")]
        known = {row["system"]: row["metrics"].get(task["primary"]) for row in rows}
        values = {name: sign * figure["value"] for name, figure in known.items() if figure}
        if values:
            best[task["name"]] = max(values, key=lambda name: values[name])
    names = ["tuned", *(row["system"] for row in tasks[0]["systems"] if not row["system"].startswith("tuned"))]
    tables: dict[str, np.ndarray] = {}
    for name in [*dict.fromkeys(names), BEST]:
        parts = [
            one.tables.get(best.get(task, "") if name == BEST else name, {}).get(one.primary)
            for task, one in found.items()
        ]
        if all(table is not None and np.isfinite(table).all() for table in parts):
            tables[name] = TaskMean.joined(parts)  # type: ignore[arg-type]
    mean: Any = TaskMean(metrics)
    grouped = any(one.groups is not None for one in found.values())
    groups = None
    if grouped:
        groups = [
            f"{name}/{group}"
            for name, one in found.items()
            for group in (one.groups or [f"row {number}" for number in range(len(one.asked))])
        ]
    draws, seed = recipe.evaluate.bootstrap, recipe.seed
    rows, versus = [], {}
    notes = {
        "tuned": "mean of " + ", ".join(f"{task['name']} {task['primary']}" for task in tasks),
        BEST: ", ".join(f"{task}: {name}" for task, name in best.items()),
    }
    for name, table in tables.items():
        figure = bootstrap(mean, table, n=draws, seed=seed, groups=groups)
        row = {
            "system": name,
            "note": notes.get(name, ""),
            "seconds": _sum(tasks, best, name, "seconds"),
            "trained_seconds": _sum(tasks, best, name, "trained_seconds"),
            "metrics": {mean.name: figure._asdict()},
            "clean_metrics": None,
            "versus": None,
        }
        if name != "tuned":
            pair = versus[name] = paired(mean, tables["tuned"], table, n=draws, seed=seed, groups=groups)
            row["versus"] = pair._asdict()
        rows.append(row)
    asked = [
        replace(record, id=f"{name}/{record.id}", task=name) for name, one in found.items() for record in one.asked
    ]
    kept = {f"{name}/{key}": table for name, one in found.items() for key, table in one.tables["tuned"].items()}
    samples = [
        {**sample, "id": f"{name}/{sample['id']}"}
        for name, one in found.items()
        for sample in one.samples[:: max(1, len(found))]
    ]
    return Measured(
        mean.name,
        {mean.name: mean.higher_is_better},
        rows,
        versus,
        asked,
        groups,
        {"tuned": {mean.name: tables["tuned"], **kept}},
        samples,
        tasks,
    )


def _sum(tasks: list[dict[str, Any]], best: dict[str, str], name: str, key: str) -> float | None:
    """Seconds of a system over all tasks; None where one is unknown."""
    chosen = [
        row.get(key)
        for task in tasks
        for row in task["systems"]
        if row["system"] == (best.get(task["name"]) if name == BEST else name)
    ]
    return sum(chosen) if chosen and all(value is not None for value in chosen) else None
