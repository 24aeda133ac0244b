"""The `model` section of a recipe: the base, and how it is held."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from attune.recipe.base import Number, Section, Whole

__all__ = ["Model"]


class Model(Section):
    """The base model and how it is held."""

    base: str = Field(default="starter", min_length=1)
    """The model to start from: `starter` (bundled), `minilm` (extra `offline`), a local folder, an earlier run
    (`runs/NAME`: its adapter is merged first), or a hub id."""
    revision: str | None = None
    """Branch, tag or commit of a hub model. null means its main branch."""
    from_config: str | None = None
    """Build the model with random weights from this config.json instead of loading the base's weights (pre-training
    from nothing). `cpu` and `gpu` name the starter's own presets; the tokenizer still comes from `base`."""
    layers: list[Annotated[Whole, Field(ge=0)]] | None = Field(default=None, min_length=1)
    """Keep only these transformer blocks of the base, counted from 0: a shallower student for distillation, as
    `[0, 2, 5]` of six. null keeps all."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Number format of the weights. `auto` takes bfloat16 where the machine computes it fast, else float32."""
    trust_remote_code: bool = Field(default=False, strict=True)
    """Whether code from the model's own repository may run here. It needs `revision` as a full 40-digit commit."""
    chat_template: str | None = None
    """A Jinja file that replaces the tokenizer's chat template, for training and for serving."""
    dropout: Number | None = Field(default=None, ge=0, lt=1)
    """Share of activations left out at random while training, wherever the base's family has a place for it (hidden
    states, attention, classifier). null keeps what the base says, which is mostly none."""
    attention: Literal["auto", "sdpa", "eager"] = "auto"
    """How attention is computed. `auto` takes the fastest that passes the probe at load; naming one implies padded
    rows."""

    @field_validator("layers")
    @classmethod
    def _in_order(cls, layers: list[int] | None) -> list[int] | None:
        if layers is not None and layers != sorted(set(layers)):
            raise ValueError("must rise, each number once")
        return layers

    @model_validator(mode="after")
    def _pinned(self) -> Model:
        if self.trust_remote_code and not re.fullmatch(r"[0-9a-f]{40}", self.revision or ""):
            raise ValueError("trust_remote_code needs revision: the full 40-digit commit whose code you have read")
        return self
