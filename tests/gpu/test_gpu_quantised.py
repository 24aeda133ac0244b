"""QLoRA on a CUDA device: the base in a few bits, the update in float32, resumed and saved as an adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from attune import plugins
from attune.data.batch import Loader
from attune.data.examples import ExampleStore
from attune.model.build import build
from attune.model.load import load_tokenizer
from attune.model.parallel import Parallel
from attune.model.save import open_model, save_model
from attune.recipe import Recipe
from attune.train import checkpoint
from attune.train.loop import fit
from attune.train.optim import Masters

pytestmark = pytest.mark.gpu


def trained(recipe: Recipe, folder: Path, store: ExampleStore, resume: Any = None) -> tuple[Any, Masters]:
    plugin: Any = plugins.get("objective", "sft")
    policy = build(recipe, plugin(recipe.objective.options), load_tokenizer(recipe.model)).cuda()
    masters = Masters(policy, recipe.train, dtype=torch.bfloat16)
    loader = Loader(store, seed=0, batch_size=4, layout=policy.settle())
    fit(
        policy, plugin(recipe.objective.options), loader, masters, recipe.train, total_steps=6, folder=folder,
        fingerprint="x", parallel=Parallel(), save_every=3, resume=resume,
    )  # fmt: skip
    return policy.eval(), masters


@pytest.mark.parametrize("form", ["nf4", "int8"])
def test_a_quantised_base_trains_resumes_and_opens(form: str, tiny: Any, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="needs the extra quant")
    recipe = Recipe.load(
        {"data": {"path": "a.csv"}, "objective": "sft", "adapter": {"type": "lora", "r": 4, "quantize": form},
         "train": {"learning_rate": 1e-3, "keep_checkpoints": 9}}
    )  # fmt: skip
    store = tiny.store()
    policy, masters = trained(recipe, tmp_path / "whole", store)
    held = {str(parameter.dtype) for name, parameter in policy.named_parameters() if "base_layer.weight" in name}
    assert held <= {"torch.uint8", "torch.int8"} and held
    assert all(master.dtype == torch.float32 and "lora_" in name for name, master in masters.weights().items())
    point = checkpoint.verify(tmp_path / "whole" / "step-000003")
    _, again = trained(recipe, tmp_path / "again", store, resume=point)
    for name, value in masters.weights().items():
        torch.testing.assert_close(value, again.weights()[name], rtol=1e-2, atol=1e-3)
    tokenizer, plugin = load_tokenizer(recipe.model), plugins.get("objective", "sft")
    objective = plugin(recipe.objective.options)  # type: ignore[call-arg]
    save_model(tmp_path / "model", recipe, objective, tokenizer, masters.weights(), stop_ids=[], steps=[], card="")
    opened, manifest = open_model(tmp_path / "model", recipe)
    assert (manifest["kind"], manifest["quantize"]) == ("adapter", form)
    ids = torch.randint(5, 60, (1, 12), device="cuda")
    with torch.no_grad():
        difference = (opened(input_ids=ids).logits.float() - policy.model(input_ids=ids).logits.float()).abs().max()
    assert float(difference) < 0.15
