"""Pairs of texts that are nearly the same: MinHash bands propose, the true Jaccard similarity decides.

What is compared: sets of hashed shingles of normalised text. A text of 16 words or more is its word 3-shingles; a text
of fewer than 20 words is its character 4-shingles (one changed word in a ten-word question already breaks a third of
its word shingles). Texts of 16 to 19 words are looked at both ways, so that no pair is lost at the border: at a
Jaccard of 0.8 two sets differ in size by at most a fifth. Languages written without spaces count as few words.

Everything is arithmetic on arrays: the same texts give the same pairs in every process, on every machine.
Source: Broder 1997 (MinHash); Leskovec, Rajaraman, Ullman, "Mining of Massive Datasets", chapter 3 (banding).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

__all__ = ["NearPairs", "near_pairs", "bands_for", "recall_at", "shingle_sets"]

LONG_WORDS, SHORT_WORDS = 16, 20
"""Word shingles from LONG_WORDS words on; character shingles below SHORT_WORDS words."""
BLOCK_CHARS = 500_000
"""Texts are read in blocks of about this many characters, which bounds memory and fits the processor's cache."""
WHOLE_BUCKET = 65
"""All pairs of a bucket up to this size are compared; in a bigger one, each text with the next four and the first."""
LONGEST = 1_000_000
"""Of a longer text, only this many characters are compared."""
CHUNK_SHINGLES = 1_000_000
"""Pairs are compared in chunks of about this many shingles."""


@dataclass(frozen=True, slots=True)
class NearPairs:
    """Verified pairs `left[i] < right[i]` (positions in the texts given) with their Jaccard similarity."""

    left: np.ndarray
    right: np.ndarray
    jaccard: np.ndarray
    recall: float
    """Chance that the bands propose a pair that lies exactly at the threshold; pairs above it are found more often."""
    skipped: int
    """At most this many proposed pairs were not compared, because thousands of texts fell into one bucket."""


def recall_at(jaccard: float, bands: int, rows: int) -> float:
    """The S-curve: chance that two sets of that similarity agree in all rows of at least one band."""
    return 1.0 - (1.0 - jaccard**rows) ** bands


def bands_for(threshold: float, recall: float = 0.9999, budget: int = 128) -> tuple[int, int]:
    """Fewest hash functions that reach the recall at the threshold, with as many rows a band as the budget allows.

    More rows a band propose fewer pairs that the verification must then throw away.
    """
    best = (budget, 1)
    for rows in range(1, budget + 1):
        enough = (bands for bands in range(1, budget // rows + 1) if recall_at(threshold, bands, rows) >= recall)
        best = next(((bands, rows) for bands in enough), best)
    return best


def near_pairs(
    texts: Sequence[str],
    *,
    threshold: float = 0.8,
    seed: int = 0,
    wanted: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
) -> NearPairs:
    """All pairs of normalised texts whose shingle sets have a Jaccard similarity of at least `threshold`.

    `wanted(left, right)` may rule out pairs before they are compared (for a search across two sets of texts).
    The texts are read twice, block by block; what is kept is 8 bytes a band and text, and the shingles of candidates.
    """
    bands, rows = bands_for(threshold)
    found: list[tuple[np.ndarray, np.ndarray]] = []
    skipped = 0
    words = np.fromiter((text.count(" ", 0, LONGEST) + 1 for text in texts), np.int64, len(texts))
    for by_word, members in ((True, np.flatnonzero(words >= LONG_WORDS)), (False, np.flatnonzero(words < SHORT_WORDS))):
        if len(members) < 2:
            continue
        keys = np.concatenate([
            _band_keys(*shingles, bands, rows, seed) for shingles in _shingle_blocks(texts, members, by_word)
        ])  # fmt: skip
        packed, left_out = _candidates(keys)
        del keys
        left, right = members[_left(packed)], members[_right(packed)]
        if wanted is not None:
            keep = wanted(left, right)
            left, right = left[keep], right[keep]
        jaccard = _jaccard(texts, left, right, by_word)
        near = jaccard >= threshold
        found.append((_pack(left[near], right[near]), jaccard[near]))
        skipped += left_out
    packed = np.concatenate([pair for pair, _ in found]) if found else np.zeros(0, np.uint64)
    jaccard = np.concatenate([value for _, value in found]) if found else np.zeros(0)
    order = np.lexsort((-jaccard, packed))  # a pair found both ways is listed once, with the higher value
    packed, jaccard = packed[order], jaccard[order]
    first = np.ones(len(packed), bool)
    first[1:] = packed[1:] != packed[:-1]
    packed = packed[first]
    return NearPairs(_left(packed), _right(packed), jaccard[first], recall_at(threshold, bands, rows), skipped)


def shingle_sets(texts: Sequence[str], by_word: bool) -> list[set[int]]:
    """The hashed shingles of each normalised text, for looking at a few of them."""
    return [
        set(part.tolist())
        for hashes, starts in _shingle_blocks(texts, np.arange(len(texts)), by_word)
        for part in np.split(hashes, starts[1:])
    ]


# shingles ---------------------------------------------------------------------------------------------------------


def _mix(x: np.ndarray) -> np.ndarray:
    """Scatter 64-bit numbers (the finaliser of SplitMix64)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


BASE = 0x9E3779B97F4A7C15
"""Odd, so that it has an inverse modulo 2^64: the hash of a word is then a difference of two prefix sums."""


@lru_cache(maxsize=2)
def _powers(size: int) -> tuple[np.ndarray, np.ndarray]:
    def powers(base: int) -> np.ndarray:
        factors = np.full(size, base, np.uint64)
        factors[:1] = 1
        return np.cumprod(factors, dtype=np.uint64)

    return powers(BASE), powers(pow(BASE, -1, 1 << 64))


def _blocks(texts: Sequence[str], members: np.ndarray) -> Iterator[list[str]]:
    block: list[str] = []
    size = 0
    for i in members.tolist():
        text = texts[i][:LONGEST]
        if block and size + len(text) > BLOCK_CHARS:
            yield block
            block, size = [], 0
        block.append(text)
        size += len(text) + 1
    if block:
        yield block


def _shingle_blocks(
    texts: Sequence[str], members: np.ndarray, by_word: bool
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For each block of texts: 32-bit hashes of all shingles, and where each text's begin. Every text has one or more.

    A shingle that occurs twice in a text is listed twice.
    """
    for block in _blocks(texts, members):
        hashes, owner = _word_shingles(block) if by_word else _char_shingles(block)
        yield hashes, np.searchsorted(owner, np.arange(len(block)))


def _codes(block: list[str]) -> np.ndarray:
    joined = "\n".join(block) + "\n"
    return np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), np.uint32)


def _char_shingles(block: list[str]) -> tuple[np.ndarray, np.ndarray]:
    codes = _codes([text.ljust(4) for text in block])
    letter = _mix(codes.astype(np.uint64) + np.uint64(1))
    owner = np.cumsum(codes == 10) - (codes == 10)
    whole = (owner[3:] == owner[:-3]) & (codes[3:] != 10)
    hashes = letter[3:].copy()
    for back, factor in ((2, 3), (1, 5), (0, 7)):
        hashes += letter[back : len(letter) - 3 + back] * np.uint64(pow(BASE, factor, 1 << 64))
    return (_mix(hashes[whole]) >> np.uint64(32)).astype(np.uint32), owner[3:][whole]


def _word_shingles(block: list[str]) -> tuple[np.ndarray, np.ndarray]:
    codes = _codes(block)
    power, inverse = (part[: len(codes)] for part in _powers(max(2 * BLOCK_CHARS, 1 << len(codes).bit_length())))
    prefix = np.zeros(len(codes) + 1, np.uint64)
    np.cumsum(_mix(codes.astype(np.uint64) + np.uint64(1)) * power, out=prefix[1:])
    ends = np.flatnonzero((codes == 32) | (codes == 10))
    starts = np.concatenate(([0], ends[:-1] + 1))
    word = _mix((prefix[ends] - prefix[starts]) * inverse[starts])
    last = codes[ends] == 10
    owner = np.cumsum(last) - last
    whole = owner[2:] == owner[:-2]
    factors = [np.uint64(pow(BASE, factor, 1 << 64)) for factor in (3, 5)]
    hashes = word[2:] + word[1:-1] * factors[0] + word[:-2] * factors[1]
    return (_mix(hashes[whole]) >> np.uint64(32)).astype(np.uint32), owner[2:][whole]


# bands ------------------------------------------------------------------------------------------------------------


def _band_keys(hashes: np.ndarray, starts: np.ndarray, bands: int, rows: int, seed: int) -> np.ndarray:
    """One 64-bit key a band for each text; two texts agree on it when they agree on the band's minima."""
    random = np.random.default_rng([0x6D696E68617368, seed])
    factors = random.integers(0, 1 << 32, bands * rows, dtype=np.uint32) | np.uint32(1)
    shifts = random.integers(0, 1 << 32, bands * rows, dtype=np.uint32)
    keys = np.zeros((len(starts), bands), np.uint64)
    for i, (factor, shift) in enumerate(zip(factors, shifts)):
        minimum = np.minimum.reduceat(hashes * factor + shift, starts)
        keys[:, i // rows] = _mix((keys[:, i // rows] << np.uint64(1)) + minimum + np.uint64(BASE))
    return keys


def _pack(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return (left.astype(np.uint64) << np.uint64(32)) | right.astype(np.uint64)


def _left(packed: np.ndarray) -> np.ndarray:
    return (packed >> np.uint64(32)).astype(np.int64)


def _right(packed: np.ndarray) -> np.ndarray:
    return (packed & np.uint64(0xFFFFFFFF)).astype(np.int64)


def _candidates(keys: np.ndarray) -> tuple[np.ndarray, int]:
    """Pairs that share a band, packed and sorted, and how many were left out of oversized buckets.

    Each band's keys are sorted, so that a bucket is a run of equal keys; within a bucket texts lie in the order of the
    next band's key, so that an oversized bucket has other neighbours in each band.
    """
    packed = np.zeros(0, np.uint64)
    skipped = 0
    for band in range(keys.shape[1]):
        column, following = keys[:, band], keys[:, (band + 1) % keys.shape[1]]
        ordered = np.sort(column)
        shared = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
        if not len(shared):
            continue
        place = np.minimum(np.searchsorted(shared, column), len(shared) - 1)
        rows = np.flatnonzero(shared[place] == column)
        rows = rows[np.lexsort((following[rows], place[rows]))]
        sizes = np.bincount(place[rows])
        bucket = np.repeat(np.arange(len(sizes)), sizes)
        begin = np.repeat(np.cumsum(sizes) - sizes, sizes)
        small = sizes[bucket] <= WHOLE_BUCKET
        pairs = []
        for distance in range(1, min(WHOLE_BUCKET, len(rows))):
            together = bucket[distance:] == bucket[:-distance]
            if distance > 4:
                together &= small[distance:]
            if not together.any():
                break
            pairs.append((rows[:-distance][together], rows[distance:][together]))
        far = np.flatnonzero(~small & (np.arange(len(rows)) - begin > 4))
        pairs.append((rows[begin[far]], rows[far]))
        a, b = (np.concatenate(side) for side in zip(*pairs))
        skipped += int((sizes * (sizes - 1) // 2).sum()) - len(a)
        packed = np.union1d(packed, _pack(np.minimum(a, b), np.maximum(a, b)))
    return packed, skipped


def _jaccard(texts: Sequence[str], left: np.ndarray, right: np.ndarray, by_word: bool) -> np.ndarray:
    """Jaccard similarity of the shingle sets of each pair."""
    members = np.unique(np.concatenate((left, right)))
    sets, sizes = [np.zeros(0, np.uint32)], [np.zeros(0, np.int64)]
    for hashes, starts in _shingle_blocks(texts, members, by_word):
        owner = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(hashes))))
        distinct = np.unique(_pack(owner, hashes))
        sets.append((distinct & np.uint64(0xFFFFFFFF)).astype(np.uint32))
        sizes.append(np.bincount(_left(distinct), minlength=len(starts)))
    values, size = np.concatenate(sets), np.concatenate(sizes)
    offset = np.cumsum(size) - size
    a, b = np.searchsorted(members, left), np.searchsorted(members, right)
    shared = np.zeros(len(left), np.int64)
    work = np.cumsum(size[a] + size[b])
    begin = 0
    while begin < len(left):
        limit = (work[begin - 1] if begin else 0) + CHUNK_SHINGLES
        end = max(begin + 1, int(np.searchsorted(work, limit, "right")))
        rows = np.concatenate((a[begin:end], b[begin:end]))
        pair = np.concatenate((np.arange(end - begin),) * 2)
        length = size[rows]
        index = np.repeat(offset[rows] - (np.cumsum(length) - length), length) + np.arange(length.sum())
        both = np.sort(_pack(np.repeat(pair, length), values[index]))
        twice = _left(both[1:][both[1:] == both[:-1]])
        shared[begin:end] = np.bincount(twice, minlength=end - begin)
        begin = end
    return shared / np.maximum(size[a] + size[b] - shared, 1)
