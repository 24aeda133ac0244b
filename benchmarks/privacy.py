"""How much planted personal data the detectors find, what they hit that is none, and how fast they are.

    python benchmarks/privacy.py [--items N] [--group dev|held|last] [--seed N] [--misses N]

`recall`: planted values of which every letter and digit is covered by hits of the right kind. `precision`: hits of a
kind that lie on a planted value of that kind and reach at most three characters over it. Locales and formats of the
groups `held` and `last` were not looked at while the detectors were written; see `privacy_items.py`. Clean texts are
2,000 Banking77 queries where ATTUNE_SHARED has them.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent))
import privacy_items

from attune.data.privacy.find import find


class Score(NamedTuple):
    planted: int
    found: int
    hits: int
    right: int

    @property
    def recall(self) -> float:
        return self.found / max(1, self.planted)

    @property
    def precision(self) -> float:
        return self.right / max(1, self.hits)


def covered(item, hits: Sequence) -> bool:
    """Whether every letter and digit of the planted value lies in a hit of its kind."""
    inside = {at for hit in hits for at in range(hit.start, hit.end)}
    return all(at in inside for at in range(item.start, item.end) if item.text[at].isalnum())


def measure(
    items: Sequence, detect: Callable = find, *, kinds: Sequence[str], show: Callable = lambda *_: None
) -> dict[str, Score]:
    """Scores by kind. `show(what, item, hits)` gets every miss and every wrong hit."""
    counts: Counter = Counter()
    for item in items:
        hits = detect(item.text)
        counts[item.kind, "planted"] += 1
        mine = [hit for hit in hits if hit.kind == item.kind]
        if covered(item, mine):
            counts[item.kind, "found"] += 1
        else:
            show("missed", item, hits)
        for hit in hits:
            counts[hit.kind, "hits"] += 1
            over = max(item.start - hit.start, 0) + max(hit.end - item.end, 0)
            if hit.kind == item.kind and hit.start < item.end and item.start < hit.end and over <= 3:
                counts[hit.kind, "right"] += 1
            else:
                show(f"wrong {hit.kind} {item.text[hit.start : hit.end]!r}", item, hits)
    return {kind: Score(*(counts[kind, word] for word in ("planted", "found", "hits", "right"))) for kind in kinds}


def clean_texts(count: int = 2000) -> list[str]:
    """Real queries without personal data; an empty list where there are none."""
    path = Path(os.environ.get("ATTUNE_SHARED", "../shared")) / "data" / "banking77" / "train.csv"
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return [row["text"] for row in csv.DictReader(file)][:count]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=2000)
    parser.add_argument("--group", choices=("dev", "held", "last"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--misses", type=int, default=0, help="show this many misses and wrong hits")
    options = parser.parse_args()
    items = privacy_items.make(options.items, group=options.group, seed=options.seed)
    kinds = privacy_items.STRUCTURED + privacy_items.LOOSE
    left = options.misses

    def show(what: str, item, hits: Sequence) -> None:
        nonlocal left
        if left > 0:
            left -= 1
            print(
                f"{what} | {item.kind} {item.format} {item.locale} {item.text[item.start : item.end]!r} | {item.text!r}"
            )

    print(f"{'':9}{'kind':17}{'items':>6}{'recall':>9}{'hits':>6}{'precision':>11}")
    for group in [options.group] if options.group else ["dev", "held", "last", "all"]:
        chosen = [item for item in items if group in ("all", item.group)]
        for kind, score in measure(chosen, kinds=kinds, show=show if group != "all" else lambda *_: None).items():
            print(f"{group:9}{kind:17}{score.planted:6}{score.recall:9.1%}{score.hits:6}{score.precision:11.1%}")
    texts = clean_texts()
    hits = [text for text in texts if find(text)]
    if texts:
        print(f"clean Banking77 rows with a hit: {len(hits)} of {len(texts)} ({len(hits) / len(texts):.2%})")
    else:
        print("clean Banking77 rows: not measured, ATTUNE_SHARED has no data/banking77")
    for text in hits[: options.misses]:
        print("   ", text, find(text))
    many = [item.text for item in items]
    started = time.perf_counter()
    for text in many:
        find(text)
    seconds = time.perf_counter() - started
    print(
        f"{len(many):,} texts of {sum(map(len, many)) / len(many):.0f} characters: {len(many) / seconds:,.0f} a second"
    )


if __name__ == "__main__":
    main()
