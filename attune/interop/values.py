"""Values of other tools' keys as ours, and the keys that several tools read alike."""

from __future__ import annotations

import re
from typing import Any

from attune import plugins
from attune.errors import RecipeError
from attune.interop.base import Draft, refuse
from attune.interop.document import Given, Unread

__all__ = [
    "adapter", "attention", "batch", "dtype", "flag", "modules", "number", "objective", "offered", "optimiser",
    "run_name", "schedule", "steps", "strings", "validation", "warmup", "whole",
]  # fmt: skip

BASIC = frozenset("q_proj k_proj v_proj o_proj gate_proj up_proj down_proj".split())
NAMELESS = frozenset("out output outputs result results save saves checkpoint checkpoints model models tmp".split())
PEFT_METHODS = ("oft", "boft", "fourierft", "loha", "lokr", "hra")
ADAMW = re.compile(r"(adamw(_torch|_hf|_torch_fused|_torch_xla|_torch_npu_fused|_apex_fused|_anyprecision)?|adam)")
LOW_MEMORY_ADAMW = re.compile(r"(paged_)?adamw(_bnb)?(_torch)?(_(8|32|4)bit)|paged_adamw|adamw_bnb_8bit")


def number(given: Given) -> float:
    value = given.value
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?\s*", value):
        value = float(value)
    if isinstance(value, Unread):
        return 0.0
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise refuse(given, "must be a number")
    return float(value)


def whole(given: Given) -> int:
    value = number(given)
    if not isinstance(given.value, Unread) and value != int(value):
        raise refuse(given, "must be a whole number")
    return int(value)


def flag(given: Given) -> bool:
    value = given.value
    if isinstance(value, str) and value.strip().lower() in ("yes", "on", "true", "1", "no", "off", "false", "0"):
        return value.strip().lower() in ("yes", "on", "true", "1")
    if value in (0, 1) and not isinstance(value, bool):
        return bool(value)
    if isinstance(value, Unread):
        return False
    if not isinstance(value, bool):
        raise refuse(given, "must be true or false")
    return value


def strings(given: Given) -> list[str]:
    """A list of words, or one text of words between commas."""
    value = given.value
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if isinstance(value, Unread):
        return []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise refuse(given, "must be a list of names")
    return value


def on(draft: Draft, *names: str) -> bool:
    """Whether a switch is there and on, without deciding anything about it."""
    given = draft.one(*names)
    return given is not None and not isinstance(given.value, Unread) and given.value not in (False, "false", 0, "no")


def batch(
    draft: Draft, micro: tuple[str, ...], accumulation: str, packing: tuple[str, ...], length: tuple[str, ...],
    *, usual: tuple[int, int, int], processes: tuple[int, str] | None = None,
) -> None:  # fmt: skip
    """One step's size: rows a device x accumulation x devices; with packing a row is `length` tokens.

    `usual`: what the tool takes for the three where its file says nothing. `processes`: their number and who says so.
    """
    rows, times, tokens = draft.one(*micro), draft.one(accumulation), draft.one(*length)
    parts = [given for given in (rows, times) if given is not None]
    devices, said = (draft.devices, "--devices") if draft.devices else processes or (1, "")
    counts = [
        whole(given) if given is not None and not isinstance(given.value, Unread) else usual[index]
        for index, given in enumerate((rows, times))
    ]
    for given, count in zip((rows, times), counts):
        if given is not None and count < 1:
            raise refuse(given, "must be above 0")
    size = counts[0] * counts[1] * devices
    how = f"{counts[0]} a device x {counts[1]} accumulated x {devices} device{'s' if devices > 1 else ''}"
    if not said:
        how += " (say --devices N if it ran on more)"
    packed = on(draft, *packing)
    key = "train.batch_size"
    if packed:
        context = whole(tokens) if tokens is not None and not isinstance(tokens.value, Unread) else usual[2]
        key, size = "train.batch_tokens", size * context
        how += f" x {context} tokens a packed row; packs are never quite full, so a step holds slightly less there"
    for given in draft.all(*packing):
        if packed:
            draft.map(given, "train.layout", "packed")
        else:
            draft.map(given, "train.layout", "auto", "packing or not, a step learns from the same rows here")
    for given in parts:
        (draft.near if packed else draft.map)(given, key, size, how)
    if not parts:
        draft.default(key, size, f"{how}: what {draft.tool} takes where nothing is said")


def schedule(draft: Draft, given: Given, settings: dict[str, Any] | None = None) -> None:
    """The learning rate's course by transformers' names, and those of Axolotl."""
    name, settings = str(given.value).lower().removeprefix("schedulertype."), settings or {}
    plain = {"cosine": "cosine", "linear": "linear", "constant_with_warmup": "constant", "constant": "constant",
             "warmup_stable_decay": "wsd", "cosine_with_min_lr": "cosine"}  # fmt: skip
    close = {
        "cosine_with_restarts": "cosine", "polynomial": "linear", "inverse_sqrt": "cosine", "one_cycle": "cosine",
        "rex": "linear", "reduce_lr_on_plateau": "constant", "greedy": "constant", "log_sweep": "constant",
        "cosine_warmup_with_min_lr": "cosine",
    }  # fmt: skip
    if isinstance(given.value, Unread):
        return draft.map(given, "train.schedule", None)
    if name == "constant":
        draft.map(given, "train.schedule", "constant", "without warm-up, as transformers does")
        draft.values.setdefault("train.warmup_steps", 0)
    elif name in plain:
        draft.map(given, "train.schedule", plain[name])
    elif name in close:
        draft.near(given, "train.schedule", close[name], f"attune has no {name}; {close[name]} is the nearest")
    else:
        draft.near(given, "train.schedule", "cosine", f"{name} is unknown here; cosine is the usual one")
    return None


def schedule_settings(draft: Draft, given: Given) -> None:
    """`lr_scheduler_kwargs`: the end of the course, or the share of the decay; the rest is dropped by name."""
    parts: Any = given.value
    if isinstance(parts, str):
        from attune.interop.yaml_text import settings

        parts = {inner.key: inner.value for inner in settings(parts, given.where)}
    if not isinstance(parts, dict):
        return draft.drop(given, "no options of a schedule can be read from it")
    rate = draft.one("learning_rate")
    used: dict[str, Any] = {}
    if isinstance(parts.get("min_lr_rate"), int | float):
        used["train.min_lr_ratio"] = float(parts["min_lr_rate"])
    elif isinstance(parts.get("min_lr"), int | float) and (peak := draft.values.get("train.learning_rate")):
        used["train.min_lr_ratio"] = float(parts["min_lr"]) / peak
    elif isinstance(parts.get("min_lr"), int | float) and rate is not None and number(rate):
        used["train.min_lr_ratio"] = float(parts["min_lr"]) / number(rate)
    decay, total = parts.get("num_decay_steps"), draft.values.get("train.max_steps") or draft.one("max_steps")
    total = whole(total) if isinstance(total, Given) else total
    if isinstance(decay, int) and isinstance(total, int) and total > 0:
        used["train.decay_ratio"] = decay / total
    rest = [name for name in parts if name not in ("min_lr_rate", "min_lr", "num_decay_steps")]
    if not used:
        return draft.drop(given, f"attune's schedules have no {', '.join(parts)}")
    (to, value), *more = used.items()
    draft.values.update(more)
    left = f"; without {', '.join(rest)}" if rest else ""
    return (draft.near if rest else draft.map)(given, to, value, "where the schedule ends" + left)


def warmup(draft: Draft, given: Given) -> None:
    """`warmup_steps`; transformers 5 takes a number below 1 as a share of all steps."""
    value = number(given)
    if 0 < value < 1:
        draft.map(given, "train.warmup_ratio", value, "below 1, so a share of all steps")
    elif value > 0:
        draft.map(given, "train.warmup_steps", int(value))
    elif draft.one("warmup_ratio") or "train.warmup_ratio" in draft.values:
        draft.map(given, None, None, "0: warmup_ratio decides")
    else:
        draft.map(given, "train.warmup_ratio", 0.0)


def optimiser(draft: Draft, given: Given) -> None:
    name = str(given.value.text if isinstance(given.value, Unread) else given.value)
    name = name.lower().removeprefix("optimizernames.")
    if ADAMW.fullmatch(name):
        draft.map(given, None, "AdamW", "AdamW is what attune uses")
    elif LOW_MEMORY_ADAMW.fullmatch(name):
        draft.near(given, None, "AdamW", "the same AdamW with its state in full precision: more memory, no rounding")
    else:
        draft.near(given, None, "AdamW", f"attune has AdamW only: look for the learning rate anew, {name}'s differs")


def dtype(draft: Draft, *, bf16: str = "bf16", fp16: str = "fp16") -> None:
    """The two precision switches together."""
    first, second = draft.one(bf16), draft.one(fp16)
    auto = "bfloat16 where the machine computes it fast, else float32"
    if first is not None:
        if first.value == "auto" or isinstance(first.value, Unread):
            draft.near(_known(draft, first), "model.dtype", "auto", auto)
        elif flag(first):
            draft.map(first, "model.dtype", "bfloat16")
        elif second is not None and not isinstance(second.value, Unread) and flag(second):
            draft.map(first, None, None, "fp16 decides")
        else:
            draft.map(first, "model.dtype", "float32", "neither bf16 nor fp16")
    if second is not None:
        if isinstance(second.value, Unread) or second.value == "auto" or flag(second):
            draft.near(_known(draft, second), "model.dtype", draft.values.get("model.dtype", "auto"),
                       f"attune does not train in float16: {auto}")  # fmt: skip
        else:
            draft.map(second, None, None, "attune never trains in float16")


def _known(draft: Draft, given: Given) -> Given:
    """A switch that asks the machine (`is_bfloat16_supported()`): `auto` asks it too."""
    if not isinstance(given.value, Unread):
        return given
    asked = Given(given.key, given.value.text, given.where, given.name)
    draft.open = [asked if other is given else other for other in draft.open]
    return asked


def named_dtype(draft: Draft, given: Given) -> None:
    name = str(given.value).removeprefix("torch.").lower()
    plain = {"bfloat16": "bfloat16", "bf16": "bfloat16", "float32": "float32", "fp32": "float32", "auto": "auto"}
    if isinstance(given.value, Unread):
        draft.map(given, "model.dtype", None)
    elif name in plain:
        draft.map(given, "model.dtype", plain[name])
    else:
        draft.near(given, "model.dtype", "auto", f"attune does not train in {name}")


def attention(draft: Draft, given: Given) -> None:
    if str(given.value).lower() == "eager" and draft.values.get("train.layout") != "packed":
        draft.map(given, "model.attention", "eager")
    else:
        draft.near(given, "model.attention", "auto", "the fastest that passes the probe at load; results are the same")


def modules(draft: Draft, given: Given) -> None:
    """Names of layers; `all` in the words of every tool. Whole matrices named among them train in full."""
    value = given.value
    if isinstance(value, str) and value.lower() in ("all", "all-linear", "all_linear"):
        return draft.map(given, "adapter.target_modules", "all-linear")
    if isinstance(value, str) and re.search(r"[\\|*^$(]", value):
        return draft.map(given, "adapter.target_modules", value, "a regular expression over layer names")
    names = strings(given)
    if [name.lower() for name in names] in (["all"], ["all-linear"]):
        return draft.map(given, "adapter.target_modules", "all-linear")
    full = [name for name in names if name in ("embed_tokens", "lm_head")]
    if full and len(full) < len(names):
        draft.values["adapter.modules_to_save"] = [*draft.values.get("adapter.modules_to_save", []), *full]
        how = f"{' and '.join(full)} train in full (adapter.modules_to_save)"
        return draft.near(given, "adapter.target_modules", [name for name in names if name not in full], how)
    return draft.map(given, "adapter.target_modules", names)


def steps(to: str, what: str):
    """`eval_steps`, `save_steps`: a number of steps, or below 1 a share of all of them."""

    def act(draft: Draft, given: Given) -> None:
        value = number(given)
        total = draft.values.get("train.max_steps") or (draft.one("max_steps") and whole(draft.one("max_steps")))  # type: ignore[arg-type]
        if 0 < value < 1 and isinstance(total, int) and total > 0:
            draft.map(given, to, max(1, round(value * total)), f"{value:g} of {total} steps")
        elif value < 1:
            draft.near(given, None, None, f"a share of all steps; {what} about four times an epoch instead")
        else:
            draft.map(given, to, int(value))

    return act


def validation(draft: Draft, given: Given) -> None:
    """A share of the rows, or their number."""
    value = number(given)
    if 0 <= value < 1:
        draft.map(given, "data.split.validation", value)
    else:
        draft.near(given, "data.split.validation", 0.1, f"attune takes a share; {value:g} rows of yours may be another")
        draft.need("data.split.validation", f"{value:g} rows as a share of yours; 0.1 stands there now")


def run_name(draft: Draft, given: Given) -> None:
    from attune.runs import NAME

    last = re.sub(r"[^A-Za-z0-9._-]+", "-", str(given.value).rstrip("/").split("/")[-1]).strip("-._")[:96]
    if isinstance(given.value, Unread) or not last or last.lower() in NAMELESS or not NAME.fullmatch(last):
        draft.drop(given, "a run's folder is runs/NAME here; --out says where runs stand")
    else:
        draft.near(given, "name", last, f"the run's folder is runs/{last}")


def adapter(draft: Draft, given: Given, name: str) -> str:
    """The adapter by our name, or any of PEFT's by its own; the kind that is set."""
    if name in plugins.names("adapter"):
        draft.map(given, "adapter.type", name)
    elif name in PEFT_METHODS:
        draft.values["adapter.method"] = name
        draft.near(given, "adapter.type", "peft", f"{name} with PEFT's own settings; others go into adapter.options")
    else:
        draft.near(given, "adapter.type", "lora", f"attune has no adapter {name} by that name; lora stands in")
    return str(draft.values["adapter.type"])


def offered(key: str) -> bool:
    """Whether this attune has a key: `train.neftune_alpha`, or `adapter.quantize` of the adapter lora."""
    from attune.recipe import Recipe

    section, name = key.split(".")
    if section == "adapter":
        return name in plugins.get("adapter", "lora").Config.model_fields  # type: ignore[attr-defined]
    inner: Any = Recipe.model_fields[section].annotation
    return name in inner.model_fields


def objective(draft: Draft, name: str, given: Given | None, options: dict[str, tuple[str, ...]]) -> None:
    """The objective by our name: set where attune has it, with those of its options that it knows; else dropped."""
    if name in plugins.names("objective"):
        fields = plugins.get("objective", name).Config.model_fields  # type: ignore[attr-defined]
        if given is not None:
            draft.map(given, "objective.name", name)
        else:
            draft.values["objective.name"] = name
        for ours, theirs in options.items():
            for found in draft.all(*theirs):
                if ours in fields:
                    draft.map(found, f"objective.{ours}", number(found))
                else:
                    draft.drop(found, f"objective {name} has no such option here")
        return
    instead = "sft" if name not in ("grpo", "ppo", "rloo", "gkd") else None
    why = f"attune has no objective {name} yet"
    if instead:
        why += ": this recipe trains on the better (or good) answer alone, and does not push the worse one away"
        draft.values["objective.name"] = instead
        draft.need("objective", f"{name} is not there yet; see whether plain fine-tuning on the good answers will do")
    if given is not None:
        draft.drop(given, why)
    for theirs in options.values():
        draft.drop_all(theirs, f"an option of {name}, which attune does not have yet")
    if not instead:
        where = given.where if given is not None else None
        raise RecipeError(f"{name} cannot be converted", where=where, why=why,
                          fix="recipes for supervised training, pre-training and preference pairs convert")  # fmt: skip
