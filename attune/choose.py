"""A recipe from nothing but a data file and a goal: a short table of rules, each with its reason."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from attune.recipe import Recipe

__all__ = ["choose"]

GOALS = (
    (r"\b(entit|ner\b|extract|tag|span|name)", "tagging"),
    (r"\b(classif|categor|label|route|triage|intent|sort|detect)", "classification"),
    (r"\b(answer|chat|assistant|summar|translat|rewrit|write|generat|repl|instruct)", "generation"),
    (r"\b(pre-?train|domain text|continue)", "text"),
)
SMALL_WEIGHTS = 100_000_000
"""Below this, full fine-tuning is as cheap as LoRA and learns more; above it, LoRA."""


def choose(
    data: str,
    *,
    goal: str | None = None,
    budget: str | None = None,
    test: str | None = None,
    validation: str | None = None,
    target: str | None = None,
    overrides: Iterable[str] | Mapping[str, Any] = (),
) -> tuple[Recipe, list[str]]:
    """The recipe for a data file, and why each choice was made. `overrides` win over every rule.

    Raises: DataError if the file cannot be read; RecipeError for overrides that cannot be.
    """
    from attune.data.sources import load_records
    from attune.model.load import load_config

    given: dict[str, Any] = {"data": {"path": data, "target": target, "test": test, "validation": validation}}
    asked = Recipe.load(given, overrides)
    reasons = []
    task: str = asked.data.task
    if task == "auto":
        seen = load_records(
            asked.data.paths,
            format=asked.data.format,
            columns=dict(asked.data.columns),
            target=target,
            on_bad_row=asked.data.on_bad_row,
            max_drop=asked.data.max_drop,
            limit=2000,
        )
        task = seen.task
        wanted = next((name for pattern, name in GOALS if goal and re.search(pattern, goal.lower())), None)
        if wanted and wanted != task:
            reasons.append(f"the goal sounds like {wanted}, but the data is {task}: going by the data")
    label_task = task in ("classification", "multilabel", "regression", "tagging")
    config = load_config(asked.model)
    weights = _weights(config)
    small = weights < SMALL_WEIGHTS
    given["adapter"] = {"type": "full" if small else "lora"}
    reasons.append(
        f"adapter: {'full' if small else 'lora'}, since {asked.model.base} has about {weights / 1e6:.0f} M weights"
    )
    given["train"] = {
        "epochs": 12 if label_task and small else 4 if label_task else 3,
        "batch_size": 32 if label_task else 16,
        "weight_decay": 0.05 if small else 0.01,
        "warmup_ratio": 0.06,
        "budget": budget,
        "early_stopping": {"patience": 5},
    }
    if label_task:
        given["data"]["truncate"] = "window"
        reasons.append("truncate: window, so that long texts are read whole and answered by the mean of their parts")
    elif task == "generation":
        given["data"]["truncate"] = "drop"
        given["data"]["max_truncated"] = 0.05
    recipe = Recipe.load(given, overrides)
    size = recipe.train.batch_size or recipe.train.batch_tokens
    reasons.append(
        f"train: at most {recipe.train.epochs:g} epochs, {size} a step, "
        "the best validation checkpoint is kept" + (f"; {budget} for everything" if budget else "")
    )
    return recipe, reasons


def _weights(config: Any) -> int:
    """Roughly how many weights a configuration makes; exact counting would need the model."""
    text = config.get_text_config()
    width, layers = text.hidden_size, text.num_hidden_layers
    inner = getattr(text, "intermediate_size", None) or 4 * width
    gated = 3 if getattr(text, "hidden_act", "") in ("silu", "swish", "gelu_pytorch_tanh") else 2
    return text.vocab_size * width + layers * (4 * width * width + gated * width * inner)
