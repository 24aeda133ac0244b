"""LayerNorm tuning, by PEFT."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attune.errors import RecipeError
from attune.model.adapters.wrapped import Wrapped

if TYPE_CHECKING:
    from torch import nn

__all__ = ["LayerNorm"]


class LayerNorm(Wrapped):
    """Only the normalisation layers train (and a new head): very few weights, in every architecture that has them.

    Source: Zhao et al. 2023 (arXiv:2312.11420).
    """

    name = "layernorm"

    def peft_config(self, model: nn.Module, task_type: Any) -> Any:
        from peft import LNTuningConfig

        norms = sorted(name for name, module in model.named_modules() if type(module).__name__.endswith("Norm"))
        if not norms:
            raise RecipeError("adapter 'layernorm' finds no normalisation layers in this base", fix="adapter.type=lora")
        return LNTuningConfig(task_type=task_type, target_modules=norms, exclude_modules=self.excluded(task_type))

    def usual_rate(self, n_weights: int) -> float:
        return 5e-3
