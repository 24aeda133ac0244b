"""Texts as numbers: word and character counts, and short dense vectors for likeness."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from attune.data.embeddings import minilm
from attune.errors import UsageError

__all__ = ["KINDS", "Features"]

KINDS = ("tfidf", "minilm")
DENSE = 100
"""Dimensions that word counts are reduced to where likeness is asked."""


class Features:
    """Features of a fixed list of texts; each kind is computed when first asked for.

    Shapes: words, chars [N, terms] sparse; dense [N, 100 or 384]. Rows have length 1 (or 0).
    Raises: MachineError if `minilm` is not installed.
    """

    def __init__(self, texts: Sequence[str], kind: str = "tfidf", seed: int = 0):
        if kind not in KINDS:
            raise UsageError(f"features are '{kind}'", fix=f"one of: {', '.join(KINDS)}")
        self.texts, self.kind, self.seed = list(texts), kind, seed
        if kind == "minilm":
            minilm()  # says at once if it is not installed

    def __len__(self) -> int:
        return len(self.texts)

    @cached_property
    def words(self) -> Any:
        """Words and word pairs; letters where a text has no words that spaces divide."""
        from sklearn.feature_extraction.text import TfidfVectorizer

        try:
            made = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), strip_accents="unicode")
            return made.fit_transform(self.texts)
        except ValueError:  # no word of two letters anywhere
            return TfidfVectorizer(sublinear_tf=True, analyzer="char", ngram_range=(1, 2)).fit_transform(self.texts)

    @cached_property
    def chars(self) -> Any:
        from sklearn.feature_extraction.text import TfidfVectorizer

        made = TfidfVectorizer(sublinear_tf=True, analyzer="char_wb", ngram_range=(2, 4), max_features=50_000)
        return made.fit_transform(self.texts)

    @cached_property
    def dense(self) -> np.ndarray:
        """Short vectors whose product says how alike two texts are."""
        if self.kind == "minilm":
            made = np.asarray(minilm()(self.texts), dtype=np.float32)
        else:
            from sklearn.decomposition import TruncatedSVD

            size = min(DENSE, self.words.shape[1] - 1, len(self.texts) - 1)
            if size < 2:
                made = self.words.toarray()
            else:
                made = TruncatedSVD(size, n_iter=3, random_state=self.seed).fit_transform(self.words)
        made = made.astype(np.float32)
        return made / np.maximum(np.linalg.norm(made, axis=1, keepdims=True), 1e-9)

    @property
    def main(self) -> Any:
        """What the model for pre-labels reads."""
        return self.dense if self.kind == "minilm" else self.words
