"""TRL: `trl sft` command lines, their YAML, scripts that show their command, and scripts that build a trainer."""

from __future__ import annotations

import re
from pathlib import Path

from attune.interop import launched, trainer_script, values
from attune.interop.base import Draft, Importer, Rule, dropped, same
from attune.interop.common import LORA, TRAINER, adapter_defaults, trainer_defaults
from attune.interop.datasets import Sets
from attune.interop.document import Document, Given, Source, Unread
from attune.interop.values import flag, whole

__all__ = ["Trl"]

STAGES = re.compile(r"(?:^|/)(sft|dpo|kto|orpo|reward|grpo|rloo|ppo|gkd|cpo|bco)[\w-]*\.py$")
LISTS = frozenset("lora_target_modules lora_modules_to_save lora_target_parameters report_to".split())
REWARD = {"reward": "reward", "gkd": "distill"}


def _whole_text(draft: Draft, given: Given) -> None:
    if flag(given):
        draft.map(given, None, None, "answers alone are scored, as here")
    else:
        draft.drop(given, "attune scores answers only, or the whole of plain text (objective pretrain)")


def _text_field(draft: Draft, given: Given) -> None:
    name = str(given.value)
    if name == "text":
        draft.map(given, None, None, "the usual name")
    else:
        draft.map(given, "data.columns", {"text": name}, "learned as plain text")


def _truncation(draft: Draft, given: Given) -> None:
    draft.map(given, "data.truncate", "left" if str(given.value) == "keep_end" else "right")


def _dataset(draft: Draft, sets: Sets) -> None:
    for given in draft.all("dataset_name", "datasets[].path"):
        sets.add(given)
    sets.finish()


class Trl(Importer):
    """TRL: `trl sft` and its scripts as command lines or YAML, and Python that builds SFTConfig and a trainer."""

    name = "trl"
    title = "TRL"
    table = {
        **TRAINER,
        **LORA,
        **launched.TABLE,
        **trainer_script.TABLE,
        "model_name_or_path": same("model.base", lambda given: str(given.value)),
        "dataset_name": Rule("data.path", "a hub name becomes a folder to download to"),
        "datasets[].path": Rule("data.path", "a hub name becomes a folder to download to"),
        "datasets[].*": dropped("attune reads the files it is given; name those of this split or configuration"),
        "dataset_config": dropped("the configuration of a hub data set; download its files"),
        "dataset_train_split": dropped("attune reads the files it is given; name those of this split"),
        "dataset_test_split": dropped("name the files of this split in data.test or data.validation"),
        "dataset_streaming": dropped("data is read from disk as it is needed"),
        "dataset_text_field": Rule("data.columns", "", _text_field),
        "max_length": Rule("data.max_length", "longer examples are cut on the right; 1024 where nothing is said"),
        "max_seq_length": Rule("data.max_length", "the older name of max_length"),
        "truncation_mode": Rule("data.truncate", "keep_start: right, keep_end: left", _truncation),
        "completion_only_loss": Rule("", "on, as here; off is lost", _whole_text),
        "assistant_only_loss": Rule("", "on, as here; off is lost", _whole_text),
        "packing_strategy": dropped("rows are packed whole, and never see each other"),
        "chat_template_path": same("model.chat_template", lambda given: str(given.value)),
        "eos_token": dropped("the stop token of the chat template is trained on"),
        "lora_task_type": dropped("the objective decides"),
        "lora_target_parameters": dropped("updates of single weight tensors; target_modules names layers"),
        "loss_type": Rule("objective.name", "the kinds of preference loss as far as attune has them"),
        "beta": Rule("objective.beta", "where attune has the objective"),
        **{key: dropped("an option of preference or reinforcement training") for key in (
            "max_prompt_length", "max_completion_length", "precompute_ref_log_probs", "ref_model*", "sync_ref_model",
            "label_smoothing", "rpo_alpha", "f_divergence*", "use_weighting", "loss_weights", "ld_alpha",
            "disable_dropout", "desirable_weight", "undesirable_weight", "num_generations", "reward_*",
            "precompute_ref_batch_size", "center_rewards_coefficient", "discopop_tau", "use_vllm", "vllm_*",
            "force_use_ref_model", "reference_free", "simpo_gamma", "cpo_alpha")},
        "no_remove_unused_columns": dropped("attune reads the columns it needs"),
        "router_aux_loss_coef": dropped("attune adds no loss for the balance of experts"),
        "model_init_kwargs*": dropped("how a base is loaded is in `model:` here"),
        "config": dropped("the YAML that the command names; import it, or lay it beside"),
    }  # fmt: skip

    def sources(self, document: Document) -> list[Source]:
        if document.kind == "mapping":
            names = document.names
            marks = {"model_name_or_path": 1, "dataset_name": 2, "use_peft": 2, "dataset_text_field": 1,
                     "dataset_train_split": 2, "dataset_test_split": 1, "per_device_train_batch_size": 0.5,
                     "lora_target_modules": 0.5, "max_length": 0.5, "assistant_only_loss": 1}  # fmt: skip
            score = sum(points for name, points in marks.items() if name in names)
            return [Source(document.settings, str(document.path), score, facts={"stage": None})] if score else []
        found = []
        for command in document.commands:
            texts = command.texts
            script = next((n for n, text in enumerate(texts) if STAGES.search(text)), None)
            if len(texts) > 1 and Path(texts[0]).name == "trl" and re.fullmatch(r"[a-z]+", texts[1]):
                stage, at = texts[1], 1
            elif script is not None and Path(texts[0]).name.split(".")[0] in launched.LAUNCHERS:
                stage, at = STAGES.search(texts[script])[1], script  # type: ignore[index]
            else:
                continue
            if stage in ("env", "vllm", "chat", "skills"):
                continue
            source = launched.source(command, at, LISTS, 5.0, f"trl {stage}")
            if not any(given.name in self.table for given in source.given):
                continue  # a script that holds its own values
            source.facts["stage"] = stage
            found.append(source)
        return found or trainer_script.sources(document, unsloth=False)

    def convert(self, draft: Draft, source: Source) -> None:
        trainer_script.objects(draft)
        launched.config_file(draft, source)
        stage = source.facts.get("stage") or ("dpo" if draft.one("beta", "loss_type") is not None else "sft")
        peft = draft.one("use_peft")
        lora = source.facts.get("lora", values.on(draft, "use_peft"))
        if peft is not None:
            draft.map(peft, "adapter.type", "lora" if lora else "full")
        draft.values.setdefault("adapter.type", "lora" if lora else "full")
        if not lora:
            for given in [item for item in draft.open if item.name in LORA and item.said]:
                if not given.name.startswith(("load_in", "bnb", "quant")):
                    draft.drop(given, "use_peft is off, so that it did nothing")
        _dataset(draft, Sets(draft)) if "data.path" not in draft.values else None
        lengths = ("max_length", "max_seq_length")
        values.batch(
            draft, ("per_device_train_batch_size",), "gradient_accumulation_steps", ("packing",), lengths,
            usual=(8, 1, 1024), processes=source.facts.get("processes"),
        )  # fmt: skip
        length(draft, lengths, 1024)
        values.dtype(draft)
        preference(draft, stage, source)
        draft.finish(self.table)
        draft.default("data.truncate", "right", f"{draft.tool} cuts longer examples")
        if lora:
            pair = ["q_proj", "v_proj"]  # PEFT's own for Llama, Mistral, Qwen
            if source.facts.get("peft_config"):
                adapter_defaults(draft, "lora", r=8, alpha=8.0, dropout=0.0, targets=pair)
            else:
                adapter_defaults(draft, "lora", r=16, alpha=32.0, dropout=0.05, targets=pair)
        trainer_defaults(draft, rate=2e-5 if stage in ("sft", "reward") else 1e-6)


def length(draft: Draft, names: tuple[str, ...], usual: int) -> None:
    for given in draft.all(*names):
        if isinstance(given.value, Unread):
            draft.map(given, "data.max_length", None)
        else:
            draft.map(given, "data.max_length", whole(given))
    draft.default("data.max_length", usual)


def preference(draft: Draft, stage: str, source: Source) -> None:
    """What is minimised: answers (or plain text) for sft, else the objective of that name where attune has it."""
    if stage == "sft":
        if any(given.said for given in draft.all("dataset_text_field")):
            why = "plain text is learned whole, chat rows by their answers"
        else:
            why = "plain text is learned whole; of chat rows the answers alone, where TRL may score prompts too"
        draft.default("objective.name", "auto", why)
        return
    loss = draft.one("loss_type")
    name = REWARD.get(stage, stage)
    if loss is not None and stage == "dpo":
        kind = loss.value if isinstance(loss.value, str) else "sigmoid"
        name = {"sigmoid": "dpo", "ipo": "ipo"}.get(kind, f"dpo with loss {kind}")
        draft.drop(loss, f"the loss of {name}: see the objective")
    marker = Given(source.what or stage, stage, source.where, "stage")
    draft.open.append(marker)
    values.objective(draft, name, marker, {"beta": ("beta",), "gamma": ("simpo_gamma",)})
