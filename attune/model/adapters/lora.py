"""The LoRA family, by PEFT."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import pydantic

from attune.errors import RecipeError
from attune.model.adapters.base import Adapter
from attune.plugins import Options

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Lora"]


class Lora(Adapter):
    """Low-rank updates beside frozen weights: LoRA, rsLoRA, DoRA, PiSSA, by options.

    Source: Hu et al. 2021 (arXiv:2106.09685); rsLoRA arXiv:2312.03732; DoRA arXiv:2402.09353; PiSSA arXiv:2404.02948.
    """

    name = "lora"

    class Config(Options):
        r: int = pydantic.Field(16, ge=1, le=1024)
        """Rank: capacity of the update. 8 to 16 for style and labels, 32 to 64 for new knowledge."""
        alpha: float | None = pydantic.Field(None, gt=0)
        """Strength: the update is scaled by alpha / r. null means 2 r."""
        dropout: float = pydantic.Field(0.0, ge=0, lt=1)
        """Dropout on the input of each update."""
        target_modules: str | list[str] = "all-linear"
        """Which layers get an update: `all-linear`, a list of name endings, or one regular expression."""
        modules_to_save: list[str] = []
        """Modules trained in full and stored beside the update (for example embed_tokens, lm_head)."""
        dora: bool = False
        """Train magnitude and direction apart (DoRA): a little better, slower."""
        rslora: bool = False
        """Scale by alpha / sqrt(r) (rsLoRA): for large ranks."""
        init: Literal["default", "gaussian", "pissa", "olora"] = "default"
        """How the update starts; `pissa` takes the principal components of the weights."""
        bias: Literal["none", "all", "lora_only"] = "none"
        """Which biases train too."""

    def attach(self, model: nn.Module, *, head: str) -> nn.Module:
        from peft import LoraConfig, TaskType, get_peft_model

        options = self.options
        writer = TaskType.SEQ_2_SEQ_LM if model.config.is_encoder_decoder else TaskType.CAUSAL_LM  # type: ignore[union-attr]
        kinds = {"lm": writer, "sequence": TaskType.SEQ_CLS, "token": TaskType.TOKEN_CLS}
        try:
            config = LoraConfig(
                task_type=kinds[head],
                r=options.r,
                lora_alpha=options.alpha if options.alpha is not None else 2 * options.r,
                lora_dropout=options.dropout,
                target_modules=options.target_modules,
                # PEFT trains a new head in full, and may not find an update inside it.
                exclude_modules=None if head == "lm" else r"(.*\.)?(classifier|score)(\..*)?",
                modules_to_save=options.modules_to_save or None,
                use_dora=options.dora,
                use_rslora=options.rslora,
                init_lora_weights=True if options.init == "default" else options.init,
                bias=options.bias,
            )
            # Everything is cast together by the caller; PEFT's own cast would leave updates in float32 and pay for it.
            return get_peft_model(model, config, autocast_adapter_dtype=False)
        except ValueError as error:
            raise RecipeError(
                f"adapter.target_modules {options.target_modules!r} does not fit this base",
                why=str(error).split("\n")[0][:300],
                fix="use all-linear, or names from the model's own layers",
            ) from error
