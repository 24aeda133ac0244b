"""LLaMA-Factory: YAML or JSON, with data sets named in its `dataset_info.json`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from attune.errors import RecipeError
from attune.interop import values
from attune.interop.base import Draft, Importer, Rule, dropped, same
from attune.interop.common import LORA, SPEED, TRAINER, adapter_defaults, trainer_defaults
from attune.interop.datasets import Sets, located
from attune.interop.document import Document, Given, Source
from attune.interop.values import flag, whole

__all__ = ["LlamaFactory"]

STAGES = {"sft": "sft", "pt": "pretrain", "dpo": "dpo", "kto": "kto", "rm": "reward", "ppo": "ppo", "orpo": "orpo"}
LOSSES = {"orpo": "orpo", "simpo": "simpo", "ipo": "ipo", "kto_pair": "kto"}
MAX_INFO_BYTES = 4 << 20


def _on_prompt(draft: Draft, given: Given) -> None:
    if flag(given):
        draft.drop(given, "attune scores answers only; prompts are not learned")
    else:
        draft.map(given, None, None, "answers alone are scored, as here")


def _history(draft: Draft, given: Given) -> None:
    if flag(given):
        draft.drop(given, "earlier answers keep their own weight here; give them weight 0 in the rows")
    else:
        draft.map(given, None, None, "earlier answers are trained on too, as here")


def _pissa(draft: Draft, given: Given) -> None:
    if flag(given):
        draft.map(given, "adapter.init", "pissa")
    else:
        draft.map(given, None, None, "off, as here")


def _together(draft: Draft, given: Given) -> None:
    draft.drop(given, "data sets are put together and shuffled")


class LlamaFactory(Importer):
    """LLaMA-Factory's YAML and JSON: full, freeze, LoRA and QLoRA, stages pt and sft."""

    name = "llama_factory"
    title = "LLaMA-Factory"
    table = {
        **TRAINER,
        **LORA,
        "model_name_or_path": same("model.base", lambda given: str(given.value)),
        "stage": Rule("objective.name", "sft: sft, pt: pretrain; preference stages as far as attune has them"),
        "finetuning_type": Rule("adapter.type", "full, lora, freeze"),
        "lora_target": Rule("adapter.target_modules", "all: all-linear", values.modules),
        "additional_target": LORA["modules_to_save"],
        "pissa_init": Rule("adapter.init", "", _pissa),
        "pissa_*": dropped("PiSSA's exact decomposition is used, and the adapter is saved as it is"),
        "dataset": Rule("data.path", "looked up in dataset_info.json where it lies beside the file"),
        "dataset_dir": Rule("", "where dataset_info.json is looked for"),
        "eval_dataset": Rule("data.validation", "the first one"),
        "template": Rule("", "the tokenizer's own chat template", lambda draft, given: draft.near(
            given, None, None, "the tokenizer's own is used; model.chat_template: FILE.jinja for another")),
        "cutoff_len": Rule("data.max_length", "longer examples are cut on the right"),
        "val_size": Rule("data.split.validation", "a number of rows becomes 0.1", values.validation),
        "max_samples": dropped("all rows are used; cut the file if fewer are wanted"),
        "train_on_prompt": Rule("", "off, as here; on is lost", _on_prompt),
        "mask_history": Rule("", "off, as here; on is lost", _history),
        "pref_loss": Rule("objective.name", "with stage"),
        "pref_beta": Rule("objective.beta", "where attune has the objective"),
        "freeze_trainable_layers": dropped("attune counts frozen layers from below: set adapter.layers to the rest"),
        "freeze_trainable_modules": dropped("name what stays frozen in adapter.patterns"),
        "adapter_name_or_path": dropped("a new adapter is trained; merge the old one, and name that in model.base"),
        "create_new_adapter": dropped("a new adapter is trained"),
        "loraplus_lr_embedding": dropped("one learning rate for all the rest"),
        "quantization_*": dropped("how a quantised base is held: by bitsandbytes here"),
        "neat_packing": Rule("train.layout", "packed rows never see each other here"),
        "flash_attn": Rule("model.attention", "auto, but for eager", values.attention),
        "use_unsloth*": dropped(SPEED),
        "enable_liger_kernel": dropped(SPEED),
        "upcast_*": dropped(SPEED),
        "enable_thinking": dropped("the tokenizer's own chat template decides"),
        "default_system": dropped("the template's own; put a system turn into the rows"),
        "add_tokens": dropped("no tokens are added: what they spell is read in pieces"),
        "add_special_tokens": dropped("no tokens are added: what they spell is read in pieces"),
        "resize_vocab": dropped("no tokens are added"),
        "mix_strategy": Rule("data.mix", "interleave with probabilities: weights", _together),
        "interleave_probs": Rule("data.path", "each data set's weight", _together),
        "streaming": dropped("data is read from disk as it is needed"),
        "preprocessing_*": dropped(SPEED),
        "tokenized_path": dropped("prepared data is cached by its content"),
        "predict_with_generate": dropped("answers are written and measured in every evaluation"),
        "ref_model*": dropped("only preference objectives have a reference model"),
        "ray_*": dropped(SPEED),
        "use_dft_loss": dropped("attune has no such loss"),
    }  # fmt: skip

    def sources(self, document: Document) -> list[Source]:
        names = document.names
        marks = {
            "finetuning_type": 3, "stage": 2, "template": 1, "cutoff_len": 2, "lora_target": 2, "dataset": 1,
            "model_name_or_path": 0.5, "preprocessing_num_workers": 1, "overwrite_cache": 1,
        }  # fmt: skip
        score = sum(points for name, points in marks.items() if name in names)
        return [Source(document.settings, str(document.path), score)] if score else []

    def convert(self, draft: Draft, source: Source) -> None:
        stage = draft.one("stage")
        name = STAGES.get(str(stage.value) if stage is not None else "sft", str(stage.value) if stage else "sft")
        _adapter(draft)
        _datasets(draft, Path(source.where).parent, str(stage.value) if stage is not None else "sft")
        packing = ("packing", "neat_packing")
        length = draft.one("cutoff_len")
        values.batch(
            draft, ("per_device_train_batch_size",), "gradient_accumulation_steps", packing, ("cutoff_len",),
            usual=(8, 1, 2048),
        )  # fmt: skip
        if length is not None:
            draft.map(length, "data.max_length", whole(length))
        else:
            draft.default("data.max_length", 2048)
        values.dtype(draft)
        loss = draft.one("pref_loss")
        if name == "dpo" and loss is not None and str(loss.value) in LOSSES:
            name = LOSSES[str(loss.value)]
        if name in ("sft", "pretrain"):
            draft.values["objective.name"] = name
            if stage is not None:
                draft.map(stage, "objective.name", name)
        else:
            values.objective(draft, name, stage, {"beta": ("pref_beta",), "gamma": ("simpo_gamma",)})
        for given in draft.all("pref_loss", "pref_beta", "pref_ftx"):
            draft.drop(given, "an option of preference training")
        draft.finish(self.table)
        draft.default("data.truncate", "right", "LLaMA-Factory cuts longer examples")
        adapter_defaults(draft, "lora", r=8, alpha=None, dropout=0.0, targets="all-linear")
        trainer_defaults(draft, rate=5e-5)


def _adapter(draft: Draft) -> None:
    given = draft.one("finetuning_type")
    kind = str(given.value).lower() if given is not None else "lora"
    kind = values.adapter(draft, given, kind) if given is not None else kind
    if kind != "lora":
        for leftover in [item for item in draft.open if item.name.startswith(("lora", "pissa", "use_dora", "use_rs"))]:
            if leftover.said:
                draft.drop(leftover, f"finetuning_type is {kind}, so that it did nothing")
    if kind == "freeze":
        last = draft.one("freeze_trainable_layers")
        number_of = whole(last) if last is not None else 2
        draft.need("adapter.layers", f"the number of blocks of the base less {number_of}: those stay frozen")


def _datasets(draft: Draft, folder: Path, stage: str) -> None:
    """`dataset: a,b`, each looked up in dataset_info.json; the directory may stand beside the file or the command."""
    told = draft.one("dataset_dir")
    directory = Path(str(told.value)) if told is not None else Path("data")
    info, found = _info([directory, folder / directory, *(above / directory for above in folder.parents)])
    if told is not None:
        draft.map(told, None, None, "dataset_info.json was read" if info else "no dataset_info.json is there to read")
    sets = Sets(draft)
    for given in draft.all("dataset"):
        for name in values.strings(given):
            entry: Any = info.get(name)
            if not isinstance(entry, dict):
                how = "named in a dataset_info.json that is not beside this file"
                sets.add(given, name if "." in name.split("/")[-1] else f"./data/{name}.json", how=how)
                draft.need("data.path", f"what {name} names in LLaMA-Factory's dataset_info.json")
                continue
            _entry(given, sets, entry, found, stage)
    _weights(draft, sets)
    sets.finish()
    for given in draft.all("eval_dataset"):
        first = values.strings(given)[0]
        entry = info.get(first)
        name = str(entry.get("file_name", first)) if isinstance(entry, dict) else first
        draft.near(given, "data.validation", located(draft, str(found / name) if isinstance(entry, dict) else name),
                   "these rows choose the checkpoint")  # fmt: skip


def _entry(given: Given, sets: Sets, entry: dict[str, Any], folder: Path, stage: str) -> None:
    """One entry of dataset_info.json: where the rows are, their format, and the names of their columns."""
    file = entry.get("file_name")
    hub = entry.get("hf_hub_url") or entry.get("ms_hub_url") or entry.get("script_url") or "unnamed"
    part = sets.add(given, str(folder / file) if isinstance(file, str) else str(hub), how="by dataset_info.json")
    if part is None:
        return
    ours = {"prompt": "instruction", "query": "input", "response": "output", "history": "history", "system": "system"}
    part.format = "alpaca"
    if entry.get("formatting", "alpaca") == "sharegpt":
        part.format, ours = "sharegpt", {"messages": "conversations", "system": "system", "tools": "tools"}
    if entry.get("ranking"):
        part.format, ours = "preference", {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"}
    elif stage == "pt":
        part.format, ours = "text", {"prompt": "text"}
    named = entry.get("columns")
    for theirs, name in ours.items():
        column = named.get(theirs) if isinstance(named, dict) else None
        if isinstance(column, str) and column != name:
            part.columns[name] = column


def _weights(draft: Draft, sets: Sets) -> None:
    """`interleave_probs`: the shares of the data sets in every step."""
    given, strategy = draft.one("interleave_probs"), draft.one("mix_strategy")
    words = (
        given.value if given is not None and isinstance(given.value, list) else values.strings(given) if given else []
    )
    shares = [float(word) for word in words if re.fullmatch(r"[0-9.]+", str(word))]
    if given is None or strategy is None or not str(strategy.value).startswith("interleave"):
        return
    if len(shares) != len(sets.parts) or len(shares) < 2:
        return
    for part, share in zip(sets.parts, shares):
        part.weight = share
    draft.map(given, "data.mix.temperature", None, "each data set's weight, beside its path")
    draft.near(strategy, None, None, "an epoch is as long as all rows together; the shares hold in every step")


def _info(folders: list[Path]) -> tuple[dict[str, Any], Path]:
    for folder in folders:
        path = folder / "dataset_info.json"
        try:
            if not path.is_file() or path.stat().st_size > MAX_INFO_BYTES:
                continue
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise RecipeError(f"{path} cannot be read", why=str(error)[:200]) from error
        if isinstance(content, dict):
            return content, folder
    return {}, folders[0]
