"""P-tuning, by PEFT."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import pydantic

from attune.model.adapters.wrapped import Virtual
from attune.plugins import Options

if TYPE_CHECKING:
    from torch import nn

__all__ = ["PTuning"]


class PTuning(Virtual):
    """Prompt tuning whose vectors come from a small network, which ties them together and steadies training.

    Only the vectors are saved, not the network.
    Source: Liu et al. 2021 (arXiv:2103.10385).
    """

    name = "p_tuning"

    class Config(Options):
        tokens: int = pydantic.Field(20, ge=1, le=1024)
        """Trained vectors; each takes one position of the context."""
        network: Literal["mlp", "lstm"] = "mlp"
        """Which network makes them."""
        hidden_size: int = pydantic.Field(128, ge=1)
        """Width of the network."""

    def peft_config(self, model: nn.Module, task_type: Any) -> Any:
        from peft import PromptEncoderConfig

        return PromptEncoderConfig(
            task_type=task_type,
            num_virtual_tokens=self.options.tokens,
            encoder_reparameterization_type=self.options.network.upper(),
            encoder_hidden_size=self.options.hidden_size,
        )

    def usual_rate(self, n_weights: int) -> float:
        return 3e-3
