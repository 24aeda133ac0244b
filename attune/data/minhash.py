"""Pairs of texts that are nearly the same: MinHash bands propose, the true Jaccard similarity decides.

What is compared: sets of hashed shingles of normalised text. A text of 16 words or more is its word 3-shingles; a text
of fewer than 20 words is its character 4-shingles (one changed word in a ten-word question already breaks a third of
its word shingles). Texts of 16 to 19 words are looked at both ways, so that no pair is lost at the border: at a
Jaccard of 0.8 two sets differ in size by at most a fifth. Languages written without spaces count as few words.

A text is looked at once, when a Signer makes its band keys (8 bytes a band); only candidates are read again.
Everything is arithmetic on arrays: the same texts give the same pairs in every process, on every machine.
Source: Broder 1997 (MinHash); Leskovec, Rajaraman, Ullman, "Mining of Massive Datasets", chapter 3 (banding).
"""

from __future__ import annotations

import os
import tempfile
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import IO

import numpy as np

__all__ = ["NearPairs", "Signer", "near_pairs", "signed_pairs", "bands_for", "recall_at", "shingle_sets", "word_grams"]

LONG_WORDS, SHORT_WORDS = 16, 20
"""Word shingles from LONG_WORDS words on; character shingles below SHORT_WORDS words."""
BLOCK_CHARS = 500_000
"""Texts are read in blocks of about this many characters, which bounds memory and fits the processor's cache."""
WHOLE_BUCKET = 65
"""All pairs of a bucket up to this size are compared; in a bigger one, each text with the next four and the first."""
LONGEST = 1_000_000
"""Of a longer text, only this many characters are compared."""
KEYS_IN_MEMORY = 128 << 20
"""Bytes of band keys that are kept in memory; more of them (about 900,000 texts) go to a temporary file."""
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


class Signer:
    """Band keys of normalised texts, made as they pass by in their order: near-equal texts share one of them."""

    def __init__(self, threshold: float = 0.8, seed: int = 0):
        self.threshold, self.seed = threshold, seed
        self.bands, self.rows = bands_for(threshold)
        self.count = 0
        self._kinds = (_Half(True, self), _Half(False, self))

    def add(self, text: str) -> None:
        words = text.count(" ", 0, LONGEST) + 1
        if words >= LONG_WORDS:
            self._kinds[0].add(self.count, text)
        if words < SHORT_WORDS:
            self._kinds[1].add(self.count, text)
        self.count += 1

    def halves(self) -> tuple[_Half, _Half]:
        """The keys of the longer texts and of the shorter ones. Nothing can be added after that without being lost."""
        for half in self._kinds:
            half.flush()
        return self._kinds


class _Half:
    """The texts of a Signer that are compared in one of the two ways. What does not fit in memory lies on disk."""

    def __init__(self, by_word: bool, signer: Signer):
        self.by_word, self.signer = by_word, signer
        self.members = array("q")
        self._keys: list[np.ndarray | tuple[int, int]] = []
        """Blocks of [bands, texts], or where such a block lies in the file and how many texts it has."""
        self._bytes = 0
        self._file: IO[bytes] | None = None
        self._block: list[str] = []
        self._chars = 0

    def add(self, position: int, text: str) -> None:
        if self._block and self._chars + len(text) > BLOCK_CHARS:
            self.flush()
        self.members.append(position)
        self._block.append(text[:LONGEST])
        self._chars += len(text) + 1

    def flush(self) -> None:
        if self._block:
            hashes, starts = _shingles(self._block, self.by_word)
            keys = _band_keys(hashes, starts, self.signer.bands, self.signer.rows, self.signer.seed)
            self._bytes += keys.nbytes
            if self._bytes <= KEYS_IN_MEMORY:
                self._keys.append(keys)
            else:
                self._file = self._file or tempfile.TemporaryFile(prefix="attune-bands-")
                self._keys.append((self._file.seek(0, os.SEEK_END), keys.shape[1]))
                self._file.write(keys.tobytes())
        self._block, self._chars = [], 0

    def band(self, number: int) -> np.ndarray:
        """One band's keys, in the order of `members`."""
        return np.concatenate([
            self._read(*keys, number) if isinstance(keys, tuple) else keys[number] for keys in self._keys
        ])  # fmt: skip

    def _read(self, start: int, texts: int, band: int) -> np.ndarray:
        assert self._file is not None
        self._file.seek(start + 8 * texts * band)
        return np.frombuffer(self._file.read(8 * texts), np.uint64)


def near_pairs(
    texts: Sequence[str],
    *,
    threshold: float = 0.8,
    seed: int = 0,
    wanted: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
) -> NearPairs:
    """All pairs of normalised texts whose shingle sets have a Jaccard similarity of at least `threshold`.

    `wanted(left, right)` may rule out pairs before they are compared (for a search across two sets of texts).
    What is kept is 8 bytes a band and text, and the shingles of candidates, which are read a second time.
    """
    signer = Signer(threshold, seed)
    for text in texts:
        signer.add(text)
    return signed_pairs(signer, texts, wanted=wanted)


def signed_pairs(
    signer: Signer,
    texts: Sequence[str],
    *,
    positions: np.ndarray | None = None,
    wanted: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
) -> NearPairs:
    """As `near_pairs`, for texts that a Signer has seen.

    `positions`: text i is the one that the Signer saw as number positions[i] (others that it saw are left out).
    """
    found: list[tuple[np.ndarray, np.ndarray]] = []
    skipped = 0
    for half in signer.halves():
        members, chosen = _members(half, positions, signer.count)
        if len(members) < 2:
            continue
        packed, left_out = _candidates(half, chosen, signer.bands)
        left, right = members[_left(packed)], members[_right(packed)]
        if wanted is not None:
            keep = wanted(left, right)
            left, right = left[keep], right[keep]
        jaccard = _jaccard(texts, left, right, half.by_word)
        near = jaccard >= signer.threshold
        found.append((_pack(left[near], right[near]), jaccard[near]))
        skipped += left_out
    packed = np.concatenate([pair for pair, _ in found]) if found else np.zeros(0, np.uint64)
    jaccard = np.concatenate([value for _, value in found]) if found else np.zeros(0)
    order = np.lexsort((-jaccard, packed))  # a pair found both ways is listed once, with the higher value
    packed, jaccard = packed[order], jaccard[order]
    first = np.ones(len(packed), bool)
    first[1:] = packed[1:] != packed[:-1]
    packed = packed[first]
    recall = recall_at(signer.threshold, signer.bands, signer.rows)
    return NearPairs(_left(packed), _right(packed), jaccard[first], recall, skipped)


def _members(half: _Half, positions: np.ndarray | None, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The texts of one half, in ascending order of their position, and where each one's keys stand."""
    seen = np.frombuffer(half.members, np.int64) if half.members else np.zeros(0, np.int64)
    if positions is None:
        return seen, np.arange(len(seen))
    place = np.full(count, -1, np.int64)
    place[positions] = np.arange(len(positions))
    place = place[seen]
    chosen = np.argsort(place, kind="stable")[int((place < 0).sum()) :]
    return place[chosen], chosen


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
        yield _shingles(block, by_word)


def _shingles(block: list[str], by_word: bool) -> tuple[np.ndarray, np.ndarray]:
    hashes, owner = _word_shingles(block) if by_word else _char_shingles(block)
    return hashes, np.searchsorted(owner, np.arange(len(block)))


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
    hashes, owner = word_grams(block, 3)
    return (hashes >> np.uint64(32)).astype(np.uint32), owner


def word_grams(block: list[str], size: int) -> tuple[np.ndarray, np.ndarray]:
    """64-bit hashes of all runs of `size` words, and the position of the text each is from. A text has no newline and
    single spaces; one of fewer words has none."""
    codes = _codes(block)
    power, inverse = (part[: len(codes)] for part in _powers(max(2 * BLOCK_CHARS, 1 << len(codes).bit_length())))
    prefix = np.zeros(len(codes) + 1, np.uint64)
    np.cumsum(_mix(codes.astype(np.uint64) + np.uint64(1)) * power, out=prefix[1:])
    ends = np.flatnonzero((codes == 32) | (codes == 10))
    starts = np.concatenate(([0], ends[:-1] + 1))
    word = _mix((prefix[ends] - prefix[starts]) * inverse[starts])
    last = codes[ends] == 10
    owner = np.cumsum(last) - last
    if len(word) < size:
        return np.zeros(0, np.uint64), np.zeros(0, np.int64)
    whole = owner[size - 1 :] == owner[: len(owner) - size + 1]
    hashes = word[size - 1 :].copy()
    for back in range(1, size):
        factor = np.uint64(pow(BASE, 2 * back + 1, 1 << 64))
        hashes += word[size - 1 - back : len(word) - back] * factor
    return _mix(hashes[whole]), owner[size - 1 :][whole]


# bands ------------------------------------------------------------------------------------------------------------


def _band_keys(hashes: np.ndarray, starts: np.ndarray, bands: int, rows: int, seed: int) -> np.ndarray:
    """One 64-bit key a band for each text; two texts agree on it when they agree on the band's minima.

    Shapes: [bands, texts].
    """
    random = np.random.default_rng([0x6D696E68617368, seed])
    factors = random.integers(0, 1 << 32, bands * rows, dtype=np.uint32) | np.uint32(1)
    shifts = random.integers(0, 1 << 32, bands * rows, dtype=np.uint32)
    keys = np.zeros((bands, len(starts)), np.uint64)
    for i, (factor, shift) in enumerate(zip(factors, shifts)):
        minimum = np.minimum.reduceat(hashes * factor + shift, starts)
        keys[i // rows] = _mix((keys[i // rows] << np.uint64(1)) + minimum + np.uint64(BASE))
    return keys


def _pack(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return (left.astype(np.uint64) << np.uint64(32)) | right.astype(np.uint64)


def _left(packed: np.ndarray) -> np.ndarray:
    return (packed >> np.uint64(32)).astype(np.int64)


def _right(packed: np.ndarray) -> np.ndarray:
    return (packed & np.uint64(0xFFFFFFFF)).astype(np.int64)


def _candidates(half: _Half, chosen: np.ndarray, bands: int) -> tuple[np.ndarray, int]:
    """Pairs that share a band, packed and sorted, and how many were left out of oversized buckets.

    Each band's keys are sorted, so that a bucket is a run of equal keys; within a bucket texts lie in the order of the
    next band's key, so that an oversized bucket has other neighbours in each band.
    """
    packed = np.zeros(0, np.uint64)
    skipped = 0
    following = half.band(0)[chosen]
    for band in range(bands):
        column, following = following, half.band((band + 1) % bands)[chosen]
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
