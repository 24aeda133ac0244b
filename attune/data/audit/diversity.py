"""How varied the language is: words, word pairs, and the ways texts begin, on samples of one size."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from attune.data.audit.view import Section, View, finding, text_of, words

__all__ = ["diversity"]

SAMPLE_WORDS = 10_000
"""Running words that ratios are taken on: they fall with the size of a sample, so all parts get the same."""
OPENING = 3
SHOWN = 15


def diversity(view: View) -> Section:
    running = {
        name: [words(text_of(record)) for record in sample] if name != "train" else view.train_words
        for name, sample in view.samples.items()
    }
    sizes = {name: sum(map(len, rows)) for name, rows in running.items()}
    if not any(sizes.values()):
        return {"skipped": "the texts have no words"}
    size = min(SAMPLE_WORDS, *(count for count in sizes.values() if count))
    parts = {name: _measures(rows, size) for name, rows in running.items() if sizes[name]}
    train = running.get("train") or next(iter(running.values()))
    openings = Counter(" ".join(row[:OPENING]) for row in train if len(row) >= OPENING)
    total = len(train)
    shown: list[dict[str, Any]] = [
        {"opening": text, "rows": count, "share": round(count / total, 4)}
        for text, count in sorted(openings.items(), key=lambda item: (-item[1], item[0]))[:SHOWN]
    ]
    found: Section = {"sample_words": size, "parts": parts, "openings": shown, "different_openings": len(openings)}
    top = shown[0] if shown else None
    notes = []
    if top and top["rows"] >= 20 and top["share"] > 0.1:
        share = f"{top['share']:.0%}"
        text = f"'{top['opening']}'" if view.options.texts else "the same three words"
        notes.append(finding("note", f"{share} of the training rows begin with {text}: a template, or one author"))
    if not view.options.texts:
        found["openings"] = [{"rows": row["rows"], "share": row["share"]} for row in shown]
    found["findings"] = notes
    return found


def _measures(rows: list[list[str]], size: int) -> dict[str, Any]:
    """On `size` running words, from rows all over the part."""
    step = next(step for step in range(int(0.618 * len(rows)) + 1, 2 * len(rows) + 2) if math.gcd(step, len(rows)) == 1)
    taken: list[list[str]] = []
    count = 0
    for number in range(len(rows)):
        taken.append(rows[number * step % len(rows)][: size - count])
        count += len(taken[-1])
        if count >= size:
            break
    found: dict[str, Any] = {"words": count}
    for length in (1, 2, 3):
        grams = [tuple(row[at : at + length]) for row in taken for at in range(len(row) - length + 1)]
        found[f"distinct_{length}"] = round(len(set(grams)) / len(grams), 4) if grams else 0.0
    every = Counter(word for row in rows for word in row)
    found["vocabulary"] = len(every)
    found["once"] = round(sum(number == 1 for number in every.values()) / len(every), 4)
    return found
