"""The language model inside a model that was tuned for labels: its trunk under the base's own output layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from attune.model.policy import Policy

if TYPE_CHECKING:
    from attune.recipe import Recipe

__all__ = ["language_model", "no_language_model"]


def no_language_model(recipe: Recipe) -> str | None:
    """Why there is no language model to measure forgetting on, or None. Looks at the configuration only."""
    from attune.model.earlier import writes
    from attune.model.heads import is_causal
    from attune.model.load import load_config

    if recipe.model.from_config is not None:
        return "it starts from random weights, so there is nothing to forget"
    if writes(recipe.model.base) is False:
        return "the base is a run with a head for labels, which writes no text"
    config = load_config(recipe.model)
    if getattr(config, "is_encoder_decoder", False):
        return "an encoder-decoder base has no likelihood of plain text"
    if not is_causal(config):
        return f"the base is an encoder ({config.model_type}), which has no likelihood of plain text"
    return None


def language_model(policy: Policy, recipe: Recipe) -> Policy:
    """A policy that writes text with the tuned trunk: the policy itself where it is one, else the trunk (shared, not
    copied: it follows training) under the output layer of the untouched base. `no_language_model` must be None."""
    if policy.head == "lm":
        return policy
    from attune.model.load import load_model

    model: Any = load_model(recipe.model, head="lm")
    head = model.get_output_embeddings()
    head.weight = nn.Parameter(head.weight.detach().clone(), requires_grad=False)  # no longer tied to the embeddings
    setattr(model, model.base_model_prefix, policy.trunk)
    first = next(policy.parameters())
    head.to(first.device, first.dtype)
    view = Policy(model, head="lm")  # the library's own forward, which caps and scales as the base does
    view.packs = policy.packs
    return view.eval()
