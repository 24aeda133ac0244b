"""IA3, by PEFT."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attune.model.adapters.wrapped import Wrapped
from attune.plugins import Options

if TYPE_CHECKING:
    from torch import nn

    from attune.recipe import Recipe

__all__ = ["Ia3"]


class Ia3(Wrapped):
    """Scales keys, values and the middle of the feed-forward by trained vectors: a few thousand weights in all.

    Source: Liu et al. 2022 (arXiv:2205.05638).
    """

    name = "ia3"

    class Config(Options):
        target_modules: list[str] | None = None
        """Names (endings) of the layers that are scaled. null is the usual choice for the base's architecture."""
        feedforward_modules: list[str] | None = None
        """Those of them whose input is scaled instead of their output. null goes with target_modules null."""

        def model_post_init(self, context: Any) -> None:
            unknown = set(self.feedforward_modules or ()) - set(self.target_modules or ())
            if unknown:
                raise ValueError(f"feedforward_modules {sorted(unknown)} are not among target_modules")

    def refusal(self, recipe: Recipe, *, head: str, config: Any) -> tuple[str, str] | None:
        from peft.utils.constants import TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING as KNOWN

        if self.options.target_modules is None and config.model_type not in KNOWN:
            return (
                f"which layers of a {config.model_type} model to scale is not known",
                "adapter.target_modules=[names of the key, value and second feed-forward layers] and "
                "adapter.feedforward_modules=[the last of them]",
            )
        return None

    def peft_config(self, model: nn.Module, task_type: Any) -> Any:
        from peft import IA3Config

        given = self.options.target_modules
        return IA3Config(
            task_type=task_type,
            target_modules=given,
            feedforward_modules=self.options.feedforward_modules or ([] if given else None),
            exclude_modules=self.excluded(task_type),
        )

    def usual_rate(self, n_weights: int) -> float:
        return 1e-2
