"""An earlier run as the base of a new one: its adapter merged, the head of its labels set aside."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from attune import plugins
from attune.durable import publish, write_json
from attune.errors import MachineError, RecipeError

__all__ = ["run_behind", "whole_model", "kept_head", "writes"]


def run_behind(base: str) -> Path | None:
    """The run folder that a base names: of a run in stages the last finished stage; None if it is no run."""
    from attune.runs import Run

    path = Path(base).expanduser()
    if not (path / "status.json").is_file() or not (path / "recipe.yaml").is_file():
        return None
    return Run(path).last.path


def _manifest(run: Path) -> dict[str, Any]:
    try:
        return json.loads((run / "model" / "manifest.json").read_text())
    except OSError as error:
        raise RecipeError(
            f"{run} has no model yet, so nothing can start from it", fix="finish that run first"
        ) from error


def kept_head(base: str, head: str, labels: list[str] | None) -> Path | None:
    """The folder whose head fits as it is: a run of the same head and labels; None where a new one must be drawn."""
    run = run_behind(base)
    if run is None or head == "lm" or labels is None:
        return None
    manifest = _manifest(run)
    return run / "model" if (manifest["head"], manifest["labels"]) == (head, labels) else None


def writes(base: str) -> bool | None:
    """Whether an earlier run's model can write text; None if the base is no run."""
    run = run_behind(base)
    if run is None:
        return None
    if _manifest(run)["head"] == "lm":
        return True
    # The folder of a labelling model has no output layer; it is whole only where that is the input layer again.
    return bool(json.loads((run / "model" / "config.json").read_text()).get("tie_word_embeddings"))


def whole_model(run: Path) -> Path:
    """A folder with all weights of a run's model that any objective can start from; made once, in `base/` of the run.

    An adapter is merged in the number format of the model it was trained on. A head for labels is left out: what it
    scored is no part of the base.
    Raises: RecipeError if the run has no model, or its adapter cannot be merged; MachineError if the disk refuses.
    """
    from safetensors import SafetensorError

    manifest = _manifest(run)
    if manifest["kind"] == "model" and manifest["head"] == "lm":
        return run / "model"
    folder = run / "base"
    if (folder / "manifest.json").is_file():
        return folder
    model = _merged(run, manifest)
    temporary = run / f".tmp-base-{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        model.save_pretrained(temporary)
        for file in (run / "model").iterdir():  # the tokenizer and its template, as they were trained
            if file.is_file() and not (temporary / file.name).exists() and "adapter" not in file.name:
                if file.suffix != ".safetensors" and file.name not in ("manifest.json", "README.md"):
                    shutil.copyfile(file, temporary / file.name)
        lineage = {key: manifest[key] for key in ("base", "base_files", "objective", "task")}
        write_json(temporary / "manifest.json", {"kind": "base", "head": "lm", "run": run.name, **lineage})
        publish(temporary, folder)
    except (OSError, SafetensorError) as error:
        raise MachineError(
            f"the merged model of {run} could not be written", why=str(error), fix="free disk space"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _merged(run: Path, manifest: dict[str, Any]) -> Any:
    import torch
    from transformers import AutoModel
    from transformers.utils import logging

    from attune.model.load import resolve
    from attune.model.save import open_model, stored_dtype
    from attune.recipe import Recipe

    logging.disable_progress_bar()
    if manifest["kind"] == "model":
        verbosity = logging.get_verbosity()
        logging.set_verbosity_error()  # "unexpected: score.weight" is what was asked for
        model = AutoModel.from_pretrained(run / "model", use_safetensors=True, dtype=torch.float32)
        logging.set_verbosity(verbosity)
        return model.to(stored_dtype(str(run / "model")) or torch.float32)
    recipe = Recipe.load(run / "recipe.yaml")
    adapter: Any = plugins.get("adapter", recipe.adapter.name)(recipe.adapter.options)  # type: ignore[call-arg]
    if not adapter.merges:
        raise RecipeError(
            f"the adapter of {run} cannot be merged into its base",
            why=f"adapter '{adapter.name}' adds inputs to the model, it does not change its weights",
            fix="train that run with adapter.type=lora or full",
        )
    # a quantised base is merged in full precision: rounding the sum again would lose what was learned
    model, _ = open_model(run / "model", recipe, quantized=False)
    model = adapter.merge(model)
    if manifest["head"] != "lm":
        model = getattr(model, model.base_model_prefix)
    return model.to(stored_dtype(resolve(manifest["base"])) or torch.float32)
