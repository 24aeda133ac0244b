"""ms-swift: shell scripts with `swift sft`, its YAML and its args.json."""

from __future__ import annotations

import re
from pathlib import Path

from attune.errors import RecipeError
from attune.interop import launched, values
from attune.interop.base import Draft, Importer, Rule, dropped, same
from attune.interop.common import LORA, SPEED, TRAINER, adapter_defaults, trainer_defaults
from attune.interop.datasets import Sets, located
from attune.interop.document import Document, Given, Source
from attune.interop.values import flag, number, whole

__all__ = ["MsSwift"]

LISTS = frozenset(
    "dataset val_dataset target_modules modules_to_save target_parameters report_to freeze_parameters "
    "trainable_parameters adapters external_plugins".split()
)
TASKS = {"causal_lm": None, "seq_cls": "classify"}
SET = re.compile(r"(?:(?:HF|MS|hf|ms)::)?(?P<name>[^#:]+(?:://[^#:]+)?)(?::(?P<subset>[^#]+))?(?:#(?P<rows>\d+))?")


def _template(draft: Draft, given: Given) -> None:
    draft.near(
        given, None, None, "the tokenizer's own chat template is used; model.chat_template: FILE.jinja for another"
    )


def _cut(draft: Draft, given: Given) -> None:
    name = str(given.value)
    if name in ("delete", "left", "right", "raise"):
        draft.map(given, "data.truncate", {"delete": "drop", "raise": "error"}.get(name, name))
    else:
        draft.near(given, "data.truncate", "right", f"attune has no {name} for written answers")


def _scale(draft: Draft, given: Given) -> None:
    if str(given.value) == "default":
        draft.map(given, None, None, "every answer is scored, as here")
    else:
        draft.drop(given, "answers are scored evenly; messages may carry weight 0")


def _chat(draft: Draft, given: Given) -> None:
    if flag(given):
        draft.map(given, None, None, "the chat template is used, as here")
    else:
        draft.drop(given, "label tasks read the text as it is; answers are written in the chat template")


def _early(draft: Draft, given: Given) -> None:
    draft.map(given, "train.early_stopping", {"metric": "loss", "patience": max(1, whole(given))})


class MsSwift(Importer):
    """ms-swift's scripts, YAML and args.json: `swift sft` and `swift pt`, full, LoRA and QLoRA, also classifiers."""

    name = "ms_swift"
    title = "ms-swift"
    table = {
        **TRAINER,
        **LORA,
        **launched.TABLE,
        "model": same("model.base", lambda given: str(given.value)),
        "tuner_type": Rule("adapter.type", "full, lora, adalora, vera; boft, fourierft and others of PEFT by name"),
        "train_type": Rule("adapter.type", "full, lora, adalora, vera; boft, fourierft and others of PEFT by name"),
        "sft_type": Rule("adapter.type", "full, lora, adalora, vera; boft, fourierft and others of PEFT by name"),
        "dataset": Rule("data.path", "a ModelScope name becomes a folder to download to; `#500` is not cut"),
        "val_dataset": Rule("data.validation", "the first one"),
        "split_dataset_ratio": Rule("data.split.validation", "", values.validation),
        "max_length": same("data.max_length", whole),
        "truncation_strategy": Rule("data.truncate", "delete: drop, raise: error, left, right", _cut),
        "adalora_target_r": same("adapter.r", whole),
        "adalora_init_r": same("adapter.init_r", whole),
        "vera_rank": same("adapter.r", whole),
        "vera_dropout": same("adapter.dropout", number),
        "init_weights": LORA["init_lora_weights"],
        "lora_bias": Rule("adapter.bias", "", lambda draft, given: draft.map(given, "adapter.bias", str(given.value))),
        "target_regex": Rule("adapter.target_modules", "", values.modules),
        "task_type": Rule("objective.name", "seq_cls: classify"),
        "num_labels": dropped("the classes are counted in the data"),
        "problem_type": dropped("one label or several is seen in the data"),
        "rlhf_type": Rule("objective.name", "preference objectives as far as attune has them"),
        "beta": Rule("objective.beta", "where attune has the objective"),
        "template": Rule("", "the tokenizer's own chat template", _template),
        "use_chat_template": Rule("", "on, as here", _chat),
        "loss_scale": Rule("", "default: every answer, as here", _scale),
        "early_stop_interval": Rule("train.early_stopping", "on the validation loss", _early),
        "system": dropped("the template's own; put a system turn into the rows"),
        "model_author": dropped("fills {{AUTHOR}} in swift's self-cognition rows; write it into yours"),
        "model_name": dropped("fills {{NAME}} in swift's self-cognition rows; write it into yours"),
        "adapters": dropped("a new adapter is trained; merge the old one and name the folder in model.base"),
        "model_type": dropped("attune reads the architecture from the base itself"),
        "quant_method": dropped("how a quantised base is held: by bitsandbytes here"),
        "rpo_alpha": dropped("an option of preference training"),
        "ref_model*": dropped("only preference objectives have a reference model"),
        "freeze_*": dropped("for adapter freeze: name what stays frozen in adapter.patterns"),
        "trainable_parameters*": dropped("for adapter freeze: name what stays frozen in adapter.patterns"),
        "external_plugins": dropped("code that attune does not run"),
        "custom_register_path": dropped("code that attune does not run"),
        "interleave_prob": dropped("data sets are put one after the other and shuffled"),
        "dataset_shuffle": dropped("rows are shuffled by the seed"),
        "train_dataloader_shuffle": dropped("rows are shuffled by the seed"),
        "use_hf": Rule("data.path", "on: hub names are those of Hugging Face"),
        "agent_template": dropped("tool calls are written by the tokenizer's own chat template"),
        "add_version": dropped("a run's folder is runs/NAME here"),
        "load_data_args": dropped("attune reads this recipe only"),
        "task": dropped("the objective decides"),
        **{key: dropped(SPEED) for key in (
            "load_from_cache_file", "lazy_tokenize", "streaming", "sequence_parallel_size", "tuner_backend",
            "use_logits_to_keep", "create_checkpoint_symlink", "acc_steps", "packing_*", "dataset_buffer*",
            "model_kwargs", "vit_gradient_checkpointing", "zero_hpz*", "strict", "cached_dataset", "check_model",
            "max_pixels", "acc_strategy", "use_cce", "padding_side", "group_port", "use_flash_ckpt")},
    }  # fmt: skip

    def sources(self, document: Document) -> list[Source]:
        if document.kind == "mapping":
            names = document.names
            marks = {"tuner_type": 3, "train_type": 3, "model": 1, "dataset": 0.5, "split_dataset_ratio": 2,
                     "rlhf_type": 2, "model_author": 1, "lora_rank": 0.5, "target_modules": 0.5, "tuner_backend": 2,
                     "truncation_strategy": 1, "load_from_cache_file": 1}  # fmt: skip
            score = sum(points for name, points in marks.items() if name in names)
            return [Source(document.settings, str(document.path), score, facts={"stage": "sft"})] if score else []
        found = []
        for command in document.commands:
            texts = command.texts
            at = next((n for n, text in enumerate(texts[:40]) if Path(text).name in ("swift", "megatron")), None)
            if at is not None and at + 1 < len(texts) and texts[at + 1] in ("sft", "pt", "rlhf"):
                stage, at = texts[at + 1], at + 1
            else:
                at = next((n for n, text in enumerate(texts) if re.search(r"swift/cli/(sft|pt|rlhf)\.py$", text)), None)
                if at is None:
                    continue
                stage = Path(texts[at]).stem
            source = launched.source(command, at, LISTS, 6.0, f"swift {stage}")
            source.facts.update(stage=stage, megatron="megatron" in (Path(text).name for text in texts[:at]))
            found.append(source)
        return found

    def convert(self, draft: Draft, source: Source) -> None:
        if source.facts.get("megatron"):
            raise RecipeError("a recipe for Megatron cannot be converted", where=source.where,
                              why="its batch sizes and parallel layouts are counted otherwise",
                              fix="write the `swift sft` command of the same training")  # fmt: skip
        launched.config_file(draft, source)
        kind = _adapter(draft)
        _datasets(draft)
        processes = source.facts.get("processes")
        rows = draft.one("per_device_train_batch_size")
        count = whole(rows) if rows is not None else 1
        times = max(1, -(-16 // (max(1, count) * (draft.devices or (processes[0] if processes else 1)))))
        values.batch(
            draft, ("per_device_train_batch_size",), "gradient_accumulation_steps", ("packing",), ("max_length",),
            usual=(1, times, 4096), processes=processes,
        )  # fmt: skip
        values.dtype(draft)
        _objective(draft, source)
        draft.finish(self.table)
        draft.default("data.truncate", "drop", "ms-swift leaves longer examples out")
        if kind == "lora":
            adapter_defaults(draft, "lora", r=8, alpha=32.0, dropout=0.05, targets="all-linear")
        trainer_defaults(draft, rate=1e-4 if kind == "lora" else 1e-5, train__schedule="cosine",
                         train__weight_decay=0.1, train__beta2=0.95)  # fmt: skip


def _adapter(draft: Draft) -> str:
    given = draft.one("tuner_type", "train_type", "sft_type")
    kind = str(given.value).lower() if given is not None else "lora"
    kind = values.adapter(draft, given, kind) if given is not None else kind
    draft.values["adapter.type"] = kind
    if kind in ("adalora", "vera"):
        draft.drop_all(("lora_rank",), f"the rank of {kind} is said by a key of its own")
    if kind == "full":
        for leftover in [item for item in draft.open if item.name in LORA and item.said]:
            if not leftover.name.startswith(("quant", "bnb", "load_in")):
                draft.drop(leftover, "full training, so that it did nothing")
    return kind


def _datasets(draft: Draft) -> None:
    use_hf = draft.one("use_hf")
    hub = "huggingface" if values.on(draft, "use_hf") else "modelscope"
    if use_hf is not None:
        draft.map(use_hf, None, None, f"hub names are those of {hub}")
    sets = Sets(draft)
    for given in draft.all("dataset"):
        names = given.value if isinstance(given.value, list) else [given.value]
        if not all(isinstance(name, str) for name in names):
            sets.add(given)
            continue
        cut = []
        for name in names:
            found = SET.fullmatch(name)
            if found is None:
                sets.add(given, name)
                continue
            if found["rows"]:
                cut.append(f"{found['rows']} rows of {found['name'].split('/')[-1]}")
            prefix = name.split("::")[0].lower() if "::" in name else ""
            how = f"whole data sets, where swift took {', '.join(cut)}: cut the files if that matters" if cut else ""
            source = {"hf": "huggingface", "ms": "modelscope"}.get(prefix, hub)
            sets.add(given, found["name"], hub=source, how=how, near=bool(cut))
    sets.finish()
    for given in draft.all("val_dataset"):
        names = given.value if isinstance(given.value, list) else [given.value]
        found = SET.fullmatch(str(names[0]))
        name = found["name"] if found else str(names[0])
        draft.near(given, "data.validation", located(draft, name, hub), "these rows choose the checkpoint")


def _objective(draft: Draft, source: Source) -> None:
    stage = source.facts["stage"]
    kind = draft.one("rlhf_type")
    task = draft.one("task_type")
    if stage == "rlhf" or kind is not None:
        values.objective(draft, str(kind.value) if kind is not None else "dpo", kind, {"beta": ("beta",)})
    elif stage == "pt":
        draft.values["objective.name"] = "pretrain"
    elif task is not None and str(task.value) not in TASKS:
        raise RecipeError(f"task_type {task.value} cannot be converted", where=task.where,
                          why="attune writes, labels, tags and pre-trains")  # fmt: skip
    elif task is not None and TASKS[str(task.value)]:
        draft.map(task, "objective.name", TASKS[str(task.value)])
    else:
        draft.values["objective.name"] = "sft"
        if task is not None:
            draft.map(task, "objective.name", "sft")
