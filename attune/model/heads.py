"""Which head a base can carry, from its configuration alone: what cannot be is refused before anything is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attune import plugins
from attune.errors import RecipeError

if TYPE_CHECKING:
    from attune.model.adapters.base import Adapter
    from attune.recipe import Recipe

__all__ = ["auto_class", "check_head", "check_recipe", "is_causal", "writes"]


def is_causal(config: Any) -> bool:
    """Whether the base is a decoder alone: it writes text left to right, after what it has read."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING

    if config.is_encoder_decoder:
        return False
    if type(config) in MODEL_FOR_MASKED_LM_MAPPING:  # BERT and its like see both ways unless told otherwise
        return bool(getattr(config, "is_decoder", False))
    names = getattr(config, "architectures", None) or []
    return type(config) in MODEL_FOR_CAUSAL_LM_MAPPING or any("ForCausalLM" in name for name in names)


def writes(config: Any) -> bool:
    """Whether the base writes text: a decoder, or an encoder-decoder."""
    return bool(config.is_encoder_decoder) or is_causal(config)


def auto_class(config: Any, head: str) -> Any:
    """The transformers class that loads a base with a head: `lm`, `sequence` or `token`."""
    import transformers

    if head == "lm":
        return transformers.AutoModelForSeq2SeqLM if config.is_encoder_decoder else transformers.AutoModelForCausalLM
    return {
        "sequence": transformers.AutoModelForSequenceClassification,
        "token": transformers.AutoModelForTokenClassification,
    }[head]


def check_head(base: str, config: Any, head: str) -> None:
    """Raises: RecipeError with the reason if the base cannot carry the head."""
    if head == "lm" and not writes(config):
        raise RecipeError(
            f"model.base '{base}' cannot write text",
            why=f"{config.model_type} is an encoder: it sees the words that it should predict",
            fix="choose a decoder, or the objective classify or tag",
        )
    if type(config) not in auto_class(config, head)._model_mapping and not getattr(config, "auto_map", None):
        does = {"lm": "write text", "sequence": "classify", "token": "tag words"}[head]
        raise RecipeError(
            f"model.base '{base}' cannot {does}",
            why=f"transformers has no such head for {config.model_type}",
            fix="choose another base, or another objective"
            + (": with sft an encoder-decoder writes the label as text" if config.is_encoder_decoder else ""),
        )


def check_recipe(recipe: Recipe, config: Any) -> None:
    """Raises: RecipeError with the reason if base, objective and layout do not go together, as far as is known yet."""
    base, kind, objective = recipe.model.base, config.model_type, recipe.objective.name
    if objective == "auto":
        return
    plugin: Any = plugins.get("objective", objective)
    task: str = "text" if objective == "pretrain" else recipe.data.task
    head = None if task == "auto" else plugin(recipe.objective.options, task=task).head  # may depend on the task
    if not (config.is_encoder_decoder and objective == "pretrain") and head is not None:
        check_head(base, config, head)
    if head is not None:
        adapter: Adapter = plugins.get("adapter", recipe.adapter.name)(recipe.adapter.options)  # type: ignore[call-arg]
        adapter.check(recipe, head=head, config=config)
    if not config.is_encoder_decoder:
        return
    if objective == "pretrain":
        raise RecipeError(
            f"objective pretrain does not fit model.base '{base}'",
            where=recipe.where("objective.name"),
            why=f"{kind} is an encoder-decoder: it reads one text and writes another, raw text gives it no pair",
            fix="choose a decoder for continued pre-training, or sft with pairs of input and output",
        )
    if getattr(recipe.objective.options, "mode", None) == "on_policy":
        raise RecipeError(
            f"objective.mode on_policy does not fit model.base '{base}'",
            where=recipe.where("objective.mode"),
            why=f"{kind} is an encoder-decoder: answers are written in training by decoders only",
            fix="objective.mode: logits or sequence",
        )
    if recipe.train.neftune_alpha:
        raise RecipeError(
            f"train.neftune_alpha does not fit model.base '{base}'",
            where=recipe.where("train.neftune_alpha"),
            why=f"{kind} is an encoder-decoder: its embeddings serve what is read and what is written alike",
            fix="model.dropout",
        )
    if recipe.model.layers is not None:
        raise RecipeError(
            f"model.layers does not fit model.base '{base}'",
            where=recipe.where("model.layers"),
            why=f"{kind} has two stacks of blocks, and a number says not which",
            fix="choose a smaller base of the family",
        )
    if head == "lm" and recipe.data.truncate == "window":
        raise RecipeError(
            "data.truncate: window does not fit fine-tuning on answers",
            where=recipe.where("data.truncate"),
            why="a window of a text is not what was asked about",
            fix="data.truncate: left | right | drop, or a larger data.max_length",
        )
    if recipe.train.layout == "packed":
        raise RecipeError(
            f"train.layout packed does not fit model.base '{base}'",
            where=recipe.where("train.layout"),
            why=f"{kind} is an encoder-decoder: every answer looks at its own source, row by row",
            fix="train.layout: auto",
        )
