"""What may be searched, how it is written, and what is drawn from it."""

from typing import Any

import pytest

from attune.errors import RecipeError, UsageError
from attune.recipe import Recipe
from attune.recipe.space import Range, ranges
from attune.search.plots import axis_of
from attune.search.space import by_key, checked, draw, in_words, label, of_recipe, parsed, usual

DATA: dict[str, Any] = {"path": "x.csv"}


def recipe(**sections: Any) -> Recipe:
    return Recipe.load({"data": DATA, **sections})


class Chooser:
    """A trial that always takes the first choice, or the low end."""

    def suggest_categorical(self, key: str, choices: list[Any]) -> Any:
        return choices[0]

    def suggest_float(self, key: str, low: float, high: float, **_: Any) -> float:
        return low

    def suggest_int(self, key: str, low: int, high: int, **_: Any) -> int:
        return low


def test_ranges_are_read_in_both_ways_and_scaled() -> None:
    dotted = ranges({"train.learning_rate": {"low": 1e-5, "high": 1e-3}, "adapter.r": [4, 8]})
    nested = ranges({"train": {"learning_rate": {"low": 1e-5, "high": 1e-3}}, "adapter": {"r": [4, 8]}})
    assert dotted == nested == {"train.learning_rate": Range(1e-5, 1e-3, True), "adapter.r": [4, 8]}
    assert not Range(0.0, 0.2, False).whole and Range(4, 64, False).whole
    assert ranges({"a": {"low": 1, "high": 64}})["a"] == Range(1, 64, True)
    assert ranges({"a": {"low": 1, "high": 64, "log": False}})["a"] == Range(1, 64, False)
    assert ranges({"a": {"low": 0.0, "high": 64}})["a"] == Range(0.0, 64, False)


@pytest.mark.parametrize(
    ("space", "why"),
    [
        ({"a": [4]}, "has 1 choice"),
        ({"a": [4, 4]}, "twice"),
        ({"a": {"low": 2, "high": 1}}, "low must be below high"),
        ({"a": {"low": 0, "high": 1, "log": True}}, "begins above zero"),
        ({"a": {"low": "x", "high": 1}}, "a.low must be a number"),
        ({"a": {"low": 1, "high": 2, "lof": True}}, "'lof'"),
        ({"a": 3}, "needs a list"),
        ({"a": {"low": True, "high": 2}}, "must be a number"),
        ({"a": {"low": 1, "high": 2, "step": 9}}, "step"),
    ],
)
def test_a_wrong_range_is_named(space: dict[str, Any], why: str) -> None:
    with pytest.raises(RecipeError, match=why):
        recipe(search={"space": space})


@pytest.mark.parametrize(
    ("space", "why"),
    [
        ({"seed": [1, 2]}, "lucky seed"),
        ({"data.test": ["a", "b"]}, "same rows"),
        ({"evaluate.primary": ["accuracy", "f1_macro"]}, "same way"),
        ({"train.budget": ["1m", "2m"]}, "busy"),
        ({"train.early_stopping.metric": ["loss", "accuracy"]}, "compared by it"),
        ({"train.early_stopping": [{"patience": 3}, {"patience": 3, "metric": "loss"}]}, "compared by"),
        ({"retain.limit": [1, 5]}, "loosest"),
        ({"train.learning_rat": [1e-3, 1e-2]}, "did you mean 'train.learning_rate'"),
        ({"train.batch_size": [8, 0]}, "batch_size"),
        ({"train.learning_rate": {"low": 1e-3, "high": 100.0}}, "learning_rate"),
        ({"adapter.layers": [1, 2]}, "no such option"),
        ({"adapter": ["lora", "laro"]}, "laro"),
    ],
)
def test_what_cannot_be_searched_is_refused_with_the_reason(space: dict[str, Any], why: str) -> None:
    with pytest.raises(RecipeError) as refused:
        checked(recipe(adapter="lora"), space)
    assert why in str(refused.value)


def test_nothing_that_changes_what_the_loss_measures_is_searched_by_the_loss() -> None:
    written = recipe(objective={"name": "distill", "teacher": "starter"})
    for key, values in (("objective.alpha", [0.3, 0.9]), ("model.base", ["starter", "minilm"])):
        assert key in checked(written, {key: values})
        with pytest.raises(RecipeError, match=f"{key} cannot be searched"):
            checked(written, {key: values}, by_loss=True)
    assert checked(written, {"objective.own_share": [0.3, 0.9]}, by_loss=True)
    by_loss = recipe(objective="classify", train={"early_stopping": {"metric": "loss"}})
    assert "objective.label_smoothing" not in usual(by_loss, learning_rate=1e-3, task="classification", layers=4)


def test_options_of_one_adapter_are_drawn_only_for_it() -> None:
    own = recipe(adapter={"type": "lora", "r": 64})
    space = checked(own, {"adapter.r": [4, 8], "adapter": ["full", "lora", {"type": "freeze", "layers": 2}]})
    assert list(space) == ["adapter", "adapter.r"]
    drawn, values = draw(Chooser(), own, space)  # type: ignore[arg-type]
    assert drawn.adapter.name == "full" and values == {"adapter": "full"}
    again = checked(own, {"adapter.r": [4, 8], "adapter": ["lora", {"type": "freeze", "layers": 2}]})
    drawn, values = draw(Chooser(), own, again)  # type: ignore[arg-type]
    assert (drawn.adapter.name, drawn.adapter.options.r) == ("lora", 4) and values == {
        "adapter": "lora",
        "adapter.r": 4,
    }  # type: ignore[attr-defined]
    frozen = by_key(again, {"adapter": '{"layers": 2, "type": "freeze"}'})
    assert own.replace(frozen).adapter.options.layers == 2  # type: ignore[attr-defined]


@pytest.mark.parametrize("adapter", ["full", "lora", "freeze"])
@pytest.mark.parametrize("train", [{}, {"max_steps": 50}, {"batch_tokens": 2048}, {"schedule": "wsd"}])
def test_the_usual_space_holds_the_recipe_itself_and_only_valid_settings(adapter: str, train: dict[str, Any]) -> None:
    own = recipe(adapter=adapter, train=train, objective="classify")
    table = usual(own, learning_rate=3e-4, task="classification", layers=6)
    space = {key: one for key, (one, _) in table.items()}
    assert all(why for _, why in table.values())
    written = {key: one if isinstance(one, list) else {"low": one.low, "high": one.high} for key, one in space.items()}
    assert set(checked(own, written)) == set(space)
    held = of_recipe(own, space, learning_rate=3e-4)
    assert set(held) == set(space)
    assert ("train.epochs" in space) != ("max_steps" in train)
    assert ("adapter.r" in space) == (adapter == "lora") and ("adapter.layers" in space) == (adapter == "freeze")
    assert "objective.label_smoothing" in space
    assert "objective.label_smoothing" not in usual(own, learning_rate=3e-4, task="multilabel", layers=6)


def test_a_value_outside_the_space_is_not_claimed_for_the_recipe() -> None:
    space = checked(recipe(), {"train.batch_size": [4, 8], "train.weight_decay": {"low": 0.001, "high": 0.3}})
    assert of_recipe(recipe(), space, learning_rate=1e-3) == {"train.weight_decay": 0.01}


def test_the_command_line_says_the_same() -> None:
    said = parsed(
        ["train.learning_rate=1e-5..1e-3", "adapter.r=4,8", "adapter=[lora, full]", "train.schedule=[cosine, linear]"]
    )
    assert said == {
        "train.learning_rate": {"low": 1e-5, "high": 1e-3},
        "adapter.r": [4, 8],
        "adapter": ["lora", "full"],
        "train.schedule": ["cosine", "linear"],
    }
    for wrong in ("train.epochs", "train.epochs=", "train.epochs=1", "train.epochs=3..1"):
        with pytest.raises(UsageError):
            parsed([wrong])


def test_the_search_changes_no_run() -> None:
    searched = recipe(search={"trials": 3, "space": {"train.weight_decay": [0.0, 0.1]}})
    assert searched.fingerprint() == recipe().fingerprint()
    assert Recipe.load(searched.model_dump(mode="json")) == searched


def test_choices_that_are_sections_have_words_and_a_place_in_the_charts() -> None:
    choices = ["full", {"type": "freeze", "layers": 4}, {"type": "lora", "r": 16}, ["q_proj", "v_proj"], 0.000905, None]
    said = ["full", "freeze, layers 4", "lora, r 16", '["q_proj", "v_proj"]', "0.000905", "null"]
    assert [in_words(choice) for choice in choices] == said == [in_words(label(choice)) for choice in choices]
    assert in_words("{name} is kept") == "{name} is kept"
    axis = axis_of(choices)
    assert [axis.at(label(choice)) for choice in choices] == [axis.at(choice) for choice in choices]
    assert None not in [axis.at(choice) for choice in choices] and axis.at("dora") is None
