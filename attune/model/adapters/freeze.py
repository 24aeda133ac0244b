"""Layer freezing."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pydantic

from attune.errors import RecipeError
from attune.model.adapters.base import Pattern, Rate, block_of, n_blocks
from attune.model.adapters.full import Full

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Freeze"]


class Freeze(Full):
    """Some weights stay as they are, the rest trains: the lowest layers, the embeddings, or names by pattern.

    With `unfreeze` the blocks thaw one after the other, from the top.
    Source: ULMFiT, Howard and Ruder 2018 (arXiv:1801.06146): gradual unfreezing, rates that fall with depth.
    """

    name = "freeze"

    class Config(Full.Config):
        layers: int = pydantic.Field(0, ge=0)
        """How many of the lowest transformer blocks stay frozen."""
        embeddings: bool = True
        """Whether the input embeddings stay frozen (a head tied to them then stays frozen too)."""
        patterns: list[Pattern] = []
        """Regular expressions searched in parameter names; every match stays frozen."""
        unfreeze: float = pydantic.Field(0.0, ge=0, le=1)
        """Share of all steps over which the blocks thaw, from the top and evenly; the head and the top block train from
        the first step, what lies before the lowest block thaws with it. 0 means everything trains at once."""

    def attach(self, model: nn.Module, *, head: str) -> nn.Module:
        options = self.options
        embedding = model.get_input_embeddings()  # type: ignore[operator]
        embedded = {id(parameter) for parameter in embedding.parameters()}
        patterns = [re.compile(pattern) for pattern in options.patterns]
        self.blocks = n_blocks(model)
        if options.layers > self.blocks:
            raise RecipeError(
                f"adapter.layers is {options.layers}, but the model has {self.blocks} blocks",
                fix="use a smaller number",
            )
        for name, parameter in model.named_parameters():
            block = block_of(name)
            frozen = (
                (block is not None and block < options.layers)
                or (options.embeddings and id(parameter) in embedded)
                or any(pattern.search(name) for pattern in patterns)
            )
            parameter.requires_grad_(not frozen)
        if not any(parameter.requires_grad for parameter in model.parameters()):
            raise RecipeError(
                "adapter.freeze leaves nothing to train", fix="freeze fewer layers or narrow adapter.patterns"
            )
        return model

    def rate(self, name: str) -> Rate:
        steps = self.blocks - self.options.layers - 1  # thaws after the top block
        down = min(max(0, self._depth(name) - 1), max(0, steps))
        start = self.options.unfreeze * down / steps if steps > 0 else 0.0
        return Rate(factor=super().rate(name).factor, start=start)
