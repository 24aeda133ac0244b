"""Keys that every trainer on transformers knows by the same name, and what they mean here."""

from __future__ import annotations

import re

from attune.interop import values
from attune.interop.base import Draft, Rule, dropped, same
from attune.interop.document import Given
from attune.interop.values import flag, number, whole

__all__ = ["ELSEWHERE", "LORA", "SPEED", "TRAINER", "adapter_defaults", "quantised", "remote_code", "trainer_defaults"]

SPEED = "speed, memory or parallelism: attune decides it on the machine, and what is learned stays the same"
ELSEWHERE = "where results are sent: runs stay in runs/NAME here, and nothing is uploaded"
SAVED = ("lora_modules_to_save", "modules_to_save", "additional_target")
STARTS = ("init_weights", "init_lora_weights", "peft_init_lora_weights")
QUANTIZE = {4: "nf4", 8: "int8"}
LOGGED = "every step is in the run's metrics.jsonl"


def _report(draft: Draft, given: Given) -> None:
    names = given.value if isinstance(given.value, list) else [given.value]
    if "tensorboard" in names or "all" in names:
        others = [str(name) for name in names if name not in ("tensorboard", "none")]
        how = f"without {', '.join(others)}: attune sends nothing there" if others else ""
        (draft.near if others else draft.map)(given, "track", ["tensorboard"], how)
    elif names in (["none"], [False]):
        draft.map(given, "track", [])
    else:
        draft.drop(given, f"attune sends figures to TensorBoard only; {LOGGED}")


def _label_smoothing(draft: Draft, given: Given) -> None:
    if number(given) == 0:
        return draft.map(given, None, None, "0: none, as here")
    if draft.values.setdefault("objective.name", "sft") in ("sft", "classify"):
        how = "in training; validation losses stay those of the answers themselves"
        return draft.near(given, "objective.label_smoothing", number(given), how)
    return draft.drop(given, "set objective.label_smoothing, which sft and classify have")


def _epochs(draft: Draft, given: Given) -> None:
    draft.map(given, "train.epochs", number(given))


def _max_steps(draft: Draft, given: Given) -> None:
    count = whole(given)
    if count > 0:
        draft.map(given, "train.max_steps", count)
    else:
        draft.map(given, None, None, "not above 0: epochs decide")


def _eval_strategy(draft: Draft, given: Given) -> None:
    name = str(given.value).lower()
    if name == "no" or given.value is False:
        draft.near(
            given, None, None, "attune evaluates on held-out rows all the same; they are what the figures are of"
        )
    elif name == "epoch":
        draft.near(given, None, None, "about four times an epoch instead of once (train.eval_every: null)")
    else:
        draft.map(given, None, None, "every train.eval_every steps")


def _save_strategy(draft: Draft, given: Given) -> None:
    if str(given.value).lower() in ("steps", "epoch"):
        draft.map(given, None, None, "with each evaluation, or every train.save_every steps")
    else:
        draft.near(given, None, None, "attune always keeps checkpoints, so that a run can go on")


def _best(draft: Draft, given: Given) -> None:
    if not flag(given):
        return draft.map(given, "train.early_stopping", None, "the last weights are the result")
    if draft.one("early_stopping_patience", "early_stop_interval"):
        return draft.map(given, None, None, "the best checkpoint is the result wherever early stopping is on")
    return draft.map(given, "train.early_stopping", {"metric": "loss", "patience": 1000},
                     "the best checkpoint is the result; the patience is too long to stop early")  # fmt: skip


def _patience(draft: Draft, given: Given) -> None:
    draft.map(given, "train.early_stopping", {"metric": "loss", "patience": max(1, whole(given))})


def _checkpointing(draft: Draft, given: Given) -> None:
    if isinstance(given.value, str) and given.value.lower() in ("unsloth", "offload", "offload_disk"):
        draft.near(given, "train.gradient_checkpointing", True, f"plain recomputing, without {given.value}'s own way")
    else:
        draft.map(given, "train.gradient_checkpointing", flag(given))


def remote_code(draft: Draft, given: Given) -> None:
    revision = draft.values.get("model.revision") or getattr(
        draft.one("model_revision", "revision", "revision_of_model"), "value", None
    )
    if not flag(given):
        draft.map(given, "model.trust_remote_code", False)
    elif re.fullmatch(r"[0-9a-f]{40}", str(revision)):
        draft.map(given, "model.trust_remote_code", True)
    else:
        draft.drop(given, "attune runs a repository's code only with model.revision: its full commit; "
                          "Llama, Qwen, Mistral, Gemma, Phi and their like need none")  # fmt: skip


def quantised(bits: int):
    """`load_in_4bit` and its like."""

    def act(draft: Draft, given: Given) -> None:
        if flag(given):
            _few_bits(draft, given, bits)
        else:
            draft.map(given, None, None, f"no {bits}-bit base, as here")

    return act


def _bits(draft: Draft, given: Given) -> None:
    _few_bits(draft, given, whole(given))


def _few_bits(draft: Draft, given: Given, bits: int) -> None:
    """`adapter.quantize`, where nothing else in the recipe needs the base whole."""
    saved = draft.values.get("adapter.modules_to_save") or draft.all(*SAVED)
    layers = [str(item.value) for item in draft.all("target_modules", "lora_target_modules")]
    start = str(draft.values.get("adapter.init", "")) + "".join(str(item.value) for item in draft.all(*STARTS))
    full = f"the base stays in model.dtype: more memory than in {bits} bits, no worse"
    if draft.values.get("adapter.type") != "lora" or bits not in QUANTIZE or not values.offered("adapter.quantize"):
        draft.near(given, None, None, full)
    elif saved or any("embed_tokens" in names or "lm_head" in names for names in layers):
        draft.near(given, None, None, f"{full}; adapter.modules_to_save needs it whole")
    elif "pissa" in start or "olora" in start or values.on(draft, "pissa_init"):
        draft.near(given, None, None, f"{full}; adapter.init needs it whole")
    else:
        draft.map(given, "adapter.quantize", QUANTIZE[bits], "on a CUDA device; adapter.quantize=null elsewhere")


def _ratio(draft: Draft, given: Given) -> None:
    if values.offered("adapter.lr_ratio"):
        draft.map(given, "adapter.lr_ratio", number(given))
    else:
        draft.drop(given, "one learning rate for both halves of an update")


def _noise(draft: Draft, given: Given) -> None:
    if number(given) == 0:
        draft.map(given, None, None, "0: none, as here")
    elif values.offered("train.neftune_alpha"):
        draft.map(given, "train.neftune_alpha", number(given))
    else:
        draft.drop(given, "attune adds no noise to embeddings")


def _initial(draft: Draft, given: Given) -> None:
    name = str(given.value).lower()
    if given.value is True or name in ("true", "default"):
        draft.map(given, "adapter.init", "default")
    elif name in ("gaussian", "pissa", "olora"):
        draft.map(given, "adapter.init", name)
    elif name.startswith("pissa"):
        draft.near(given, "adapter.init", "pissa", "with the exact decomposition instead of the fast one")
    else:
        draft.near(given, "adapter.init", "default", f"attune has no start named {given.value}")


def _not_wanted(what: str):
    """A switch whose `off` is what attune does, and whose `on` is lost."""

    def act(draft: Draft, given: Given) -> None:
        if given.value in (False, 0, "false", "none", "None"):
            draft.map(given, None, None, "off, as here")
        else:
            draft.drop(given, what)

    return act


def trainer_defaults(draft: Draft, *, rate: float, **other: object) -> None:
    """What transformers' Trainer does where nothing is said; `other` replaces some of it, dots written as `__`."""
    found: dict[str, object] = {
        "train.learning_rate": rate, "train.epochs": 3.0, "train.schedule": "linear", "train.weight_decay": 0.0,
        "train.early_stopping": None, "seed": 42,
    }  # fmt: skip
    found.update({key.replace("__", "."): value for key, value in other.items()})
    if "train.max_steps" in draft.values:
        del found["train.epochs"]
    for key, value in found.items():
        draft.default(key, value)
    if "train.warmup_steps" not in draft.values:
        draft.default("train.warmup_ratio", 0.0)
    held_out(draft)


def held_out(draft: Draft) -> None:
    """attune measures on rows that were never trained on; the others need not."""
    if not draft.values.get("data.split.validation") and "data.validation" not in draft.values:
        draft.default("data.split.validation", 0.0)
    if "data.test" not in draft.values:
        draft.default(
            "data.split.test", 0.1, "attune holds out a tenth for its figures; data.test: FILE keeps all rows"
        )


def adapter_defaults(draft: Draft, kind: str, *, r: int, alpha: float | None, dropout: float, targets: object) -> None:
    """The tool's own LoRA where nothing is said; without LoRA, what was said about it is dropped."""
    draft.values.setdefault("adapter.type", kind)
    if draft.values["adapter.type"] != "lora":
        return
    draft.default("adapter.r", r)
    draft.default("adapter.alpha", 2 * draft.values["adapter.r"] if alpha is None else alpha)
    draft.default("adapter.dropout", dropout)
    draft.default("adapter.target_modules", targets)


LORA: dict[str, Rule] = {
    "lora_r": same("adapter.r", whole),
    "lora_rank": same("adapter.r", whole),
    "lora_alpha": same("adapter.alpha", number),
    "lora_dropout": same("adapter.dropout", number),
    "use_rslora": same("adapter.rslora", flag),
    "use_dora": same("adapter.dora", flag),
    "lora_target_modules": Rule("adapter.target_modules", "`all` and `all-linear` are one", values.modules),
    "target_modules": Rule("adapter.target_modules", "embed_tokens and lm_head go to modules_to_save", values.modules),
    "lora_modules_to_save": same("adapter.modules_to_save", values.strings),
    "modules_to_save": same("adapter.modules_to_save", values.strings),
    "init_lora_weights": Rule("adapter.init", "default, gaussian, pissa, olora; others start as default", _initial),
    "load_in_4bit": Rule("adapter.quantize", "nf4, unless modules_to_save or init needs the base whole", quantised(4)),
    "load_in_8bit": Rule("adapter.quantize", "int8, unless modules_to_save or init needs the base whole", quantised(8)),
    "quantization_bit": Rule("adapter.quantize", "4: nf4, 8: int8", _bits),
    "quant_bits": Rule("adapter.quantize", "4: nf4, 8: int8", _bits),
    "loraplus_lr_ratio": Rule("adapter.lr_ratio", "", _ratio),
    "lorap_lr_ratio": Rule("adapter.lr_ratio", "", _ratio),
    "bnb_4bit*": dropped("how a 4-bit base is held: nf4 and double, by bitsandbytes"),
    "use_bnb_nested_quant": dropped("how a 4-bit base is held: nf4 and double, by bitsandbytes"),
    "loftq*": dropped("a start for quantised bases that attune does not have"),
}
"""LoRA by the names of PEFT and its users."""

TRAINER: dict[str, Rule] = {
    "learning_rate": same("train.learning_rate", number),
    "num_train_epochs": Rule("train.epochs", "", _epochs),
    "max_steps": Rule("train.max_steps", "above 0; else epochs decide", _max_steps),
    "per_device_train_batch_size": Rule("train.batch_size", "x accumulation x devices; packed: train.batch_tokens"),
    "gradient_accumulation_steps": Rule("train.batch_size", "with the rows a device"),
    "lr_scheduler_type": Rule("train.schedule", "cosine, linear, constant, wsd; else the nearest", values.schedule),
    "lr_scheduler_kwargs": Rule("train.min_lr_ratio, train.decay_ratio", "min_lr, min_lr_rate, num_decay_steps",
                                values.schedule_settings),
    "warmup_ratio": same("train.warmup_ratio", number),
    "warmup_steps": Rule("train.warmup_steps", "below 1: train.warmup_ratio", values.warmup),
    "optim": Rule("", "AdamW as it is; its 8-bit kinds as full AdamW; others as AdamW, and said", values.optimiser),
    "weight_decay": same("train.weight_decay", number),
    "adam_beta1": same("train.beta1", number),
    "adam_beta2": same("train.beta2", number),
    "adam_epsilon": same("train.eps", number),
    "max_grad_norm": same("train.max_grad_norm", number),
    "seed": same("seed", whole),
    "neftune_noise_alpha": Rule("train.neftune_alpha", "", _noise),
    "data_seed": dropped("the order of the rows follows seed"),
    "bf16": Rule("model.dtype", "true: bfloat16; auto: auto"),
    "fp16": Rule("model.dtype", "auto: attune does not train in float16"),
    "torch_dtype": Rule("model.dtype", "", values.named_dtype),
    "dtype": Rule("model.dtype", "", values.named_dtype),
    "gradient_checkpointing": Rule("train.gradient_checkpointing", "", _checkpointing),
    "attn_implementation": Rule("model.attention", "auto, but for eager", values.attention),
    "attn_impl": Rule("model.attention", "auto, but for eager", values.attention),
    "trust_remote_code": Rule("model.trust_remote_code", "only with a full commit as revision", remote_code),
    "model_revision": same("model.revision", lambda given: str(given.value)),
    "eval_steps": Rule("train.eval_every", "below 1: a share of max_steps",
                       values.steps("train.eval_every", "attune evaluates")),
    "save_steps": Rule("train.save_every", "below 1: a share of max_steps",
                       values.steps("train.save_every", "attune saves")),
    "save_total_limit": same("train.keep_checkpoints", whole),
    "eval_strategy": Rule("", "attune always evaluates on held-out rows", _eval_strategy),
    "evaluation_strategy": Rule("", "attune always evaluates on held-out rows", _eval_strategy),
    "do_eval": Rule("", "attune always evaluates on held-out rows", _eval_strategy),
    "save_strategy": Rule("", "checkpoints are always kept", _save_strategy),
    "load_best_model_at_end": Rule("train.early_stopping", "on: the best checkpoint is the result", _best),
    "early_stopping_patience": Rule("train.early_stopping", "on the validation loss", _patience),
    "metric_for_best_model": dropped("the validation loss; train.early_stopping.metric changes it"),
    "greater_is_better": dropped("attune knows which way each metric is better"),
    "label_smoothing_factor": Rule("objective.label_smoothing", "with sft and classify", _label_smoothing),
    "output_dir": Rule("name", "its last part; runs stand in runs/", values.run_name),
    "run_name": Rule("name", "", values.run_name),
    "report_to": Rule("track", "tensorboard only", _report),
    "resume_from_checkpoint": dropped("an unfinished run of the same recipe goes on by itself"),
    "do_train": dropped("`attune train` trains"),
    "packing": Rule("train.layout", "on: packed, and the step is counted in tokens"),
    "padding_free": dropped("attune packs or pads, whichever is faster; what is learned is the same"),
    "use_peft": Rule("adapter.type", "on: lora, off: full"),
    "remove_unused_columns": dropped("attune reads the columns it needs"),
    "push_to_hub": Rule("", ELSEWHERE, _not_wanted(ELSEWHERE)),
    "group_by_length": Rule("", SPEED, _not_wanted("attune packs or matches lengths itself")),
    **{key: dropped(ELSEWHERE) for key in
       ("hub_*", "wandb_*", "swanlab_*", "trackio*", "project", "push_dataset_to_hub", "comet_*", "mlflow_*")},
    **{key: dropped(LOGGED) for key in
       ("logging_*", "log_level*", "log_on_each_node", "disable_tqdm", "include_*", "plot_loss",
        "skip_memory_metrics")},
    **{key: dropped(SPEED) for key in
       ("dataloader_*", "dataset_num_proc", "ddp_*", "deepspeed*", "fsdp*", "local_rank", "tf32", "torch_compile*",
        "use_liger_kernel", "liger_kernel_config", "per_device_eval_batch_size", "eval_accumulation_steps",
        "gradient_checkpointing_kwargs", "activation_offloading", "accelerator_config", "parallelism_config",
        "use_cpu", "auto_find_batch_size", "full_determinism", "torch_empty_cache_steps", "use_cache", "device_map",
        "low_cpu_mem*",
        "pad_to_multiple_of", "eval_packing", "average_tokens_across_devices", "optim_target_modules", "ignore_bias_*",
        "max_memory", "bf16_full_eval", "fp16_full_eval", "save_on_each_node", "eval_do_concat_batches", "debug",
        "prediction_loss_only", "save_only_model", "overwrite_output_dir", "overwrite_cache", "eval_on_start",
        "eval_delay", "ignore_data_skip", "train_sampling_strategy", "length_column_name", "dataset_kwargs",
        "pad_token", "shuffle_dataset")},
}  # fmt: skip
"""Keys of transformers' TrainingArguments and TRL's configurations."""
