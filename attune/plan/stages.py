"""A plan of several stages: each is looked at and rehearsed by itself, from the first one's base; then all together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attune.plan.look import Look, look

if TYPE_CHECKING:
    from attune.recipe import Recipe

__all__ = ["stages_of", "looks", "together", "matrix_seconds"]

SUMMED = ("train_seconds", "evaluate_seconds", "total_seconds")


def stages_of(recipe: Recipe) -> dict[str, Recipe]:
    """Every stage by its name in the run; a recipe without stages is one, called nothing.

    Later stages start from the first one's base here: what theirs will be is not trained yet, and has its shape.
    """
    if not recipe.stages:
        return {"": recipe}
    first, *later = recipe.stage_recipes
    held = ("base", "revision", "from_config", "layers")
    base = {f"model.{key}": getattr(first.model, key) for key in held}
    return {
        f"{number}-{stage.name}": stage for number, stage in enumerate([first, *(s.replace(base) for s in later)], 1)
    }


def looks(stages: Mapping[str, Recipe]) -> dict[str, dict[str, Look]]:
    """Stage -> task -> what stands in its data; a stage of one task calls it nothing."""
    from attune.data.tasks import recipe_of

    found: dict[str, dict[str, Look]] = {}
    for name, stage in stages.items():
        sources = stage.data.sources
        parts = {source.title: recipe_of(stage, source).data for source in sources} or {"": stage.data}
        found[name] = {task: look(data) for task, data in parts.items()}
    return found


def together(found: Mapping[str, dict[str, Any]], matrix: Mapping[str, float] | None = None) -> dict[str, Any]:
    """The predictions of the stages as one: times add up, of memory the most counts. `matrix` is what measuring every
    model on every stage's rows takes, where it is known."""
    every = list(found.values())
    whole: dict[str, Any] = {"steps": sum(one["steps"] for one in every)}
    for key in SUMMED:
        whole[key] = {end: round(sum(one[key][end] for one in every), 3) for end in ("value", "low", "high")}
    if matrix is not None:
        for key in ("evaluate_seconds", "total_seconds"):
            whole[key] = {end: round(value + matrix[end], 3) for end, value in whole[key].items()}
        whole["matrix_seconds"] = dict(matrix)
    whole["seconds_per_step"] = sum(one["seconds_per_step"] * one["steps"] for one in every) / max(1, whole["steps"])
    most = max(every, key=lambda one: one["memory_gib"]["value"])
    whole["memory_gib"] = most["memory_gib"]
    if all("whole_memory_gib" in one for one in every):
        whole["whole_memory_gib"] = max(one["whole_memory_gib"] for one in every)
    whole["missing"] = list(dict.fromkeys(what for one in every for what in one["missing"]))
    return {**whole, "stages": dict(found)}


def matrix_seconds(facts: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """What the forgetting matrix takes: a column is as dear as the tuned model's own answers to that stage's test rows,
    for every model that has such a head. `facts` are the rehearsals of the stages."""
    value = 0.0
    for one in facts:
        answers = one.get("answers") or {}
        own = sum(row["seconds"] for row in answers.get("systems", ()) if row["system"] == "tuned")
        writes = one["head"] == "lm"
        models = 1 + sum(other["head"] == "lm" for other in facts) if writes else 1
        value += (
            models * own + (1 + len(facts)) / len(facts) * answers.get("load_seconds", 0.0) + one["prepare_seconds"]
        )
    return {"value": round(value, 3), "low": round(0.6 * value, 3), "high": round(1.4 * value, 3)}
