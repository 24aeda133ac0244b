"""Duplicates among texts: exact, normalised (case, spacing, punctuation at word borders) and near (verified Jaccard).

Deterministic: nothing depends on Python's hash seed, on the process, or (but for which row stands for its duplicates)
on the order of the rows.
"""

from __future__ import annotations

import hashlib
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from attune.data.minhash import NearPairs, Signer, signed_pairs
from attune.data.spool import Joined

__all__ = [
    "KINDS",
    "Clusters",
    "Match",
    "Prints",
    "normalise",
    "fingerprints",
    "duplicate_clusters",
    "cross_duplicates",
]

KINDS = ("exact", "normalised", "near")
"""How two texts are the same, strongest first; a link's `kind` is the position in this tuple."""


@cache
def _marks(ascii_only: bool) -> str:
    """All punctuation. Symbols (+, $, emoji) carry meaning and are not punctuation to Unicode."""
    chars = map(chr, range(128 if ascii_only else sys.maxunicode + 1))
    return "".join(char for char in chars if unicodedata.category(char)[0] == "P")


def normalise(text: str) -> str:
    """The text without what a copy changes: Unicode form, case, spacing, punctuation at the borders of words.

    NFKC, casefold, words joined by one space. A text that is nothing but punctuation keeps it.
    """
    if text.isascii():
        text = text.lower()
    else:
        text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    marks = _marks(text.isascii())
    words = text.split()
    return " ".join([plain for word in words if (plain := word.strip(marks))]) or " ".join(words)


def digest(text: str) -> bytes:
    """16 bytes that stand for the text."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


@dataclass(slots=True)
class Prints:
    """What is kept of each text once it has passed by: 32 bytes, and 8 a band where near duplicates are looked for."""

    exact: bytearray
    """16 bytes a row: the digest of the text as it is."""
    normal: bytearray
    """16 bytes a row: the digest of the normalised text."""
    signer: Signer | None

    def exact_key(self, row: int) -> str:
        return self.exact[16 * row : 16 * row + 16].hex()

    def normal_key(self, row: int) -> str:
        return self.normal[16 * row : 16 * row + 16].hex()

    def forget_bands(self) -> None:
        """Free what only the near search needs."""
        self.signer = None


def fingerprints(texts: Iterable[str], *, near: bool = True, threshold: float = 0.8, seed: int = 0) -> Prints:
    """Everything that duplicate search wants to know, in one pass over texts that may come from anywhere."""
    exact, normal = bytearray(), bytearray()
    signer = Signer(threshold, seed) if near else None
    for text in texts:
        exact += digest(text)
        plain = normalise(text)
        normal += digest(plain)
        if signer is not None:
            signer.add(plain)
    return Prints(exact, normal, signer)


def same_texts(texts: Iterable[str], *, normalised: bool) -> np.ndarray:
    """[rows] Position of the first row with the same text."""
    digests = bytearray()
    for text in texts:
        digests += digest(normalise(text) if normalised else text)
    firsts, group = first_rows(digests)
    return firsts[group]


class _Normalised(Sequence[str]):
    """Chosen rows of some texts, normalised each time they are read: costs time twice, and memory never."""

    def __init__(self, texts: Sequence[str], rows: np.ndarray):
        self.texts, self.rows = texts, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        return normalise(self.texts[int(self.rows[index])])


@dataclass(frozen=True, slots=True)
class Clusters:
    """Which rows are copies of one another, and by which links."""

    ids: np.ndarray
    """[rows] The cluster of each row: the position of its first row."""
    exact: np.ndarray
    """[rows] Position of the first row with the very same text."""
    same: np.ndarray
    """[rows] Position of the first row with the same normalised text."""
    links: np.ndarray
    """[links, 2] Pairs of rows, the earlier first. Exact and normalised copies are linked to their first row;
    near links join such first rows, all of them that were found."""
    kind: np.ndarray
    """[links] Position in KINDS."""
    jaccard: np.ndarray
    """[links] 1 for exact and normalised links."""
    estimated_recall: float
    """Chance that the near search finds a pair exactly at the threshold (1 when it was not asked for)."""
    skipped: int = 0
    """At most this many near candidates were not compared; see `attune.data.minhash`."""

    @property
    def counts(self) -> dict[str, int]:
        """Rows that copy an earlier one, by their strongest link, and the size of it all."""
        _, sizes = np.unique(self.ids, return_counts=True)
        copies, strongest = np.unique(self.links[:, 1], return_inverse=True)
        best = np.full(len(copies), len(KINDS))
        np.minimum.at(best, strongest, self.kind)
        by_kind = {name: int((best == number).sum()) for number, name in enumerate(KINDS)}
        repeated = sizes[sizes > 1]
        largest = int(sizes.max()) if len(sizes) else 0
        return {**by_kind, "rows": len(self.ids), "clusters": len(repeated), "largest": largest}


def first_rows(digests: bytes | bytearray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct digests' first rows, in the order of the digests, and for each row the position in that list."""
    halves = np.frombuffer(bytes(digests), ">u8").astype(np.uint64).reshape(-1, 2)
    order = np.lexsort((np.arange(len(halves)), halves[:, 1], halves[:, 0]))
    ordered = halves[order]
    new = np.ones(len(order), bool)
    new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    group = np.empty(len(order), np.int64)
    group[order] = np.cumsum(new) - 1
    return order[new], group


def duplicate_clusters(
    texts: Sequence[str],
    *,
    near: bool = True,
    threshold: float = 0.8,
    seed: int = 0,
    prints: Prints | None = None,
) -> Clusters:
    """Group texts that are exact, normalised or near duplicates of one another, directly or through others.

    `prints` are those of `fingerprints` with the same options, where the caller has them already.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    prints = prints or fingerprints(texts, near=near, threshold=threshold, seed=seed)
    firsts, group = first_rows(prints.exact)
    exact = firsts[group]
    firsts, group = first_rows(prints.normal)
    same = firsts[group]
    rows = np.arange(len(texts))
    copies = rows[exact != rows]
    variants = rows[(exact == rows) & (same != rows)]
    pairs = NearPairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0), 1.0, 0)
    if near and prints.signer is not None:
        # In the order of the digests, not of the rows: shuffled rows give the same pairs.
        pairs = signed_pairs(prints.signer, _Normalised(texts, firsts), positions=firsts)
    a, b = firsts[pairs.left], firsts[pairs.right]
    links = np.concatenate((
        np.stack((exact[copies], copies), 1),
        np.stack((same[variants], variants), 1),
        np.stack((np.minimum(a, b), np.maximum(a, b)), 1),
    ))  # fmt: skip
    kind = np.repeat(np.arange(3), (len(copies), len(variants), len(a)))
    jaccard = np.concatenate((np.ones(len(copies) + len(variants)), pairs.jaccard))
    n = len(texts)
    graph = coo_array((np.ones(len(links), bool), (links[:, 0], links[:, 1])), shape=(n, n))
    label = connected_components(graph, directed=False)[1] if n else np.zeros(0, np.int64)
    _, first = np.unique(label, return_index=True)
    return Clusters(first[label], exact, same, links, kind, jaccard, pairs.recall, pairs.skipped)


class Match(NamedTuple):
    """One query that one corpus text duplicates."""

    query: int
    corpus: int
    kind: str
    jaccard: float


def cross_duplicates(
    queries: Sequence[str], corpus: Sequence[str], *, near: bool = True, threshold: float = 0.8, seed: int = 0
) -> list[Match]:
    """Every (query, corpus text) pair that is a duplicate, strongest kind each, in the order of the queries.

    The corpus is not compared with itself.
    """
    texts = Joined(queries, corpus)
    prints = fingerprints(texts, near=near, threshold=threshold, seed=seed)
    _, exact_group = first_rows(prints.exact)
    firsts, group = first_rows(prints.normal)
    n = len(queries)
    asked, stored = np.zeros((2, len(firsts)), bool)
    asked[group[:n]], stored[group[n:]] = True, True
    groups = np.flatnonzero(asked & stored)
    left, right, jaccard = groups, groups, np.ones(len(groups))
    if near and prints.signer is not None:
        pairs = signed_pairs(
            prints.signer,
            _Normalised(texts, firsts),
            positions=firsts,
            wanted=lambda a, b: (asked[a] & stored[b]) | (asked[b] & stored[a]),
        )
        left = np.concatenate((left, pairs.left, pairs.right))
        right = np.concatenate((right, pairs.right, pairs.left))
        jaccard = np.concatenate((jaccard, pairs.jaccard, pairs.jaccard))
    members = np.argsort(group, kind="stable")
    begin = np.searchsorted(group[members], np.arange(len(firsts) + 1))
    found = []
    for a, b, value in zip(left.tolist(), right.tolist(), jaccard.tolist()):
        ours = [row for row in members[begin[a] : begin[a + 1]].tolist() if row < n]
        theirs = [row for row in members[begin[b] : begin[b + 1]].tolist() if row >= n]
        for query in ours:
            for row in theirs:
                kind = 2 if a != b else 0 if exact_group[query] == exact_group[row] else 1
                found.append(Match(query, row - n, KINDS[kind], value))
    return sorted(found)
