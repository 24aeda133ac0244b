"""What the adapters that PEFT carries out have in common."""

from __future__ import annotations

import re
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from attune.errors import RecipeError
from attune.model.adapters.base import Adapter, Rate

if TYPE_CHECKING:
    from torch import nn

    from attune.recipe import Recipe

__all__ = ["Wrapped", "Virtual", "linear_names"]

HEAD = r"(.*\.)?(classifier|score)(\..*)?"
"""What PEFT takes for a new head: trained in full and stored beside the adapter."""


SHORTEST = 8
"""Tokens of text that virtual tokens must leave room for, as the least of `data.max_length`."""


def linear_names(model: nn.Module) -> list[str]:
    """All linear layers but heads, as PEFT's `all-linear` would be if every method of it knew which heads train."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    output = model.get_output_embeddings()  # type: ignore[operator]
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and module is not output and not re.fullmatch(HEAD, name)
    ]


class Wrapped(Adapter):
    """An adapter that PEFT puts around or into the model."""

    wraps = True

    @abstractmethod
    def peft_config(self, model: nn.Module, task_type: Any) -> Any:
        """PEFT's own configuration."""

    def attach(self, model: nn.Module, *, head: str) -> nn.Module:
        from peft import TaskType, get_peft_model

        kinds = {"lm": TaskType.CAUSAL_LM, "sequence": TaskType.SEQ_CLS, "token": TaskType.TOKEN_CLS}
        config: Any = model.config
        task_type = TaskType.SEQ_2_SEQ_LM if head == "lm" and config.is_encoder_decoder else kinds[head]
        try:
            # Everything is cast together by the caller; PEFT's own cast would leave updates in float32 and pay for it.
            return get_peft_model(model, self.peft_config(model, task_type), autocast_adapter_dtype=False)  # type: ignore[arg-type]
        except (ValueError, TypeError, AttributeError) as error:
            raise RecipeError(
                f"adapter '{self.name}' does not fit this base",
                why=str(error).split("\n")[0][:300],
                fix="options as PEFT takes them, target_modules named as in the model, or adapter.type=lora",
            ) from error

    def merge(self, tuned: Any) -> nn.Module:
        """The plain model with the adapter in its weights."""
        from peft.utils.other import AuxiliaryTrainingWrapper

        model = tuned.merge_and_unload()
        for name, module in list(model.named_modules()):
            if isinstance(module, AuxiliaryTrainingWrapper):  # the trained head, which LN tuning's own merge would lose
                parent, _, last = name.rpartition(".")
                plain = module.unload_and_optionally_merge_module(merge=True, safe_merge=False, adapter_names=None)
                setattr(model.get_submodule(parent), last, plain)
        return model

    @staticmethod
    def excluded(task_type: Any) -> str | None:
        """PEFT trains a new head in full, and may not find an update inside it."""
        return HEAD if task_type in ("SEQ_CLS", "TOKEN_CLS") else None


class Virtual(Wrapped):
    """Prompt learning: trained vectors stand before every text, the base itself stays as it is.

    They belong to each row, so rows cannot be packed; they cannot be merged into weights either.
    """

    bases = ("decoder", "encoder")
    layouts = ("padded",)
    merges = False
    starts_as_base = False
    head_factor = 0.02
    """Learning rate of a new head as a share of the prompt's, whose vectors need far larger steps."""

    def refusal(self, recipe: Recipe, *, head: str, config: Any) -> tuple[str, str] | None:
        context = getattr(config.get_text_config(), "max_position_embeddings", None)
        if context is not None and self.virtual_tokens + SHORTEST > context:
            left = f"{self.virtual_tokens} virtual tokens leave no room for text in a context of {context}"
            return left, f"adapter.tokens={max(1, context // 4)}"
        return None

    @property
    def virtual_tokens(self) -> int:
        return self.options.tokens

    def rate(self, name: str) -> Rate:
        return Rate() if "prompt_encoder." in name else Rate(factor=self.head_factor)
