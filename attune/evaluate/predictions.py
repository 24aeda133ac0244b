"""What a system said about the records of one split: the one thing that metrics, statistics and the report read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Predictions", "TASKS"]

TASKS = ("classification", "multilabel", "regression", "tagging", "generation", "text")
"""`generation` compares written answers with the reference completion; `text` only measures likelihood."""


@dataclass
class Predictions:
    """Answers of one system, in the order of the records it was asked about.

    Shapes: N records, C labels.
    """

    system: str
    """tuned, majority, tfidf, zero_shot, few_shot, ..."""
    outputs: list[Any]
    """[N] by task: class name (None = the output named no class) | tuple of classes | number | tuple of Span | text."""
    scores: np.ndarray | None = None
    """[N, C] probability of each label (classification, multilabel); columns follow `labels`."""
    labels: list[str] = field(default_factory=list)
    logp: np.ndarray | None = None
    """[N, 2] summed log-probability (nats) of the reference and the number of tokens it covers."""
    raw: list[str] | None = None
    """[N] the text as generated, where the output was read from text."""
    stopped: list[bool] | None = None
    """[N] whether generation ended with the stop token (not at the length limit)."""
    seconds: float = 0.0
    """Wall time of predicting, without loading or training."""
    note: str = ""
    """What a reader must know: k of few-shot, C chosen by cross-validation, why it was skipped."""
    trained_seconds: float = 0.0
