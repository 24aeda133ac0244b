"""Recipes of other tools in their own syntax: what every key becomes, and that none is lost."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from attune import plugins
from attune.errors import AttuneError, RecipeError, UsageError
from attune.interop.convert import Imported, convert
from attune.interop.values import offered
from attune.recipe import Recipe

FIXTURES = Path(__file__).parent / "fixtures"
MARK = Path("/tmp/attune-import-was-run")


def lists(found: Imported) -> Counter[str]:
    return Counter(entry.key for entry in (*found.mapped, *found.approximated, *found.dropped))


def of(found: Imported, key: str) -> tuple[str, Any]:
    """The list a key stands in, and its entry."""
    places = [
        (name, entry)
        for name in ("mapped", "approximated", "dropped")
        for entry in getattr(found, name)
        if entry.key == key
    ]
    assert len(places) == 1, f"{key} stands in {[name for name, _ in places]}"
    return places[0]


def leaves(value: Any, at: str = "") -> list[str]:
    """Keys of a YAML file, written here once more on its own."""
    if isinstance(value, dict) and value:
        return [leaf for key, inner in value.items() for leaf in leaves(inner, f"{at}.{key}" if at else str(key))]
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return [leaf for index, item in enumerate(value) for leaf in leaves(item, f"{at}[{index}]")]
    return [at]


def yaml_keys(path: Path) -> Counter[str]:
    yaml = YAML(typ="safe", pure=True)
    return Counter(leaves(yaml.load(path.read_text())))


def shell_keys(text: str) -> Counter[str]:
    """Options of a script by a plain search; lines that are comments left out."""
    body = "\n".join(line for line in text.split("\n") if not line.lstrip().startswith("#"))
    return Counter(re.findall(r"(?<!\S)(--\w+)", body))


def script(tmp_path: Path, text: str, name: str = "recipe.yml") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


AXOLOTL = "base_model: acme/m\nlearning_rate: 1e-4\nmicro_batch_size: 2\ngradient_accumulation_steps: 4\n"


@pytest.mark.parametrize("name", ["axolotl.yml", "llama_factory.yaml", "trl.yaml"])
def test_every_key_of_yaml_stands_in_one_list(name: str) -> None:
    assert lists(convert(FIXTURES / name)) == yaml_keys(FIXTURES / name)


@pytest.mark.parametrize(
    ("name", "environment"),
    [("trl_sft.sh", ["WANDB_PROJECT"]), ("ms_swift.sh", ["NPROC_PER_NODE", "CUDA_VISIBLE_DEVICES"])],
)
def test_every_option_of_a_script_stands_in_one_list(name: str, environment: list[str]) -> None:
    found = lists(convert(FIXTURES / name))
    told = Counter(key.removeprefix("launcher ") for key in found.elements() if "--" in key)
    assert told == shell_keys((FIXTURES / name).read_text())
    assert [key for key in found if "--" not in key] == environment


def test_every_keyword_of_the_training_calls_stands_in_one_list() -> None:
    found = lists(convert(FIXTURES / "unsloth.py"))
    expected = {
        "from_pretrained": "model_name max_seq_length load_in_4bit token",
        "get_peft_model": "model r lora_alpha target_modules use_gradient_checkpointing random_state",
        "get_chat_template": "tokenizer chat_template",
        "load_dataset": "path data_files split",
        "SFTTrainer": "model tokenizer train_dataset dataset_text_field max_seq_length args",
        "SFTConfig": "per_device_train_batch_size gradient_accumulation_steps max_steps warmup_steps learning_rate "
        "fp16 bf16 optim weight_decay lr_scheduler_type output_dir report_to",
        "train_on_responses_only": "trainer instruction_part response_part",
    }
    assert found == Counter(f"{call}.{word}" for call, words in expected.items() for word in words.split())


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("*.*")), ids=lambda path: path.name)
def test_fixtures_give_valid_recipes_that_survive_writing(path: Path, tmp_path: Path) -> None:
    if path.name == "dataset_info.json":
        return
    MARK.unlink(missing_ok=True)
    found = convert(path)
    written = tmp_path / "recipe.yaml"
    written.write_text(found.yaml())
    assert Recipe.load(written) == found.recipe
    assert json.loads(json.dumps(found.json()))["tool"] == found.tool
    assert not MARK.exists(), "something in the file was run"


def test_axolotl() -> None:
    found = convert(FIXTURES / "axolotl.yml")
    recipe = found.recipe
    assert found.tool == "Axolotl" and not found.fill_in
    assert (recipe.model.base, recipe.model.revision, recipe.name) == ("acme/tiny-llama", "v2", "tiny-run")
    assert recipe.adapter.name == "lora"
    lora: Any = recipe.adapter.options
    assert (lora.r, lora.alpha, lora.dropout, lora.target_modules) == (8, 16, 0.1, "all-linear")
    assert lora.rslora and lora.modules_to_save == ["embed_tokens"]
    assert recipe.data.path == ["rows.jsonl", "more.jsonl"] and recipe.data.format == "alpaca"
    assert (recipe.data.max_length, recipe.data.truncate, recipe.data.split.validation) == (256, "drop", 0.1)
    train = recipe.train
    assert (train.batch_size, train.max_steps, train.learning_rate) == (6, 2, 3e-4)
    assert (train.warmup_ratio, train.weight_decay, train.beta2, train.max_grad_norm) == (0.2, 0.05, 0.95, 0.5)
    assert train.gradient_checkpointing and train.keep_checkpoints == 3 and recipe.seed == 7
    assert train.early_stopping is not None and train.early_stopping.patience == 2
    assert of(found, "optimizer")[0] == "approximated"
    assert of(found, "chat_template")[0] == "approximated"
    assert of(found, "frobnicate_level")[0] == "dropped" and "frobnicate_level" in found.report()
    assert of(found, "frobnicate_level")[1].where.endswith("axolotl.yml:55:1")


def test_packing_counts_the_step_in_tokens(tmp_path: Path) -> None:
    path = script(
        tmp_path, AXOLOTL + "sequence_len: 1024\nsample_packing: true\ndatasets: [{path: a.jsonl, type: alpaca}]\n"
    )
    train = convert(path, devices=3).recipe.train
    assert (train.batch_size, train.batch_tokens, train.layout) == (None, 2 * 4 * 3 * 1024, "packed")


def test_llama_factory_reads_its_table_of_data_sets() -> None:
    found = convert(FIXTURES / "llama_factory.yaml")
    recipe = found.recipe
    assert [Path(path).name for path in recipe.data.paths] == ["chats.json", "chats_too.json"]
    assert recipe.data.format == "sharegpt" and recipe.data.columns == {"conversations": "dialogue"}
    lora: Any = recipe.adapter.options
    assert (lora.r, lora.alpha, lora.dora, lora.target_modules) == (4, 8, True, ["q_proj", "v_proj"])
    assert (recipe.train.batch_size, recipe.train.schedule, recipe.train.warmup_steps) == (4, "linear", 1)
    assert (recipe.train.save_every, recipe.train.eval_every, recipe.train.weight_decay) == (2, 2, 0.0)
    assert (recipe.data.split.validation, recipe.model.dtype, recipe.objective.name) == (0.2, "float32", "sft")
    assert of(found, "max_samples")[0] == "dropped"


def test_trl_yaml() -> None:
    found = convert(FIXTURES / "trl.yaml")
    recipe = found.recipe
    lora: Any = recipe.adapter.options
    assert (lora.r, lora.alpha, lora.dropout, lora.target_modules) == (4, 8, 0.05, "all-linear")
    assert (recipe.train.batch_size, recipe.train.schedule, recipe.train.warmup_ratio) == (8, "constant", 0.5)
    assert (recipe.train.eval_every, recipe.data.max_length, recipe.track) == (1, 256, ["tensorboard"])
    assert of(found, "optim")[0] == "approximated" and "adafactor" in of(found, "optim")[1].why


def test_trl_command_line_with_launcher_and_sums() -> None:
    found = convert(FIXTURES / "trl_sft.sh")
    recipe = found.recipe
    assert (recipe.model.base, recipe.data.path, recipe.adapter.name) == ("acme/tiny-llama", "rows.jsonl", "full")
    assert (recipe.train.batch_tokens, recipe.train.learning_rate) == (2 * 4 * 2 * 128, 5e-5)
    assert (recipe.train.schedule, recipe.train.min_lr_ratio, recipe.train.epochs) == ("cosine", 0.1, 3)
    assert of(found, "--output_dir")[1].given == "out/$(date +%s)"
    assert found.others[1].startswith("trl dpo")


def test_the_second_recipe_of_a_script_and_an_objective_that_is_not_there() -> None:
    found = convert(FIXTURES / "trl_sft.sh", which=2)
    recipe = found.recipe
    assert recipe.adapter.name == "lora" and recipe.train.max_steps == 10
    if "dpo" not in plugins.names("objective"):
        assert recipe.objective.name == "sft" and "objective" in found.fill_in
        assert of(found, "--beta")[0] == "dropped" and "dpo" in of(found, "--beta")[1].why
    with pytest.raises(UsageError, match="--which 3"):
        convert(FIXTURES / "trl_sft.sh", which=3)


def test_ms_swift() -> None:
    found = convert(FIXTURES / "ms_swift.sh")
    recipe = found.recipe
    lora: Any = recipe.adapter.options
    assert (lora.r, lora.alpha, lora.init, lora.target_modules) == (4, 8, "pissa", ["q_proj", "v_proj"])
    assert (recipe.objective.name, recipe.data.path, recipe.data.truncate) == ("classify", "claims.csv", "left")
    assert (recipe.train.batch_size, recipe.train.weight_decay, recipe.train.beta2) == (8, 0.1, 0.95)
    assert of(found, "--dataset")[0] == "approximated" and "300 rows" in of(found, "--dataset")[1].why


def test_unsloth() -> None:
    found = convert(FIXTURES / "unsloth.py")
    recipe = found.recipe
    lora: Any = recipe.adapter.options
    assert (lora.r, lora.alpha, lora.target_modules, lora.modules_to_save) == (4, 8, ["q_proj", "v_proj"], ["lm_head"])
    assert (recipe.model.base, recipe.data.path, recipe.data.max_length) == ("acme/tiny-llama", "rows.jsonl", 256)
    assert (recipe.train.batch_size, recipe.train.weight_decay, recipe.seed) == (4, 0.001, 11)
    assert recipe.model.dtype == "auto" and recipe.train.gradient_checkpointing
    assert of(found, "from_pretrained.token")[1].given == "(not shown)" and "hf_x" not in found.report()


def test_a_notebook_and_what_unsloth_does_unasked() -> None:
    found = convert(FIXTURES / "unsloth.ipynb")
    recipe = found.recipe
    lora: Any = recipe.adapter.options
    assert (recipe.train.batch_size, recipe.train.learning_rate, recipe.seed) == (8, 5e-5, 3407)
    assert (lora.r, lora.alpha, len(lora.target_modules)) == (8, 16, 7)
    assert of(found, "SFTConfig.max_steps")[1].where.endswith("cell 5, line 3")


# single keys ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "key", "value"),
    [
        ("lr_scheduler: constant", "train.warmup_steps", 0),
        ("lr_scheduler: warmup_stable_decay", "train.schedule", "wsd"),
        ("lr_scheduler: cosine\ncosine_min_lr_ratio: 0.1", "train.min_lr_ratio", 0.1),
        ("warmup_steps: 12", "train.warmup_steps", 12),
        ("bf16: true", "model.dtype", "bfloat16"),
        ("bf16: false\nfp16: true", "model.dtype", "auto"),
        ("bf16: false\nfp16: false", "model.dtype", "float32"),
        ("max_steps: 50\neval_steps: 0.1", "train.eval_every", 5),
        ("adapter: lora\npeft_use_dora: true", "adapter.dora", True),
        ("adapter: lora\npeft_init_lora_weights: pissa", "adapter.init", "pissa"),
        ("adapter: lora\nlora_target_modules: [q_proj]", "adapter.target_modules", ["q_proj"]),
        ("eager_attention:\nattn_implementation: eager", "model.attention", "eager"),
        ("use_tensorboard: true", "track", ["tensorboard"]),
        ("datasets: [{path: t.jsonl, type: completion, field: body}]", "data.columns", {"text": "body"}),
        ("datasets: [{path: t.jsonl, type: completion}]", "objective.name", "pretrain"),
        ("pretraining_dataset: c.jsonl", "objective.name", "pretrain"),
        ("datasets: [{path: t.jsonl, type: alpaca}]\nlabel_smoothing_factor: 0.1", "objective.label_smoothing", 0.1),
        ("datasets: [{path: t.jsonl, type: completion}]\nlabel_smoothing_factor: 0.1", "objective.name", "pretrain"),
        ("datasets: [{path: t.jsonl, type: chat_template, field_messages: talk}]", "data.columns",
         {"messages": "talk"}),
        ("datasets: [{path: t.jsonl, type: chat_template, field_messages: talk,"
         " message_property_mappings: {role: from, content: value}}]", "data.columns", {"conversations": "talk"}),
        ("datasets: [{path: t.jsonl, type: sharegpt}]", "data.format", "sharegpt"),
        ("datasets: [{path: t.jsonl, type: {field_instruction: q, field_output: a}}]", "data.columns",
         {"instruction": "q", "output": "a"}),
        ("datasets: [{path: json, data_files: [x.jsonl], type: alpaca}]", "data.path", "x.jsonl"),
        ("datasets: [{path: a.jsonl, type: alpaca}, {path: b.jsonl, type: sharegpt}]", "data.path",
         [{"path": "a.jsonl", "format": "alpaca"}, {"path": "b.jsonl", "format": "sharegpt"}]),
        ("datasets: [{path: x/a.jsonl, type: alpaca}, {path: y/a.jsonl, type: sharegpt}]\n"
         "test_datasets: [{path: v.jsonl, type: alpaca}]", "data.path",
         [{"path": "x/a.jsonl", "format": "alpaca", "validation": "v.jsonl"},
          {"path": "y/a.jsonl", "format": "sharegpt", "name": "a-2"}]),
        ("test_datasets: [{path: v.jsonl, type: alpaca}]", "data.validation", "v.jsonl"),
        ("unfrozen_parameters: [lm_head.*]", "adapter.type", "freeze"),
        ("excess_length_strategy: truncate\nsequence_len: 64", "data.truncate", "right"),
    ],
)  # fmt: skip
def test_axolotl_keys(lines: str, key: str, value: Any, tmp_path: Path) -> None:
    found = convert(script(tmp_path, AXOLOTL + "sequence_len: 64\n" * ("sequence_len" not in lines) + lines + "\n"))
    inner: Any = found.values
    for part in key.split("."):
        inner = inner[part]
    assert inner == value
    assert lists(found) == yaml_keys(tmp_path / "recipe.yml")


def test_a_quantised_base_unless_something_needs_it_whole(tmp_path: Path) -> None:
    lora = "adapter: qlora\nload_in_4bit: true\n"
    found = convert(script(tmp_path, AXOLOTL + lora))
    assert of(found, "adapter")[0] == "mapped"
    if not offered("adapter.quantize"):
        assert of(found, "load_in_4bit")[0] == "approximated"
        return
    assert found.values["adapter"]["quantize"] == "nf4"
    for other in (
        "lora_modules_to_save: [lm_head]",
        "peft_init_lora_weights: pissa",
        "lora_target_modules: [q, lm_head]",
    ):
        found = convert(script(tmp_path, AXOLOTL + lora + other))
        assert "quantize" not in found.values["adapter"] and of(found, "load_in_4bit")[0] == "approximated"


@pytest.mark.parametrize(
    ("kind", "options", "expected"),
    [
        ("adalora", "--adalora_target_r 6 --lora_rank 3 --lora_alpha 24", {"type": "adalora", "r": 6, "alpha": 24}),
        ("vera", "--vera_rank 64 --lora_alpha 24", {"type": "vera", "r": 64}),
        ("boft", "", {"type": "peft", "method": "boft"}),
        ("reft", "", {"type": "lora"}),
    ],
)
def test_other_adapters(kind: str, options: str, expected: dict[str, Any], tmp_path: Path) -> None:
    line = f"swift sft --model m --dataset a.jsonl --tuner_type {kind} --learning_rate 1e-4 {options}\n"
    found = convert(script(tmp_path, line, "go.sh"))
    assert expected.items() <= found.values["adapter"].items()
    assert lists(found) == shell_keys(line)
    if kind == "vera":
        assert of(found, "--lora_alpha")[0] == "dropped"


def test_noise_and_two_rates_where_attune_has_them(tmp_path: Path) -> None:
    found = convert(script(tmp_path, AXOLOTL + "adapter: lora\nneftune_noise_alpha: 5\nloraplus_lr_ratio: 8\n"))
    for key, ours in (("neftune_noise_alpha", "train.neftune_alpha"), ("loraplus_lr_ratio", "adapter.lr_ratio")):
        assert of(found, key)[0] == ("mapped" if offered(ours) else "dropped")


def test_shares_of_data_sets_become_weights(tmp_path: Path) -> None:
    head = "model_name_or_path: m\nstage: sft\nfinetuning_type: full\ncutoff_len: 64\ndataset: a, b\n"
    found = convert(script(tmp_path, head + "mix_strategy: interleave_over\ninterleave_probs: 0.7,0.3\n"))
    recipe = found.recipe
    assert [source.weight for source in recipe.data.sources] == [0.7, 0.3] and recipe.data.mix.temperature is None
    assert lists(found) == yaml_keys(tmp_path / "recipe.yml")


def test_unfrozen_parameters_freeze_all_the_others(tmp_path: Path) -> None:
    options: Any = convert(
        script(tmp_path, AXOLOTL + "unfrozen_parameters: ['lm_head', 'layers.3.']")
    ).recipe.adapter.options
    frozen = [
        name
        for name in ("model.layers.3.mlp", "lm_head.weight", "model.layers.2.mlp")
        if re.search(options.patterns[0], name)
    ]
    assert frozen == ["model.layers.2.mlp"] and not options.embeddings


def test_remote_code_needs_the_commit(tmp_path: Path) -> None:
    found = convert(script(tmp_path, AXOLOTL + "trust_remote_code: true\n"))
    assert of(found, "trust_remote_code")[0] == "dropped" and not found.recipe.model.trust_remote_code
    found = convert(script(tmp_path, AXOLOTL + f"trust_remote_code: true\nrevision_of_model: {'a1' * 20}\n"))
    assert found.recipe.model.trust_remote_code


def test_what_contradicts_is_dropped_with_the_key_that_won(tmp_path: Path) -> None:
    found = convert(
        script(tmp_path, AXOLOTL + "adapter: lora\nlora_target_linear: true\nlora_target_modules: [q_proj]\n")
    )
    assert found.recipe.adapter.options.target_modules == "all-linear"  # type: ignore[attr-defined]
    assert of(found, "lora_target_modules")[0] == "dropped"
    assert "lora_target_linear" in of(found, "lora_target_modules")[1].why


def test_preference_and_reinforcement(tmp_path: Path) -> None:
    found = convert(script(tmp_path, AXOLOTL + "rl: kto\nrl_beta: 0.1\ndatasets: [{path: p.jsonl, type: chatml}]\n"))
    if "kto" not in plugins.names("objective"):
        assert (
            found.recipe.objective.name == "sft"
            and of(found, "rl")[0] == "dropped"
            and "kto" in found.fill_in["objective"]
        )
    with pytest.raises(RecipeError, match=r"grpo cannot be converted") as error:
        convert(script(tmp_path, AXOLOTL + "rl: grpo\n"))
    assert error.value.where == f"{tmp_path / 'recipe.yml'}:5:1"


def test_a_yaml_beside_a_command_is_laid_below_it(tmp_path: Path) -> None:
    script(tmp_path, "model_name_or_path: acme/m\ndataset_name: a.jsonl\nlearning_rate: 1e-3\n", "conf.yaml")
    found = convert(script(tmp_path, "trl sft --config conf.yaml --learning_rate 2e-3\n", "go.sh"))
    assert (found.recipe.model.base, found.recipe.train.learning_rate) == ("acme/m", 2e-3)
    assert of(found, "learning_rate")[0] == "dropped" and of(found, "--learning_rate")[0] == "mapped"


def test_the_usage_text_of_a_script(tmp_path: Path) -> None:
    command = "python sft.py \\\n    --model_name_or_path acme/m \\\n    --dataset_name d.csv"
    text = f'"""Don\'t panic.\n\n{command}\n"""\nimport os\n'
    found = convert(script(tmp_path, text, "sft.py"))
    assert found.recipe.data.path == "d.csv" and found.where.endswith("sft.py:3")


def test_tools_are_found_by_scanning() -> None:
    assert plugins.names("importer") == ["axolotl", "llama_factory", "ms_swift", "trl", "unsloth"]
    for name in plugins.names("importer"):
        importer: Any = plugins.get("importer", name)
        assert importer.title and len(importer.table) > 50


@pytest.mark.parametrize(
    ("text", "name", "tool", "message"),
    [
        ("data: {path: a.csv}\nadapter: lora\n", "a.yml", None, "a recipe of attune already"),
        ("a: 1\nb: 2\n", "a.yml", None, "no recipe of a tool that attune knows"),
        ("a: 1\n", "a.yml", "axolotl", "no recipe of Axolotl"),
        ("base_model: m\n", "a.yml", "axolotol", "did you mean 'axolotl'"),
        ("echo hello\n", "a.sh", None, "no command trains"),
        ("print(1)\n", "a.py", None, "builds no trainer"),
        ("megatron sft --model m\n", "a.sh", None, "Megatron"),
        ("swift sft --model m --task_type embedding\n", "a.sh", None, "task_type embedding"),
        (AXOLOTL.replace("1e-4", "fast"), "a.yml", None, "learning_rate must be a number, not 'fast'"),
        (AXOLOTL.replace("micro_batch_size: 2", "micro_batch_size: 0"), "a.yml", None, "must be above 0"),
        (AXOLOTL + "adapter: lora\nlora_r: 4000\n", "a.yml", None, "lora_r: adapter.r must be at most 1024"),
    ],
)
def test_what_cannot_be_is_said(text: str, name: str, tool: str | None, message: str, tmp_path: Path) -> None:
    with pytest.raises(AttuneError, match=message) as error:
        convert(script(tmp_path, text, name), tool=tool)
    assert str(tmp_path) in str(error.value) or tool


def test_training_another_tools_recipe_says_how_to_import_it(tmp_path: Path) -> None:
    path = tmp_path / "axolotl.yml"
    path.write_text(
        "base_model: org/base\nmicro_batch_size: 2\nlearning_rate: 1e-4\ndatasets:\n  - {path: a/b, type: alpaca}\n"
    )
    train = [sys.executable, "-m", "attune.cli", "train", str(path)]
    refused = subprocess.run(train, cwd=tmp_path, capture_output=True, text=True)
    assert refused.returncode == 3 and f"fix: this is a recipe of Axolotl: attune import {path}\n" in refused.stderr
    path.write_text("data: {path: a.csv}\nlearning_rate: 1e-4\n")  # ours, with a key in the wrong place
    refused = subprocess.run(train, cwd=tmp_path, capture_output=True, text=True)
    assert refused.returncode == 3 and "attune import" not in refused.stderr
