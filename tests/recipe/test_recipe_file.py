"""Recipe files: places, overrides, extends, other tools' names, hostile files, round trips."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from attune import plugins
from attune.errors import RecipeError, UsageError
from attune.recipe import Recipe
from attune.recipe.file import dump, explain, fingerprint, json_schema, load
from attune.recipe.help import CHOICES, keys
from attune.recipe.names import ALIASES

LEAST = "data: {path: a.csv}\n"


def write(folder, text, name="recipe.yaml"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refused(folder, text, overrides=()) -> str:
    with pytest.raises(RecipeError) as caught:
        load(write(folder, text), overrides)
    assert caught.value.exit_code == 3
    return str(caught.value).replace(f"{folder}/", "")


# places ---------------------------------------------------------------------------------------------------------------


def test_an_unknown_key_has_its_place_its_nearest_and_its_meaning(tmp_path):
    said = refused(tmp_path, LEAST + "train:\n  epochs: 2\n  learning_rat: 1e-4\n")
    assert said.split("\n")[0] == "recipe.yaml:4:3: unknown key 'learning_rat' in train; did you mean 'learning_rate'?"
    assert "fix: train.learning_rate: Highest learning rate" in said


def test_a_key_of_another_section_is_sent_there(tmp_path):
    assert "recipe.yaml:2:1: unknown key 'learning_rate'; did you mean 'train.learning_rate'?" in refused(
        tmp_path, LEAST + "learning_rate: 1e-4\n"
    )
    assert "did you mean 'model.dropout'?" in refused(tmp_path, LEAST + "train: {dropout: 0.1}\n")
    assert "did you mean 'train.epochs'?" in refused(tmp_path, LEAST + "epoch: 3\n")


def test_a_key_like_none_lists_what_there_is(tmp_path):
    said = refused(tmp_path, LEAST + "monitor: {limit: 1pt}\n")
    assert "unknown key 'monitor'\n" in said and "keys: name, seed, model" in said
    assert "--out" in refused(tmp_path, LEAST + "output_dir: x\n")


def test_a_wrong_value_has_its_place_and_the_meaning_of_its_key(tmp_path):
    said = refused(tmp_path, LEAST + "train:\n  epochs: three\n")
    assert said.split("\n")[0] == "recipe.yaml:3:11: train.epochs must be a number, not 'three'"
    assert "fix: train.epochs: Passes over the training data" in said
    assert "recipe.yaml:1:19: data.path[1] must be text or a section of keys, not 3" in refused(
        tmp_path, "data: {path: [ab, 3]}\n"
    )
    assert "recipe.yaml:2:17: adapter: unknown adapter 'lore'" in refused(tmp_path, LEAST + "adapter: {type: lore}")


def test_all_faults_are_said_in_the_order_of_the_file(tmp_path):
    said = refused(tmp_path, "seed: -1\n" + LEAST + "train:\n  sede: 3\n  schedule: cosin\n")
    assert [line.split(": ")[0] for line in said.split("\n")[:3]] == [
        "recipe.yaml:1:7",
        "recipe.yaml:4:3",
        "recipe.yaml:5:13",
    ]


def test_missing_data_names_the_file(tmp_path):
    assert refused(tmp_path, "seed: 1\n").startswith("recipe.yaml: data is missing")
    assert refused(tmp_path, "data: {target: x}\n").startswith("recipe.yaml:1:7: data.path is missing")


def test_where_a_value_was_set(tmp_path):
    loaded = load(write(tmp_path, LEAST + "train:\n  epochs: 2\n"), ["train.learning_rate=1e-4"])
    assert loaded.where("train.epochs") == f"{tmp_path}/recipe.yaml:3:11"
    assert loaded.where("train.learning_rate") == "override train.learning_rate=1e-4"
    assert loaded.where("train.schedule") is None
    assert load(write(tmp_path, LEAST + "objective: sft\n")).where("objective.name") == f"{tmp_path}/recipe.yaml:2:12"
    replaced = loaded.replace({"train.learning_rate": 1.0})
    assert replaced.where("train.epochs") and replaced.where("train.learning_rate") is None


# hostile and careless files -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("# only a comment\n", "is empty"),
        ("- 1\n", "recipe.yaml:1:1: a recipe is a mapping"),
        ("just text", "a recipe is a mapping of keys to values, not 'just text'"),
        ("data:\n\tpath: a\n", "recipe.yaml:2:1: a tab where spaces must be"),
        ("data: {path: a}\ndata: {path: b}\n", "recipe.yaml:2:1: key 'data' is given twice"),
        ("data: {path: a, path: b}\n", "recipe.yaml:1:17: key 'path' is given twice"),
        ("data: {path: [a\n", "not YAML"),
        ("data: 'a\n", "not YAML"),
        ("a: 1\n b: 2\n", "recipe.yaml:2:"),
        ("data: *nowhere\n", "recipe.yaml:1:7: not YAML"),
        ("data: !!python/object/apply:os.system [true]\n", "is not allowed"),
        ("data: !mine x\n", "is not allowed"),
        ("<<: {seed: 1}\n", "merge keys"),
        ("? [a]\n: 1\n", "a key must be a word"),
        ("[" * 2000, "nested too deeply"),
        ("a: " + "[" * 50 + "]" * 50, "nested too deeply"),
        ("a: &a [*a]\n", "nested too deeply"),
        ("data: {path: a}\nseed: " + "9" * 5000, "recipe.yaml:2:7: cannot read the value '999"),
        (b"data: {path: a\x00b}\n", "not YAML"),
        (b"name: x\ndata: \xff\xfe\n", "recipe.yaml:2: not UTF-8"),
        (b"x: " + b"y" * 10_000_000, "larger than 64 KB"),
        ("--- {seed: 1}\n--- {seed: 2}\n", "not YAML"),
    ],
)
def test_a_bad_file_is_named(tmp_path, text, said):
    assert said in refused(tmp_path, text)


def test_an_alias_bomb_is_refused_at_once(tmp_path):
    names = "abcdefgh"
    bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n" for old, new in zip(names, names[1:]))
    started = time.monotonic()
    assert "too many values" in refused(tmp_path, bomb)
    assert time.monotonic() - started < 5


def test_a_folder_and_a_missing_file_are_named(tmp_path):
    write(tmp_path, LEAST)
    with pytest.raises(RecipeError, match=r"is a folder\n  fix: name a file in it: recipe.yaml"):
        load(tmp_path)
    with pytest.raises(RecipeError, match="no such recipe file"):
        load(tmp_path / "no.yaml")


def test_yaml_is_1_2(tmp_path):
    text = "name: no\ndata: {path: 12:30, target: 2024-01-01}\ntrain: {learning_rate: 1e-5}\nadapter:\nmodel:\n"
    loaded = load(write(tmp_path, b"\xef\xbb\xbf" + text.encode()))
    assert (loaded.name, loaded.data.path, loaded.data.target, loaded.train.learning_rate) == (
        "no",
        "12:30",
        "2024-01-01",
        1e-5,
    )
    assert loaded.adapter.name == "lora"


def test_an_alias_may_be_used_and_environment_is_not_read(tmp_path):
    loaded = load(write(tmp_path, "data: {path: &p a.csv, target: '${HOME}', instruction: *p}\n"))
    assert (loaded.data.instruction, loaded.data.target) == ("a.csv", "${HOME}")


# overrides ------------------------------------------------------------------------------------------------------------


def test_overrides_are_yaml_and_win(tmp_path):
    path = write(
        tmp_path, LEAST + "adapter: {type: lora, r: 4}\ntrain: {epochs: 2, batch_size: 8, early_stopping: null}\n"
    )
    loaded = load(
        path,
        [
            "train.epochs=1",
            "train.learning_rate=1e-4",
            "data.path=[a.csv, b.csv]",
            "data.split.stratify=false",
            "train.batch_tokens=4096",
            "train.early_stopping.patience=5",
            "data.instruction=Which kind: this #1?",
            "data.target=",
            "adapter.alpha=3",
            "name='7'",
        ],
    )
    assert (loaded.train.epochs, loaded.train.learning_rate, loaded.train.batch_size, loaded.train.batch_tokens) == (
        1,
        1e-4,
        None,
        4096,
    )
    assert loaded.data.path == ["a.csv", "b.csv"] and loaded.data.split.stratify is False and loaded.data.target is None
    assert loaded.data.instruction == "Which kind: this #1?" and loaded.name == "7"
    assert loaded.train.early_stopping.patience == 5
    assert (loaded.adapter.options.r, loaded.adapter.options.alpha) == (4, 3)


@pytest.mark.parametrize(
    "overrides",
    [
        ["adapter.layers=2", "adapter.type=freeze"],
        ["adapter=freeze", "adapter.layers=2"],
        ["adapter.layers=2", "adapter=freeze"],
    ],
)
def test_another_plugin_drops_the_options_of_the_first(tmp_path, overrides):
    loaded = load(write(tmp_path, LEAST + "adapter: {type: lora, r: 4}\n"), overrides)
    assert loaded.adapter.name == "freeze" and loaded.adapter.options.layers == 2


def test_faults_of_overrides_name_the_override(tmp_path):
    assert refused(tmp_path, LEAST, ["train.learning_rat=1"]).startswith(
        "override train.learning_rat=1: unknown key 'learning_rat' in train; did you mean 'learning_rate'?"
    )
    assert refused(tmp_path, LEAST, ["train.epochs=x"]).startswith(
        "override train.epochs=x: train.epochs must be a number, not 'x'"
    )
    assert refused(tmp_path, LEAST, {"train.epochs": "x"}).startswith("override train.epochs=x: ")
    assert "override trian.epochs=1: unknown key 'trian'; did you mean 'train'?" in refused(
        tmp_path, LEAST, ["trian.epochs=1"]
    )
    for bad in ("train.epochs", "=3", "a b=3"):
        with pytest.raises(UsageError, match="override"):
            load({"data": {"path": "a"}}, [bad])


def test_mapping_sources_and_overrides():
    loaded = Recipe.load({"data": {"path": "a.csv"}}, {"train.epochs": 2})
    assert loaded.train.epochs == 2
    with pytest.raises(RecipeError, match="unknown key 'trainn'; did you mean 'train'"):
        Recipe.load({"data": {"path": "a.csv"}, "trainn": {}})


# extends --------------------------------------------------------------------------------------------------------------


def test_extends_lays_one_file_on_another(tmp_path):
    (tmp_path / "base").mkdir()
    write(tmp_path, "seed: 7\ntrain: {epochs: 9, weight_decay: 0.1}\n", "base/root.yaml")
    write(
        tmp_path,
        "extends: root.yaml\ntrain: {epochs: 5, batch_size: 8}\nadapter: {type: lora, r: 4}\n",
        "base/middle.yaml",
    )
    loaded = load(
        write(tmp_path, LEAST + "extends: base/middle.yaml\ntrain: {batch_tokens: 512}\nadapter: full\n"), ["seed=8"]
    )
    assert (loaded.seed, loaded.train.epochs, loaded.train.weight_decay) == (8, 5, 0.1)
    assert (loaded.train.batch_size, loaded.train.batch_tokens, loaded.adapter.name) == (None, 512, "full")
    assert loaded.where("train.epochs") == f"{tmp_path}/base/middle.yaml:2:17"


def test_faults_of_extends(tmp_path):
    write(tmp_path, "extends: recipe.yaml\n", "other.yaml")
    assert "extends itself" in refused(tmp_path, LEAST + "extends: other.yaml\n")
    assert "extends itself" in refused(tmp_path, LEAST + "extends: recipe.yaml\n")
    assert "recipe.yaml:2:10: extends: no such file" in refused(tmp_path, LEAST + "extends: nowhere.yaml\n")
    assert "extends must be" in refused(tmp_path, LEAST + "extends: [a]\n")
    write(tmp_path, "train: {epoch: 1}\n", "other.yaml")
    assert refused(tmp_path, LEAST + "extends: other.yaml\n").startswith("other.yaml:1:9: unknown key 'epoch' in train")


# other tools' names ---------------------------------------------------------------------------------------------------


def test_names_of_other_tools_are_read_and_said(tmp_path):
    text = LEAST + (
        "model_name_or_path: org/model\nnum_train_epochs: 2\nlr_scheduler_type: constant_with_warmup\n"
        "lora_r: 4\nbf16: true\n"
        "per_device_train_batch_size: 4\ngradient_accumulation_steps: 8\ncutoff_len: 256\ntrain: {save_steps: 50}\n"
        "early_stopping_patience: 2\nsample_packing: true\n"
    )
    loaded = load(write(tmp_path, text))
    assert (loaded.model.base, loaded.train.epochs, loaded.train.schedule) == ("org/model", 2, "constant")
    assert (loaded.adapter.options.r, loaded.model.dtype, loaded.train.batch_size) == (4, "bfloat16", 32)
    assert (loaded.data.max_length, loaded.train.save_every, loaded.train.early_stopping.patience) == (256, 50, 2)
    assert loaded.train.layout == "packed"
    assert "num_train_epochs read as train.epochs" in loaded.notices
    assert "per_device_train_batch_size x gradient_accumulation_steps read as train.batch_size = 32" in loaded.notices
    assert len(loaded.notices) == 10


def test_faults_of_other_names_keep_their_place(tmp_path):
    assert "recipe.yaml:2:19: train.epochs must be a number, not 'x'" in refused(
        tmp_path, LEAST + "num_train_epochs: x\n"
    )
    assert "given twice" in refused(tmp_path, LEAST + "num_epochs: 2\ntrain: {epochs: 3}\n")
    assert "recipe.yaml:2:1: gradient_accumulation_steps says nothing" in refused(
        tmp_path, LEAST + "gradient_accumulation_steps: 2\n"
    )
    assert "whole numbers above 0" in refused(tmp_path, LEAST + "per_device_train_batch_size: x\n")
    assert "num_epochs belongs into train, which is 3 here" in refused(tmp_path, LEAST + "num_epochs: 2\ntrain: 3\n")


def test_every_other_name_leads_to_a_key_and_is_none_itself():
    known = set(keys())
    assert {target for target, _ in ALIASES.values()} <= known
    assert not {key.split(".")[-1] for key in known} & set(ALIASES)


# writing --------------------------------------------------------------------------------------------------------------


def test_what_is_written_reads_back_equal(tmp_path):
    loaded = Recipe.load(
        {
            "data": {"path": ["ä.csv", "b: c #d"], "columns": {"text": "no", "label": "1e5"}},
            "num_train_epochs": 2,
            "objective": "classify",
        },
        ["train.learning_rate=1e-5", "adapter.r=4", "data.instruction=Say:"],
    )
    again = load(write(tmp_path, dump(loaded)))
    assert again == loaded and dump(again) == dump(loaded) and again.notices == ()
    assert again != loaded.replace({"seed": 1})


TEXT = st.text(min_size=1, max_size=40).filter(lambda text: not any(0xD800 <= ord(char) < 0xE000 for char in text))


@settings(max_examples=60, deadline=None)
@example(instruction="a\u2028b", columns={"x\x85": "\ufeffy"}, rate=1e-12, path=["\x85", "\u2029"])
@given(
    instruction=TEXT,
    columns=st.dictionaries(TEXT, TEXT, max_size=3),
    rate=st.floats(min_value=1e-12, max_value=1),
    path=st.lists(TEXT, min_size=1, max_size=3),
)
def test_any_text_and_number_reads_back_equal(tmp_path_factory, instruction, columns, rate, path):
    loaded = Recipe.load(
        {"data": {"path": path, "instruction": instruction, "columns": columns}, "train": {"learning_rate": rate}}
    )
    again = load(write(tmp_path_factory.mktemp("written"), loaded.dump()))
    assert again == loaded


def test_fingerprint_is_of_what_changes_the_result():
    one = Recipe.load({"data": {"path": "a"}})
    assert fingerprint(one) == one.fingerprint() and len(one.fingerprint()) == 64
    assert one.fingerprint() == one.replace({"name": "x", "track": ["tensorboard"], "train.epochs": 3}).fingerprint()
    for change in ({"seed": 1}, {"train.epochs": 2}, {"adapter.r": 8}, {"data.path": "b"}, {"objective": "sft"}):
        assert one.replace(change).fingerprint() != one.fingerprint()


# explaining -----------------------------------------------------------------------------------------------------------


def test_explain():
    assert "train: How long" in explain()
    assert "> 0, <= 10" in explain("train.learning_rate") and "default null" in explain("train.learning_rate")
    assert "cosine, linear, constant or wsd, default cosine" in explain("train.schedule")
    assert explain("adapter.lora.dora") == explain("adapter.dora") and "default 16" in explain("adapter.lora.r")
    assert "lora (default):" in explain("adapter") and "alpha (default null)" in explain("adapter.lora")
    assert "no options" in explain("adapter.layernorm")
    assert "patience (default 3)" in explain("train.early_stopping")
    assert "None" not in explain("data") + explain("adapter.lora") + explain("train")


@pytest.mark.parametrize("key", sorted(keys()))
def test_every_key_is_explained(key):
    assert len(explain(key)) > len(key) + 20


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("learning_rate", "train.learning_rate"),
        ("train.epoch", "train.epochs"),
        ("adapter.lor", "lora"),
        ("adapter.lora.alhpa", "alpha"),
    ],
)
def test_explain_knows_the_nearest(key, near):
    with pytest.raises(UsageError, match=f"did you mean '{near}'"):
        explain(key)


def test_json_schema_describes_every_section_and_plugin():
    schema = json_schema()
    assert set(schema["properties"]) == {*Recipe.model_fields, "extends"}
    text = json.dumps(schema)
    assert "Highest learning rate" in text
    for section, choice in CHOICES.items():
        forms = schema["$defs"][schema["properties"][section]["$ref"].split("/")[-1]]["oneOf"]
        named = [form["properties"][choice.key]["const"] for form in forms if "properties" in form]
        assert named == plugins.names(choice.kind)
        assert forms[0]["enum"] == choice.names()


def test_json_schema_agrees_with_the_loader():
    jsonschema = pytest.importorskip("jsonschema")
    check = jsonschema.Draft202012Validator(json_schema())
    whole = Recipe.load({"data": {"path": "a.csv"}, "objective": "classify"}).model_dump(mode="json")
    assert list(check.iter_errors(whole)) == []
    assert list(check.iter_errors({"data": {"path": "a"}, "adapter": {"r": 4}, "objective": "sft"})) == []
    for wrong in (
        {"data": {"path": 3}},
        {"data": {"path": "a"}, "adapter": {"type": "freeze", "r": 4}},
        {"data": {"path": "a"}, "x": 1},
    ):
        assert list(check.iter_errors(wrong))
