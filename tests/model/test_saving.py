"""A disk that refuses while a model is written: named as what it is, and nothing half-written stays."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from attune import flow, plugins
from attune.data.batch import collate
from attune.data.examples import Example
from attune.errors import MachineError
from attune.model.build import build
from attune.model.earlier import whole_model
from attune.model.load import load_tokenizer
from attune.model.save import save_model
from attune.recipe import Recipe
from attune.train.fisher import cached_fisher


@contextmanager
def small_disk(most_bytes: int = 100_000) -> Iterator[None]:
    """While it is open, no file of this process grows beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def recipe(tmp_path: Path) -> Recipe:
    rows = [{"prompt": f"Say {number}", "completion": f"{number} it is"} for number in range(30)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Recipe.load(
        {
            "name": "small",
            "model": {"base": "starter", "dtype": "float32"},
            "adapter": {"type": "lora", "r": 2},
            "objective": "sft",
            "data": {"path": str(tmp_path / "rows.jsonl"), "split": {"near": False}},
            "train": {"max_steps": 1, "batch_size": 4, "threads": 1, "early_stopping": None},
        }
    )


def test_a_model_that_cannot_be_written(tmp_path: Path) -> None:
    made = recipe(tmp_path).replace({"adapter": "full"})
    tokenizer, plugin = load_tokenizer(made.model), plugins.get("objective", "sft")
    objective: Any = plugin(None)  # type: ignore[call-arg]
    with small_disk(), pytest.raises(MachineError, match="could not be written") as caught:
        save_model(tmp_path / "model", made, objective, tokenizer, {}, stop_ids=[], steps=[], card="")
    assert caught.value.fix and not list(tmp_path.glob("*model*"))


def test_a_merged_base_and_importances_that_cannot_be_written(tmp_path: Path) -> None:
    made = recipe(tmp_path)
    run = flow.train(made, out=tmp_path / "runs", assess=False)
    with small_disk(), pytest.raises(MachineError, match="merged model of .* could not be written"):
        whole_model(run.path)
    assert not (run.path / "base").exists() and not list(run.path.glob(".tmp-*"))
    assert (whole_model(run.path) / "manifest.json").exists()  # with room again it is made

    plugin = plugins.get("objective", "sft")
    policy = build(made.replace({"adapter": "full"}), plugin(None), load_tokenizer(made.model))  # type: ignore[call-arg]
    weight = torch.ones(7)
    weight[0] = 0
    batch = collate([Example(torch.arange(5, 12).int().numpy(), weight.numpy())], layout="padded")
    name = "model.model.layers.0.mlp.up_proj.weight"
    with small_disk(), pytest.raises(MachineError, match="importances of weights could not be written"):
        cached_fisher(policy, [batch], [name], base="x", cache=tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())
