"""What an objective is: it sees numbers, never the trainer, the model or the process group."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from attune.plugins import Options

if TYPE_CHECKING:
    from torch import Tensor

    from attune.data.batch import Batch
    from attune.data.examples import Example, ExampleStore
    from attune.data.render import Renderer
    from attune.model.policy import Scores
    from attune.records import Record

__all__ = ["Objective"]


class Objective(ABC):
    """What to minimise.

    `terms` returns SUMS; `counts` their denominators, known from the batch before the forward pass, under the same
    keys. Only the loop divides, by the counts of the whole step over all ranks: the gradient then does not depend on
    how a step is cut into micro-batches, packed, or spread over ranks.
    """

    name: ClassVar[str]
    tasks: ClassVar[tuple[str, ...]]
    """Tasks (see `evaluate.predictions.TASKS`) it trains for."""
    head: str
    """Which model it needs: `lm`, `sequence` (one output a sequence) or `token` (one output a token). One that trains
    for several kinds of task decides when it is made."""
    scored: str = "next"
    """`next`: a token is scored where it is predicted; `here`: where it stands."""
    needs: ClassVar[tuple[str, ...]] = ()
    """Frozen models whose scores its training examples carry as columns: `<name>_ids`, `<name>_logp` and
    `<name>_temperature` for text, `<name>_out` for labels."""
    smoothing: float = 0.0
    """Of text: share of the target spread evenly over the vocabulary. Above 0, training scores have `mean_logp`."""
    coupled: ClassVar[bool] = False
    """True if the loss is not a sum over sequences, so that the micro-batch size changes the result."""

    class Config(Options):
        """No options."""

    def __init__(self, options: Any = None, *, labels: list[str] | None = None, task: str = "generation"):
        self.options: Any = options if options is not None else self.Config()
        self.labels = labels or []
        self.task = task

    @abstractmethod
    def accepts(self, record: Record) -> str | None:
        """None, or why a record does not fit."""

    @abstractmethod
    def examples(self, record: Record, renderer: Renderer, index: int = 0) -> list[Example]:
        """The record as token ids with its scored positions; empty if truncation dropped it. `index`: its number."""

    def store(self, records: list[Record], renderer: Renderer) -> ExampleStore:
        """All records as examples."""
        from attune.data.examples import ExampleStore

        size = max(renderer.encoder.vocab_size, len(renderer.tokenizer))
        made = (example for number, record in enumerate(records) for example in self.examples(record, renderer, number))
        return ExampleStore.of(made, vocab_size=size)

    @abstractmethod
    def counts(self, batch: Batch) -> dict[str, Tensor]:
        """Denominators, from the batch alone."""

    @abstractmethod
    def terms(self, scores: Scores, batch: Batch) -> dict[str, Tensor]:
        """Sums to minimise, differentiable, under the keys of `counts`."""

    def metrics(self, scores: Scores, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        """(sum, count) of figures to log; optional."""
        return {}
