"""What is searched: the usual ranges by adapter and task with their reasons, and a user's own, checked key by key."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from attune.errors import RecipeError, UsageError
from attune.plugins import nearest
from attune.recipe.space import Range, ranges

if TYPE_CHECKING:
    from optuna.trial import Trial

    from attune.recipe import Recipe

__all__ = ["Space", "usual", "checked", "parsed", "label", "in_words", "range_in_words", "draw", "of_recipe", "by_key"]

Space = dict[str, Range | list[Any]]
"""Dotted key of the recipe -> where its values are drawn from."""

FIXED = {
    "data": "every trial learns from, and is measured on, the same rows",
    "evaluate": "every trial is measured in the same way",
    "search": "it is what searches",
    "seed": "a lucky seed is no setting: it would not be lucky again",
    "name": "trials are numbered",
    "track": "it changes nothing that is learned",
    "train.budget": "a trial's length may not depend on how busy the machine is; search.budget bounds the whole",
    "train.threads": "it changes nothing that is learned; see search.workers",
    "train.early_stopping.metric": "trials are compared by it",
    "retain.limit": "it is what is asked for: the loosest would win",
    "retain.suites": "every trial is asked the same",
}
"""Keys that may not be searched, and why."""

YARDSTICK = ("objective", "model.base", "model.chat_template")
"""Keys that change what the validation loss is a loss of, so that trials cannot be compared by it."""
HARMLESS = ("objective.head_init", "objective.own_share")


def usual(recipe: Recipe, *, learning_rate: float, task: str, layers: int | None) -> dict[str, tuple[Any, str]]:
    """Key -> (range, reason), for a recipe whose data and base are known.

    Ranges lie around what the recipe says, so that it is itself one of the settings.
    """
    train, adapter = recipe.train, recipe.adapter.name
    options: Any = recipe.adapter.options
    objective: Any = recipe.objective.options
    found: dict[str, tuple[Any, str]] = {
        "train.learning_rate": (
            Range(learning_rate / 8, learning_rate * 8, log=True),
            "it decides most; the best one lies within a factor of 8 of the usual one for a size of model",
        )
    }
    if train.max_steps is None:
        choices = [train.epochs / 2, train.epochs, train.epochs * 2]
        found["train.epochs"] = (choices, "the schedule ends with the last epoch, so its length is a setting too")
    size = "batch_size" if train.batch_size is not None else "batch_tokens"
    n = getattr(train, size)
    sizes = sorted({max(1, n // 2), n, n * 2})
    found[f"train.{size}"] = (sizes, "trades with the learning rate: fewer, surer steps or more, noisier ones")
    if train.warmup_steps is None and train.schedule != "wsd":
        high = max(0.2, train.warmup_ratio)
        found["train.warmup_ratio"] = (Range(0.0, high, log=False), "high rates need a slow start")
    decay = train.weight_decay
    low, high = (min(1e-3, decay or 1e-3), max(0.3, decay))
    found["train.weight_decay"] = (Range(low, high, log=True), "holds back weights where the data is small")
    if adapter == "lora":
        ranks = sorted({4, 8, 16, 32, 64, options.r})
        found["adapter.r"] = (ranks, "capacity; alpha stays with it, since it scales an update as the rate does")
        drops = sorted({0.0, 0.05, 0.1, options.dropout})
        found["adapter.dropout"] = (drops, "the adapter's own guard against learning by heart")
        attention = r".*\.(q|k|v|o|q_proj|k_proj|v_proj|o_proj|qkv_proj|c_attn|query|key|value|query_key_value|Wqkv)"
        if options.target_modules == "all-linear":
            found["adapter.target_modules"] = (["all-linear", attention], "every layer, or attention alone at half")
    if adapter == "freeze" and layers:
        depths = sorted({0, layers // 3, 2 * layers // 3, options.layers})
        found["adapter.layers"] = (depths, "lower layers hold what any text needs: often they may stay, and cost less")
    by_loss = "loss" in (_metric(recipe), recipe.evaluate.primary)  # smoothing would change what is compared
    if recipe.objective.name == "classify" and task == "classification" and not by_loss:
        smooth = sorted({0.0, 0.05, 0.1, 0.2, objective.label_smoothing})
        found["objective.label_smoothing"] = (smooth, "doubts labels that may be wrong")
    return {key: value for key, value in found.items() if isinstance(value[0], Range) or len(value[0]) > 1}


def parsed(texts: Iterable[str] | Mapping[str, Any]) -> dict[str, Any]:
    """`train.learning_rate=1e-5..1e-3`, `adapter.r=4,8,16` or `adapter=[lora, freeze]` as a section `search.space`.

    Raises: UsageError if one is of no such form.
    """
    from attune.recipe.file import parsed as value_of

    if isinstance(texts, Mapping):
        return dict(texts)
    found: dict[str, Any] = {}
    for text in [texts] if isinstance(texts, str) else texts:
        key, equals, said = (part.strip() for part in text.partition("="))
        low, dots, high = said.partition("..")
        if not equals or not said:
            raise UsageError(f"--space '{text}' has no range", fix="write key=1e-5..1e-3 or key=4,8,16")
        where = f"--space {key}"
        if dots:
            found[key] = {"low": value_of(low, where), "high": value_of(high, where)}
        else:
            found[key] = value_of(said if said.startswith("[") else f"[{said}]", where)
        try:
            ranges({key: found[key]})
        except ValueError as error:
            raise UsageError(f"--space: {error}", fix="write key=1e-5..1e-3 or key=4,8,16") from error
    return found


def checked(recipe: Recipe, space: Mapping[str, Any], *, by_loss: bool = False) -> Space:
    """A user's space for this recipe: every key is one that may be searched, and every value one that it may have.

    `by_loss`: trials are compared by their validation loss.
    Raises: RecipeError naming the key, why it cannot be searched, or what is wrong with a value.
    """
    from attune.recipe.help import keys

    found = ranges(space)
    known = list(keys())
    where = recipe.where("search.space")
    for key in found:
        for stem, why in FIXED.items():
            if key == stem or key.startswith(f"{stem}."):
                raise RecipeError(f"search.space: {key} cannot be searched", where=where, why=why)
        if by_loss and key not in HARMLESS and any(key == stem or key.startswith(f"{stem}.") for stem in YARDSTICK):
            raise RecipeError(
                f"search.space: {key} cannot be searched",
                where=where,
                why="it changes what the validation loss is a loss of, and trials are compared by that",
                fix="train each by itself, and hold them against each other with `attune compare`",
            )
        if key not in known:
            fix = "`attune explain` lists the keys"
            raise RecipeError(f"search.space: a recipe has no key '{key}'{nearest(key, known)}", where=where, fix=fix)
    ordered = {key: found[key] for key in sorted(found, key=lambda key: (key.count("."), key not in SECTIONS, key))}
    sections = [dict(zip([key], [value])) for key in ordered if key in SECTIONS for value in _ends(ordered[key])]
    for key, one in ordered.items():
        for value in _ends(one):
            errors = []
            for section in ([] if key in SECTIONS else sections) or [{}]:
                try:
                    with_section = recipe.replace(section)
                    if applies(with_section, key):
                        changed = with_section.replace({key: value})
                        if _metric(changed) != _metric(recipe):
                            raise RecipeError(f"{key} changes the metric that trials are compared by")
                        break
                except RecipeError as error:
                    errors.append(error)
            else:
                if errors:
                    first = errors[0]
                    raise RecipeError(f"search.space: {first.what}", where=where, why=first.why, fix=first.fix)
                chosen = f"{key.split('.')[0]} here has no such option"
                raise RecipeError(f"search.space: {key} fits none of the settings", where=where, why=chosen)
    return ordered


def _metric(recipe: Recipe) -> str | None:
    stopping = recipe.train.early_stopping
    return stopping.metric if stopping is not None else None


SECTIONS = ("adapter", "adapter.type", "objective", "objective.name")
"""Keys that choose a plugin: drawn first, since they decide which options there are."""


def _ends(one: Range | list[Any]) -> list[Any]:
    return [one.low, one.high] if isinstance(one, Range) else one


def applies(recipe: Recipe, key: str) -> bool:
    """Whether the recipe's chosen plugin has that option; keys outside adapter and objective always apply."""
    section, _, option = key.partition(".")
    if section not in ("adapter", "objective") or not option or key in SECTIONS:
        return True
    return option in type(getattr(recipe, section).options).model_fields


def label(value: Any) -> Any:
    """A choice as Optuna stores it and tables show it: scalars as they are, anything else as JSON."""
    return value if isinstance(value, str | int | float | bool | None) else json.dumps(value, sort_keys=True)


def in_words(value: Any) -> str:
    """A value, or a choice as it is or as `label` stores it, in words: `0.000905`, `lora, r 16`, `["q_proj"]`."""
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            return str(value)
    if isinstance(value, dict):
        kind = [str(value[key]) for key in ("type", "name") if value.get(key)]
        return ", ".join(
            [*kind, *(f"{key} {in_words(one)}" for key, one in value.items() if key not in ("type", "name"))]
        )
    if isinstance(value, float):
        return f"{value:.3g}"
    return value if isinstance(value, str) else json.dumps(value)


def range_in_words(one: Range | list[Any]) -> str:
    """What is searched, in words."""
    if isinstance(one, list):
        return " | ".join(map(in_words, one))
    return f"{in_words(one.low)} to {in_words(one.high)}{', log' if one.log else ''}"


def draw(trial: Trial, recipe: Recipe, space: Space, only: Iterable[str] | None = None) -> tuple[Recipe, dict]:
    """The recipe with a value for every key of the space that applies to it, and those values by key.

    Raises: RecipeError where values that are each allowed do not go together.
    """
    values: dict[str, Any] = {}
    for key, one in space.items():
        if (only is not None and key not in only) or not applies(recipe, key):
            continue
        value: Any
        if isinstance(one, list):
            chosen = trial.suggest_categorical(key, [label(choice) for choice in one])
            value = next(choice for choice in one if label(choice) == chosen)
        elif one.whole:
            value = trial.suggest_int(key, int(one.low), int(one.high), step=int(one.step or 1), log=one.log)
        else:
            value = trial.suggest_float(key, one.low, one.high, step=one.step, log=one.log)
            if not one.step:  # three digits are as good as sixteen, and can be read
                value = min(one.high, max(one.low, float(f"{value:.3g}")))
        values[key] = label(value)
        recipe = recipe.replace({key: value})
    return recipe, values


def of_recipe(recipe: Recipe, space: Space, *, learning_rate: float) -> dict[str, Any]:
    """The recipe's own values of the searched keys, where they lie in the space: what Optuna learns of trial 0."""
    dumped = recipe.model_dump(mode="json")
    found: dict[str, Any] = {}
    for key, one in space.items():
        value: Any = dumped
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if key == "train.learning_rate" and value is None:
            value = learning_rate
        if isinstance(one, Range):
            if isinstance(value, int | float) and not isinstance(value, bool) and one.low <= value <= one.high:
                found[key] = value
            continue
        for choice in one:
            same = recipe.replace({key: choice}) == recipe if key in SECTIONS else choice == value
            if same:
                found[key] = label(choice)
    return found


def by_key(space: Space, values: dict[str, Any]) -> dict[str, Any]:
    """Searched values as a recipe takes them: choices that are sections come back from their JSON."""
    return {
        key: next(one for one in space[key] if label(one) == value) if isinstance(space[key], list) else value  # type: ignore[union-attr]
        for key, value in values.items()
    }
