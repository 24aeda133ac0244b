"""Recipes from the tools' own repositories, by commit, against what was worked out by hand from each file.

The files are not copied into this project. `ATTUNE_INTEROP_FILES` names a folder that holds them as
`OWNER/REPOSITORY/COMMIT/PATH`; without it they are fetched from GitHub, and where neither works the tests skip.
"""

from __future__ import annotations

import os
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from attune import plugins
from attune.interop.convert import convert
from attune.recipe import Recipe

SEVEN = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
HAS_DPO = "dpo" in plugins.names("objective")
HAS_ORPO = "orpo" in plugins.names("objective")


@dataclass
class Real:
    repository: str
    commit: str
    path: str
    tool: str
    keys: int
    """How many keys the file gives, counted in its text."""
    expected: dict[str, Any]
    """Dotted key -> value, worked out by hand."""
    lists: dict[str, str] = field(default_factory=dict)
    """Key of the file -> the list it must stand in."""
    fill_in: set[str] = field(default_factory=lambda: {"data.path"})


AXOLOTL = "axolotl-ai-cloud/axolotl"
FACTORY = "hiyouga/LLaMA-Factory"
TRL = "huggingface/trl"
SWIFT = "modelscope/ms-swift"
UNSLOTH = "unslothai/unsloth"
NOTEBOOKS = "unslothai/notebooks"

FILES = [
    Real(AXOLOTL, "34d3c8dcfb3db152fce6b7eae7e9f6a60be14ce3", "examples/llama-3/lora-1b.yml", "Axolotl", 54, {
        "model.base": "NousResearch/Llama-3.2-1B", "model.dtype": "auto", "adapter.type": "lora", "adapter.r": 16,
        "adapter.alpha": 32, "adapter.dropout": 0.05, "adapter.target_modules": SEVEN, "data.format": "alpaca",
        "data.max_length": 2048, "data.truncate": "drop", "data.split.validation": 0.1, "train.epochs": 1,
        "train.batch_tokens": 2 * 2 * 2048, "train.batch_size": None, "train.layout": "packed",
        "train.learning_rate": 2e-4, "train.schedule": "cosine", "train.warmup_steps": 10, "train.weight_decay": 0.0,
        "train.gradient_checkpointing": True, "train.early_stopping": None, "seed": 42,
    }, {"optimizer": "approximated", "flash_attention": "dropped", "wandb_project": "dropped"}),
    Real(AXOLOTL, "1377ccc3e46bdc1c8b01a9c23da57446b85aa1d5", "examples/llama-3/qlora-1b.yml", "Axolotl", 41, {
        "model.base": "NousResearch/Llama-3.2-1B", "adapter.type": "lora", "adapter.r": 32, "adapter.alpha": 16,
        "adapter.dropout": 0.05, "train.batch_tokens": 2 * 4 * 2048, "train.warmup_ratio": 0.1,
        "train.learning_rate": 2e-4, "train.epochs": 1, "data.split.validation": 0.1, "model.attention": "auto",
    }, {"optimizer": "approximated", "loss_watchdog_threshold": "dropped"}),
    Real(AXOLOTL, "090e0279135ed833fe5558bc266ddb0b767c0f26", "examples/llama-3/instruct-dpo-lora-8b.yml", "Axolotl",
         52, {
        "model.base": "meta-llama/Meta-Llama-3-8B-Instruct", "adapter.r": 32, "adapter.alpha": 16,
        "adapter.target_modules": "all-linear", "data.format": "preference", "data.columns": {"prompt": "conversation"},
        "data.max_length": 4096, "data.split.validation": 0.05, "train.batch_size": 8, "train.epochs": 4,
        "train.warmup_steps": 10, "objective.name": "dpo" if HAS_DPO else "sft",
    }, {"rl": "mapped" if HAS_DPO else "dropped", "chat_template": "approximated"},
        {"data.path"} if HAS_DPO else {"data.path", "objective"}),
    Real(AXOLOTL, "15f7910d33b41282f8c4fc1c4ca374b1b5965f2b", "examples/llama-3/fft-8b.yaml", "Axolotl", 47, {
        "model.base": "meta-llama/Meta-Llama-3-8B", "adapter.type": "full", "train.batch_tokens": 1 * 8 * 8192,
        "train.learning_rate": 2e-5, "train.warmup_steps": 100, "data.max_length": 8192, "data.split.validation": 0.05,
    }, {"optimizer": "approximated", "evals_per_epoch": "approximated"}),
    Real(FACTORY, "13d252fa7856ecb14ba6907e5adb10070e5cdde4", "examples/train_lora/llama3_lora_sft.yaml",
         "LLaMA-Factory", 26, {
        "model.base": "meta-llama/Meta-Llama-3-8B-Instruct", "model.trust_remote_code": False,
        "model.dtype": "bfloat16", "adapter.type": "lora", "adapter.r": 8, "adapter.alpha": 16, "adapter.dropout": 0.0,
        "adapter.target_modules": "all-linear", "objective.name": "sft",
        "data.path": ["./data/identity.json", "./data/alpaca_en_demo.json"], "data.max_length": 2048,
        "data.truncate": "right", "train.batch_size": 8, "train.learning_rate": 1e-4, "train.epochs": 3,
        "train.schedule": "cosine", "train.warmup_ratio": 0.1, "train.save_every": 500, "train.weight_decay": 0.0,
    }, {"trust_remote_code": "dropped", "max_samples": "dropped", "template": "approximated"}),
    Real(FACTORY, "03da9a79170eb80307a19a35ef1c3891dbfe53ef", "examples/train_full/llama3_full_sft.yaml",
         "LLaMA-Factory", 25, {
        "adapter.type": "full", "train.batch_size": 2, "train.learning_rate": 1e-5, "train.epochs": 3,
        "model.dtype": "bfloat16", "name": "sft",
    }, {"deepspeed": "dropped"}),
    Real(FACTORY, "13d252fa7856ecb14ba6907e5adb10070e5cdde4", "examples/train_lora/llama3_lora_pretrain.yaml",
         "LLaMA-Factory", 25, {
        "objective.name": "pretrain", "data.path": "./data/c4_demo.json", "adapter.r": 8, "train.batch_size": 8,
        "train.learning_rate": 1e-4,
    }, {"stage": "mapped"}),
    Real(FACTORY, "24073f59667909e263e85d3b4b2692ce5a96438d", "examples/train_qlora/llama3_lora_sft_otfq.yaml",
         "LLaMA-Factory", 30, {
        "adapter.type": "lora", "adapter.r": 8, "data.split.validation": 0.1, "train.eval_every": 500,
        "train.save_every": 500, "train.batch_size": 8,
    }, {"eval_strategy": "mapped", "per_device_eval_batch_size": "dropped"}),
    Real(FACTORY, "01fa59bb6b5f5c3d1e1699af1b44875824529e9e", "examples/train_lora/llama3_lora_dpo.yaml",
         "LLaMA-Factory", 28, {
        "objective.name": "dpo" if HAS_DPO else "sft", "train.learning_rate": 5e-6, "train.batch_size": 8,
    }, {"stage": "mapped" if HAS_DPO else "dropped"}, {"data.path"} if HAS_DPO else {"data.path", "objective"}),
    Real(TRL, "2e736f58dd4cf01fe012b6963709e029a43d497f", "examples/cli_configs/example_config.yaml", "TRL", 5, {
        "model.base": "Qwen/Qwen2.5-0.5B", "data.path": "data/imdb", "adapter.type": "full", "track": [],
        "train.learning_rate": 1e-4, "train.schedule": "cosine", "train.batch_size": 8, "train.epochs": 3,
        "data.max_length": 1024, "train.weight_decay": 0.0, "train.warmup_ratio": 0.0,
    }, {"report_to": "mapped", "dataset_name": "approximated"}),
    Real(TRL, "0567e7f45781db6ce294d5b7b2b6c735cd49073e", "examples/scripts/sft_gpt_oss.py", "TRL", 21, {
        "model.base": "openai/gpt-oss-20b", "model.dtype": "bfloat16", "adapter.type": "full", "seed": 42,
        "train.layout": "packed", "train.batch_tokens": 2 * 4096, "train.epochs": 1, "train.warmup_ratio": 0.03,
        "train.schedule": "cosine", "train.min_lr_ratio": 0.1, "train.learning_rate": 2e-5, "name": "20b-full-eager",
        "data.max_length": 4096, "train.gradient_checkpointing": True,
    }, {"word 'packing_strategy'": "dropped", "word 'wrapped'": "dropped", "--output_dir": "dropped"}),
    Real(TRL, "0a9fdcec6544a5ac440d22e5809325c04b0c55a0", "examples/scripts/sft_gemma3.py", "TRL", 17, {
        "model.base": "google/gemma-3-12b-it", "model.attention": "eager", "model.dtype": "bfloat16",
        "adapter.type": "full", "name": "gemma-3-12b-it-codeforces-SFT", "data.max_length": 8192,
        "train.batch_size": 8, "train.epochs": 1, "train.learning_rate": 2e-5, "train.schedule": "linear",
    }, {"SFTConfig.use_liger_kernel": "dropped"}),
    Real(SWIFT, "35884039c454665ab91c2ab52f9954961e226ea3", "examples/train/lora_sft.sh", "ms-swift", 24, {
        "model.base": "Qwen/Qwen2.5-7B-Instruct", "model.dtype": "bfloat16", "adapter.r": 8, "adapter.alpha": 32,
        "adapter.dropout": 0.05, "adapter.target_modules": "all-linear", "train.batch_size": 16,
        "data.path": ["data/alpaca-gpt4-data-zh", "data/alpaca-gpt4-data-en", "data/self-cognition"],
        "data.max_length": 2048, "data.truncate": "drop", "train.learning_rate": 1e-4, "train.epochs": 1,
        "train.warmup_ratio": 0.05, "train.eval_every": 50, "train.save_every": 50, "train.keep_checkpoints": 2,
        "train.schedule": "cosine", "train.weight_decay": 0.1, "train.beta2": 0.95, "objective.name": "sft",
    }, {"--system": "dropped", "--dataset": "approximated", "CUDA_VISIBLE_DEVICES": "dropped"}),
    Real(SWIFT, "0e518dd229d8abbe151be5179d1358ae5a15f217", "examples/train/seq_cls/qwen2_5/sft.sh", "ms-swift", 26, {
        "objective.name": "classify", "model.base": "Qwen/Qwen2.5-0.5B", "data.path": "data/jd",
        "data.split.validation": 0.01, "train.batch_size": 16, "adapter.type": "lora",
    }, {"--num_labels": "dropped", "--task_type": "mapped"}),
    Real(SWIFT, "2c6a56e7b9d670ad751823b15cb4ec1b3ae28896", "examples/train/deepspeed/train_zero2.sh", "ms-swift", 19, {
        "train.batch_size": 1 * 8 * 2, "adapter.r": 8, "train.learning_rate": 1e-4, "data.path": "data/self-cognition",
    }, {"NPROC_PER_NODE": "mapped", "--deepspeed": "dropped", "PYTHONPATH": "dropped"}),
    Real(SWIFT, "63ebab961a8a403faecc67aea6fa0a5f5243a3e4", "examples/train/dora/train.sh", "ms-swift", 17, {
        "adapter.dora": True, "adapter.alpha": 32, "train.batch_size": 16, "train.eval_every": 100,
    }),
    Real(SWIFT, "2b631802bbfb8ea6719ffe4a14830e5fb638a331", "examples/train/rlhf/dpo/lora.sh", "ms-swift", 26, {
        "objective.name": "dpo" if HAS_DPO else "sft", "data.split.validation": 0.01, "train.batch_size": 16,
    }, {"--rlhf_type": "mapped" if HAS_DPO else "dropped", "--rpo_alpha": "dropped"},
        {"data.path"} if HAS_DPO else {"data.path", "objective"}),
    Real(NOTEBOOKS, "12552dce40cd09368ca05c59e5203c82db3c9282", "python_scripts/Llama3_(8B)-ORPO.py", "Unsloth", 32, {
        "model.base": "unsloth/llama-3-8b", "adapter.r": 16, "adapter.alpha": 16, "adapter.target_modules": SEVEN,
        "data.path": "data/dolphin-sft-v0.1-preference", "data.max_length": 4096, "train.batch_size": 8,
        "train.max_steps": 30, "train.schedule": "linear", "train.learning_rate": 5e-5, "seed": 3407,
        "objective.name": "orpo" if HAS_ORPO else "sft",
    }, {"ORPOTrainer": "mapped" if HAS_ORPO else "dropped", "ORPOConfig.max_prompt_length": "dropped"},
        {"data.path"} if HAS_ORPO else {"data.path", "objective"}),
    Real(UNSLOTH, "03e8f8c8be1a8180d8527442bdd858e7fd93168c", "tests/saving/gpt-oss-merge/train_and_merge.py",
         "Unsloth", 21, {
        "model.base": "unsloth/gpt-oss-20b", "adapter.type": "lora", "adapter.r": 8, "adapter.alpha": 16,
        "adapter.target_modules": SEVEN, "data.path": "data/Multilingual-Thinking", "data.max_length": 1024,
        "train.batch_size": 4, "train.max_steps": 10, "train.learning_rate": 2e-4, "seed": 3407, "track": [],
        "train.gradient_checkpointing": True,
    }, {"load_dataset.split": "dropped"}),
    Real(UNSLOTH, "1e7d3f45aa3bb49c77f9610df101cd9de6b4d973", "tests/qlora/test_unsloth_qlora_train_and_merge.py",
         "Unsloth", 24, {
        "model.base": "meta-llama/Llama-3.2-1B-Instruct", "model.dtype": "bfloat16", "adapter.r": 64,
        "adapter.alpha": 64, "adapter.target_modules": SEVEN, "data.max_length": 512, "train.max_steps": 100,
        "train.batch_size": 5 * 2, "seed": 42, "name": "sft_test", "train.gradient_checkpointing": False,
    }, {"SFTConfig.fp16": "mapped", "get_peft_model.random_state": "dropped"}),
    Real(UNSLOTH, "25d8d8c279db24e7e747e6ac63b7278b9099b1e8", "examples/sft_lora.py", "Unsloth", 22, {
        "model.base": "unsloth/Qwen3-0.6B", "adapter.r": 8, "adapter.alpha": 8, "data.max_length": 256,
        "train.batch_size": 2 * 2, "train.max_steps": 3, "train.learning_rate": 2e-4, "seed": 42,
    }, {"SFTConfig.max_length": "dropped", "from_pretrained.load_in_4bit": "mapped"}),
]  # fmt: skip


def fetched(real: Real, folder: Path) -> Path:
    """The file by its commit: from the folder that is named, else from GitHub."""
    parts = (*real.repository.split("/"), real.commit, real.path)
    kept = os.environ.get("ATTUNE_INTEROP_FILES")
    if kept:
        path = Path(kept).joinpath(*parts)
        if not path.is_file():
            pytest.skip(f"ATTUNE_INTEROP_FILES has no {'/'.join(parts)}")
        return path
    quoted = urllib.parse.quote("/".join(parts))
    try:
        with urllib.request.urlopen(f"https://raw.githubusercontent.com/{quoted}", timeout=10) as answer:
            content = answer.read(1 << 20)
    except (urllib.error.URLError, OSError):
        pytest.skip("GitHub cannot be reached, and ATTUNE_INTEROP_FILES names no folder with the tools' recipes")
    path = folder / Path(real.path).name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("real", FILES, ids=lambda real: f"{real.tool}-{Path(real.path).name}")
def test_real_recipes(real: Real, tmp_path: Path) -> None:
    found = convert(fetched(real, tmp_path))
    assert found.tool == real.tool
    written = tmp_path / "recipe.yaml"
    written.write_text(found.yaml())
    values = Recipe.load(written).model_dump(mode="json")
    for key, value in real.expected.items():
        inner: Any = values
        for part in key.split("."):
            inner = inner[part]
        assert (set(inner) if isinstance(value, set) else inner) == value, key
    entries = {name: [entry.key for entry in getattr(found, name)] for name in ("mapped", "approximated", "dropped")}
    assert sum(map(len, entries.values())) == real.keys
    for key, name in real.lists.items():
        assert key in entries[name], f"{key} is not {name}"
    assert set(found.fill_in) == real.fill_in


def test_three_real_recipes_for_each_tool() -> None:
    for title in ("Axolotl", "LLaMA-Factory", "TRL", "ms-swift", "Unsloth"):
        assert sum(real.tool == title for real in FILES) >= 3
    assert all(len(real.commit) == 40 for real in FILES)
