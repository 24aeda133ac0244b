"""Recipe -> the model that trains: base, head, adapter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from attune import plugins
from attune.model.load import load_config, load_model
from attune.model.policy import Policy

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from attune.model.adapters.base import Adapter
    from attune.objectives.base import Objective
    from attune.recipe import Recipe

__all__ = ["build", "trained_share"]


def build(
    recipe: Recipe, objective: Objective, tokenizer: PreTrainedTokenizerBase, *, quantized: bool = True
) -> Policy:
    """The policy in float32, drawn from the recipe's seed: twice the same recipe, twice the same weights.

    `quantized=False` takes the base at full precision where the adapter would hold it in a few bits.
    Raises: RecipeError if the adapter or the head does not fit the base.
    """
    adapter: Adapter = plugins.get("adapter", recipe.adapter.name)(recipe.adapter.options)  # type: ignore[call-arg]
    adapter.check(recipe, head=objective.head, config=load_config(recipe.model))
    model: nn.Module = load_model(
        recipe.model,
        head=objective.head,
        labels=objective.labels,
        task=objective.task,
        pad_token_id=tokenizer.pad_token_id,
        seed=recipe.seed,
        quantize=adapter.quantize if quantized else None,
    )
    tuned: Any = adapter.attach(model, head=objective.head)
    if recipe.train.gradient_checkpointing:
        inner = tuned.get_base_model() if hasattr(tuned, "get_base_model") else tuned
        inner.gradient_checkpointing_enable({"use_reentrant": False})
        inner.enable_input_require_grads()
    return Policy(tuned, head=objective.head, adapter=adapter)


def trained_share(model: nn.Module) -> tuple[int, int]:
    """(weights that train, all weights); tied weights count once."""
    seen: dict[int, nn.Parameter] = {id(parameter): parameter for parameter in model.parameters()}
    trained = sum(parameter.numel() for parameter in seen.values() if parameter.requires_grad)
    return trained, sum(parameter.numel() for parameter in seen.values())
