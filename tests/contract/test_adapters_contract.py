"""Every adapter with every objective obeys the contract, or the recipe is refused before any weights are loaded.

Gradients do not depend on how a step is cut; resuming is bit-identical; the saved folder opens with equal outputs, by
attune and by PEFT or transformers alone. A new adapter or objective is picked up by being there.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from attune import plugins
from attune.data.batch import Loader, collate
from attune.data.examples import ExampleStore
from attune.errors import RecipeError
from attune.model.build import build
from attune.model.parallel import Parallel
from attune.model.policy import Policy
from attune.model.save import open_model, save_model
from attune.recipe import Recipe
from attune.train import checkpoint
from attune.train.loop import fit
from attune.train.optim import Masters


def _objectives() -> Any:
    """The contract of objectives beside this file: its cases and examples serve here too."""
    path = Path(__file__).with_name("test_objectives_contract.py")
    spec = importlib.util.spec_from_file_location("objectives_contract", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["objectives_contract"] = module
    spec.loader.exec_module(module)
    return module


objectives = _objectives()
LIMIT = 1e-9
STEPS = 4

COMMON = ("lora", "prompt_tuning")
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "lora": [{"r": 2, "lr_ratio": 4.0}],
    "vera": [{"r": 4}],
    "adalora": [{"r": 1, "init_r": 2, "every": 1}],
    "prompt_tuning": [{"tokens": 3}],
    "prefix": [{"tokens": 3}],
    "p_tuning": [{"tokens": 3, "hidden_size": 8}],
    "freeze": [{"unfreeze": 0.5, "layer_decay": 0.5}],
    "full": [{"layer_decay": 0.5}],
    "peft": [{"method": "loha", "options": {"r": 2}}],
}
"""Options with which an adapter fits the tiny models; an adapter that is not named runs with its defaults."""

MORE: list[dict[str, Any]] = [
    {"type": "lora", "r": 2, "dora": True},
    {"type": "lora", "r": 2, "rslora": True, "dropout": 0.1},
    {"type": "lora", "r": 2, "init": "pissa"},
    {"type": "lora", "r": 2, "init": "olora"},
    {"type": "lora", "r": 2, "modules_to_save": ["embed_tokens"]},
    {"type": "lora", "r": 2, "modules_to_save": ["pooler"]},
    {"type": "adalora", "r": 1, "init_r": 3, "every": 2, "orthogonality": 0.0},
    {"type": "prompt_tuning", "tokens": 3, "init": "random"},
    {"type": "prompt_tuning", "tokens": 5, "init": "text", "text": "w5 w6 w7"},
    {"type": "prefix", "tokens": 3, "projection": True, "hidden_size": 8},
    {"type": "prefix", "tokens": 3, "zero": True},
    {"type": "p_tuning", "tokens": 3, "hidden_size": 8, "network": "lstm"},
    {"type": "freeze", "layers": 1},
    {"type": "freeze", "embeddings": False, "layer_decay": 0.8, "unfreeze": 1.0},
]
"""Options that another code path serves; with the objectives sft and classify."""

PEFT: dict[str, dict[str, Any]] = {
    "beft": {}, "boft": {"boft_block_size": 4}, "c3a": {"block_size": 8}, "deft": {}, "delora": {"r": 2},
    "fourierft": {"n_frequency": 10}, "frod": {}, "glora": {"r": 2}, "gralora": {"r": 4, "gralora_k": 2},
    "hira": {"r": 2}, "hra": {"r": 2}, "lokr": {"r": 2}, "miss": {"r": 2}, "oft": {"oft_block_size": 4}, "osf": {},
    "peanut": {"r": 2}, "psoft": {"r": 2}, "pvera": {"r": 2}, "randlora": {"r": 2}, "road": {"group_size": 8},
    "shira": {"r": 2}, "supertuning": {}, "tinylora": {}, "unilora": {}, "waveft": {"n_frequency": 10},
    "vblora": {"vector_length": 8, "num_vectors": 4},
}  # fmt: skip
"""The methods that go through adapter `peft`, with options that fit the tiny models."""
SINGLE = ("c3a", "deft", "fourierft")
"""Methods that compute in float32 whatever the model's format, so that rounding is all that can be asked."""
NOISY = ("pvera",)
"""Methods that draw noise in training, as dropout does."""


def label(adapter: dict[str, Any]) -> str:
    return "-".join(str(value) for value in adapter.values())


def cases() -> list[Any]:
    """Every adapter with every objective on a decoder, and on an encoder where the head allows; more options beside."""
    found = []
    for name in plugins.names("adapter"):
        for options in VARIANTS.get(name, [{}]):
            for objective, task in objectives.CASES:
                lm = plugins.get("objective", objective).head == "lm"  # type: ignore[attr-defined]
                pairs = [(objective, task)] if (objective, task) in objectives.PAIRS else []
                for family in ["llama", *("t5" for _ in pairs)] if lm else ["llama", "bert"]:
                    # one of each head is fast; what shares a head and a base differs little
                    fast = (objective == "sft" and family == "llama") or (name in COMMON and objective == "sft")
                    fast = fast or (task == "classification" and (family == "bert" or name in COMMON))
                    fast = fast or (name in COMMON and task == "tagging" and family == "bert")
                    marks = [] if fast else [pytest.mark.slow]
                    found.append(
                        pytest.param(
                            {"type": name, **options}, objective, task, family, marks=marks,
                            id=f"{name}-{objective}-{task}-{family}",
                        )
                    )  # fmt: skip
    for adapter in [*MORE, *({"type": "peft", "method": name, "options": value} for name, value in PEFT.items())]:
        for objective, task, family in [("sft", "generation", "llama"), ("classify", "classification", "bert")]:
            if {"bert": "embed_tokens", "llama": "pooler"}[family] in adapter.get("modules_to_save", []):
                continue  # a module that it does not have
            found.append(
                pytest.param(
                    adapter, objective, task, family, marks=pytest.mark.slow,
                    id=f"{label(adapter)}-{objective}-{family}",
                )
            )  # fmt: skip
    return found


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Tiny random bases on disk, each with a word tokenizer."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    small = dict(
        vocab_size=objectives.VOCAB, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        pad_token_id=0,
    )  # fmt: skip
    quiet = dict(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    configs = {
        "llama": transformers.LlamaConfig(**small, num_key_value_heads=1, bos_token_id=1, eos_token_id=2),
        "bert": transformers.BertConfig(**small, **quiet),
        "t5": transformers.T5Config(
            vocab_size=objectives.VOCAB,
            d_model=16,
            d_kv=8,
            d_ff=24,
            num_layers=2,
            num_heads=2,
            dropout_rate=0.0,
            decoder_start_token_id=0,
        ),
    }
    found = {}
    for family, config in configs.items():
        folder = tmp_path_factory.mktemp(family)
        torch.manual_seed(0)
        auto = {"llama": transformers.AutoModelForCausalLM, "t5": transformers.AutoModelForSeq2SeqLM}.get(
            family, transformers.AutoModel
        )
        model = auto.from_config(config)
        with torch.no_grad():  # larger than usual, so that differences show
            for parameter in model.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
        model.save_pretrained(folder)
        words = {word: number for number, word in enumerate(["<pad>", "<s>", "</s>", "<unk>"])}
        words |= {f"w{number}": number for number in range(4, objectives.VOCAB)}
        tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        transformers.PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
        ).save_pretrained(folder)
        found[family] = folder
    return found


def recipe_of(
    base: Path, adapter: dict[str, Any], objective: str, options: dict[str, Any] | None = None, **train: Any
) -> Recipe:
    return Recipe.load(
        {
            "model": {"base": str(base), "dtype": "float32"},
            "data": {"path": "none.csv"},
            "objective": {"name": objective, **(options or {})},
            "adapter": adapter,
            "train": {
                "learning_rate": 5e-3,
                "batch_size": 4,
                "warmup_steps": 0,
                "max_steps": STEPS,
                "keep_checkpoints": 9,
                **train,
            },
        }
    )


def outputs(model: Any, head: str, rows: list[Any]) -> list[torch.Tensor]:
    """Each example alone through a transformers or PEFT model: what stands at its real tokens, or the pooled output."""
    found = []
    with torch.no_grad():
        for row in rows:
            ids = torch.tensor(row.ids[None].astype("int64"))
            if row.source is None:
                logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.float()
            else:
                source = torch.tensor(row.source[None].astype("int64"))
                logits = model(input_ids=source, decoder_input_ids=ids).logits.float()
            found.append(logits if head == "sequence" else logits[:, -ids.shape[1] :])
    return found


def trained(
    recipe: Recipe, objective: Any, tokenizer: Any, rows: list[Any], folder: Path, resume: Any = None
) -> tuple[Policy, Masters]:
    policy = build(recipe, objective, tokenizer)
    layout = policy.settle()
    masters = Masters(policy, recipe.train, dtype=torch.float32)
    loader = Loader(
        ExampleStore.of(rows, vocab_size=objectives.VOCAB), seed=0, batch_size=4, layout=layout, scored=objective.scored
    )
    fit(
        policy, objective, loader, masters, recipe.train, total_steps=STEPS, folder=folder, fingerprint="x",
        parallel=Parallel(), save_every=2, resume=resume,
    )  # fmt: skip
    return policy.eval(), masters


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("adapter", "name", "task", "family"), cases())
def test_adapter_and_objective(
    adapter: dict[str, Any], name: str, task: str, family: str, bases: dict[str, Path], tmp_path: Path
) -> None:
    from attune.model.load import load_tokenizer

    objective = objectives.objective_of(name, task)
    recipe = recipe_of(bases[family], adapter, name, objective.options.model_dump(mode="json"))
    tokenizer = load_tokenizer(recipe.model)
    rows = objectives.examples_of(objective)
    if family == "t5":
        for row in rows:
            row.source = np.roll(row.ids, 1)[: 2 + len(row.ids) % 5]
        if "encoder-decoder" not in plugins.get("adapter", adapter["type"]).bases:  # type: ignore[attr-defined]
            with pytest.raises(RecipeError, match="does not go with this recipe") as caught:
                build(recipe, objective, tokenizer)
            assert "encoder-decoder" in str(caught.value.why)
            return
    policy = build(recipe, objective, tokenizer)

    # the gradient of a step does not depend on how it is cut
    policy.double().settle(layout="padded")
    for module in policy.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    whole = gradients(policy, objective, [rows])
    method = adapter.get("method")
    if not objective.coupled and method not in NOISY:
        cut = gradients(policy, objective, [[row] for row in rows[::-1]])
        assert objectives.deviation(whole, cut) <= (1e-6 if method in SINGLE else LIMIT)

    # resuming from any step gives the same weights
    policy, masters = trained(recipe, objective, tokenizer, rows, tmp_path / "whole")
    final = {key: value.clone() for key, value in masters.weights().items()}
    point = checkpoint.verify(tmp_path / "whole" / "step-000002")
    _, again = trained(recipe, objective, tokenizer, rows, tmp_path / "again", resume=point)
    assert all(torch.equal(value, again.weights()[key]) for key, value in final.items())

    # what was trained is what is saved, whoever opens it
    folder = tmp_path / "model"
    save_model(folder, recipe, objective, tokenizer, final, stop_ids=[2], steps=[], card="---\n---\n")
    ours = outputs(policy.model, objective.head, rows)
    plain = outputs(plainly(folder, bases[family], objective, family), objective.head, rows)
    opened, manifest = open_model(folder, recipe)
    for one, two, three in zip(ours, plain, outputs(opened.eval(), objective.head, rows)):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(one, three, rtol=1e-4, atol=1e-5)
    if policy.adapter.wraps and objective.head != "lm":
        assert manifest["kind"] == ("model" if policy.adapter.merges else "adapter")

    # before training it is the base, where it says so; and training moved it
    start = outputs(build(recipe, objective, tokenizer).eval().model, objective.head, rows)
    if family == "llama" and objective.head == "lm":
        from transformers import AutoModelForCausalLM

        base = outputs(AutoModelForCausalLM.from_pretrained(bases[family]).eval(), objective.head, rows)
        apart = max(float((one - two).abs().max()) for one, two in zip(start, base))
        assert (apart < 1e-4) == policy.adapter.starts_as_base
    assert max(float((one - two).abs().max()) for one, two in zip(start, ours)) > 1e-5


def gradients(policy: Policy, objective: Any, groups: list[list[Any]]) -> dict[str, torch.Tensor]:
    found, _ = objectives.gradients_of_trained(
        policy, objective, [collate(group, layout="padded", scored=objective.scored) for group in groups]
    )
    return found


def plainly(folder: Path, base: Path, objective: Any, family: str) -> Any:
    """The folder opened by transformers or PEFT, without attune."""
    import transformers
    from peft import PeftModel

    auto = {
        "lm": transformers.AutoModelForSeq2SeqLM if family == "t5" else transformers.AutoModelForCausalLM,
        "sequence": transformers.AutoModelForSequenceClassification,
        "token": transformers.AutoModelForTokenClassification,
    }[objective.head]
    if json.loads((folder / "manifest.json").read_text())["kind"] == "model":
        return auto.from_pretrained(folder, dtype=torch.float32).eval()
    labels = {} if objective.head == "lm" else {"num_labels": max(1, len(objective.labels))}
    return PeftModel.from_pretrained(auto.from_pretrained(base, dtype=torch.float32, **labels), folder).eval()


REFUSED: list[tuple[dict[str, Any], str, dict[str, Any], str]] = [
    ({"type": "prompt_tuning"}, "sft", {"layout": "packed"}, "virtual tokens"),
    ({"type": "prefix"}, "classify", {"layout": "packed"}, "virtual tokens"),
    ({"type": "prefix"}, "sft", {"gradient_checkpointing": True}, "recomputed"),
    ({"type": "lora", "quantize": "nf4"}, "sft", {}, "CUDA"),
    ({"type": "lora", "quantize": "int8"}, "classify", {}, "CUDA"),
    ({"type": "peft", "method": "xlora"}, "sft", {}, "LoRA adapters that exist"),
    ({"type": "peft", "method": "adalora"}, "sft", {}, "adapter of its own"),
    ({"type": "peft", "method": "lohaa"}, "sft", {}, "did you mean 'loha'"),
    ({"type": "peft", "method": "loha", "options": {"rr": 4}}, "sft", {}, "no option 'rr'"),
    ({"type": "peft", "method": "oft", "options": {"r": 4, "oft_block_size": 4}}, "sft", {}, "PEFT refuses"),
]


@pytest.mark.parametrize(("adapter", "objective", "train", "said"), REFUSED)
def test_impossible_pairs_are_refused_before_weights_are_loaded(
    adapter: dict[str, Any], objective: str, train: dict[str, Any], said: str, bases: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from attune.model import load
    from attune.model.heads import check_recipe

    if "quantize" in adapter and torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    monkeypatch.setattr(load, "load_model", lambda *args, **kwargs: pytest.fail("weights were loaded"))
    task = "generation" if objective == "sft" else "classification"
    recipe = recipe_of(bases["llama"], adapter, objective, **train)
    with pytest.raises(RecipeError, match="does not go with this recipe") as caught:
        check_recipe(recipe.replace({"data.task": task}), load.load_config(recipe.model))
    assert said in str(caught.value.why) and caught.value.fix


def test_every_method_of_peft_is_named_tested_or_refused() -> None:
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    from attune.model.adapters import other

    known = {str(name.value) for name in PEFT_TYPE_TO_CONFIG_MAPPING}
    assert known == {*other.OWN, *other.REFUSED, *(name.upper() for name in PEFT), "LOHA"}
