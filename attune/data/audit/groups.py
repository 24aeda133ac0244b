"""Which groups of people the texts name, and whether labels differ between them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from attune.data.audit.association import holm
from attune.data.audit.terms import language_of, mentions
from attune.data.audit.view import Section, View, finding, label_sets, text_of, words

__all__ = ["groups", "rates", "wilson"]

FEW = 20
"""Rows that a group needs before its label rate is compared."""
LABELS = 20
"""Labels, the most frequent ones, whose rates are compared."""
SHOWN = 200
LANGUAGES = {"en": "English", "de": "German", "fr": "French", "es": "Spanish", "": "not told"}
BLIND = (
    "Only words are seen: people who are meant without such a word, names, pronouns of other languages and irony are "
    "not. A term can mean something else (Christian as a first name, blind as in blind spot). "
    "A low count says that a group is rarely named, not that it is rare among the people behind the texts."
)


def groups(view: View) -> Section:
    """Counts of rows that name a group, by part and by language."""
    found: dict[str, Any] = {"blind": BLIND, "parts": {}, "languages": {}, "findings": []}
    counts: dict[tuple[str, str], Counter[str]] = {}
    spoken: dict[tuple[str, str], Counter[str]] = {}
    for name, sample in view.samples.items():
        seen: Counter[str] = Counter()
        for language, named in _named(view, name):
            seen[LANGUAGES[language]] += 1
            for attribute, members in named.items():
                for group in members:
                    counts.setdefault((attribute, group), Counter())[name] += 1
                    spoken.setdefault((attribute, group), Counter())[LANGUAGES[language]] += 1
        found["languages"][name] = dict(sorted(seen.items(), key=lambda item: (-item[1], item[0])))
        found["parts"][name] = len(sample)
    found["groups"] = [
        {
            "attribute": attribute,
            "group": group,
            **{name: counts[attribute, group][name] for name in view.samples},
            "by_language": dict(sorted(spoken[attribute, group].items())),
        }
        for attribute, group in sorted(counts)
    ]
    train = {key: count["train"] for key, count in counts.items() if count["train"] >= FEW}
    for attribute in sorted({attribute for attribute, _ in train if attribute != "age"}):
        most, least = _ends(train, attribute)
        if least is not None and most[1] > 5 * least[1]:
            text = f"{attribute}: '{most[0]}' is named in {most[1]:,} training rows, '{least[0]}' in {least[1]:,}"
            found["findings"].append(finding("note", text))
    return found


def _ends(train: dict[tuple[str, str], int], attribute: str) -> tuple[tuple[str, int], tuple[str, int] | None]:
    sizes = sorted(
        ((group, count) for (one, group), count in train.items() if one == attribute), key=lambda x: (-x[1], x[0])
    )
    return sizes[0], sizes[-1] if len(sizes) > 1 else None


def _named(view: View, part: str) -> list[tuple[str, dict[str, set[str]]]]:
    """Language and groups of each sampled row of a part."""
    rows = []
    for at, record in enumerate(view.samples[part]):
        text = text_of(record)
        if part == "train":
            language = view.train_languages[at]
        else:
            language = language_of(words(text), view.options.languages)
        # Without one function word, as in headings, the first language is as good a guess as any.
        known = language or (view.options.languages[0] if view.options.languages else "")
        rows.append((language, mentions(text, known) if known else {}))
    return rows


def rates(view: View) -> Section:
    """For each group and label: its share of rows with that label, against the other groups of the same attribute."""
    if view.task not in ("classification", "multilabel", "regression"):
        return {"skipped": f"not for {view.task} data: there is no label of a whole text"}
    labels, note = label_sets(view)
    named = [members for _, members in _named(view, "train")] if "train" in view.samples else []
    for row, record in enumerate(view.train):
        for column in view.options.columns:
            value = record.meta.get(column)
            if value not in (None, ""):
                named[row] = {**named[row], f"column {column}": {str(value)}}
    frequent = [
        label for label, _ in sorted(Counter(x for row in labels for x in row).items(), key=lambda x: (-x[1], x[0]))
    ]
    tests = []
    labelled = [row for row in range(len(named)) if labels[row]]
    for attribute in sorted({attribute for row in labelled for attribute in named[row]}):
        members = sorted({group for row in labelled for group in named[row].get(attribute, ())})
        for group in members:
            inside = [row for row in labelled if group in named[row].get(attribute, ())]
            others = [row for row in labelled if attribute in named[row] and group not in named[row][attribute]]
            against = "other groups named"
            if len(others) < FEW:
                others = [row for row in labelled if attribute not in named[row]]
                against = "rows that name none"
            if len(inside) < FEW or len(others) < FEW:
                continue
            for label in frequent[:LABELS]:
                tests.append(_test(attribute, group, label, inside, others, labels, against))
    for test, p in zip(tests, holm([test["p"] for test in tests])):
        test["p"] = float(f"{p:.3g}")
    tests.sort(key=lambda test: (test["p"], -abs(test["difference"]), test["attribute"], test["group"], test["label"]))
    clear = [test for test in tests if test["p"] < 0.05]
    notes = []
    if clear:
        one = clear[0]
        here = f"{one['rate']:.0%} where {one['attribute']} '{one['group']}' is named"
        there = f"{one['other_rate']:.0%} among {one['against']}"
        text = f"Label rates that differ between groups more than chance explains: {len(clear)}; most clearly"
        notes.append(finding("warn", f"{text} '{one['label']}': {here}, {there}"))
    elif tests:
        notes.append(finding("good", f"No label rate differs between groups beyond chance ({len(tests)} comparisons)"))
    return {"note": note, "tests": len(tests), "clear": len(clear), "rows": tests[:SHOWN], "findings": notes}


def _test(
    attribute: str,
    group: str,
    label: str,
    inside: Sequence[int],
    others: Sequence[int],
    labels: Sequence[tuple[str, ...]],
    against: str,
) -> dict[str, Any]:
    from scipy.stats import chi2_contingency, fisher_exact

    a, b = sum(label in labels[row] for row in inside), sum(label in labels[row] for row in others)
    n, m = len(inside), len(others)
    table = [[a, n - a], [b, m - b]]
    if a + b in (0, n + m):
        p = 1.0
    elif min(n, m) * min(a + b, n + m - a - b) / (n + m) < 5:  # the smallest expected count
        p = float(fisher_exact(table)[1])
    else:
        p = float(chi2_contingency(table)[1])
    low, high = wilson(a, n)
    return {
        "attribute": attribute,
        "group": group,
        "label": label,
        "rows": n,
        "rate": round(a / n, 4),
        "low": low,
        "high": high,
        "against": against,
        "other_rows": m,
        "other_rate": round(b / m, 4),
        "difference": round(a / n - b / m, 4),
        "p": p,
    }


def wilson(hits: int, rows: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's 95 % interval of a share."""
    if not rows:
        return 0.0, 1.0
    share = hits / rows
    middle = (share + z * z / (2 * rows)) / (1 + z * z / rows)
    reach = z / (1 + z * z / rows) * (share * (1 - share) / rows + z * z / (4 * rows * rows)) ** 0.5
    return round(max(0.0, middle - reach), 4), round(min(1.0, middle + reach), 4)
