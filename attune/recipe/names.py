"""Names that other tools give to our keys: accepted, translated, and reported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attune.errors import RecipeError
from attune.recipe.yaml import Key, Layer, shown

__all__ = ["ALIASES", "translate"]


def _scheduler(value: Any) -> Any:
    return {"constant_with_warmup": "constant", "warmup_stable_decay": "wsd"}.get(value, value)


def _same(value: Any) -> Any:
    return value


def _bf16(value: Any) -> Any:
    return {True: "bfloat16", False: "float32"}.get(value, value) if isinstance(value, bool) else value


def _packing(value: Any) -> Any:
    return {True: "packed", False: "padded"}.get(value, value) if isinstance(value, bool) else value


ALIASES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "model_name_or_path": ("model.base", _same),
    "base_model": ("model.base", _same),
    "torch_dtype": ("model.dtype", _same),
    "bf16": ("model.dtype", _bf16),
    "attn_implementation": ("model.attention", _same),
    "finetuning_type": ("adapter.type", _same),
    "lora_r": ("adapter.r", _same),
    "lora_rank": ("adapter.r", _same),
    "lora_alpha": ("adapter.alpha", _same),
    "lora_dropout": ("adapter.dropout", _same),
    "lora_target_modules": ("adapter.target_modules", _same),
    "lora_modules_to_save": ("adapter.modules_to_save", _same),
    "use_dora": ("adapter.dora", _same),
    "use_rslora": ("adapter.rslora", _same),
    "loraplus_lr_ratio": ("adapter.lr_ratio", _same),
    "max_seq_length": ("data.max_length", _same),
    "cutoff_len": ("data.max_length", _same),
    "sequence_len": ("data.max_length", _same),
    "lr": ("train.learning_rate", _same),
    "num_train_epochs": ("train.epochs", _same),
    "num_epochs": ("train.epochs", _same),
    "lr_scheduler_type": ("train.schedule", _scheduler),
    "lr_scheduler": ("train.schedule", _scheduler),
    "adam_beta1": ("train.beta1", _same),
    "adam_beta2": ("train.beta2", _same),
    "adam_epsilon": ("train.eps", _same),
    "eval_steps": ("train.eval_every", _same),
    "save_steps": ("train.save_every", _same),
    "save_total_limit": ("train.keep_checkpoints", _same),
    "early_stopping_patience": ("train.early_stopping.patience", _same),
    "packing": ("train.layout", _packing),
    "sample_packing": ("train.layout", _packing),
}
"""Names of transformers, TRL, Axolotl and LLaMA-Factory -> our key and the value's translation."""

FAMILY: dict[str, tuple[str, Any]] = {
    "rslora": ("rslora", True),
    "dora": ("dora", True),
    "pissa": ("init", "pissa"),
    "olora": ("init", "olora"),
    "lora_plus": ("lr_ratio", 4.0),
    "loraplus": ("lr_ratio", 4.0),
    "qlora": ("quantize", "nf4"),
}
"""What people call the members of the LoRA family -> the option of adapter `lora` that makes it one."""

PER_DEVICE = ("per_device_train_batch_size", "micro_batch_size")
ACCUMULATION = "gradient_accumulation_steps"
"""Together they make one number, `train.batch_size`: how a step is cut does not change what is learned."""


def translate(layer: Layer) -> list[str]:
    """Move other tools' names, at the top or in a section, to our keys; say each.

    Raises: RecipeError if a key is given under two names.
    """
    notices: list[str] = _family(layer)
    for section in (None, "model", "adapter", "data", "train"):
        block = layer.values if section is None else layer.values.get(section)
        if not isinstance(block, dict):
            continue
        at: Key = () if section is None else (section,)
        accumulation = block.get(ACCUMULATION, 1)
        for name in [key for key in block if isinstance(key, str)]:
            if name in ALIASES and (section is None or ALIASES[name][0].split(".")[0] == section):
                target, translated = ALIASES[name]
                given, value = block[name], translated(block[name])
                _move(layer, (*at, name), target, value)
                changed = "" if value == given else f" = {value}"
                notices.append(f"{name} read as {target}{changed}")
            elif name in PER_DEVICE and section in (None, "train"):
                size = block[name]
                if not all(isinstance(number, int) and number > 0 for number in (size, accumulation)):
                    raise RecipeError(
                        f"{name} and {ACCUMULATION} must be whole numbers above 0", where=layer.places.get((*at, name))
                    )
                said = name if ACCUMULATION not in block else f"{name} x {ACCUMULATION}"
                _move(layer, (*at, name), "train.batch_size", size * accumulation)
                block.pop(ACCUMULATION, None)
                notices.append(f"{said} read as train.batch_size = {size * accumulation}")
        if ACCUMULATION in block and section in (None, "train"):
            raise RecipeError(
                f"{ACCUMULATION} says nothing without {PER_DEVICE[0]}",
                where=layer.key_places.get((*at, ACCUMULATION)),
                why="train.batch_size is the whole step, however it is cut to fit into memory",
                fix="give train.batch_size, and train.micro_batch_tokens if a forward pass must be small",
            )
    return notices


def _family(layer: Layer) -> list[str]:
    """`adapter: dora` is adapter lora with an option."""
    adapter = layer.values.get("adapter")
    block = {"type": adapter} if isinstance(adapter, str) else adapter
    name = block.get("type") if isinstance(block, dict) else None
    if not isinstance(block, dict) or not isinstance(name, str) or name not in FAMILY:
        return []
    option, value = FAMILY[name]
    layer.values["adapter"] = {option: value, **block, "type": "lora"}
    for places in (layer.places, layer.key_places):
        if ("adapter",) in places:
            places.setdefault(("adapter", "type"), places[("adapter",)])
    return [f"adapter {name} read as lora with {option} = {value}"]


def _move(layer: Layer, old: Key, target: str, value: Any) -> None:
    new = tuple(target.split("."))
    block = layer.values
    for part in new[:-1]:
        inner = block.setdefault(part, {})
        if isinstance(inner, str) and part == "adapter":
            inner = block[part] = {"type": inner}
        if inner is None:
            inner = block[part] = {}
        if not isinstance(inner, dict):
            raise RecipeError(
                f"{old[-1]} belongs into {part}, which is {shown(inner)} here", where=layer.key_places.get(old)
            )
        block = inner
    if new[-1] in block:
        raise RecipeError(
            f"{old[-1]} and {target} are one thing given twice", where=layer.key_places.get(old), fix=f"keep {target}"
        )
    block[new[-1]] = value
    holder: Any = layer.values
    for step in old[:-1]:
        holder = holder[step]
    del holder[old[-1]]
    for places in (layer.places, layer.key_places):
        if old in places:
            places[new] = places.pop(old)
