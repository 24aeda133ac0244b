"""From what several annotators said to one label, and to data that attune trains on."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from attune.data.label.agreement import Units
from attune.data.label.items import Texts
from attune.data.label.store import Row, Store
from attune.durable import write_text
from attune.errors import DataError
from attune.records import Label, Record, Span

__all__ = ["Decision", "decide", "Exported", "export", "units_of"]


@dataclass(frozen=True)
class Decision:
    """The label of one text. `label` is None where no majority decides."""

    label: Label
    how: str
    """single | majority | adjudicated | undecided"""
    annotators: int
    agreement: float
    """Share of annotators who said exactly this (an adjudicator aside)."""


def decide(rows: Mapping[str, Row]) -> Decision:
    """An adjudicated label, else what more than half of the annotators say: of several labels or spans, each one."""
    votes = [row.label for _, row in sorted(rows.items()) if row.source != "adjudicated"]
    last = max((row for row in rows.values() if row.source == "adjudicated"), key=lambda row: row.at, default=None)
    label: Label = None
    how = "undecided"
    if last is not None:
        label, how = last.label, "adjudicated"
    elif all(isinstance(vote, tuple) for vote in votes):
        parts = Counter(part for vote in votes for part in set(vote))  # type: ignore[arg-type]
        if all(2 * count != len(votes) for count in parts.values()):
            kept: list[Any] = [part for part, count in parts.items() if 2 * count > len(votes)]
            label = tuple(sorted(kept, key=lambda part: (part.start, part.end) if isinstance(part, Span) else part))
            how = "single" if len(votes) == 1 else "majority"
    else:
        (first, count), *_ = Counter(votes).most_common(1)
        if 2 * count > len(votes):
            label, how = first, "single" if len(votes) == 1 else "majority"
    share = sum(_same(vote, label) for vote in votes) / len(votes) if votes else 1.0
    return Decision(label, how, len(votes), share)


def _same(one: Label, other: Label) -> bool:
    if isinstance(one, tuple) and isinstance(other, tuple):
        return set(one) == set(other)
    return one == other


@dataclass(frozen=True)
class Exported:
    """What was written, and what was not."""

    path: Path
    written: int
    undecided: tuple[str, ...]
    """Ids of texts on which no majority decides."""
    strangers: int
    """Labelled ids that the data file does not have."""


def export(texts: Texts, store: Store, path: str | Path) -> Exported:
    """Write every text with a decided label as a record that attune reads, in the order of the data file.

    `meta` says how the label came about: `annotators`, `agreement`, `label_by`. Labels that the file had already stay.
    Raises: DataError if no text has a label.
    """
    undecided, lines = [], []
    label: Label
    for key, record in texts.records.items():
        facts: dict[str, Any]
        if key in store.labels:
            made = decide(store.labels[key])
            if made.label is None:
                undecided.append(key)
                continue
            label = made.label
            facts = {"annotators": made.annotators, "agreement": round(made.agreement, 4), "label_by": made.how}
        elif key in texts.known:
            label, facts = texts.known[key], {"label_by": "file"}
        else:
            continue
        lines.append(_line(replace(record, label=label, meta={**record.meta, **facts})))
    if not lines:
        raise DataError(f"no text of {store.path} has a decided label", fix="label some first")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, "".join(lines))
    strangers = sum(key not in texts.records for key in store.labels)
    return Exported(path, len(lines), tuple(undecided), strangers)


def _line(record: Record) -> str:
    row = record.to_dict()
    if record.label == ():
        row.setdefault("label", [])
    return json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"


def units_of(store: Store, texts: Texts | None = None) -> Units:
    """What agreement is measured on; see `Units`. Spans need the texts. An adjudicated label is no vote."""
    task = store.setup.task if store.setup else "classification"
    values: list[Mapping[str, Any]] = []
    of: list[int] = []
    for number, key in enumerate(sorted(store.labels)):
        rows = {name: row for name, row in store.labels[key].items() if row.source != "adjudicated"}
        if task == "classification":
            values.append({name: row.label for name, row in rows.items()})
            of.append(number)
        elif task == "multilabel":
            names = store.setup.labels if store.setup else ()
            values += [{name: part in (row.label or ()) for name, row in rows.items()} for part in names]  # type: ignore[operator]
            of += [number] * len(names)
        elif texts is not None and key in texts.records:
            words = _words(texts.records[key])
            values += [{name: _mark(row.label, *word) for name, row in rows.items()} for word in words]
            of += [number] * len(words)
    return Units(values, of)


def _words(record: Record) -> list[tuple[int, int]]:
    from attune.data.labelling import words_of

    return words_of(record)


def _mark(spans: Any, start: int, end: int) -> str:
    return next((span.label for span in spans if span.start < end and span.end > start), "")
