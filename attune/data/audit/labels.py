"""Labels to re-check: where models that never saw the row, or the same words elsewhere, say something else."""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal

from attune.data.audit.view import Section, View, excerpt, finding, words
from attune.data.noise import features_of, find_label_noise
from attune.records import Record, Span

__all__ = ["label_noise"]

MANY = 0.03
"""Share of doubtful labels from which re-checking is worth more than tuning."""
WEAK = 0.8
"""Models that agree with fewer of the labels than this find hard rows as well as wrong ones."""
OUTLYING = 3.5
"""Robust standard deviations from what similar texts have."""
PAIRS = 15


def label_noise(view: View) -> Section:
    if view.task == "classification":
        return _classes(view)
    if view.task == "multilabel":
        return _each_label(view)
    if view.task == "regression":
        return _numbers(view)
    if view.task == "tagging":
        return _spans(view)
    return {"skipped": f"not for {view.task} data: there is no label to doubt"}


def _classes(view: View) -> Section:
    records = [record for record in view.train if isinstance(record.label, str)]
    found = find_label_noise(
        [record.text for record in records],
        [str(record.label) for record in records],
        embeddings=view.options.embeddings,
    )
    if not found.examined:
        return {"skipped": found.reason}
    wrong = found.confident
    share = len(wrong) / found.examined
    listed = [
        {
            **view.shown(records[suspect.row], 240),
            "given": suspect.given,
            "suggested": suspect.suggested,
            "margin": suspect.margin,
            "counted": suspect.confident,
        }
        for suspect in found.suspects[: view.options.recheck]
    ]
    return {
        "method": "confident learning; models: " + ", ".join(f"{name} {w:.0%}" for name, w in found.models.items()),
        "examined": found.examined,
        "counted_as_wrong": len(wrong),
        "share": round(share, 4),
        "agreement": found.agreement,
        "too_rare": found.rare,
        "pairs": [{"given": a, "suggested": b, "rows": rows} for a, b, rows in found.pairs()[:PAIRS]],
        "rows": listed,
        **_said(len(wrong), found.examined, found.agreement),
    }


def _said(wrong: int, examined: int, agreement: float | None = None) -> dict[str, Any]:
    """The verdict on all labels, for the section and for the top of the page."""
    share = wrong / examined if examined else 0.0
    text = f"{wrong:,} of {examined:,} labels ({share:.1%}) look wrong"
    if agreement is not None:
        text += f" to models that agree with {agreement:.0%} of all labels"
    level: Literal["warn", "note", "good"] = "note" if wrong else "good"
    if wrong and agreement is not None and agreement < WEAK:
        text += ": many will be hard rather than wrong, so read them and drop none unread"
    elif share >= MANY:
        level = "warn"
        text += ": re-check the list from the top, or add label_noise to data.prepare"
    return {"summary": text, "findings": [finding(level, text)]}


def _each_label(view: View) -> Section:
    """Each label is a question of its own: has it or has it not."""
    records = [record for record in view.train if isinstance(record.label, tuple)]
    texts = [record.text for record in records]
    names = sorted({str(label) for record in records for label in record.label})  # type: ignore[union-attr]
    rows: list[dict[str, Any]] = []
    wrong: set[int] = set()
    examined = 0
    features = features_of(texts) if names else None
    for name in names:
        given = ["yes" if name in record.label else "no" for record in records]  # type: ignore[operator]
        found = find_label_noise(texts, given, features=features)
        examined += bool(found.examined)
        for suspect in found.confident:
            wrong.add(suspect.row)
            add = suspect.suggested == "yes"
            rows.append(
                {
                    **view.shown(records[suspect.row], 240),
                    "given": f"without {name}" if add else f"with {name}",
                    "suggested": f"with {name}" if add else f"without {name}",
                    "margin": suspect.margin,
                    "counted": True,
                }
            )
    if not examined:
        return {"skipped": "no label has enough rows to be judged"}
    rows.sort(key=lambda row: -row["margin"])
    return {
        "method": "confident learning, label by label",
        "examined": len(records),
        "counted_as_wrong": len(wrong),
        "share": round(len(wrong) / len(records), 4),
        "rows": rows[: view.options.recheck],
        **_said(len(wrong), len(records)),
    }


def _numbers(view: View) -> Section:
    """The number that similar texts have, out of fold, against the one given."""
    import numpy as np

    from attune.data.features import condensed, ridge_out_of_fold, text_folds, tfidf

    records = [record for record in view.train if isinstance(record.label, (int, float))]
    texts = [record.text for record in records]
    matrix = tfidf(texts) if len(texts) >= 20 else None
    if matrix is None:
        return {"skipped": "too few rows, or texts without words"}
    given = np.array([record.label for record in records], dtype=float)
    said = ridge_out_of_fold(condensed(matrix), given[:, None], text_folds(texts, [""] * len(texts)), 1.0)[:, 0]
    off = given - said
    spread = 1.4826 * float(np.median(np.abs(off - np.median(off)))) or float(off.std()) or 1.0
    far = (off - np.median(off)) / spread
    order = np.lexsort((np.arange(len(far)), -np.round(np.abs(far), 6)))
    wrong = int((np.abs(far) > OUTLYING).sum())
    rows = [
        {
            **view.shown(records[at], 240),
            "given": float(given[at]),
            "suggested": round(float(said[at]), 4),
            "margin": round(float(far[at]), 2),
            "counted": bool(abs(far[at]) > OUTLYING),
        }
        for at in order[: view.options.recheck].tolist()
    ]
    return {
        "method": "out-of-fold ridge regression; margin is the distance in robust standard deviations",
        "examined": len(records),
        "counted_as_wrong": wrong,
        "share": round(wrong / len(records), 4),
        "rows": rows,
        **_said(wrong, len(records)),
    }


def _spans(view: View) -> Section:
    """Words that are tagged one way nearly everywhere, and another way, or not at all, here."""
    uses: dict[tuple[str, ...], Counter[str]] = {}
    where: dict[tuple[tuple[str, ...], str], list[tuple[Record, str]]] = {}
    longest = 1
    for record in view.train:
        for span in record.label if isinstance(record.label, tuple) else ():
            if isinstance(span, Span) and (key := tuple(words(record.text[span.start : span.end]))):
                uses.setdefault(key, Counter())[span.label] += 1
                longest = max(longest, min(len(key), 5))
                where.setdefault((key, span.label), []).append((record, record.text[span.start : span.end]))
    for record, read in zip(view.train, view.train_words):
        if not isinstance(record.label, tuple):
            continue
        tagged = Counter(tuple(words(record.text[span.start : span.end])) for span in record.label)  # type: ignore[union-attr]
        inside = {word for key in tagged for word in key}
        for at in range(len(read)):
            for length in range(1, longest + 1):
                key = tuple(read[at : at + length])
                # A word inside a longer span of this row is not left out: it is part of that.
                if key in uses and not tagged[key] and not set(key) & inside:
                    uses[key]["not tagged"] += 1
                    where.setdefault((key, "not tagged"), []).append((record, " ".join(key)))
    rows: list[dict[str, Any]] = []
    for key in sorted(uses):
        total = sum(uses[key].values())
        usual, count = min(uses[key].items(), key=lambda item: (-item[1], item[0]))
        if total < 5 or count / total < 0.7:  # no clear habit
            continue
        for label in sorted(uses[key]):
            if label != usual:
                for record, text in where[key, label]:
                    words_shown = {"words": excerpt(text, 60)} if view.options.texts else {}
                    rows.append(
                        {
                            **view.shown(record, 240),
                            **words_shown,
                            "given": label,
                            "suggested": usual,
                            "margin": round((count - uses[key][label]) / total, 4),
                            "counted": count / total >= 0.9,
                        }
                    )
    rows.sort(key=lambda row: (-row["margin"], row["id"]))
    wrong = len({row["id"] for row in rows if row["counted"]})
    return {
        "method": "the same words tagged another way, or not at all, elsewhere; margin is how much rarer this way is",
        "examined": len(view.train),
        "counted_as_wrong": wrong,
        "share": round(wrong / max(1, len(view.train)), 4),
        "rows": rows[: view.options.recheck],
        **_said(wrong, len(view.train)),
    }
