"""Prefix tuning, by PEFT."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pydantic

from attune.model.adapters.wrapped import Virtual
from attune.plugins import Options

if TYPE_CHECKING:
    from torch import nn

    from attune.recipe import Recipe

__all__ = ["Prefix"]


class Prefix(Virtual):
    """Trained keys and values before every text, in every block: more say than prompt tuning, still without the base.

    Source: Li and Liang 2021 (arXiv:2101.00190).
    """

    name = "prefix"

    class Config(Options):
        tokens: int = pydantic.Field(20, ge=1, le=1024)
        """Trained positions; each takes one of the context."""
        projection: bool = False
        """Whether keys and values come from a small network that is trained too (dropped when saved)."""
        hidden_size: int = pydantic.Field(128, ge=1)
        """Width of that network."""
        zero: bool = False
        """Whether keys and values start at zero instead of at random."""

    def refusal(self, recipe: Recipe, *, head: str, config: Any) -> tuple[str, str] | None:
        if recipe.train.gradient_checkpointing:
            return (
                "recomputed layers would read keys and values that the first pass has already added to",
                "train.gradient_checkpointing=false, or adapter.type=prompt_tuning",
            )
        return super().refusal(recipe, head=head, config=config)

    def peft_config(self, model: nn.Module, task_type: Any) -> Any:
        from peft import PrefixTuningConfig

        options = self.options
        return PrefixTuningConfig(
            task_type=task_type,
            num_virtual_tokens=options.tokens,
            prefix_projection=options.projection,
            encoder_hidden_size=options.hidden_size,
            init_weights="zero" if options.zero else None,
        )

    def usual_rate(self, n_weights: int) -> float:
        return 1e-2
