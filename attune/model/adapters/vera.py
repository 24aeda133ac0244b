"""VeRA, by PEFT."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pydantic

from attune.model.adapters.base import Targets
from attune.model.adapters.wrapped import Wrapped, linear_names
from attune.plugins import Options

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Vera"]


class Vera(Wrapped):
    """Low-rank updates from one pair of random matrices that all layers share; only two vectors a layer are trained.

    Source: Kopiczko et al. 2023 (arXiv:2310.11454).
    """

    name = "vera"

    class Config(Options):
        r: int = pydantic.Field(256, ge=1, le=4096)
        """Rank of the shared random matrices; it costs two numbers a rank and layer."""
        dropout: float = pydantic.Field(0.0, ge=0, lt=1)
        """Dropout on the input of each update."""
        target_modules: Targets = "all-linear"
        """Which layers get an update: `all-linear`, a list of name endings, or one regular expression."""

    def peft_config(self, model: nn.Module, task_type: Any) -> Any:
        from peft import VeraConfig

        return VeraConfig(
            task_type=task_type,
            r=self.options.r,
            vera_dropout=self.options.dropout,
            target_modules=linear_names(model)
            if self.options.target_modules == "all-linear"
            else self.options.target_modules,
            save_projection=True,  # redrawn matrices may differ between versions of torch
        )

    def usual_rate(self, n_weights: int) -> float:
        return 2e-2
