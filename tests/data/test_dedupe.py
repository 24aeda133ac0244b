"""Duplicates: what counts as one, what is found, and that nothing else decides it."""

import hashlib
import os
import random
import subprocess
import sys
import time
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attune.data.dedupe import cross_duplicates, duplicate_clusters, normalise
from attune.data.minhash import bands_for, near_pairs, recall_at, shingle_sets

WORDS = "card bank transfer fee limit refund branch order parcel invoice salary rent pension travel".split()


def sentence(rng: random.Random, words: int) -> str:
    return " ".join(f"{rng.choice(WORDS)}{rng.randrange(200)}" for _ in range(words))


def partition(ids: np.ndarray) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(ids == one).tolist()) for one in set(ids.tolist())}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  Where's my CARD?! ", "where's my card"),
        ("Ｆｕｌｌ　width", "full width"),
        ("Straße", "strasse"),
        ("«Bonjour», dit-il.", "bonjour dit-il"),
        ("great 👍", "great 👍"),
        ("C++ or C#", "c++ or c"),
        ("?!", "?!"),
        ("", ""),
    ],
)
def test_normalise(text: str, expected: str) -> None:
    assert normalise(text) == expected


@given(st.text())
def test_normalise_has_no_other_spaces_and_ignores_spacing(text: str) -> None:
    normal = normalise(text)
    assert normal == " ".join(normal.split())
    assert normalise(f"\t{text}\n") == normal


def test_kinds_of_links_and_counts() -> None:
    long = sentence(random.Random(1), 60)
    other = long.split()
    other[30] = "changed"
    texts = ["Hello there", "hello  there!", "Hello there", long, " ".join(other), "something else", "Hello there"]
    found = duplicate_clusters(texts)
    assert found.ids.tolist() == [0, 0, 0, 3, 3, 5, 0]
    assert found.same.tolist() == [0, 0, 0, 3, 4, 5, 0]
    assert sorted(zip(found.links.tolist(), found.kind.tolist())) == [
        ([0, 1], 1),
        ([0, 2], 0),
        ([0, 6], 0),
        ([3, 4], 2),
    ]
    assert found.jaccard.min() == pytest.approx(55 / 61)
    assert found.counts == {"exact": 2, "normalised": 1, "near": 1, "rows": 7, "clusters": 2, "largest": 4}
    assert duplicate_clusters(texts, near=False).ids.tolist() == [0, 0, 0, 3, 4, 5, 0]


@pytest.mark.parametrize("texts", [[], ["one"], ["", ""], ["a", "b"], ["x" * 300_000] * 2, ["\ud800 lone", "né"]])
def test_small_and_odd_inputs(texts: list[str]) -> None:
    found = duplicate_clusters(texts)
    assert len(found.ids) == len(texts)
    assert len(set(found.ids.tolist())) == len(set(texts))


@pytest.mark.parametrize(
    ("a", "b", "near"),
    [
        ("My card hasn't arrived yet.", "My card hasn't arived yet", True),
        ("how do i activate my new card today", "how do i cancel my new card today", False),
        (
            "私のカードがまだ届いていませんがどうすればいいです",
            "私のカードがまだ届いていませんがどうすればいいですか",
            True,
        ),
        ("ok", "no", False),
    ],
)
def test_short_texts_are_compared_by_characters(a: str, b: str, near: bool) -> None:
    assert (duplicate_clusters([a, b]).ids.tolist() == [0, 0]) is near


@pytest.mark.parametrize("size", range(12, 26))
def test_no_pair_is_lost_at_the_border_of_short_and_long(size: int) -> None:
    """One word appended: similarity is above 0.8 by either kind of shingle from 13 words on."""
    text = sentence(random.Random(size), size)
    assert duplicate_clusters([text, text + " a"]).ids.tolist() == [0, 0]


def jaccard(a: str, b: str) -> float:
    """The plain definition, on words, independent of the code under test."""
    one, two = ({tuple(words[i : i + 3]) for i in range(len(words) - 2)} for words in (a.split(), b.split()))
    return len(one & two) / len(one | two)


def altered(text: str, rng: random.Random, words: int) -> str:
    parts = text.split()
    for place in rng.sample(range(len(parts)), words):
        parts[place] = f"new{rng.randrange(10**9)}"
    return " ".join(parts)


def test_verified_pairs_equal_brute_force_and_datasketch_finds_no_other() -> None:
    from datasketch import MinHash, MinHashLSH

    rng = random.Random(3)
    base = [sentence(rng, rng.randrange(20, 90)) for _ in range(150)]
    texts = base + [altered(text, rng, rng.randrange(1, 5)) for text in base]
    true = {
        (i, j): value
        for i in range(len(texts))
        for j in range(i + 1, len(texts))
        if (value := jaccard(texts[i], texts[j])) >= 0.8
    }
    assert len(true) > 50
    found = near_pairs(texts)
    pairs = dict(zip(zip(found.left.tolist(), found.right.tolist()), found.jaccard.tolist()))
    assert pairs == pytest.approx(true)

    lsh = MinHashLSH(params=(18, 5), num_perm=90)
    hashes = []
    for i, text in enumerate(texts):
        words = text.split()
        minhash = MinHash(num_perm=90)
        minhash.update_batch([" ".join(words[k : k + 3]).encode() for k in range(len(words) - 2)])
        lsh.insert(i, minhash)
        hashes.append(minhash)
    theirs = {(i, j) for i, one in enumerate(hashes) for j in lsh.query(one) if i < j}
    assert {pair for pair in theirs if jaccard(texts[pair[0]], texts[pair[1]]) >= 0.8} <= set(pairs)


def test_hashed_shingles_are_as_many_as_the_shingles() -> None:
    text = "to be or not to be that is the question to be or not to be so be it"
    words = text.split()
    assert len(shingle_sets([text], True)[0]) == len({tuple(words[i : i + 3]) for i in range(len(words) - 2)})
    assert len(shingle_sets([text], False)[0]) == len({text[i : i + 4] for i in range(len(text) - 3)})
    # a word's hash does not depend on where in the block it stands
    first, second = shingle_sets(["a different beginning " + text, text], True)
    assert second < first


def test_recall_is_what_the_curve_says() -> None:
    bands, rows = bands_for(0.8)
    assert (bands, rows) == (24, 5)
    assert recall_at(0.8, bands, rows) == pytest.approx(1 - (1 - 0.8**5) ** 24)
    assert bands_for(1.0)[0] == 1
    rng = random.Random(4)
    base = [sentence(rng, 60) for _ in range(1500)]
    texts = base + [altered(text, rng, 2) for text in base]
    near = {i for i, text in enumerate(base) if jaccard(text, texts[1500 + i]) >= 0.8}
    found = near_pairs(texts)
    hit = {i for i, j in zip(found.left.tolist(), found.right.tolist()) if j == i + 1500}
    assert hit <= near and len(hit) >= 0.997 * len(near) > 1000
    assert found.recall > 0.9999


def test_an_oversized_bucket_is_bounded_and_said() -> None:
    rng = random.Random(5)
    template = sentence(rng, 80)
    texts = [f"{template} {i}" for i in range(400)]
    found = duplicate_clusters(texts)
    assert len(set(found.ids.tolist())) == 1
    assert found.skipped > 0
    assert len(found.links) < 400 * 399 // 2


def test_cross_duplicates_by_kind() -> None:
    long = sentence(random.Random(6), 50)
    queries = ["Hi there", "HI, there", altered(long, random.Random(7), 1), "nothing like it"]
    corpus = ["Hi there", long, long, "another text", "another text"]
    found = cross_duplicates(queries, corpus)
    assert [(match.query, match.corpus, match.kind) for match in found] == [
        (0, 0, "exact"),
        (1, 0, "normalised"),
        (2, 1, "near"),
        (2, 2, "near"),
    ]
    assert found[2].jaccard == pytest.approx(jaccard(queries[2], long))
    assert [match.kind for match in cross_duplicates(queries, corpus, near=False)] == ["exact", "normalised"]
    assert cross_duplicates([], corpus) == [] == cross_duplicates(queries, [])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 40))
def test_order_of_rows_is_irrelevant(seed: int, count: int) -> None:
    rng = random.Random(seed)
    texts = [sentence(rng, rng.choice([3, 12, 18, 40])) for _ in range(count)]
    texts += [altered(rng.choice(texts), rng, 1) for _ in range(count)] + [rng.choice(texts).upper() for _ in range(3)]
    order = rng.sample(range(len(texts)), len(texts))
    straight = partition(duplicate_clusters(texts).ids)
    shuffled = partition(duplicate_clusters([texts[i] for i in order]).ids)
    assert {frozenset(order[i] for i in members) for members in shuffled} == straight


def test_same_in_every_process() -> None:
    code = """
import hashlib, random
from attune.data.dedupe import duplicate_clusters
rng = random.Random(8)
texts = [" ".join(f"w{rng.randrange(50)}" for _ in range(rng.choice([5, 18, 40]))) for _ in range(300)]
texts += [text + " end" for text in texts]
found = duplicate_clusters(texts)
print(hashlib.sha256(found.ids.tobytes() + found.links.tobytes() + found.jaccard.tobytes()).hexdigest())
"""
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(outputs) == 1 and len(outputs.pop().strip()) == hashlib.sha256().digest_size * 2


@given(st.text(alphabet="a-! é«»\t\n…"))
def test_punctuation_goes_from_word_borders_only(text: str) -> None:
    words = [word.strip("-!«»….") for word in unicodedata.normalize("NFKC", text).split()]
    assert normalise(text) in (" ".join(filter(None, words)), " ".join(unicodedata.normalize("NFKC", text).split()))


def test_normalise_takes_linear_time() -> None:
    start = time.process_time()
    normalise("a" + "-" * 1_000_000 + "b")
    assert time.process_time() - start < 5
