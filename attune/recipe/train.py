"""The `train` section of a recipe: how long, how fast and in what portions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from attune.recipe.base import Duration, Number, OffIsNull, Positive, Section, Share, Whole, known, seconds

__all__ = ["EarlyStopping", "Train"]


class EarlyStopping(Section):
    """When to stop because validation no longer improves; the best checkpoint is the result."""

    metric: str | None = None
    """The validation figure to watch: a metric's name or `loss`. null means the main metric of the task; a model that
    writes is watched by its loss."""
    patience: Positive = 3
    """Evaluations in a row without improvement before stopping."""
    max_gap: Number | None = Field(default=None, gt=0)
    """Stop when validation loss minus the loss on a fixed sample of training rows, the mean of the last three
    evaluations, exceeds this: the training rows are being learned by heart. null means never."""

    _metric = field_validator("metric")(known("metric", "loss"))


class Train(Section):
    """How long, how fast and in what portions to learn."""

    epochs: Number = Field(default=3.0, gt=0, le=10_000)
    """Passes over the training data; a fraction is fine."""
    max_steps: Positive | None = None
    """Optimiser steps. Given, it replaces `epochs`."""
    budget: Duration | None = None
    """Time for training: 90s, 10m, 2h, 1h30m. Turned into a number of steps before the first, from measured steps."""
    learning_rate: Number | None = Field(default=None, gt=0, le=10)
    """Highest learning rate. null means the usual one of the adapter."""
    schedule: Literal["cosine", "linear", "constant", "wsd"] = "cosine"
    """How the learning rate falls after warm-up: half a cosine, a line, not at all, or stable and then decay (wsd)."""
    warmup_ratio: Share = 0.03
    """Share of all steps over which the learning rate rises from zero."""
    warmup_steps: Annotated[Whole, Field(ge=0)] | None = None
    """Steps over which the learning rate rises. Given, it replaces `warmup_ratio`."""
    min_lr_ratio: Share = 0.0
    """Where the schedule ends, as a share of `learning_rate`."""
    decay_ratio: Share = 0.2
    """Share of all steps spent in the decay of the `wsd` schedule."""
    weight_decay: Number = Field(default=0.01, ge=0, le=10)
    """Pull of weight matrices towards zero at each step (AdamW); biases and norms are exempt."""
    beta1: Number = Field(default=0.9, ge=0, lt=1)
    """AdamW's memory of the gradient."""
    beta2: Number = Field(default=0.999, ge=0, lt=1)
    """AdamW's memory of the squared gradient."""
    eps: Number = Field(default=1e-8, gt=0)
    """AdamW's guard against division by zero."""
    max_grad_norm: Number = Field(default=1.0, ge=0)
    """Longer gradients are shortened to this norm. 0 means never."""
    neftune_alpha: Number = Field(default=0.0, ge=0, le=1000)
    """Noise on the embeddings while training (NEFTune), against overfitting: 5 to 15 are usual, 0 means none."""
    batch_size: Positive | None = 16
    """Examples per optimiser step. A step is cut into as many forward passes as the memory asks for."""
    batch_tokens: Positive | None = None
    """Tokens per optimiser step, in place of `batch_size`."""
    micro_batch_tokens: Positive | None = None
    """Tokens of the largest forward pass. null is 4,096 on a CPU and 16,384 on a GPU, halved whenever memory
    runs out. It changes memory and speed, not what is learned."""
    layout: Literal["auto", "packed", "padded"] = "auto"
    """How examples share a forward pass: end to end without padding, or one a row. `auto` takes the faster that this
    model allows."""
    gradient_checkpointing: bool = Field(default=False, strict=True)
    """Whether activations are computed twice to save memory (about a third slower)."""
    eval_every: Positive | None = None
    """Steps between evaluations on validation data. null means about four times an epoch."""
    save_every: Positive | None = None
    """Steps between checkpoints. null means with each evaluation."""
    keep_checkpoints: Positive = 2
    """Newest checkpoints kept; the best one is kept besides."""
    early_stopping: Annotated[EarlyStopping | None, OffIsNull] = EarlyStopping()
    """When to stop because validation no longer improves. null means never."""
    threads: Positive | None = None
    """CPU threads. null means one per core this process may use."""

    @model_validator(mode="before")
    @classmethod
    def _one_batch(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and value.get("batch_tokens") is not None and "batch_size" not in value:
            return {**value, "batch_size": None}
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Train:
        if self.batch_size is not None and self.batch_tokens is not None:
            raise ValueError("batch_size and batch_tokens both say how large a step is; keep one")
        if self.batch_size is None and self.batch_tokens is None:
            raise ValueError("one of batch_size and batch_tokens must say how large a step is")
        if self.warmup_steps is None and self.schedule == "wsd" and self.warmup_ratio + self.decay_ratio > 1:
            raise ValueError("warmup_ratio and decay_ratio together are more than all steps")
        return self

    @property
    def budget_seconds(self) -> float | None:
        return None if self.budget is None else seconds(self.budget)
