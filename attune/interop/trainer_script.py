"""Python that builds a trainer: which calls belong together, and what their values are called."""

from __future__ import annotations

import re
from typing import Any

from attune.interop.base import Draft, Rule, dropped
from attune.interop.datasets import located
from attune.interop.document import Document, Given, Source, Unread
from attune.interop.python_calls import Call

__all__ = ["TABLE", "objects", "sources"]

TRAINERS = {
    "SFTTrainer": "sft", "UnslothTrainer": "sft", "Trainer": "sft", "DPOTrainer": "dpo", "ORPOTrainer": "orpo",
    "KTOTrainer": "kto", "RewardTrainer": "reward", "GRPOTrainer": "grpo", "CPOTrainer": "cpo", "PPOTrainer": "ppo",
    "SentenceTransformerTrainer": "embedding",
}  # fmt: skip
CONFIGS = re.compile(r"(SFT|DPO|ORPO|KTO|Reward|GRPO|CPO|PPO)Config|(Unsloth)?TrainingArguments")
MODELS = re.compile(r"(Fast\w*Model|AutoModelFor\w+|AutoModel)$")
POSITIONS = {
    "from_pretrained": ("model_name",), "get_peft_model": ("model", "peft_config"), "load_dataset": ("path", "name"),
    "get_chat_template": ("tokenizer", "chat_template"), "train_on_responses_only": ("trainer",),
    "config": ("output_dir",), "trainer": ("model",),
}  # fmt: skip
OBJECTS = "an object that the script builds; what it is made of is read where it is made"

TABLE: dict[str, Rule] = {
    "model_name": Rule("model.base", "4-bit copies (`-bnb-4bit`) by the name of the full weights"),
    "load_dataset.path": Rule("data.path", "a hub name becomes a folder to download to"),
    "load_dataset.data_files": Rule("data.path", "local files as they are"),
    "load_dataset.name": dropped("the configuration of a hub data set; download its files"),
    "load_dataset.split": dropped("attune reads the files it is given; cut them if fewer rows are wanted"),
    "load_dataset.*": dropped("how the hub is read; download the files"),
    "get_chat_template.chat_template": dropped("the tokenizer's own; model.chat_template: FILE.jinja for another"),
    "get_chat_template.*": dropped("the usual names of speakers are known"),
    "train_on_responses_only.*": dropped("answers alone are scored here, whatever the template"),
    **{key: dropped(OBJECTS) for key in
       ("model", "tokenizer", "processing_class", "args", "train_dataset", "peft_config", "trainer", "ref_model",
        "quantization_config")},
    "eval_dataset": dropped("held-out rows: name their file in data.validation; else a share is held out"),
    "formatting_func": dropped("code that writes each row as text; here the chat template does it"),
    "data_collator": dropped("attune makes batches itself"),
    "callbacks": dropped("code that runs between steps"),
    "compute_metrics": dropped("code that measures; attune measures what fits the task (evaluate.metrics)"),
    "reward_funcs": dropped("code that rewards"),
    "bias": Rule("adapter.bias", "none, all, lora_only", lambda draft, given: draft.map(
        given, "adapter.bias", str(given.value))),
    "r": Rule("adapter.r", "", lambda draft, given: draft.map(given, "adapter.r", given.value)),
    "task_type": dropped("the objective decides"),
    "**": dropped("values that code puts together"),
}  # fmt: skip


def sources(document: Document, *, unsloth: bool) -> list[Source]:
    """One recipe for each trainer that is built, with the calls before it that it is made of."""
    calls: list[Call] = document.calls
    fast = any(call.on.split(".")[-1].startswith("Fast") for call in calls)
    if fast is not unsloth:
        return []
    starts = [call for call in calls if call.name in TRAINERS]
    if not starts:
        starts = [call for call in calls if CONFIGS.fullmatch(call.name)][:1]
    found, before = [], 0
    for start in starts:
        source = _source(calls, start, before)
        if source is not None:
            found.append(source)
        before = start.order
    return found


def _source(calls: list[Call], start: Call, before: int) -> Source | None:
    earlier = [call for call in calls if call.order <= start.order]
    models = [call for call in earlier if call.name == "from_pretrained" and MODELS.search(call.on.split(".")[-1])]
    adapters = [call for call in earlier if call.name in ("get_peft_model", "LoraConfig")]
    end = start.order + 60
    configs = [call for call in calls if CONFIGS.fullmatch(call.name) and before < call.order <= end]
    # The trainer's own: the last that stands before it or inside its brackets.
    following = [call.order for call in calls if call.name in TRAINERS and call.order > start.order]
    configs = [call for call in configs if call.order < min(following, default=end + 1)][-1:]
    data = [call for call in calls if call.name == "load_dataset" and before < call.order <= start.order][-1:]
    around = [call for call in calls if call.name == "get_chat_template" and call.order <= start.order][-1:]
    around += [
        call for call in calls
        if call.name == "train_on_responses_only" and start.order < call.order < min(following, default=1 << 30)
    ]  # fmt: skip
    if not configs and start.name not in TRAINERS:
        return None
    chosen = models[-1:] + adapters[-2:] + data + around + configs + ([start] if start.name in TRAINERS else [])
    given = [item for call in sorted(set_of(chosen), key=lambda call: call.order) for item in _named(call)]
    stage = TRAINERS.get(start.name) or start.name.removesuffix("Config").lower()
    facts: dict[str, Any] = {
        "stage": stage if stage in TRAINERS.values() else "sft",
        "lora": bool(adapters),
        "peft_config": any(call.name == "LoraConfig" for call in adapters),
        "answers_only": any(call.name == "train_on_responses_only" for call in around),
    }
    return Source(given, start.where, 6.0 if models else 4.0, start.name, facts)


def set_of(calls: list[Call]) -> list[Call]:
    return [call for number, call in enumerate(calls) if not any(call is other for other in calls[:number])]


def _named(call: Call) -> list[Given]:
    kind = "trainer" if call.name in TRAINERS else "config" if CONFIGS.fullmatch(call.name) else call.name
    qualified = call.name in ("load_dataset", "get_chat_template", "train_on_responses_only")
    found = []
    for given in call.given:
        name = given.name
        if name.isdigit():
            positions = POSITIONS.get(kind, ())
            name = positions[int(name)] if int(name) < len(positions) else f"argument {int(name) + 1}"
        if kind == "from_pretrained" and name == "pretrained_model_name_or_path":
            name = "model_name"
        rule = f"{call.name}.{name}" if qualified else name
        found.append(Given(f"{call.name}.{name}", given.value, given.where, rule))
    return found


def objects(draft: Draft) -> None:
    """Base and data of a script."""
    for given in draft.all("model_name"):
        name = given.value
        if isinstance(name, str) and (plain := re.sub(r"(-unsloth)?-bnb-4bit$", "", name)) != name:
            draft.near(given, "model.base", plain, "the full weights of the 4-bit copy")
        else:
            draft.map(given, "model.base", name)
    files = draft.one("load_dataset.data_files")
    path = draft.one("load_dataset.path")
    if files is not None and not isinstance(files.value, Unread):
        parts = files.value
        names = list(parts.values()) if isinstance(parts, dict) else parts if isinstance(parts, list) else [parts]
        paths = [str(name) for name in names if isinstance(name, str)]
        if paths:
            draft.map(files, "data.path", paths[0] if len(paths) == 1 else paths)
            if path is not None:
                draft.drop(path, "the kind of file is recognised from its content")
            return
    if path is not None and isinstance(path.value, str):
        where = located(draft, path.value)
        if "data.path" in draft.fill_in:
            draft.near(path, "data.path", where, "a data set of the hub becomes a folder you download it to")
        else:
            draft.map(path, "data.path", where)
    elif path is not None:
        draft.map(path, "data.path", None)
