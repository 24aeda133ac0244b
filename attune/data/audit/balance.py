"""How often each class occurs in each part, and what to do where some are rare.

Source: Menon et al. 2021 (logit adjustment by the prior); Lipton et al. 2014 (threshold for F1 is half the best F1).
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from attune.data.audit.view import Section, View, classes_of, finding

__all__ = ["balance"]

FEW = 10
"""A class with fewer training rows than this is learned by luck."""
EVEN, SKEWED = 3, 10
"""Largest class / smallest class: up to the first nothing needs doing; above the second weights alone rarely do."""


def balance(view: View) -> Section:
    if view.task == "regression":
        return _numbers(view)
    if view.task not in ("classification", "multilabel", "tagging"):
        return {"skipped": f"{view.task} data has no classes"}
    counts = {
        name: Counter(label for record in part for label in classes_of(record)) for name, part in view.parts.items()
    }
    train, rows = counts.get("train", Counter()), len(view.parts.get("train", ()))
    labels = sorted(set().union(*counts.values()), key=lambda label: (-train[label], label))
    if not labels:
        return {"skipped": "no row has a label"}
    present = [label for label in labels if train[label]]
    total = sum(train.values())
    largest, smallest = (max(train.values()), min(train[label] for label in present)) if present else (0, 0)
    ratio = round(largest / smallest, 1) if smallest else math.inf
    table = [
        {
            "label": label,
            **{part: counts[part][label] for part in counts},
            "share": round(train[label] / total, 4) if total else 0.0,
            "weight": round(total / (len(present) * train[label]), 3) if train[label] else None,
            "soft_weight": round(math.sqrt(total / (len(present) * train[label])), 3) if train[label] else None,
            "resample": _repeats(train[label], largest),
        }
        for label in labels
    ]
    entropy = -sum(train[label] / total * math.log(train[label] / total) for label in present) if total else 0.0
    found: Section = {
        "of": {"classification": "rows", "multilabel": "rows that have the label", "tagging": "rows with such a span"}[
            view.task
        ],
        "classes": table,
        "imbalance_ratio": ratio if smallest else None,
        "effective_classes": round(math.exp(entropy), 2),
        "majority": {"label": labels[0], "share": round(train[labels[0]] / rows, 4) if rows else 0.0},
        "missing_in_train": [label for label in labels if not train[label]],
        "few": [label for label in present if train[label] < FEW],
    }
    found["advice"] = _advice(found, view.task, present, train, rows)
    found["findings"] = _findings(found, len(present), ratio)
    return found


def _repeats(count: int, largest: int) -> float | None:
    """How often to show each row of a class, halfway (in ratio) to the largest one: full balance overfits rare rows."""
    return round(math.sqrt(largest / count), 2) if count else None


def _advice(found: Section, task: str, present: list[str], train: Counter[str], rows: int) -> list[str]:
    ratio, advice = found["imbalance_ratio"] or math.inf, []
    name, share = found["majority"]["label"], found["majority"]["share"]
    if len(present) < 2:
        return ["There is only one class in train: nothing can be learned from these labels"]
    if task == "classification":
        advice.append(f"Always answering '{name}' is right in {share:.1%} of the training rows; beat that first")
    if ratio <= EVEN:
        advice.append(
            f"The largest class is {ratio:.1f} times the smallest: no remedy needed; accuracy can be read as it is"
        )
    elif ratio <= SKEWED:
        advice.append(
            f"The largest class is {ratio:.1f} times the smallest: read macro F1 beside accuracy; the step "
            "`balance` of data.prepare repeats rare rows"
        )
    else:
        advice.append(
            f"The largest class is {ratio:,.0f} times the smallest: show rows of rare classes more often (the step "
            "`balance` of data.prepare), and decide by macro F1, never by accuracy"
        )
    if found["few"]:
        some = ", ".join(f"'{label}'" for label in found["few"][:5])
        advice.append(
            f"{len(found['few'])} classes have fewer than {FEW} training rows ({some}): weights cannot invent what is "
            "not there; collect or label more, or merge them with a neighbour"
        )
    if task == "classification" and len(present) == 2 and ratio > EVEN:
        rare = min(present, key=lambda label: (train[label], label))
        prior = train[rare] / sum(train.values())
        advice.append(
            f"Threshold: without weights, answer '{rare}' from a probability of {prior:.3f} (its share) to treat both "
            "classes alike, not from 0.5; for the best F1 take half the F1 you reach; with weights keep 0.5. Choose it "
            "on validation rows, never on test"
        )
    elif task == "classification" and ratio > EVEN:
        advice.append(
            "Threshold: without weights, divide each class's probability by its share before taking the largest: that "
            "treats classes alike; with weights or resampling take the largest as it is"
        )
    elif task == "multilabel":
        advice.append(
            "Threshold: choose one for each label on validation rows; half of the F1 a label reaches is a good start, "
            "and 0.5 is too high for rare labels"
        )
    return advice


def _findings(found: Section, classes: int, ratio: float) -> list[dict[str, str]]:
    notes = []
    if classes < 2:
        return [finding("warn", "There is only one class in train")]
    if found["missing_in_train"]:
        some = ", ".join(found["missing_in_train"][:5])
        notes.append(finding("warn", f"Classes that are tested but never trained: {some}"))
    if found["few"]:
        notes.append(finding("warn", f"{len(found['few'])} of {classes} classes have fewer than {FEW} training rows"))
    if ratio > SKEWED:
        notes.append(finding("warn", f"The largest class is {ratio:,.0f} times the smallest"))
    elif ratio > EVEN:
        notes.append(
            finding("note", f"The largest class is {ratio:.1f} times the smallest: read macro F1 beside accuracy")
        )
    else:
        notes.append(finding("good", f"Classes are even: the largest is {ratio:.1f} times the smallest"))
    return notes


def _numbers(view: View) -> Section:
    """Of a regression target: where it lies, and whether few large values decide the loss."""
    import numpy as np

    rows: list[dict[str, Any]] = []
    notes = []
    for name, part in view.parts.items():
        values = np.array([record.label for record in part if isinstance(record.label, (int, float))], dtype=float)
        if not len(values):
            continue
        low, median, high = (float(np.quantile(values, share)) for share in (0.05, 0.5, 0.95))
        spread = float(values.std())
        skew = float((((values - values.mean()) / spread) ** 3).mean()) if spread > 0 else 0.0
        rows.append(
            {
                "part": name,
                "rows": len(values),
                "smallest": float(values.min()),
                "p5": low,
                "median": median,
                "p95": high,
                "largest": float(values.max()),
                "mean": round(float(values.mean()), 6),
                "spread": round(spread, 6),
                "skew": round(skew, 3),
            }
        )
        if name == "train" and spread == 0:
            notes.append(finding("warn", "All training rows have the same number"))
        if name == "train" and abs(skew) > 2:
            notes.append(finding("note", f"The target is skewed ({skew:.1f}): a logarithm, or a robust loss, may help"))
    if not rows:
        return {"skipped": "no row has a number"}
    return {"numbers": rows, "findings": notes}
