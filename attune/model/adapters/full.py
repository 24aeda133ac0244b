"""Full fine-tuning."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pydantic

from attune.model.adapters.base import Adapter, Rate, block_of, n_blocks
from attune.plugins import Options

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Full"]


class Full(Adapter):
    """Every weight trains. The most capacity and the most memory; the usual choice for small models.

    Source: learning rates that fall with depth: ULMFiT, Howard and Ruder 2018 (arXiv:1801.06146).
    """

    name = "full"

    class Config(Options):
        layer_decay: float = pydantic.Field(1.0, gt=0, le=1)
        """Learning rate of a block as a share of the block above it; 1 means all learn alike, 0.9 spares the lower."""

    blocks: int = 0
    """Transformer blocks of the model; known once attached."""

    def attach(self, model: nn.Module, *, head: str) -> nn.Module:
        self.blocks = n_blocks(model)
        for parameter in model.parameters():
            parameter.requires_grad_(True)
        return model

    def rate(self, name: str) -> Rate:
        return Rate(factor=self.options.layer_decay ** self._depth(name))

    def _depth(self, name: str) -> int:
        """Steps down from the head: 0 for heads and the last norm, 1 for the top block, blocks + 1 for embeddings."""
        block = block_of(name)
        if block is not None:
            return self.blocks - block
        # the library's names of everything that comes before the first block
        return self.blocks + 1 if any(part in name for part in ("embed", "wte", "wpe", "shared")) else 0
