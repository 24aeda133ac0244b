"""Full fine-tuning."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attune.model.adapters.base import Adapter

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Full"]


class Full(Adapter):
    """Every weight trains. The most capacity and the most memory; the usual choice for small models."""

    name = "full"

    def attach(self, model: nn.Module, *, head: str) -> nn.Module:
        for parameter in model.parameters():
            parameter.requires_grad_(True)
        return model
