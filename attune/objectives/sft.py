"""Supervised fine-tuning: the answer's tokens, given the prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pydantic

from attune.objectives.base import Objective
from attune.plugins import Options

if TYPE_CHECKING:
    from torch import Tensor

    from attune.data.batch import Batch
    from attune.data.examples import Example
    from attune.data.render import Renderer
    from attune.model.policy import Scores
    from attune.records import Record

__all__ = ["Sft"]


class Sft(Objective):
    """Mean negative log-probability of the answer's tokens, the stop token included; prompts are not scored.

    Labels (one class, several, or spans) are learned as text that the model writes: see docs/curricula.md.
    Shapes: scores.logp, scores.mean_logp [M]; batch.weight [M].
    Units: nats per supervised token of the whole step.
    Source: Ouyang et al. 2022 (arXiv:2203.02155), the supervised stage; Szegedy et al. 2016 (arXiv:1512.00567), section
    7, for label smoothing.
    Checked: equal to TRL's SFTTrainer on the same rows, and smoothed to torch's cross_entropy,
    tests/objectives/test_oracles.py.
    """

    name = "sft"
    tasks = ("generation", "classification", "multilabel", "tagging")
    head = "lm"

    class Config(Options):
        label_smoothing: float = pydantic.Field(0.0, ge=0, lt=1)
        """Share of the target spread evenly over the vocabulary while training: 0 trusts the answers, 0.1 doubts them a
        little. The losses of validation and test are of the answers themselves."""

    def __init__(self, options: Any = None, *, labels: list[str] | None = None, task: str = "generation"):
        super().__init__(options, labels=labels, task=task)
        self.smoothing = self.options.label_smoothing

    def accepts(self, record: Record) -> str | None:
        if len(record.completions) != 1:
            return f"sft needs one answer; the record has {len(record.completions)}"
        return (
            None
            if record.completions[0].text.strip() or record.completions[0].messages[-1].tool_calls
            else "empty answer"
        )

    def examples(self, record: Record, renderer: Renderer, index: int = 0) -> list[Example]:
        return renderer.sft(record, index)

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        return {"sft": batch.weight.sum()}

    def terms(self, scores: Scores, batch: Batch) -> dict[str, Tensor]:
        logp = scores.logp
        if scores.mean_logp is not None:
            logp = (1 - self.smoothing) * logp + self.smoothing * scores.mean_logp
        return {"sft": -(logp * batch.weight).sum()}
