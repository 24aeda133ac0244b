"""Figures of one system on one split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from attune import plugins
from attune.data.templates.base import NAME
from attune.evaluate.predict import predict_labels, predict_text

if TYPE_CHECKING:
    from attune.data.prepare import Prepared
    from attune.model.policy import Policy
    from attune.objectives.base import Objective
    from attune.recipe import Recipe
    from attune.records import Record

__all__ = ["PRIMARY", "judged_by", "metrics_for", "quick_figures", "watched"]

PRIMARY = {
    "classification": "f1_macro",
    "multilabel": "f1_micro",
    "regression": "mse",
    "tagging": "span_f1",
    "generation": "loss",
    "text": "loss",
}
"""The figure that decides where the recipe names none."""


LOWER_IS_BETTER = ("loss", "perplexity", "mse", "mae", "log_loss", "brier", "ece", "invalid_rate")


def watched(recipe: Recipe, task: str) -> tuple[str, bool]:
    """The validation figure that chooses the checkpoint (and between the trials of a search): its name, and whether
    higher is better."""
    name = PRIMARY[task] if recipe.evaluate.primary is None else recipe.evaluate.primary
    if recipe.train.early_stopping is not None and recipe.train.early_stopping.metric:
        name = recipe.train.early_stopping.metric
    return name, name not in LOWER_IS_BETTER


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
