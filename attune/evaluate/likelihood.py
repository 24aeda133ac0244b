"""How likely a language model finds given text, each piece read by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from attune.data.examples import Example, ExampleStore

if TYPE_CHECKING:
    from attune.data.render import Renderer
    from attune.evaluate.suites.base import Subject

__all__ = ["text_example", "text_logp"]


def text_example(renderer: Renderer, context: str, scored: str, record: int = 0) -> Example:
    """A text as token ids, of which those after `context` count; it begins as the base's documents begin, with its
    first token scored too where a token may stand before it. What exceeds the renderer's length is cut off.
    """
    head = renderer.encoder.frame[0]
    if not head and renderer.tokenizer.eos_token_id is not None:
        head = [renderer.tokenizer.eos_token_id]  # what ends one document stands before the next
    whole, before = renderer.text_ids(context + scored), renderer.text_ids(context) if context else []
    shared = next((at for at, (a, b) in enumerate(zip(whole, before)) if a != b), min(len(whole), len(before)))
    ids = np.array([*head, *whole][: renderer.max_length], dtype=np.int32)
    weight = np.ones(len(ids), dtype=np.float32)
    weight[: max(1, min(len(head) + shared, len(ids) - 1))] = 0
    return Example(ids, weight, record=record)


def text_logp(subject: Subject, texts: Sequence[tuple[str, str]]) -> np.ndarray:
    """Summed log-probability (nats) and number of the scored tokens of each (context, text).

    Shapes: [N, 2].
    """
    from attune import plugins
    from attune.evaluate.predict import score_store

    made = [text_example(subject.renderer, context, text, number) for number, (context, text) in enumerate(texts)]
    size = max(subject.renderer.encoder.vocab_size, len(subject.tokenizer))
    store = ExampleStore.of(made, vocab_size=size)
    _, rows = score_store(subject.policy, plugins.get("objective", "sft")(None), store, **subject.forward)  # type: ignore[call-arg]
    found = np.zeros((len(texts), 2))
    np.add.at(found[:, 0], rows["example"], rows["logp"] * rows["weight"])
    np.add.at(found[:, 1], rows["example"], rows["weight"])
    return found
