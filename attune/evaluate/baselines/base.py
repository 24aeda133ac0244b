"""What a baseline is: a system that the tuned model must beat, asked about the same records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    import numpy as np

    from attune.evaluate.predictions import Predictions
    from attune.generate.engine import Engine
    from attune.records import Message, Record

__all__ = ["Baseline", "Context"]


@dataclass
class Context:
    """What a baseline may use. Only labels of `train` may be looked at."""

    task: str
    """One of `predictions.TASKS`."""
    train: list[Record]
    test: list[Record]
    labels: list[str] = field(default_factory=list)
    engine: Engine | None = None
    """The base model before tuning, where it is causal."""
    encoder: Callable[[list[str]], np.ndarray] | None = None
    """Texts -> mean-pooled embeddings [N, H] of the base before tuning, where it is an encoder."""
    prompt_ids: Callable[[Sequence[Message], Sequence[dict]], list[int]] | None = None
    """Messages and tools -> the prompt's tokens, exactly as the tuned model gets them."""
    stop_ids: list[int] = field(default_factory=list)
    """Tokens that end an answer; the first one belongs to a reference whose likelihood is measured."""
    instruction: str | None = None
    """The user's own words for the task; None = made from the label names."""
    seed: int = 0
    few_shot: int = 8
    """Examples in a few-shot prompt; per class for encoder bases."""
    max_new_tokens: int = 128
    temperature: float = 0.0
    """How answers to prompts are drawn."""
    context_length: int | None = None
    """Tokens of prompt and answer together; None = what the base allows."""

    @property
    def labelled(self) -> list[Record]:
        """Train records that have a label."""
        return [record for record in self.train if record.label is not None]

    @property
    def answered(self) -> list[Record]:
        """Train records that have a written answer."""
        return [record for record in self.train if record.completions]

    @property
    def chat(self) -> bool:
        """The base's tokenizer has a chat template."""
        return bool(self.engine is not None and getattr(self.engine.tokenizer, "chat_template", None))


class Baseline(Protocol):
    """One system to compare with. `why` says in a sentence why it cannot run here, or None."""

    name: ClassVar[str]
    tasks: ClassVar[tuple[str, ...]]

    def why(self, context: Context) -> str | None: ...

    def predict(self, context: Context) -> Predictions: ...
