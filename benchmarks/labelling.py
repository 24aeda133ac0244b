"""Labels needed until the TF-IDF model reaches 90 % of its macro-F1 on all labels: by chance, by doubt, and mixed.

    python benchmarks/labelling.py [--classes 20] [--seeds 3] [--strategies random,uncertainty,mixed]

Rows are Banking77 queries of the first classes by name where ATTUNE_SHARED has them, and otherwise the claims of
`examples/claims`. A round asks for a tenth of what is labelled, at least 10; the test set is the one of the data.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from attune.data.label.features import Features
from attune.data.label.ranking import rank
from attune.data.sources import load_records

ROOT = Path(__file__).resolve().parent.parent


def data(classes: int) -> tuple[str, list[tuple[str, str]], list[tuple[str, str]]]:
    """Name of the data, and (text, label) of train and test."""
    shared = Path(os.environ.get("ATTUNE_SHARED", ROOT / ".." / "shared")) / "data" / "banking77"
    folder, name, columns, target = shared, "Banking77", {}, "category"
    if not shared.is_dir():
        folder, name, columns, target = ROOT / "examples" / "claims", "claims", {"text": "note"}, "decision"
    parts = []
    for part in ("train", "test"):
        found = load_records(folder / f"{part}.csv", columns=columns, target=target).records
        parts.append([(record.text, str(record.label)) for record in found])
    kept = set(sorted({label for _, label in parts[0]})[:classes])
    train, test = ([row for row in part if row[1] in kept] for part in parts)
    return f"{name}, {len(kept)} classes, {len(train)} train, {len(test)} test rows", train, test


def macro_f1(texts: list[str], labels: list[str], test: list[tuple[str, str]]) -> float:
    """Of the plain model that is fitted on nothing but these."""
    words = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), strip_accents="unicode")
    known = words.fit_transform(texts)
    if len(set(labels)) < 2:
        return 0.0
    model = LogisticRegression(C=10, max_iter=100, tol=1e-3).fit(known, labels)
    answers = model.predict(words.transform([text for text, _ in test]))
    return f1_score([label for _, label in test], answers, average="macro")


def labels_needed(
    features: Features, truth: list[str], test: list[tuple[str, str]], goal: float, strategy: str, seed: int
) -> int:
    """Labelled texts when the goal is first reached; between two rounds, by a straight line."""
    names = tuple(sorted(set(truth)))
    chosen: list[int] = []
    before = (0, 0.0)
    while len(chosen) < len(truth):
        done = np.array(chosen, dtype=np.int64)
        left = np.setdiff1d(np.arange(len(truth)), done)
        n = max(10, len(chosen) // 10)
        made = rank(features, done, [truth[row] for row in chosen], names, left, strategy=strategy, n=n, seed=seed)
        chosen += [choice.row for choice in made.choices]
        reached = macro_f1([features.texts[row] for row in chosen], [truth[row] for row in chosen], test)
        if reached >= goal:
            share = (goal - before[1]) / (reached - before[1])
            return round(before[0] + share * (len(chosen) - before[0]))
        before = (len(chosen), reached)
    return len(truth)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--strategies", default="random,uncertainty,mixed")
    parser.add_argument("--features", default="tfidf", choices=["tfidf", "minilm"])
    options = parser.parse_args()
    start = time.perf_counter()
    name, train, test = data(options.classes)
    texts, truth = [text for text, _ in train], [label for _, label in train]
    full = macro_f1(texts, truth, test)
    goal = 0.9 * full
    print(f"{name}; macro-F1 on all labels {full:.4f}, goal {goal:.4f}")
    print(f"{'strategy':<12} {'labels needed, by seed':<28} {'mean':>6} {'of train':>9} {'of chance':>10}")
    chance = None
    for strategy in options.strategies.split(","):
        needed = []
        for seed in range(options.seeds):
            order = np.random.default_rng(seed).permutation(len(texts))
            features = Features([texts[row] for row in order], options.features, seed)
            needed.append(labels_needed(features, [truth[row] for row in order], test, goal, strategy, seed))
        mean = float(np.mean(needed))
        chance = mean if strategy == "random" else chance
        against = f"{mean / chance:>9.0%}" if chance else ""
        print(f"{strategy:<12} {', '.join(map(str, needed)):<28} {mean:>6.0f} {mean / len(texts):>8.1%} {against}")
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
