"""Rows that say the same in other words."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from attune.data.duplicates.base import Copies, Deduplicate, Link
from attune.data.embeddings import minilm
from attune.data.spool import Texts
from attune.errors import DataError
from attune.plugins import Options
from attune.records import Record

if TYPE_CHECKING:
    import numpy as np

BATCH = 1024
BLOCK = 2048
MOST_PAIRS = 20_000_000


class SemanticDuplicates(Deduplicate):
    """Leaves out rows whose meaning, as the bundled MiniLM encoder sees it, is that of another row.

    The encoder reads the first 256 word pieces of a text, and was trained on English. About 30 to 200 short texts a
    second on two cores, so this is for thousands of rows rather than for millions; near_duplicates before it saves
    time.
    """

    name = "semantic_duplicates"
    measure = "cosine"

    class Config(Options):
        threshold: float = Field(default=0.95, ge=0.5, le=1.0)
        """From this cosine of their embeddings on two rows are the same. Below 0.9 rows of one topic begin to be."""

    def copies(self, train: Sequence[Record]) -> Copies:
        import numpy as np

        from attune.data.dedupe import same_texts

        texts = Texts(train)
        same = same_texts(texts, normalised=True)
        firsts = np.unique(same)
        with tempfile.TemporaryFile() as file:
            vectors = _embedded(texts, firsts, file)
            a, b, cosine = _alike(vectors, self.options.threshold)
        left, right = firsts[a], firsts[b]
        facts = {"distinct_texts": len(firsts), "pairs": len(left), "encoder": "all-MiniLM-L6-v2"}
        return Copies(same, _joined(same, left, right), left, right, cosine, facts)

    def reason(self, link: Link) -> str:
        return "means the same as another row"


def _embedded(texts: Sequence[str], rows: np.ndarray, file: Any) -> np.ndarray:
    """Unit embeddings, in a file rather than in memory. Shapes: [rows, 384] float32."""
    import numpy as np

    encode = minilm()
    width = len(encode(["x"])[0])
    vectors = np.memmap(file, np.float32, "w+", shape=(max(len(rows), 1), width))
    for start in range(0, len(rows), BATCH):
        block = [texts[row] for row in rows[start : start + BATCH].tolist()]
        found = encode(block)
        vectors[start : start + len(block)] = found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
    return vectors[: len(rows)]


def _alike(vectors: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs i < j with a cosine of at least `threshold`. Memory: two blocks of vectors and their product."""
    import numpy as np

    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for first, second, product in _products(vectors):
        i, j = np.nonzero(product >= threshold - 1e-6)
        value = np.minimum(product[i, j], 1.0)
        i, j = i + first, j + second
        later = i < j
        found.append((i[later], j[later], value[later]))
        if sum(len(pairs[0]) for pairs in found) > MOST_PAIRS:
            raise DataError(
                f"more than {MOST_PAIRS:,} pairs of rows mean the same at threshold {threshold:g}",
                fix="raise the threshold of semantic_duplicates, or let near_duplicates go first",
            )
    if not found:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
    left, right, value = (np.concatenate(part) for part in zip(*found))
    order = np.lexsort((right, left))
    return left[order], right[order], value[order]


def _products(vectors: np.ndarray) -> Iterator[tuple[int, int, np.ndarray]]:
    import numpy as np

    for first in range(0, len(vectors), BLOCK):
        rows = np.asarray(vectors[first : first + BLOCK])
        for second in range(first, len(vectors), BLOCK):
            yield first, second, rows @ np.asarray(vectors[second : second + BLOCK]).T


def _joined(same: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """[rows] a number for each set of rows that pairs or equal texts join."""
    import numpy as np
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = len(same)
    rows, columns = np.concatenate((np.arange(n), left)), np.concatenate((same, right))
    graph = coo_array((np.ones(len(rows), bool), (rows, columns)), shape=(n, n))
    return connected_components(graph, directed=False)[1].astype(np.int64)
