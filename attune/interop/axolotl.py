"""Axolotl: YAML."""

from __future__ import annotations

import re
from typing import Any

from attune.interop import values
from attune.interop.base import Draft, Importer, Rule, dropped, same
from attune.interop.common import (
    ELSEWHERE,
    LORA,
    SPEED,
    TRAINER,
    adapter_defaults,
    held_out,
    remote_code,
)
from attune.interop.datasets import Part, Sets, located
from attune.interop.document import Document, Given, Source
from attune.interop.values import flag, number, whole

__all__ = ["Axolotl"]

PREFERENCES = {"dpo": "dpo", "ipo": "ipo", "orpo": "orpo", "kto": "kto", "simpo": "simpo", "grpo": "grpo"}
PER_EPOCH = 4
"""Evaluations an epoch where `train.eval_every` says nothing."""


def _per_epoch(what: str):
    def act(draft: Draft, given: Given) -> None:
        times = whole(given)
        how = f"attune {what} about {PER_EPOCH} times an epoch"
        (draft.map if times == PER_EPOCH else draft.near)(given, None, None, how)

    return act


def _linear(draft: Draft, given: Given) -> None:
    if not flag(given):
        draft.map(given, None, None, "lora_target_modules decides")
    else:
        draft.map(given, "adapter.target_modules", "all-linear")


def _template(draft: Draft, given: Given) -> None:
    name = str(given.value)
    if name.startswith("tokenizer_default"):
        draft.map(given, None, None, "the tokenizer's own template, as here")
    else:
        draft.near(
            given, None, None, f"the tokenizer's own template is used; model.chat_template: FILE.jinja for {name}"
        )


def _jinja(draft: Draft, given: Given) -> None:
    if "{" in str(given.value):
        draft.drop(given, "attune takes a template as a file: save it and name it in model.chat_template")
        draft.need("model.chat_template", "the file of your template")
    else:
        draft.map(given, "model.chat_template", str(given.value))


def _on_inputs(draft: Draft, given: Given) -> None:
    if flag(given):
        draft.drop(given, "attune scores answers only; prompts are not learned")
    else:
        draft.map(given, None, None, "answers alone are scored, as here")


def _unfrozen(draft: Draft, given: Given) -> None:
    names = [re.sub(r"\[.*?\]$", "", name) for name in values.strings(given)]
    draft.values["adapter.embeddings"] = False
    draft.near(given, "adapter.patterns", [f"^(?!.*(?:{'|'.join(names)}))"],
               "everything else stays frozen; ranges in brackets are left off")  # fmt: skip


def _long(draft: Draft, given: Given) -> None:
    draft.map(given, "data.truncate", "right" if str(given.value).startswith("trunc") else "drop")


def _last_rate(draft: Draft, given: Given) -> None:
    draft.map(given, "train.min_lr_ratio", number(given))


class Axolotl(Importer):
    """Axolotl's YAML: LoRA, QLoRA and full training on chat, instruction and raw text data sets."""

    name = "axolotl"
    title = "Axolotl"
    table = {
        **{key: rule for key, rule in TRAINER.items() if not key.startswith("per_device")},
        **LORA,
        "base_model": same("model.base", lambda given: str(given.value)),
        "revision_of_model": same("model.revision", lambda given: str(given.value)),
        "trust_remote_code": Rule("model.trust_remote_code", "only with a full commit as revision", remote_code),
        "adapter": Rule("adapter.type", "lora and qlora: lora; empty: full"),
        "rl": Rule("objective.name", "preference objectives as far as attune has them"),
        "rl_beta": Rule("", "an option of the preference objective"),
        "datasets[].path": Rule("data.path", "a hub name becomes a folder to download to"),
        "datasets[].type": Rule("data.format", "alpaca, sharegpt, chat, text; completion: objective pretrain"),
        "datasets[].*": Rule("data.columns", "fields by name; what has no counterpart is dropped"),
        "pretraining_dataset*": Rule("data.path", "objective pretrain"),
        "test_datasets[].*": Rule("data.validation", "the first one"),
        "micro_batch_size": TRAINER["per_device_train_batch_size"],
        "batch_size": dropped("micro_batch_size and gradient_accumulation_steps say it"),
        "sequence_len": Rule("data.max_length", "longer examples are dropped, as Axolotl does"),
        "sample_packing": Rule("train.layout", "on: packed, and the step is counted in tokens"),
        "num_epochs": Rule("train.epochs", "", TRAINER["num_train_epochs"].act),
        "optimizer": TRAINER["optim"],
        "lr_scheduler": TRAINER["lr_scheduler_type"],
        "cosine_min_lr_ratio": Rule("train.min_lr_ratio", "", _last_rate),
        "val_set_size": Rule("data.split.validation", "a number of rows becomes 0.1", values.validation),
        "evals_per_epoch": Rule("", "about four an epoch", _per_epoch("evaluates")),
        "saves_per_epoch": Rule("", "with each evaluation", _per_epoch("saves")),
        "lora_target_linear": Rule("adapter.target_modules", "all-linear", _linear),
        "peft_use_dora": LORA["use_dora"],
        "peft_use_rslora": LORA["use_rslora"],
        "peft_init_lora_weights": LORA["init_lora_weights"],
        "chat_template": Rule("", "the tokenizer's own; model.chat_template takes a file", _template),
        "chat_template_jinja": Rule("model.chat_template", "a file as it is", _jinja),
        "train_on_inputs": Rule("", "off, as here; on is lost", _on_inputs),
        "unfrozen_parameters": Rule("adapter.patterns", "adapter freeze: everything else is frozen", _unfrozen),
        "excess_length_strategy": Rule("data.truncate", "drop or right", _long),
        "use_tensorboard": Rule("track", "", lambda draft, given: draft.map(
            given, "track", ["tensorboard"] if flag(given) else [])),
        "gptq": dropped("attune trains on bases that are not quantised"),
        "lora_model_dir": dropped("a new adapter is trained; merge the old one and name the folder in model.base"),
        "peft_layers*": dropped("every layer that target_modules names gets an update"),
        "dataset_exact_deduplication": dropped("data.prepare: [exact_duplicates] removes equal rows"),
        "special_tokens*": dropped("the tokenizer's own; padding never hides the stop token here"),
        "tokens": dropped("no tokens are added: what they spell is read in pieces"),
        "added_tokens_overrides*": dropped("no tokens are added: what they spell is read in pieces"),
        "loss_watchdog*": dropped("attune stops at the first number that is not finite, and on no other"),
        "default_system_message": dropped("the template's own; put a system turn into the rows"),
        "dataset_prepared_path": dropped("prepared data is cached by its content"),
        **{key: dropped(SPEED) for key in (
            "load_in*_config", "eval_sample_packing", "pad_to_sequence_len", "flash_*", "xformers_attention",
            "sdp_attention", "s2_attention", "flex_attention", "eager_attention", "unsloth_*", "liger_*", "plugins",
            "lora_*_kernel", "lora_fan_in_fan_out", "dataset_processes", "eval_batch_size", "eval_table_size",
            "strict", "sample_packing_*", "multipack_real_batches", "shuffle_merged_datasets", "gc_steps", "ddp",
            "gpu_memory_limit", "tensor_parallel_size", "context_parallel_size", "sequence_parallel_degree",
            "heads_k_stride", "ring_attn_func", "dataset_keep_in_memory", "dataset_shard*", "cut_cross_entropy",
            "batch_flattening", "world_size", "device", "save_first_step", "save_safetensors", "bfloat16", "float16",
            "skip_prepare_dataset", "profiler_steps", "experimental_skip_move_to_device", "fp8", "torchao_*",
        )},
        **{key: dropped("attune reads the architecture and the tokenizer from the base itself") for key in (
            "model_type", "tokenizer_type", "tokenizer_config", "tokenizer_use_fast", "tokenizer_legacy",
            "base_model_config", "is_*_derived_model", "processor_type", "resize_token_embeddings_to_32x",
            "tokenizer_use_mistral_common")},
        "hf_use_auth_token": dropped(ELSEWHERE),
    }  # fmt: skip

    def sources(self, document: Document) -> list[Source]:
        names = document.names
        marks = {
            "base_model": 2, "micro_batch_size": 2, "sequence_len": 2, "val_set_size": 1, "num_epochs": 1,
            "lora_target_linear": 2, "sample_packing": 1, "dataset_prepared_path": 2, "wandb_entity": 0.5,
        }  # fmt: skip
        score = sum(points for name, points in marks.items() if name in names)
        return [Source(document.settings, str(document.path), score)] if score else []

    def convert(self, draft: Draft, source: Source) -> None:
        pretrain = _datasets(draft)
        kind = _adapter(draft)
        packing = ("sample_packing",)
        values.batch(
            draft, ("micro_batch_size",), "gradient_accumulation_steps", packing, ("sequence_len",), usual=(1, 1, 512)
        )
        length = draft.one("sequence_len")
        if length is not None:
            draft.map(length, "data.max_length", whole(length))
        values.dtype(draft)
        if (rl := draft.one("rl")) is not None:
            _preference(draft, rl)
        elif pretrain:
            draft.values["objective.name"] = "pretrain"
        draft.finish(self.table)
        if kind == "lora":
            adapter_defaults(draft, "lora", r=8, alpha=16.0, dropout=0.0, targets="all-linear")
        draft.default("data.truncate", "drop", "Axolotl leaves longer examples out")
        draft.default("train.epochs", 1.0)
        draft.default("train.schedule", "cosine")
        draft.default("train.weight_decay", 0.0)
        draft.default("train.early_stopping", None)
        draft.default("seed", 42)
        if "train.warmup_steps" not in draft.values:
            draft.default("train.warmup_ratio", 0.03)
        held_out(draft)


def _preference(draft: Draft, given: Given) -> None:
    name = PREFERENCES.get(str(given.value).lower(), str(given.value).lower())
    if given.value is False:
        return draft.map(given, None, None, "off")
    return values.objective(draft, name, given, {"beta": ("rl_beta", "orpo_alpha"), "gamma": ("simpo_gamma",)})


def _adapter(draft: Draft) -> str:
    given = draft.one("adapter")
    frozen = draft.one("unfrozen_parameters")
    if given is None:
        draft.values["adapter.type"] = "freeze" if frozen is not None else "full"
        for leftover in [item for item in draft.open if item.name in LORA and item.said]:
            if leftover.name.startswith(("lora_", "peft_")):
                draft.drop(leftover, "no adapter is named, so that it did nothing")
        draft.drop_all(("lora_target_linear", "lora_fan_in_fan_out"), "no adapter is named, so that it did nothing")
        return str(draft.values["adapter.type"])
    name = str(given.value).lower()
    if name == "qlora":
        draft.map(given, "adapter.type", "lora", "load_in_4bit says how the base is held")
        return "lora"
    return values.adapter(draft, given, name)


def _datasets(draft: Draft) -> bool:
    """`datasets`, `pretraining_dataset`, `test_datasets`; True where the data is raw text."""
    sets, raw = Sets(draft), []
    groups: dict[str, dict[str, Given]] = {}
    for given in list(draft.open):
        found = re.match(r"(datasets|pretraining_dataset|test_datasets)(\[\d+\])?\.?(.*)", given.key)
        if found:
            groups.setdefault(f"{found[1]}{found[2] or ''}", {})[found[3]] = given
    for label, group in groups.items():
        if label.startswith("test_datasets"):
            _held(draft, group)
            continue
        path = group.get("path") or group.get("")
        parts: list[Part] = []
        if path is not None and path.said and isinstance(path.value, str):
            files = group.get("data_files")
            local = str(path.value) in ("json", "csv", "parquet", "text") and files is not None and files.said
            if local and files is not None:
                names = files.value if isinstance(files.value, list) else [files.value]
                parts = [part for name in names if (part := sets.add(files, str(name)))]
                draft.drop(path, "the kind of file is recognised from its content")
            else:
                parts = [part for part in (sets.add(path),) if part]
        if label.startswith("pretraining"):
            raw.append(True)
            if (field := group.get("text_column")) is not None and field.said:
                draft.map(field, None, None, f"columns: {{text: {field.value}}}")
                for part in parts:
                    part.columns["text"] = str(field.value)
            continue
        raw.append(_kind(draft, group, sets, parts))
    sets.finish()
    for given in list(draft.open):
        if given.name.startswith(("datasets", "pretraining_dataset", "test_datasets")) and given.said:
            draft.drop(given, _why(given.name.split(".", 1)[-1]))
    if any(raw) and not all(raw):
        draft.need("data.path", "raw text and answers are two objectives: train them one after the other")
    return bool(raw) and all(raw)


WHYS = {
    "split": "attune reads the files it is given; name those of this split",
    "name": "the configuration of a hub data set; download its files",
    "shards": "all rows are used",
    "ds_type": "the kind of file is recognised from its content",
    "roles_to_train": "answers are trained on, the last and earlier ones",
    "train_on_eos": "the end of every answer is trained on",
    "conversation": "the tokenizer's own chat template is used",
    "chat_template": "the tokenizer's own chat template is used",
}


def _why(name: str) -> str:
    if name.startswith(("roles.", "message_property_mappings")):
        return "the usual names of speakers are known: human, gpt, user, assistant, system, tool"
    if name.startswith("type."):
        return "the prompt is rendered by the chat template, not by a format of its own"
    return WHYS.get(name, "it has no counterpart in data here; check whether the rows need it")


def _held(draft: Draft, group: dict[str, Given]) -> None:
    path = group.get("path")
    if path is not None and path.said and "data.validation" not in draft.values:
        draft.near(path, "data.validation", located(draft, str(path.value)), "these rows choose the checkpoint")


def _kind(draft: Draft, group: dict[str, Given], sets: Sets, parts: list[Part]) -> bool:
    """One data set's format and columns; True where it is raw text."""

    def column(ours: str, *fields: str) -> None:
        for name in fields:
            given = group.get(name)
            if given is not None and given.said and isinstance(given.value, str):
                if given.value == ours:
                    draft.map(given, None, None, f"the usual name, {ours}")
                    continue
                draft.map(given, None, None, f"columns: {{{ours}: {given.value}}}")
                for part in parts:
                    part.columns[ours] = given.value

    def format_(given: Given, ours: str, how: str = "") -> None:
        sets.formats.append((given, ours, how))
        for part in parts:
            part.format = ours

    kind = group.get("type")
    own = {name: given for name, given in group.items() if name.startswith("type.")}
    if own:
        for ours in ("instruction", "input", "output", "system"):
            column(ours, f"type.field_{ours}")
        for part in parts:
            part.format = "alpaca"
        return False
    if kind is None or not isinstance(kind.value, str):
        return False
    name = kind.value.lower()
    words: dict[str, Any] = {key: group[key].value for key in group if group[key].said}
    base = name.split(".")[0].split(":")[0]
    if base == "completion":
        column("text", "field")
        format_(kind, "text")
        return True
    if base == "input_output":
        draft.drop(kind, "attune has no format of segments that are marked one by one")
        draft.need("data.path", "rows with segments: write them as prompt and completion, or as messages with weight")
    elif base in ("sharegpt", "chat_template"):
        mapped = words.get("message_property_mappings.role") == "from" or words.get("message_field_role") == "from"
        share = base == "sharegpt" or mapped or words.get("field_messages") in ("conversations",)
        if "field_chosen" in group or "field_rejected" in group or draft.one("rl") is not None:
            column("prompt", "field_messages")
            column("chosen", "field_chosen")
            column("rejected", "field_rejected")
            format_(kind, "preference")
        else:
            column("conversations" if share else "messages", "field_messages", "field")
            format_(kind, "sharegpt" if share else "chat")
    elif base in ("chatml", "llama3", "zephyr", "passthrough", "user_defined") or draft.one("rl") is not None:
        format_(kind, "preference", "prompt, chosen and rejected; other names by data.columns")
    elif base.startswith("alpaca"):
        how = "the rows as they are; rendered by the chat template, not by Alpaca's text"
        format_(kind, "alpaca", how)
    else:
        draft.near(
            kind, None, None, f"attune knows no data set type {kind.value}; the format is recognised from the rows"
        )
    return False
