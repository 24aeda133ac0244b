"""Distillation: a small model learns what a large one would say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import pydantic

from attune.endpoint import EndpointOptions
from attune.errors import RecipeError
from attune.objectives.base import Objective
from attune.objectives.classify import Classify
from attune.objectives.divergence import divergence
from attune.objectives.sft import Sft
from attune.objectives.tag import Tag
from attune.plugins import Options

if TYPE_CHECKING:
    from torch import Tensor

    from attune.data.batch import Batch
    from attune.data.examples import Example, ExampleStore
    from attune.data.render import Renderer
    from attune.model.policy import Scores
    from attune.records import Record

__all__ = ["Distill"]


class Distill(Objective):
    """Divergence from a teacher's probabilities, mixed with the loss on the data's own answers or labels.

    Shapes: scores.topk["teacher"] [M, K + 1] and tokens["teacher_logp"] [M, K + 1] for text; scores.out [M, C] and
    tokens["teacher_out"] [M, C] for labels; tokens["own"] [M] is 1 where the student wrote the answer itself, which
    then has no label to learn.
    Units: nats per supervised token or record of the whole step; the divergence is times temperature squared.
    Source: Hinton et al. 2015 (arXiv:1503.02531); on_policy: Agarwal et al. 2023 (arXiv:2306.13649); sequence: Kim and
    Rush 2016 (arXiv:1606.07947).
    Checked: torch's kl_div over all tokens and TRL's GKD loss, tests/objectives/test_distill.py.
    """

    name = "distill"
    tasks = ("generation", "classification", "multilabel", "regression", "tagging")
    head = "lm"  # of text; label tasks take the head of their own objective
    needs = ("teacher",)

    class Config(Options):
        teacher: str
        """Who is learned from: a run folder, a base (`starter`, a local folder, a hub id), the address of an
        OpenAI-compatible server (`mode: sequence`), or for `attune distill` a recipe that is trained first."""
        mode: Literal["logits", "sequence", "on_policy"] = "logits"
        """What is learned: the teacher's probabilities on the data's answers (`logits`), answers that the teacher
        writes to the data's prompts (`sequence`, any tokenizer), or its probabilities on answers that the student
        itself writes while it trains (`on_policy`)."""
        alpha: float = pydantic.Field(0.5, gt=0, le=1)
        """Weight of the teacher; the data's own answers or labels have the rest. `sequence` has no such mix."""
        temperature: float | None = pydantic.Field(None, gt=0, le=20)
        """Both sides' logits are divided by it, so that unlikely answers count more. null is 2 for labels, 1 for
        text."""
        beta: float = pydantic.Field(0.0, ge=0, le=1)
        """0 covers all that the teacher may say (forward KL), 1 keeps to what it surely says (reverse KL); between
        them a generalised Jensen-Shannon divergence."""
        k: int = pydantic.Field(32, ge=1, le=4096)
        """Tokens kept of the teacher at each position; all others count as one."""
        own_share: float = pydantic.Field(0.5, gt=0, le=1)
        """`on_policy`: share of the steps whose answers the student writes; the other steps use the data's."""
        max_new_tokens: int = pydantic.Field(128, ge=1, le=32768)
        """Longest answer that the teacher (`sequence`) or the student (`on_policy`) writes, in tokens."""
        sampling_temperature: float | None = pydantic.Field(None, ge=0, le=5)
        """How those answers are drawn. null takes the likeliest of the teacher (0), and samples the student (1)."""
        endpoint: EndpointOptions | None = None
        """The server's model and limits, where `teacher` is an address."""
        head_init: Literal["probe", "random"] = "probe"
        """Label tasks: how the head starts, as in `classify`."""

        @pydantic.model_validator(mode="after")
        def _whole(self) -> Distill.Config:
            address = self.teacher.startswith(("http://", "https://"))
            if address != (self.endpoint is not None):
                raise ValueError(
                    "teacher is an address, so it needs endpoint: {model: NAME}"
                    if address
                    else "endpoint is given, so teacher must be the server's address, as http://localhost:8000/v1"
                )
            if self.endpoint is not None and self.endpoint.base_url is not None:
                raise ValueError("the server's address stands in teacher; leave endpoint.base_url out")
            if address and self.mode != "sequence":
                raise ValueError(f"a server gives text and no logits, which mode {self.mode} needs; use mode: sequence")
            return self

    def __init__(self, options: Any = None, *, labels: list[str] | None = None, task: str = "generation"):
        super().__init__(options, labels=labels, task=task)
        kind = {"generation": Sft, "tagging": Tag}.get(task, Classify)
        self.hard: Objective = kind(labels=labels, task=task)
        self.head, self.scored = self.hard.head, self.hard.scored
        if task != "generation" and self.options.mode != "logits":
            raise RecipeError(
                f"objective.mode {self.options.mode} does not fit {task} data",
                why="nothing is written: the model gives labels",
                fix="objective.mode=logits, which learns the teacher's probabilities of the labels (any tokenizer)",
            )

    @property
    def temperature(self) -> float:
        given = self.options.temperature
        return given if given is not None else 1.0 if self.head == "lm" else 2.0

    def accepts(self, record: Record) -> str | None:
        return self.hard.accepts(record)

    def examples(self, record: Record, renderer: Renderer, index: int = 0) -> list[Example]:
        return self.hard.examples(record, renderer, index)

    def store(self, records: list[Record], renderer: Renderer) -> ExampleStore:
        return self.hard.store(records, renderer)

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        (count,) = self.hard.counts(batch).values()
        return {"distill": count}

    def terms(self, scores: Scores, batch: Batch) -> dict[str, Tensor]:
        (hard,) = self.hard.terms(scores, self._labelled(batch)).values()
        soft = self._soft(scores, batch)
        if soft is None:  # rows that the teacher did not see: what the data says is all there is
            return {"distill": hard}
        alpha = self.options.alpha
        soft = (soft * batch.weight).sum() * self.temperature**2
        return {"distill": soft if alpha == 1 else alpha * soft + (1 - alpha) * hard}

    def metrics(self, scores: Scores, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        found = self.hard.metrics(scores, batch)
        soft = self._soft(scores, batch)
        if soft is not None:
            (count,) = self.hard.counts(batch).values()
            found["divergence"] = ((soft * batch.weight).sum(), count)
        labelled = self._labelled(batch)
        (count,), (hard,) = self.hard.counts(labelled).values(), self.hard.terms(scores, labelled).values()
        return {**found, "hard_loss": (hard, count)}

    def _labelled(self, batch: Batch) -> Batch:
        """The batch with no weight on what the student wrote itself."""
        from dataclasses import replace

        own = batch.tokens.get("own")
        return batch if own is None else replace(batch, weight=batch.weight * (1 - own))

    def _soft(self, scores: Scores, batch: Batch) -> Tensor | None:
        """[M] divergence at every scored position, summed over the classes of a multi-label task."""
        from torch.nn import functional as F

        options, warmth = self.options, self.temperature
        if "teacher_logp" in batch.tokens:
            return divergence(batch.tokens["teacher_logp"], scores.topk["teacher"], options.beta)
        if "teacher_out" not in batch.tokens:
            return None
        teacher, student = batch.tokens["teacher_out"].to(scores.out.dtype), scores.out
        if self.task == "regression":
            return F.mse_loss(student, teacher, reduction="none").squeeze(-1) / warmth**2
        teacher, student = teacher / warmth, student / warmth
        if self.task == "multilabel":
            return divergence(F.logsigmoid(_both(teacher)), F.logsigmoid(_both(student)), options.beta).sum(-1)
        return divergence(teacher.log_softmax(-1), student.log_softmax(-1), options.beta)


def _both(logits: Tensor) -> Tensor:
    """Logits of yes and of no. Shapes: [M, C] -> [M, C, 2]."""
    import torch

    return torch.stack([logits, -logits], -1)
