"""Classification, multi-label classification and regression with a head on the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import pydantic

from attune.errors import RecipeError
from attune.objectives.base import Objective
from attune.plugins import Options

if TYPE_CHECKING:
    from torch import Tensor

    from attune.data.batch import Batch
    from attune.data.examples import Example
    from attune.data.render import Renderer
    from attune.model.policy import Scores
    from attune.records import Record

__all__ = ["Classify"]


class Classify(Objective):
    """Cross-entropy over classes (one class), binary cross-entropy per class (several), or squared error (a number).

    Shapes: scores.out [M, C] with one scored position a sequence; batch.target [M] class ids, [M, C] 0/1, or [M].
    Units: nats per record; nats per record and class (multi-label); squared label units (regression).
    Source: transformers' `ForSequenceClassificationLoss`, all three problem types.
    Checked: equal to transformers' sequence classification, tests/objectives/test_oracles.py.
    """

    name = "classify"
    tasks = ("classification", "multilabel", "regression")
    head = "sequence"
    scored = "here"

    class Config(Options):
        label_smoothing: float = pydantic.Field(0.0, ge=0, lt=1)
        """Share of the target spread evenly over all classes: 0 trusts the labels, 0.1 doubts them a little. Refused
        where a record has several classes or a number."""
        head_init: Literal["probe", "random"] = "probe"
        """How the head starts: `probe` as a linear model fitted on the untrained base's features, `random` as drawn."""

    def __init__(self, options: Any = None, *, labels: list[str] | None = None, task: str = "classification"):
        super().__init__(options, labels=labels, task=task)
        if self.options.label_smoothing and task in ("multilabel", "regression"):
            raise RecipeError(
                f"objective.label_smoothing does not fit {task} data",
                why="it spreads the target over classes of which a record has one",
                fix="objective.label_smoothing=0",
            )

    def accepts(self, record: Record) -> str | None:
        if record.label is None:
            return "no label"
        return None if record.text.strip() else "empty text"

    def examples(self, record: Record, renderer: Renderer, index: int = 0) -> list[Example]:
        return renderer.classify(record, self.labels, self.task, index)

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        per_record = len(self.labels) if self.task == "multilabel" else 1
        return {"classify": batch.weight.sum() * per_record}

    def terms(self, scores: Scores, batch: Batch) -> dict[str, Tensor]:
        from torch.nn import functional as F

        out = scores.out
        if self.task == "regression":
            loss = F.mse_loss(out.squeeze(-1), batch.target.to(out.dtype), reduction="none")
        elif self.task == "multilabel":
            loss = F.binary_cross_entropy_with_logits(out, batch.target.to(out.dtype), reduction="none").sum(-1)
        else:
            loss = F.cross_entropy(out, batch.target, reduction="none", label_smoothing=self.options.label_smoothing)
        return {"classify": (loss * batch.weight).sum()}

    def metrics(self, scores: Scores, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        if self.task != "classification":
            return {}
        right = (scores.out.argmax(-1) == batch.target).to(batch.weight.dtype)
        return {"accuracy": ((right * batch.weight).sum(), batch.weight.sum())}
