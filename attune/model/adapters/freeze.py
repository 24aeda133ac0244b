"""Layer freezing."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pydantic

from attune.errors import RecipeError
from attune.model.adapters.base import Adapter
from attune.plugins import Options

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Freeze"]

# `layers.7.`, `h.7.`, `layer.7.`, `blocks.7.`: how transformers names the n-th block, in every family
BLOCK = re.compile(r"\.(?:layers?|h|blocks?)\.(\d+)\.")


class Freeze(Adapter):
    """Some weights stay as they are, the rest trains: the lowest layers, the embeddings, or names by pattern."""

    name = "freeze"

    class Config(Options):
        layers: int = pydantic.Field(0, ge=0)
        """How many of the lowest transformer blocks stay frozen."""
        embeddings: bool = True
        """Whether the input embeddings stay frozen (a head tied to them then stays frozen too)."""
        patterns: list[str] = []
        """Regular expressions searched in parameter names; every match stays frozen."""

    def attach(self, model: nn.Module, *, head: str) -> nn.Module:
        options = self.options
        embedding = model.get_input_embeddings()  # type: ignore[operator]
        embedded = {id(parameter) for parameter in embedding.parameters()}
        patterns = [re.compile(pattern) for pattern in options.patterns]
        n_layers = 1 + max(
            (int(match[1]) for name, _ in model.named_parameters() if (match := BLOCK.search(name))), default=-1
        )
        if options.layers > n_layers:
            raise RecipeError(
                f"adapter.layers is {options.layers}, but the model has {n_layers} blocks", fix="use a smaller number"
            )
        for name, parameter in model.named_parameters():
            block = BLOCK.search(name)
            frozen = (
                (block is not None and int(block[1]) < options.layers)
                or (options.embeddings and id(parameter) in embedded)
                or any(pattern.search(name) for pattern in patterns)
            )
            parameter.requires_grad_(not frozen)
        if not any(parameter.requires_grad for parameter in model.parameters()):
            raise RecipeError(
                "adapter.freeze leaves nothing to train", fix="freeze fewer layers or narrow adapter.patterns"
            )
        return model
