"""The LoRA family, by PEFT."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import pydantic

from attune.errors import RecipeError
from attune.model.adapters.base import Rate, Targets
from attune.model.adapters.wrapped import Wrapped
from attune.plugins import Options

if TYPE_CHECKING:
    from torch import nn

    from attune.recipe import Recipe

__all__ = ["Lora"]


class Lora(Wrapped):
    """Low-rank updates beside frozen weights: LoRA, rsLoRA, DoRA, PiSSA, OLoRA, LoRA+, QLoRA, by options.

    Source: Hu et al. 2021 (arXiv:2106.09685); rsLoRA arXiv:2312.03732; DoRA arXiv:2402.09353; PiSSA arXiv:2404.02948;
    OLoRA arXiv:2406.01775; LoRA+ arXiv:2402.12354; QLoRA arXiv:2305.14314.
    """

    name = "lora"

    class Config(Options):
        r: int = pydantic.Field(16, ge=1, le=1024)
        """Rank: capacity of the update. 8 to 16 for style and labels, 32 to 64 for new knowledge."""
        alpha: float | None = pydantic.Field(None, gt=0)
        """Strength: the update is scaled by alpha / r. null means 2 r."""
        dropout: float = pydantic.Field(0.0, ge=0, lt=1)
        """Dropout on the input of each update."""
        target_modules: Targets = "all-linear"
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
        lr_ratio: float = pydantic.Field(1.0, gt=0, le=1000)
        """Learning rate of the second matrix (B) as a multiple of the rest's (LoRA+): 4 to 16, with a lower rate."""
        quantize: Literal["nf4", "int8"] | None = None
        """Hold the frozen base in 4 or 8 bits (QLoRA). Needs a CUDA device and the extra `quant`."""

        @pydantic.model_validator(mode="after")
        def _possible(self) -> Lora.Config:
            if self.quantize and self.init in ("pissa", "olora"):
                raise ValueError(
                    f"init: {self.init} rewrites the base's weights, which quantize: {self.quantize} holds"
                )
            if self.quantize and self.modules_to_save:
                raise ValueError("modules_to_save trains copies of modules, which quantize holds in a few bits")
            return self

    @property
    def quantize(self) -> str | None:
        return self.options.quantize

    def refusal(self, recipe: Recipe, *, head: str, config: Any) -> tuple[str, str] | None:
        if self.quantize is None:
            return None
        from importlib.util import find_spec

        import torch

        if not torch.cuda.is_available():
            return (
                f"quantize: {self.quantize} computes on a CUDA device, and this machine has none",
                "drop adapter.quantize (model.dtype=bfloat16 halves the base's memory on a CPU)",
            )
        if find_spec("bitsandbytes") is None:
            return f"quantize: {self.quantize} needs bitsandbytes", "pip install 'attune[quant]'"
        return None

    def peft_config(self, model: nn.Module, task_type: Any) -> Any:
        from peft import LoraConfig

        options = self.options
        known = [name for name, _ in model.named_modules()]
        for wanted in options.modules_to_save:
            if not any(name.endswith(wanted) for name in known):  # PEFT would pass over it
                raise RecipeError(
                    f"adapter.modules_to_save names '{wanted}', which this base does not have",
                    fix="names (endings) of its own modules, as embed_tokens or lm_head",
                )
        return LoraConfig(
            task_type=task_type,
            r=options.r,
            lora_alpha=options.alpha if options.alpha is not None else 2 * options.r,
            lora_dropout=options.dropout,
            target_modules=options.target_modules,
            exclude_modules=self.excluded(task_type),
            modules_to_save=list(options.modules_to_save) or None,  # PEFT writes the names of a new head into it
            use_dora=options.dora,
            use_rslora=options.rslora,
            init_lora_weights=True if options.init == "default" else options.init,
            bias=options.bias,
        )

    def rate(self, name: str) -> Rate:
        is_b = ".lora_B." in name or ".lora_embedding_B." in name
        return Rate(factor=self.options.lr_ratio) if is_b else Rate()

    def usual_rate(self, n_weights: int) -> float:
        """Ten times the rate of full fine-tuning, 2e-4 to 2e-3, up to r = 16 and alpha = 32. A step of the
        update grows with scale * sqrt(r), so that larger ones learn more slowly (rsLoRA, arXiv:2312.03732).
        """
        options = self.options
        scale = (options.alpha or 2 * options.r) / (math.sqrt(options.r) if options.rslora else options.r)
        slower = min(1.0, 2 * math.sqrt(16) / (scale * math.sqrt(options.r)))
        return float(f"{slower * min(2e-3, max(2e-4, 10 * self._full_rate(n_weights))):.1g}")
