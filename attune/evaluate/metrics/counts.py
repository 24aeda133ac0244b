"""Right and wrong answers per label: what precision, recall, F1, the per-class table and the confusion matrix share.

One answer is a set of items: the class, the classes, or the spans (compared by start, end and label). An answer of None
is the empty set: it misses every gold item and claims nothing. The labels of a macro average are those that occur in
the gold labels or in the answers of the rows given, which is scikit-learn's default.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from attune.errors import DataError

if TYPE_CHECKING:
    import numpy as np

    from attune.evaluate.predictions import Predictions
    from attune.records import Record

__all__ = ["coded", "tallies", "ratios", "items", "gold", "per_class", "confusion", "NO_ANSWER"]

NO_ANSWER = "(no answer)"
NOTHING = "(nothing)"
"""Stands for what was answered instead, where a label of several was only left out."""
PAIRS = 20
"""Most confused pairs that are listed."""
READABLE = 30
"""Labels up to which a confusion matrix is kept whole."""


def items(value: Any) -> frozenset[Any]:
    """The set of things an answer claims."""
    if value is None:
        return frozenset()
    return frozenset([value]) if isinstance(value, str) else frozenset(value)


def gold(record: Record) -> Any:
    """The record's label.

    Raises: DataError if it has none.
    """
    if record.label is None:
        raise DataError("this row has no label, so an answer to it cannot be judged", where=record.where or record.id)
    return record.label


def _label(item: Any) -> str:
    return getattr(item, "label", item)


def _labels(records: list[Record], predictions: Predictions) -> list[str]:
    found = {_label(item) for record in records for item in items(gold(record))}
    return sorted(found | {_label(item) for output in predictions.outputs for item in items(output)})


def coded(records: list[Record], predictions: Predictions) -> np.ndarray:
    """Each row lists its hits (code 1 + 3l), false alarms (2 + 3l) and misses (3 + 3l) of label l, padded with 0.

    Shapes: [N, most items in a row]: two columns for classification, however many labels there are.
    """
    import numpy as np

    index = {label: number for number, label in enumerate(_labels(records, predictions))}
    rows = []
    for record, output in zip(records, predictions.outputs, strict=True):
        true, said = items(gold(record)), items(output)
        kinds = ((1, true & said), (2, said - true), (3, true - said))
        rows.append([3 * index[_label(item)] + kind for kind, found in kinds for item in found])
    statistics = np.zeros((len(rows), max((len(row) for row in rows), default=0) or 1))
    for number, row in enumerate(rows):
        statistics[number, : len(row)] = row
    return statistics


def tallies(statistics: np.ndarray) -> np.ndarray:
    """Hits, false alarms and misses of every label that occurs. Shapes: [labels, 3]."""
    import numpy as np

    counts = np.bincount(statistics.astype(np.int64).ravel(), minlength=1)[1:]
    counts = np.append(counts, np.zeros(-len(counts) % 3, dtype=counts.dtype)).reshape(-1, 3)
    return counts[counts.any(axis=1)].astype(float)


def ratios(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision, recall and F1 of each row of (hits, false alarms, misses); 0 where there is nothing to divide by."""
    import numpy as np

    hits, alarms, misses = counts[..., 0], counts[..., 1], counts[..., 2]

    def share(bottom: np.ndarray, top: np.ndarray) -> np.ndarray:
        return np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0)

    return share(hits + alarms, hits), share(hits + misses, hits), share(2 * hits + alarms + misses, 2 * hits)


def per_class(records: list[Record], predictions: Predictions) -> list[dict[str, Any]]:
    """One line for each label: support, how often it was answered, precision, recall, F1; most frequent first."""
    import numpy as np

    labels = _labels(records, predictions)
    statistics = coded(records, predictions).astype(np.int64).ravel()
    counts = np.bincount(statistics, minlength=3 * len(labels) + 1)[1:].reshape(-1, 3).astype(float)
    rows = [
        {
            "label": label,
            "support": int(hits + misses),
            "predicted": int(hits + alarms),
            "precision": float(precision),
            "recall": float(recall),
            "f1": float(f1),
        }
        for label, (hits, alarms, misses), precision, recall, f1 in zip(labels, counts, *ratios(counts), strict=True)
    ]
    return sorted(rows, key=lambda row: (-row["support"], row["label"]))


def confusion(records: list[Record], predictions: Predictions) -> dict[str, Any]:
    """Which label was answered for which (classification, several classes): see `results.Confusion`.

    Rows are gold labels, columns answers; a last column counts None, if any. With several classes a missed label pairs
    with each false alarm of its row, and there is no matrix; nor is there one above 30 labels.
    """
    counts: Counter[tuple[str, str]] = Counter()
    support: Counter[str] = Counter()
    several = any(isinstance(record.label, tuple) for record in records)
    for record, output in zip(records, predictions.outputs, strict=True):
        true, said = items(gold(record)), items(output)
        support.update(true)
        counts.update((label, label) for label in true & said)
        instead = said - true or {NO_ANSWER if output is None else NOTHING}
        counts.update((label, other) for label in true - said for other in instead)
    labels = _labels(records, predictions)
    columns = labels + ([NO_ANSWER] if any(output is None for output in predictions.outputs) else [])
    readable = len(labels) <= READABLE and not several
    wrong = sorted((-count, true, said) for (true, said), count in counts.items() if true != said)
    return {
        "labels": labels,
        "columns": columns,
        "matrix": [[counts[true, said] for said in columns] for true in labels] if readable else None,
        "pairs": [dict(gold=true, said=said, count=-count, of=support[true]) for count, true, said in wrong[:PAIRS]],
    }
