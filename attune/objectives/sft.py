"""Supervised fine-tuning: the answer's tokens, given the prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attune.objectives.base import Objective

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
    Shapes: scores.logp [M]; batch.weight [M].
    Units: nats per supervised token of the whole step.
    Source: Ouyang et al. 2022 (arXiv:2203.02155), the supervised stage.
    Checked: equal to TRL's SFTTrainer on the same rows, tests/objectives/test_oracles.py.
    """

    name = "sft"
    tasks = ("generation", "classification", "multilabel", "tagging")
    head = "lm"

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
        return {"sft": -(scores.logp * batch.weight).sum()}
