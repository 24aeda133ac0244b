"""Texts as numbers for the desk's own small models: TF-IDF, a dense summary of it, and predictions out of fold."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

__all__ = ["tfidf", "condensed", "text_folds", "ridge_out_of_fold"]

VOCABULARY = 60_000
SPACELESS = (
    ("\u0e00", "\u0eff"),
    ("\u1000", "\u109f"),
    ("\u1780", "\u17ff"),
    ("\u3040", "\u30ff"),
    ("\u3400", "\u9fff"),
)
"""Scripts that write words without blanks between them: Thai, Lao, Burmese, Khmer, Japanese, Chinese."""


def tfidf(texts: Sequence[str]) -> Any | None:
    """Sparse rows of unit length over words and pairs of words; over characters where words have no blanks between.
    None if there is not one word. Shapes: [N, vocabulary]."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    sample = "".join(texts[row][:200] for row in range(0, len(texts), max(1, len(texts) // 500)))
    spaceless = sum(any(low <= char <= high for low, high in SPACELESS) for char in sample) > 0.3 * len(sample)
    shape: dict[str, Any] = {"ngram_range": (1, 2), "token_pattern": r"(?u)\b\w+\b"}
    if spaceless:
        shape = {"analyzer": "char", "ngram_range": (1, 3)}
    for rarest in (2, 1):
        maker = TfidfVectorizer(sublinear_tf=True, min_df=rarest, max_features=VOCABULARY, **shape)
        try:
            return maker.fit_transform(texts)
        except ValueError:  # no word is left
            continue
    return None


def condensed(matrix: Any, width: int = 256) -> np.ndarray:
    """The `width` directions that hold most of a sparse matrix. Shapes: [N, width], less for few rows or words."""
    import numpy as np
    from sklearn.decomposition import TruncatedSVD

    width = min(width, min(matrix.shape) - 1)
    if width < 1:
        return matrix.toarray()
    with np.errstate(divide="ignore", invalid="ignore"):  # rows that are all the same have no variance to explain
        return TruncatedSVD(width, n_iter=3, random_state=0).fit_transform(matrix)


def text_folds(texts: Sequence[str], strata: Sequence[str], folds: int = 5) -> np.ndarray:
    """The fold of each row: equal texts share one, each stratum is spread evenly, and the order of rows is without
    influence. Shapes: [N]."""
    import numpy as np

    from attune.data.dedupe import normalise

    keys = [
        hashlib.blake2b(normalise(text).encode("utf-8", "surrogatepass"), digest_size=16).digest() for text in texts
    ]
    fold: dict[bytes, int] = {}
    for row in sorted(range(len(texts)), key=lambda row: (strata[row], keys[row])):
        fold.setdefault(keys[row], len(fold) % folds)
    return np.array([fold[key] for key in keys], dtype=np.int64)


def ridge_out_of_fold(features: np.ndarray, targets: np.ndarray, folds: np.ndarray, strength: float) -> np.ndarray:
    """What a ridge regression that never saw the row's fold says of each row. Shapes: [N, d], [N, C], [N] -> [N, C]."""
    import numpy as np

    rows = np.hstack([features.astype(np.float64), np.ones((len(features), 1))])
    gram, moment = rows.T @ rows, rows.T @ targets
    out = np.zeros(targets.shape, dtype=np.float64)
    for fold in np.unique(folds):
        held = rows[folds == fold]
        own_gram, own_moment = held.T @ held, held.T @ targets[folds == fold]
        out[folds == fold] = held @ np.linalg.solve(gram - own_gram + strength * np.eye(len(gram)), moment - own_moment)
    return out
