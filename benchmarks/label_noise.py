"""Banking77 with 100 labels flipped at random: how many of them stand in the first 200 rows to re-check.

    python benchmarks/label_noise.py [--seeds 0 1 2] [--embeddings]

Needs the real data (ATTUNE_SHARED, default ../shared); --embeddings needs the extra `offline` (a minute on one core).
"""

from __future__ import annotations

import argparse
import os
import random
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from attune.data import embeddings, noise
from attune.data.sources import load_records

FLIPPED, TOP, NEEDED = 100, 200, 70


def flipped(labels: list[str], seed: int, count: int) -> tuple[list[str], set[int]]:
    """Labels of which `count` were replaced by another class, all equally likely, and which."""
    dice, classes, changed = random.Random(seed), sorted(set(labels)), list(labels)
    rows = dice.sample(range(len(labels)), count)
    for row in rows:
        changed[row] = dice.choice([label for label in classes if label != labels[row]])
    return changed, set(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--embeddings", action="store_true", help="also with MiniLM embeddings")
    options = parser.parse_args()
    shared = Path(os.environ.get("ATTUNE_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    records = load_records(shared / "data" / "banking77" / "train.csv").records
    texts, labels = [record.text for record in records], [str(record.label) for record in records]
    print(f"Banking77 train: {len(texts):,} rows, {len(set(labels))} classes; {FLIPPED} labels flipped, top {TOP}")
    if options.embeddings:  # encoded once, however many seeds ask
        start = time.perf_counter()
        known = embeddings.minilm()(texts)
        print(f"MiniLM embeddings: {time.perf_counter() - start:.0f} s")
        embeddings.minilm = lambda: lambda asked: known  # type: ignore[assignment]
    worst = TOP
    for use in (False, True) if options.embeddings else (False,):
        for seed in options.seeds:
            changed, rows = flipped(labels, seed, FLIPPED)
            start = time.perf_counter()
            found = noise.find_label_noise(texts, changed, embeddings=use)
            seconds = time.perf_counter() - start
            first = [suspect.row for suspect in found.suspects]
            hits, early = len(rows & set(first[:TOP])), len(rows & set(first[:FLIPPED]))
            worst = min(worst, hits)
            models = ", ".join(f"{name} {weight:.2f}" for name, weight in found.models.items())
            print(
                f"seed {seed}, {'with' if use else 'without'} embeddings: n {found.examined:,}, {hits} of {FLIPPED} in "
                f"the top {TOP} ({early} in the top {FLIPPED}), {len(found.confident)} counted as wrong, "
                f"agreement {found.agreement:.3f}, {seconds:.1f} s; {models}",
                flush=True,
            )
    print(f"worst {worst}, needed {NEEDED}: {'met' if worst >= NEEDED else 'not met'}")


if __name__ == "__main__":
    main()
