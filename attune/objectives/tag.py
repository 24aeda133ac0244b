"""Tagging: a class for every word (named entities, spans)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from attune.objectives.base import Objective
from attune.plugins import Options

if TYPE_CHECKING:
    from torch import Tensor

    from attune.data.batch import Batch
    from attune.data.examples import Example
    from attune.data.render import Renderer
    from attune.model.policy import Scores
    from attune.records import Record

__all__ = ["Tag"]


class Tag(Objective):
    """Mean cross-entropy over the first token of every word; labels are BIO tags made from the spans.

    Shapes: scores.out [M, C]; batch.target [M] tag ids.
    Units: nats per word of the whole step.
    Source: Devlin et al. 2019 (arXiv:1810.04805), section 5.3.
    Checked: equal to transformers' token classification, tests/objectives/test_oracles.py.
    """

    name = "tag"
    tasks = ("tagging",)
    head = "token"
    scored = "here"

    class Config(Options):
        head_init: Literal["probe", "random"] = "probe"
        """How the head starts: `probe` as a linear model fitted on the untrained base's features, `random` as drawn."""

    def accepts(self, record: Record) -> str | None:
        if record.label is None:
            return "no label"
        return None if record.text.strip() else "empty text"

    def examples(self, record: Record, renderer: Renderer, index: int = 0) -> list[Example]:
        return renderer.tag(record, self.labels, index)

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        return {"tag": batch.weight.sum()}

    def terms(self, scores: Scores, batch: Batch) -> dict[str, Tensor]:
        from torch.nn import functional as F

        loss = F.cross_entropy(scores.out, batch.target, reduction="none")
        return {"tag": (loss * batch.weight).sum()}

    def metrics(self, scores: Scores, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        right = (scores.out.argmax(-1) == batch.target).to(batch.weight.dtype)
        return {"word_accuracy": ((right * batch.weight).sum(), batch.weight.sum())}
