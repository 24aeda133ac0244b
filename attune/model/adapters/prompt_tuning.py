"""Prompt tuning, by PEFT."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import pydantic

from attune.model.adapters.wrapped import Virtual
from attune.plugins import Options

if TYPE_CHECKING:
    from torch import nn

__all__ = ["PromptTuning"]


class PromptTuning(Virtual):
    """Trained vectors in place of a prompt, before every text: the smallest of all adapters.

    It wants a large base, a high learning rate and many steps.
    Source: Lester et al. 2021 (arXiv:2104.08691).
    """

    name = "prompt_tuning"

    class Config(Options):
        tokens: int = pydantic.Field(20, ge=1, le=1024)
        """Trained vectors; each takes one position of the context."""
        init: Literal["text", "vocabulary", "random"] = "vocabulary"
        """How they start: as the embeddings of `text`, of tokens drawn from the vocabulary, or as noise."""
        text: str | None = None
        """For `init: text`: what the task is, in words. Repeated or cut to `tokens`."""

        @pydantic.model_validator(mode="after")
        def _text(self) -> PromptTuning.Config:
            if (self.init == "text") != bool(self.text):
                raise ValueError("init: text and a text go together: give both, or neither")
            return self

    def peft_config(self, model: nn.Module, task_type: Any) -> Any:
        from peft import PromptTuningConfig

        options = self.options
        base: Any = model.config.name_or_path  # type: ignore[union-attr]
        inits = {"text": "TEXT", "vocabulary": "SAMPLE_VOCAB", "random": "RANDOM"}
        return PromptTuningConfig(
            task_type=task_type,
            num_virtual_tokens=options.tokens,
            prompt_tuning_init=inits[options.init],
            prompt_tuning_init_text=options.text,
            tokenizer_name_or_path=base if options.init == "text" else None,
        )

    def usual_rate(self, n_weights: int) -> float:
        return 3e-2
