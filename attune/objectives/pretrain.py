"""Continued (or first) pre-training on raw text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attune.objectives.base import Objective

if TYPE_CHECKING:
    from torch import Tensor

    from attune.data.batch import Batch
    from attune.data.examples import Example, ExampleStore
    from attune.data.render import Renderer
    from attune.model.policy import Scores
    from attune.records import Record

__all__ = ["Pretrain"]


class Pretrain(Objective):
    """Mean negative log-probability of every token of raw text.

    Documents are joined by the end-of-text token and cut into windows of `data.max_length`.
    Shapes: scores.logp [M]; batch.weight [M].
    Units: nats per token of the whole step.
    Source: Gururangan et al. 2020 (arXiv:2004.10964) for continuing on domain text.
    """

    name = "pretrain"
    tasks = ("text",)
    head = "lm"

    def accepts(self, record: Record) -> str | None:
        return None if record.full_text.strip() else "empty text"

    def examples(self, record: Record, renderer: Renderer, index: int = 0) -> list[Example]:
        return renderer.pretrain(record)

    def store(self, records: list[Record], renderer: Renderer) -> ExampleStore:
        return renderer.pretrain(records)

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        return {"pretrain": batch.weight.sum()}

    def terms(self, scores: Scores, batch: Batch) -> dict[str, Tensor]:
        return {"pretrain": -(scores.logp * batch.weight).sum()}
