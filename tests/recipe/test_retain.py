"""The retain section: short forms, points, and what is refused before any weights are loaded."""

from __future__ import annotations

from typing import Any

import pytest

from attune import plugins
from attune.errors import RecipeError
from attune.recipe import Recipe
from attune.train.retention import refuse


def recipe(**sections: Any) -> Recipe:
    return Recipe.load({"data": {"path": "a.csv"}, **sections})


@pytest.mark.parametrize(
    ("given", "points"), [("1pt", 1.0), ("0.5 pt", 0.5), ("2 points", 2.0), (1, 1.0), (0.25, 0.25), (None, None)]
)
def test_points(given: Any, points: float | None) -> None:
    assert recipe(retain={"limit": given}).retain.limit == points


def test_short_forms_are_the_long_ones_and_survive_a_dump() -> None:
    short = recipe(retain={"replay": 0.2, "kl": 0.5, "limit": "1pt", "suites": ["texts", "old.txt"]})
    long = {"replay": {"share": 0.2}, "kl": {"strength": 0.5}, "limit": 1.0}
    assert short == recipe(retain={**long, "suites": ["texts", {"rows": {"path": "old.txt"}}]})
    assert short.retain.replay is not None and short.retain.replay.path is None
    assert Recipe.load(short.model_dump(mode="json")) == short
    assert recipe(retain={"replay": 0, "kl": False}).retain.replay is None
    assert [one.name for one in recipe().retain.suites] == ["texts", "completions"]


def test_a_limit_means_interpolation_unless_it_is_refused() -> None:
    assert recipe(retain={"limit": "1pt"}).retain.interpolates
    assert not recipe(retain={"limit": "1pt", "interpolate": False}).retain.interpolates
    assert not recipe().retain.interpolates and recipe(retain={"interpolate": True}).retain.interpolates


@pytest.mark.parametrize(
    ("sections", "objective", "said"),
    [
        ({"retain": {"limit": "1pt", "suites": []}}, "sft", "nothing to be measured on"),
        ({"retain": {"limit": "1pt"}, "model": {"from_config": "cpu"}}, "pretrain", "random weights"),
        ({"retain": {"l2_sp": 0.1}, "model": {"from_config": "cpu"}}, "pretrain", "nothing to pull to"),
        ({"retain": {"kl": 0.1}}, "classify", "retain.kl cannot be used with objective 'classify'"),
        ({"retain": {"replay": 0.1}}, "classify", "retain.replay needs a path"),
        ({"retain": {"ewc": 0.1}, "adapter": {"type": "lora", "dora": True}}, "sft", "retain.ewc does not fit"),
    ],
)
def test_what_cannot_work_is_refused(sections: dict[str, Any], objective: str, said: str) -> None:
    asked = recipe(**sections)
    plugin: Any = plugins.get("objective", objective)
    with pytest.raises(RecipeError) as caught:
        refuse(asked, plugin(None))
    assert said in str(caught.value) and caught.value.fix


def test_an_encoder_has_no_budget(tmp_path: Any) -> None:
    import transformers

    transformers.BertConfig().save_pretrained(tmp_path)
    plugin: Any = plugins.get("objective", "classify")
    refuse(recipe(model={"base": str(tmp_path)}), plugin(None))  # measured or not, it trains
    with pytest.raises(RecipeError, match="the base is an encoder"):
        refuse(recipe(model={"base": str(tmp_path)}, retain={"limit": "1pt"}), plugin(None))


def test_a_limit_beside_stages_is_shared_out_and_counts_from_the_first_base() -> None:
    stage = {"objective": "sft", "data": {"path": "a.jsonl"}}
    stages = [{**stage, "name": name} for name in ("one", "two", "three")]
    stages[2]["retain"] = {"replay": 0.1}
    made = Recipe.load({"model": {"base": "starter"}, "retain": {"limit": "3pt"}, "stages": stages})
    limits = [one.retain.limit for one in made.stage_recipes]
    bases = [one.retain.base and one.retain.base.base for one in made.stage_recipes]
    assert limits == [1.0, 2.0, 3.0] and bases == [None, "starter", "starter"]
    assert made.notices[-3:-1] == (
        "stage 1: up to its end 1 of retain.limit's 3 points may be lost",
        "stage 2: up to its end 2 of retain.limit's 3 points may be lost",
    )
    assert made.stage_recipes[2].retain.replay is not None
    again = Recipe.load(made.model_dump(mode="json"))
    assert [one.retain for one in again.stage_recipes] == [one.retain for one in made.stage_recipes]
    stages[1]["retain"] = {"limit": 2.5, "base": "other"}
    own = Recipe.load({"retain": {"limit": "3pt"}, "stages": stages}).stage_recipes[1].retain
    assert own.limit == 2.5 and own.base is not None and own.base.base == "other"


def test_what_losses_cannot_count_from() -> None:
    objective: Any = plugins.get("objective", "sft")(None)
    with pytest.raises(RecipeError, match="nothing can be counted from minilm"):
        refuse(recipe(objective="sft", retain={"base": "minilm"}), objective)
    refuse(recipe(objective="sft", retain={"base": "minilm", "suites": []}), objective)


def test_losses_are_not_counted_from_a_base_with_another_tokenizer(tmp_path: Any) -> None:
    from attune.model.load import load_config, load_tokenizer

    model = recipe(model={"base": "starter"}).model
    tokenizer = load_tokenizer(model)
    load_config(model).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    asked = recipe(model={"base": "starter"}, retain={"base": {"base": str(tmp_path)}})
    plugin: Any = plugins.get("objective", "sft")
    refuse(asked, plugin(None))  # the same tokenizer in another folder
    tokenizer.add_tokens(["metacarpal"])
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(RecipeError, match="another tokenizer than model.base"):
        refuse(asked, plugin(None))
