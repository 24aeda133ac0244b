"""`stages:` of a recipe: each a partial recipe, laid over what all have in common, and checked as a whole recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from attune import plugins
from attune.errors import RecipeError
from attune.recipe import Recipe
from attune.recipe.errors import explained
from attune.recipe.names import translate
from attune.recipe.retain import points
from attune.recipe.yaml import Key, Layer, shown

__all__ = ["PREVIOUS", "complete"]

PREVIOUS = "previous"
"""`model.base` of every stage after the first: the model that the stage before it left."""


def complete(layer: Layer, merge: Any, source: Any) -> tuple[Layer, list[str]]:
    """The layer in which every stage is a whole recipe and the top level is that of the last stage; and notices.

    `merge` lays one layer over another. A stage inherits what stands beside `stages`, never another stage's own keys.
    Raises: RecipeError for a stage that is not a recipe, or that names a base of its own.
    """
    stages = layer.values["stages"]
    where = layer.places.get(("stages",))
    if not isinstance(stages, list) or not stages or not all(isinstance(stage, dict) for stage in stages):
        raise RecipeError(
            f"stages must be a list of partial recipes, not {shown(stages)}",
            where=where,
            fix="stages: [{objective: pretrain, data: {path: texts}}, {objective: sft, data: {path: chats.jsonl}}]",
        )
    common = Layer(
        {key: value for key, value in layer.values.items() if key not in ("stages", "name") and value is not None},
        {key: place for key, place in layer.places.items() if key[:1] != ("stages",)},
        {key: place for key, place in layer.key_places.items() if key[:1] != ("stages",)},
    )
    notices: list[str] = []
    whole: list[Recipe] = []
    for number, stage in enumerate(stages):
        at: Key = ("stages", number)
        own = Layer(dict(stage), _below(layer.places, at), _below(layer.key_places, at))
        notices += [f"stage {number + 1}: {notice}" for notice in translate(own)]
        place = own.places.get(()) or where
        if "stages" in own.values and own.values["stages"]:
            raise RecipeError("a stage has stages of its own", where=place, fix="write them all in one list")
        own.values.pop("stages", None)
        _chained(own, number, place)
        lay = merge(common, own)
        notices += _counted_from_the_first(lay, own, number, len(stages), whole[:1])
        whole.append(_stage(lay, number, place, source))
    for number, recipe in enumerate(whole[:-1]):
        adapter: Any = plugins.get("adapter", recipe.adapter.name)(recipe.adapter.options)  # type: ignore[call-arg]
        if not adapter.merges:
            raise RecipeError(
                f"stage {number + 2} cannot start from stage {number + 1}",
                where=layer.places.get(("stages", number, "adapter")) or where,
                why=f"adapter '{adapter.name}' adds inputs to the model, so nothing can be merged into the next base",
                fix="use it in the last stage only, or adapter.type=lora",
            )
    names = [recipe.name for recipe in whole]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise RecipeError(f"two stages are called '{twice}'", where=where, fix="give each a `name`")
    values = whole[-1].model_dump(mode="json", exclude={"stages"})
    values |= {"name": layer.values.get("name")}
    values["stages"] = [recipe.model_dump(mode="json", exclude={"stages"}) for recipe in whole]
    return Layer(values, layer.places, layer.key_places), notices


def _below(places: dict[Key, str], at: Key) -> dict[Key, str]:
    return {key[len(at) :]: place for key, place in places.items() if key[: len(at)] == at}


def _chained(own: Layer, number: int, place: str | None) -> None:
    """Every stage after the first starts from the one before."""
    model = own.values.get("model")
    base = (model.get("from_config") or model.get("base")) if isinstance(model, dict) else None
    if number == 0 and base == PREVIOUS:
        raise RecipeError("the first stage has no stage before it", where=place, fix="name a base: model.base: starter")
    if number and base not in (None, PREVIOUS):
        raise RecipeError(
            f"stage {number + 1} names a base of its own ({base})",
            where=own.places.get(("model", "base")) or place,
            why="every stage after the first starts from the model that the one before left",
            fix="leave model.base out there, or make it a recipe by itself",
        )
    if number:
        # what was asked of the first base is done: its blocks are chosen, its revision is fetched
        own.values["model"] = {"layers": None, **(model or {}), "base": PREVIOUS, "from_config": None, "revision": None}


def _counted_from_the_first(lay: Layer, own: Layer, number: int, count: int, first: list[Recipe]) -> list[str]:
    """What all stages together may lose, counted from the base before all: of a limit that stands beside `stages`, the
    first of n stages may use up a n-th, the second two, the last the whole. Returns what is to be told of it.

    Each stage is free to name a limit of its own; it, too, is for everything up to there.
    """
    told = []
    retain, asked = lay.values.get("retain"), own.values.get("retain")
    retain = dict(retain) if isinstance(retain, dict) else {}
    if number and first[0].model.from_config is None and retain.get("base") is None:
        retain["base"] = first[0].model.model_dump(mode="json")
    limit = points(retain.get("limit"))
    if not (isinstance(asked, dict) and "limit" in asked) and isinstance(limit, int | float):
        retain["limit"] = round(limit * (number + 1) / count, 4)
        told = [f"stage {number + 1}: up to its end {retain['limit']:g} of retain.limit's {limit:g} points may be lost"]
    if retain:
        lay.values["retain"] = retain
    return told


def _stage(layer: Layer, number: int, place: str | None, source: Any) -> Recipe:
    values = {key: value for key, value in layer.values.items() if value is not None}
    if "data" not in values or not (isinstance(values["data"], dict) and values["data"].get("path")):
        raise RecipeError(
            f"stage {number + 1} names no data",
            where=place,
            why="a stage inherits what stands beside `stages`, not the data of another stage",
            fix="give it data: {path: ...}",
        )
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        failed = explained(error, values, layer, source)
        failed.what = f"stage {number + 1}: {failed.what}"
        raise failed from error
    if recipe.name is None:
        named = recipe.objective.name if recipe.objective.name != "auto" else Path(recipe.data.paths[0]).name
        recipe = recipe.model_copy(update={"name": named.split(".")[0]})
    return recipe
