"""The schema: defaults, what is refused, and that every field says what it means."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from attune import plugins
from attune.errors import RecipeError
from attune.recipe import EarlyStopping, Recipe
from attune.recipe.help import CHOICES, keys

LEAST = {"data": {"path": "claims.csv"}}


def recipe(**sections) -> Recipe:
    return Recipe.load({**LEAST, **sections})


def sections() -> list[type]:
    """Every model of a recipe file, the plugins' own included."""
    found, todo = [], [Recipe]
    while todo:
        model = todo.pop()
        found.append(model)
        for field in model.model_fields.values():
            todo += [
                part for part in (field.annotation, *getattr(field.annotation, "__args__", ())) if part not in found
            ]
        todo = [part for part in todo if isinstance(part, type) and hasattr(part, "model_fields")]
    return found + [plugin.Config for choice in CHOICES.values() for plugin in plugins.find(choice.kind).values()]


def test_every_field_says_what_it_means():
    bare = [
        f"{model.__qualname__}.{name}"
        for model in sections()
        for name, field in model.model_fields.items()
        if not field.description
    ]
    assert bare == []


def test_every_section_is_frozen_and_closed():
    assert len(sections()) >= 12
    assert [
        model for model in sections() if not (model.model_config["frozen"] and model.model_config["extra"] == "forbid")
    ] == []


def test_the_least_recipe_and_its_defaults():
    least = recipe()
    assert (least.model.base, least.adapter.name, least.objective.name) == ("starter", "lora", "auto")
    assert (least.train.epochs, least.train.batch_size, least.train.early_stopping) == (3.0, 16, EarlyStopping())
    assert (least.data.leakage, least.data.truncate, least.seed) == ("drop_train", "error", 0)
    with pytest.raises(ValidationError):
        least.seed = 1


def test_a_plugin_is_chosen_by_name_with_its_own_options():
    chosen = recipe(adapter={"type": "lora", "r": 4}, objective="sft")
    assert chosen.adapter.options.r == 4
    assert chosen.adapter.options == plugins.get("adapter", "lora").Config(r=4)
    assert chosen.model_dump(mode="json")["adapter"] == {"type": "lora", **chosen.adapter.options.model_dump()}
    assert chosen.model_dump(mode="json")["objective"] == {"name": "sft", **chosen.objective.options.model_dump()}
    assert recipe(adapter="freeze").adapter.options.layers == 0
    assert recipe(adapter={"r": 2}).adapter.name == "lora"


@pytest.mark.parametrize("kind", ["adapter", "objective"])
def test_every_plugin_can_be_chosen(kind):
    key = {choice.kind: choice.key for choice in CHOICES.values()}[kind]
    for name in plugins.names(kind):
        fields = plugins.get(kind, name).Config.model_fields
        required = {option: "x" for option, field in fields.items() if field.is_required()}
        chosen = getattr(recipe(**{kind: {key: name, **required}}), kind)
        assert isinstance(chosen.options, plugins.get(kind, name).Config)


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"adapter": "lore"}, "unknown adapter 'lore'; did you mean 'lora'?"),
        ({"objective": {"name": "clasify"}}, "unknown objective 'clasify'; did you mean 'classify'?"),
        ({"objective": {"label_smoothing": 0.1}}, "objective has options, so it needs a name too"),
        ({"adapter": ["lora"]}, "adapter must be a name (adalora, freeze, full, "),
        ({"adapter": {"type": "freeze", "r": 4}}, "'r' is an option of adapter adalora, lora or vera, not of freeze"),
        ({"adapter": {"type": "lora", "r": 0}}, "adapter.r must be at least 1, not 0"),
        ({"model": {"trust_remote_code": True}}, "needs revision"),
        ({"model": {"trust_remote_code": True, "revision": "main"}}, "needs revision"),
        ({"model": {"base": ""}}, "model.base"),
        ({"data": {"path": "a", "split": {"validation": 0.5, "test": 0.5}}}, "leave no rows to train on"),
        ({"data": {"path": []}}, "data.path is empty"),
        ({"data": {"path": ["a", ""]}}, "data.path is empty"),
        ({"train": {"batch_size": 8, "batch_tokens": 4096}}, "keep one"),
        ({"train": {"batch_size": None}}, "one of batch_size and batch_tokens"),
        ({"train": {"budget": "10"}}, "train.budget '10' is not a duration"),
        ({"train": {"budget": "0s"}}, "longer than zero"),
        ({"train": {"epochs": float("nan")}}, "train.epochs must be"),
        ({"train": {"learning_rate": float("inf")}}, "train.learning_rate must be"),
        ({"train": {"learning_rate": "1e-4"}}, "train.learning_rate must be a number or null, not '1e-4'"),
        ({"train": {"epochs": True}}, "train.epochs must be a number, not true"),
        ({"train": {"batch_size": 2.5}}, "train.batch_size must be a whole number or null, not 2.5"),
        ({"train": {"schedule": "wsd", "warmup_ratio": 0.5, "decay_ratio": 0.6}}, "more than all steps"),
        ({"train": {"schedule": "cosin"}}, "did you mean 'cosine'?"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"name": "../up"}, "name '../up' is no folder name"),
        ({"track": ["wandb"]}, "track[0] must be tensorboard, not 'wandb'"),
        ({"monitor": {"limit": "1pt"}}, "unknown key 'monitor'"),
        ({"retain": {"limit": "lots"}}, "retain.limit"),
        ({"retain": {"limit": 0}}, "retain.limit must be"),
        ({"retain": {"replay": 1.5}}, "retain.replay must be at most 1"),
        ({"retain": {"kl": {"strength": 0.1, "on": "test"}}}, "retain.kl.on must be"),
        ({"evaluate": {"metrics": ["no_such_figure"]}}, "unknown metric 'no_such_figure'"),
        ({"evaluate": {"baselines": ["tfdif"]}}, "unknown baseline 'tfdif'; did you mean 'tfidf'?"),
        ({"data": {"path": "a", "format": "no_such_format"}}, "unknown format 'no_such_format'"),
        ({"data": {"path": "a", "columns": {"text": 3}}}, "data.columns.text must be text, not 3"),
    ],
)
def test_what_is_refused(sections, said):
    with pytest.raises(RecipeError) as caught:
        recipe(**sections)
    assert said in str(caught.value)


def test_batch_tokens_replaces_the_default_batch_size():
    assert recipe(train={"batch_tokens": 4096}).train.batch_size is None


@pytest.mark.parametrize(
    ("text", "wanted"), [("90s", 90), ("10m", 600), ("2h", 7200), ("1h30m", 5400), ("1.5h", 5400), ("1d", 86400)]
)
def test_budget(text, wanted):
    assert recipe(train={"budget": text}).train.budget_seconds == wanted


def test_early_stopping_can_be_off():
    assert recipe(train={"early_stopping": None}).train.early_stopping is None
    assert recipe(train={"early_stopping": False}).train.early_stopping is None
    assert recipe(train={"early_stopping": {"metric": "loss"}}).train.early_stopping == EarlyStopping(metric="loss")


def test_paths_and_run_name():
    both = recipe(data={"path": ["data/claims 2025.csv", "b.csv"]}, objective="classify", adapter="full")
    assert both.data.paths == ["data/claims 2025.csv", "b.csv"]
    assert both.run_name == "claims-2025-classify-full"
    assert recipe(data={"path": "../"}).run_name == "run-lora"
    assert recipe(name="mine").run_name == "mine"


def test_replace_checks_and_keeps_the_rest():
    before = recipe(train={"epochs": 1}, adapter={"type": "lora", "r": 4})
    after = before.replace({"train.learning_rate": 1e-4, "objective": "sft", "data.max_length": 512})
    assert (after.train.learning_rate, after.objective.name, after.data.max_length) == (1e-4, "sft", 512)
    assert (after.train.epochs, after.adapter.options.r) == (1, 4)
    assert before.train.learning_rate is None
    assert before.replace({"train.batch_tokens": 4096}).train.batch_size is None
    assert before.replace({"adapter": "full"}).adapter.options.model_dump() == {"layer_decay": 1.0}
    with pytest.raises(RecipeError, match="train.epochs must be greater than 0"):
        before.replace({"train.epochs": 0})


def test_keys_are_unique_and_known():
    found = list(keys())
    assert len(found) == len(set(found))
    assert {"train.learning_rate", "adapter.r", "adapter.type", "objective.name", "data.split.test"} <= set(found)


@pytest.mark.parametrize("module", ["attune.recipe", "attune.recipe.file"])
def test_no_heavy_imports(module):
    code = f"import sys, {module}; {module}.Recipe.load({LEAST!r}); heavy = {{'torch', 'numpy', 'transformers'}}"
    code += "; print(sorted(heavy & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr
