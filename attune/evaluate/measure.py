"""Figures of one system on one split."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from attune import plugins
from attune.data.templates.base import NAME
from attune.errors import RecipeError
from attune.evaluate.predict import predict_labels, predict_text

if TYPE_CHECKING:
    from attune.data.prepared import Prepared
    from attune.model.policy import Policy
    from attune.objectives.base import Objective
    from attune.recipe import Recipe
    from attune.records import Record

__all__ = ["PRIMARY", "check_figures", "judged_by", "metrics_for", "quick_figures", "watched"]

PRIMARY = {
    "classification": "f1_macro",
    "multilabel": "f1_micro",
    "regression": "mse",
    "tagging": "span_f1",
    "generation": "loss",
    "text": "loss",
}
"""The figure that decides where the recipe names none."""


def watched(recipe: Recipe, task: str, head: str) -> tuple[str, bool]:
    """The validation figure that chooses the checkpoint (and between the trials of a search): its name, and whether
    higher is better. A model that writes is watched by its loss: answers are written after training only."""
    stopping = recipe.train.early_stopping
    name = (stopping.metric if stopping is not None else None) or recipe.evaluate.primary or PRIMARY[task]
    if head == "lm":
        name = "loss"
    return name, bool(plugins.get("metric", name).higher_is_better)  # type: ignore[attr-defined]


def check_figures(recipe: Recipe, tasks: Collection[str], head: str) -> None:
    """Refuse figures that cannot be computed, before a step is made.

    Raises: RecipeError for a figure of `evaluate` that fits none of the data's tasks, or of early stopping that
    training cannot watch.
    """
    found: dict[str, Any] = plugins.find("metric")
    stopping = recipe.train.early_stopping.metric if recipe.train.early_stopping is not None else None
    asked: dict[str, list[str | None]] = {
        "evaluate.metrics": [] if recipe.evaluate.metrics == "auto" else [*recipe.evaluate.metrics],
        "evaluate.primary": [recipe.evaluate.primary],
        "train.early_stopping.metric": [stopping] if stopping != "loss" else [],
    }
    fitting = sorted(name for name, metric in found.items() if set(metric.tasks) & set(tasks))
    for key, names in asked.items():
        if unfit := [name for name in names if name is not None and name not in fitting]:
            raise RecipeError(
                f"{key}: {', '.join(unfit)} cannot be computed on {' or '.join(sorted(tasks))} data",
                where=recipe.where(key),
                fix=f"one of: {', '.join(fitting)}",
            )
    if head == "lm" and stopping not in (None, "loss"):
        raise RecipeError(
            f"train.early_stopping.metric: {stopping} cannot be watched while a model that writes is trained",
            where=recipe.where("train.early_stopping.metric"),
            why="answers are written after training only",
            fix="train.early_stopping.metric: loss",
        )


def judged_by(records: Sequence[Record]) -> tuple[list[str], str]:
    """Names of the metrics of written answers to these records, and the one that decides, by their templates."""
    names = sorted({record.meta.get(NAME, "none") for record in records})
    found: list[Any] = [plugins.get("template", name) for name in names] or [plugins.get("template", "none")]
    metrics = list(dict.fromkeys(metric for template in found for metric in template.metrics))
    return metrics, found[0].primary if len(found) == 1 else plugins.get("template", "none").primary  # type: ignore[attr-defined]


def metrics_for(task: str, wanted: Any = "auto", records: Sequence[Record] = ()) -> list[Any]:
    """Metric objects of a task (for written answers: of the records' templates), or those named."""
    found = plugins.find("metric")
    if task == "generation" and wanted == "auto":
        wanted = judged_by(records)[0]
    chosen = [name for name, metric in found.items() if task in metric.tasks] if wanted == "auto" else list(wanted)  # type: ignore[attr-defined]
    return [found[name]() for name in chosen]


def quick_figures(
    policy: Policy, objective: Objective, prepared: Prepared, part: str, *, layout: str, pad_id: int, batch_tokens: int
) -> dict[str, float]:
    """What training watches: the loss, and the task's metrics where the model has a head for it.

    Of several tasks: each one's figures under its name, and their plain means over tasks, large or small.
    """
    if prepared.tasks:
        return _of_tasks(policy, objective, prepared, part, layout=layout, pad_id=pad_id, batch_tokens=batch_tokens)
    records: list[Record] = getattr(prepared, part)
    store = prepared.stores[part]
    if objective.head == "lm":
        _, loss = predict_text(
            policy, objective, store, records, layout=layout, pad_id=pad_id, batch_tokens=batch_tokens
        )
        return {f"{part}/loss": loss}
    predictions, loss = predict_labels(
        policy, objective, store, records, prepared.renderer, layout=layout, pad_id=pad_id, batch_tokens=batch_tokens
    )
    figures = {f"{part}/loss": loss}
    for metric in metrics_for(prepared.task):
        value = metric.value(metric.statistics(records, predictions))
        if value == value:  # NaN: not defined for these answers
            figures[f"{part}/{metric.name}"] = value
    return figures


def _of_tasks(policy: Policy, objective: Objective, prepared: Prepared, part: str, **common: Any) -> dict[str, float]:
    figures: dict[str, float] = {}
    gathered: dict[str, list[float]] = {}
    having = [name for name, one in prepared.tasks.items() if part in one.stores]
    # the joined store may know more of its examples than each task's own: what a teacher says of them
    for name, store in zip(having, prepared.stores[part].stores, strict=True):
        one = replace(prepared.tasks[name], stores={part: store})
        for key, value in quick_figures(policy, objective, one, part, **common).items():
            figures[f"{part}/{name}/{key.removeprefix(f'{part}/')}"] = value
            gathered.setdefault(key, []).append(value)
    return {**{key: sum(values) / len(values) for key, values in gathered.items()}, **figures}
