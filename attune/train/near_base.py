"""An objective with a divergence from the base beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from attune.objectives.base import Objective

if TYPE_CHECKING:
    from attune.data.batch import Batch
    from attune.data.examples import Example
    from attune.data.render import Renderer
    from attune.model.policy import Scores
    from attune.records import Record

__all__ = ["NearBase", "COLUMN"]

COLUMN = "base"
"""Name of the columns with the base's likeliest tokens (`train.enrich`)."""


class NearBase(Objective):
    """Another objective, plus strength * KL(base || tuned) at its scored tokens.

    The divergence is over the base's k likeliest tokens and all others together, which is never more than the whole.
    Units: nats per token. `replayed_from`: examples from this number on are replayed ones.
    Source: Li and Hoiem 2017 (arXiv:1606.09282), the distillation term.
    Checked: tests/train/test_near_base.py.
    """

    name = "near_base"  # a name so that errors can tell; no plugin, since it stands outside the folder
    tasks = ()
    head = "lm"

    def __init__(self, inner: Objective, strength: float, *, on: str = "all", replayed_from: int | None = None):
        super().__init__(inner.options, labels=inner.labels, task=inner.task)
        self.inner, self.strength, self.on, self.replayed_from = inner, strength, on, replayed_from
        self.scale = 1.0
        """Times the strength: raised while a limit is exceeded."""
        self.scored = inner.scored  # type: ignore[misc]
        self.smoothing = inner.smoothing
        self.coupled = inner.coupled  # type: ignore[misc]

    def strengthen(self, scale: float) -> None:
        self.scale = scale

    def accepts(self, record: Record) -> str | None:
        return self.inner.accepts(record)

    def examples(self, record: Record, renderer: Renderer, index: int = 0) -> list[Example]:
        return self.inner.examples(record, renderer, index)

    def _weight(self, batch: Batch) -> Tensor:
        if self.on == "all" or self.replayed_from is None:
            return batch.weight
        assert batch.index is not None
        replayed = (batch.index.to(batch.seq.device) >= self.replayed_from)[batch.seq]
        return batch.weight * (replayed if self.on == "replay" else ~replayed)

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        return {**self.inner.counts(batch), "kl": self._weight(batch).sum()}

    def terms(self, scores: Scores, batch: Batch) -> dict[str, Tensor]:
        tuned, base = scores.topk[COLUMN], batch.tokens[f"{COLUMN}_logp"]
        base = base.to(tuned.dtype)
        share = base.exp()
        apart = torch.where(share > 0, share * (base - tuned), torch.zeros_like(tuned)).sum(-1)
        return {
            **self.inner.terms(scores, batch),
            "kl": self.strength * self.scale * (apart * self._weight(batch)).sum(),
        }

    def metrics(self, scores: Scores, batch: Batch) -> dict[str, tuple[Any, Any]]:
        return self.inner.metrics(scores, batch)
