"""Planted leaks: 200 copies of test rows hidden in train in five disguises, and how many are found.

    python benchmarks/leaks.py [--seed N]

Rows are Banking77 queries where ATTUNE_SHARED has them, and otherwise text made here; the paragraphs are always made.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import time
from pathlib import Path

from attune.data.split import split
from attune.records import Completion, Message, Record

KINDS = ("exact", "case and spacing", "near (Jaccard >= 0.8)", "other system prompt", "same group")
SUBJECTS = ("the branch", "our card team", "a customer", "the new app", "my bank", "the auditor", "this account")
VERBS = "declined reviewed delayed charged approved misplaced refunded blocked verified lost".split()
OBJECTS = ("a transfer", "the monthly fee", "two cards", "one cash withdrawal", "the statement", "a top up", "my PIN")
TAILS = ("before noon", "without a reason", "twice in a week", "after the holiday", "in another currency", "by post")
TOPICS = "salary rent insurance pension travel tuition grocery mortgage parking energy water phone".split()


def paragraph(rng: random.Random, sentences: int = 6) -> str:
    """About sixty words on money and banks, no two paragraphs alike."""
    return " ".join(
        f"{rng.choice(SUBJECTS).capitalize()} {rng.choice(VERBS)} {rng.choice(OBJECTS)} for {rng.choice(TOPICS)} "
        f"{rng.randrange(100, 99999)} {rng.choice(TAILS)}."
        for _ in range(sentences)
    )


def shingles(text: str, size: int = 3) -> set[tuple[str, ...]]:
    words = text.lower().replace(".", "").split()
    return {tuple(words[i : i + size]) for i in range(len(words) - size + 1)}


def edited(text: str, rng: random.Random) -> str:
    """The text with words changed as long as the Jaccard similarity of its word 3-shingles stays at least 0.8."""
    best = words = text.split()
    for _ in range(2):
        words = list(words)
        words[rng.randrange(len(words))] = rng.choice(TOPICS)
        a, b = shingles(text), shingles(" ".join(words))
        if len(a & b) / len(a | b) >= 0.8:
            best = words
    return " ".join(best)


def queries(rng: random.Random, count: int) -> list[str]:
    """Short real queries, none of them a duplicate of another as far as case and spacing go; else made ones."""
    path = Path(os.environ.get("ATTUNE_SHARED", "../shared")) / "data" / "banking77" / "train.csv"
    if path.exists():
        with open(path, newline="", encoding="utf-8") as file:
            texts = list(dict.fromkeys(" ".join(row["text"].split()) for row in csv.DictReader(file)))
        rng.shuffle(texts)
        return texts[:count]
    return [paragraph(rng, 1) for _ in range(count)]


def chat(name: str, text: str, reply: str, system: str, **meta: str) -> Record:
    prompt = (Message("system", system), Message("user", text))
    return Record(name, prompt, (Completion((Message("assistant", reply),)),), meta=meta)


def plain(name: str, text: str, **meta: str) -> Record:
    return Record(name, (Message("user", text),), label="any", meta=meta)


def planted(seed: int = 0) -> tuple[list[Record], list[Record], dict[str, str]]:
    """Train rows (about 4,000), test rows (1,200) and, for each of 200 test ids, the kind of its copy in train.

    Train also holds 1,800 paragraphs and 2,000 queries that copy nothing on purpose.
    """
    rng = random.Random(seed)
    train = [plain(f"clean-{i}", paragraph(rng)) for i in range(1800)]
    short = queries(rng, 2500)
    train += [plain(f"query-{i}", text) for i, text in enumerate(short[:2000])]
    test = [plain(f"other-{i}", text) for i, text in enumerate([paragraph(rng) for _ in range(500)] + short[2000:])]
    kinds = {}
    for i in range(200):
        kind = KINDS[i % len(KINDS)]
        name, copy, text = f"test-{i}", f"copy-{i}", paragraph(rng)
        kinds[name] = kind
        if kind == "other system prompt":
            reply = paragraph(rng, 2)
            test.append(chat(name, text, reply, "You are a bank clerk."))
            train.append(chat(copy, text, reply, paragraph(rng, 3)))
            continue
        test.append(plain(name, text, **({"group": f"case {i}"} if kind == "same group" else {})))
        if kind == "exact":
            train.append(plain(copy, text))
        elif kind == "case and spacing":
            train.append(plain(copy, "  ".join(text.upper().split()) + " !"))
        elif kind == "same group":
            train.append(plain(copy, paragraph(rng), group=f"case {i}"))
        else:
            train.append(plain(copy, edited(text, rng)))
    rng.shuffle(train)
    rng.shuffle(test)
    return train, test, kinds


def measure(seed: int = 0) -> dict[str, tuple[int, int]]:
    """For each kind: planted copies removed from train, and planted. `false alarms`: others removed, and all others.

    The real queries hold a few near duplicates of their own; they count as false alarms here.
    """
    train, test, kinds = planted(seed)
    removed = {name for name, _ in split(train, given_test=test, validation=0).excluded}
    table = {}
    for kind in KINDS:
        names = [name for name, of in kinds.items() if of == kind]
        table[kind] = (sum(name.replace("test", "copy") in removed for name in names), len(names))
    clean = [record.id for record in train if not record.id.startswith("copy-")]
    table["false alarms"] = (sum(name in removed for name in clean), len(clean))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    seed = parser.parse_args().seed
    start = time.perf_counter()
    table = measure(seed)
    print(f"{'planted leak':<24}{'found':>8}{'of':>8}")
    for kind, (found, total) in table.items():
        print(f"{kind:<24}{found:>8}{total:>8,}")
    found, total = (sum(table[kind][i] for kind in KINDS) for i in (0, 1))
    print(f"{'all planted':<24}{found:>8}{total:>8}\n{time.perf_counter() - start:.1f} s, seed {seed}")


if __name__ == "__main__":
    main()
