"""The tuned model as a folder that loads untouched elsewhere.

Language model + an adapter of PEFT without `modules_to_save`: the adapter alone (PEFT loads it; of the LoRA family also
vLLM and SGLang). So too what cannot be merged: prompt learning, and updates over a quantised base. Everything else: the
merged model in the base's own number format, with the adapter beside it in `adapter/`.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers.utils.logging import disable_progress_bar

from attune.data.seq2seq import renderer_for
from attune.data.templating import schema_of
from attune.durable import publish, write_json
from attune.errors import MachineError, RecipeError
from attune.model import load as loading
from attune.model.build import build

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from attune.model.adapters.base import Adapter
    from attune.objectives.base import Objective
    from attune.recipe import Recipe

__all__ = ["save_model", "open_model", "saved_alone", "stored_dtype"]


def save_model(
    folder: Path,
    recipe: Recipe,
    objective: Objective,
    tokenizer: PreTrainedTokenizerBase,
    weights: dict[str, Tensor],
    *,
    stop_ids: list[int],
    steps: list[dict[str, Any]],
    card: str,
) -> None:
    """Write `folder` whole or not at all: the base, freshly loaded at full precision, with the trained weights in it.

    `steps` are those of the data desk that texts go through before the model reads them (`data.desk`, states).

    Raises: MachineError if the disk refuses.
    """
    policy = build(recipe, objective, tokenizer, quantized=False)
    adapter = policy.adapter
    parameters = dict(policy.named_parameters())
    with torch.no_grad():
        for name, value in weights.items():
            parameters[name].copy_(value)
    model: Any = policy.model
    temporary = folder.with_name(f".tmp-{folder.name}-{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    disable_progress_bar()  # one bar for one file only disturbs
    try:
        temporary.mkdir(parents=True)
        model.eval()
        adapter.finish(model, recipe)
        # a base with fewer layers is nobody else's
        adapter_only = saved_alone(adapter, objective.head) and recipe.model.layers is None
        base = loading.resolve(recipe.model.base)
        if adapter_only:
            model.peft_config["default"].base_model_name_or_path = base
            model.save_pretrained(temporary, save_embedding_layers=False)
        else:
            if adapter.wraps:
                model.peft_config["default"].base_model_name_or_path = base
                model.save_pretrained(temporary / "adapter")
                model = adapter.merge(model)
            _set_generation(model, recipe, tokenizer, stop_ids, objective.head)
            model.to(stored_dtype(base) or torch.float32)
            model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        (temporary / "README.md").write_text(card, encoding="utf-8")
        manifest = {
            "kind": "adapter" if adapter_only else "model",
            "head": objective.head,
            "objective": objective.name,
            "task": objective.task,
            "labels": objective.labels,
            "stop_ids": stop_ids,
            "pad_id": tokenizer.pad_token_id,
            "quantize": adapter.quantize,
            "prepare": steps,
            "json_schema": schema_of(recipe),
            "base": recipe.model.base,
            "base_files": loading.fingerprint(recipe.model.base),
        }
        write_json(temporary / "manifest.json", manifest)
        publish(temporary, folder)
    except (OSError, SafetensorError) as error:
        raise MachineError(
            f"the model could not be written to {folder}", why=str(error), fix="free disk space"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def saved_alone(adapter: Adapter, head: str) -> bool:
    """Whether the model folder holds the adapter only, to be opened with PEFT on top of the base."""
    whole = getattr(adapter.options, "modules_to_save", None)
    return adapter.wraps and (not adapter.merges or adapter.quantize is not None or (head == "lm" and not whole))


def _set_generation(
    model: Any, recipe: Recipe, tokenizer: PreTrainedTokenizerBase, stop_ids: list[int], head: str
) -> None:
    """Tell other tools how answers were written when they were measured: where they end, and the penalty."""
    if head != "lm" or getattr(model, "generation_config", None) is None:
        return
    if stop_ids:
        model.generation_config.eos_token_id = stop_ids if len(stop_ids) > 1 else stop_ids[0]
    if model.config.is_encoder_decoder:
        start, *forced = renderer_for(tokenizer, model.config).decoder_prefix
        model.generation_config.decoder_start_token_id = start
        model.generation_config.forced_bos_token_id = forced[0] if forced else None
    if recipe.evaluate.repetition_penalty != 1:
        model.generation_config.repetition_penalty = recipe.evaluate.repetition_penalty
    if recipe.evaluate.temperature > 0:
        model.generation_config.update(do_sample=True, temperature=recipe.evaluate.temperature)


def stored_dtype(base: str) -> torch.dtype | None:
    """Number format of the base's own weight files, read from the first header."""
    for file in sorted(Path(base).glob("*.safetensors")) if Path(base).is_dir() else []:
        with open(file, "rb") as handle:
            header = json.loads(handle.read(int.from_bytes(handle.read(8), "little")))
        kinds = {entry["dtype"] for name, entry in header.items() if name != "__metadata__"}
        known = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
        return known.get(kinds.pop()) if len(kinds) == 1 else torch.float32
    return None


def open_model(folder: Path, recipe: Recipe, *, quantized: bool = True) -> tuple[Any, dict[str, Any]]:
    """A saved folder as a transformers model in float32 (adapters applied), and its manifest.

    `quantized=False` puts the adapter on the base in full precision, whatever it was trained on.
    Raises: RecipeError if the base is not the one that was tuned.
    """
    manifest = json.loads((folder / "manifest.json").read_text())
    if manifest["kind"] == "model":
        model = loading.load_model(recipe.model, head=manifest["head"], task=manifest["task"], folder=str(folder))
        return model, manifest
    if loading.fingerprint(manifest["base"]) != manifest["base_files"]:
        raise RecipeError(
            f"{folder} was trained on other weights than the '{manifest['base']}' found here",
            why="the base's files have another SHA-256",
            fix="install the version of the base that the run's env.json names",
        )
    from peft import PeftModel

    base = loading.load_model(
        recipe.model,
        head=manifest["head"],
        labels=manifest["labels"],
        task=manifest["task"],
        pad_token_id=manifest.get("pad_id"),
        quantize=manifest.get("quantize") if quantized else None,
    )
    return PeftModel.from_pretrained(base, folder), manifest
