"""Rows that say the same: inside each part, between parts, and with different labels."""

from __future__ import annotations

from collections import Counter
from typing import Any

from attune.data.audit.view import Section, View, classes_of, finding, text_of
from attune.data.dedupe import digest, duplicate_clusters, normalise

__all__ = ["duplicates"]

SHOWN = 10


def duplicates(view: View) -> Section:
    parts: dict[str, Any] = {}
    held: dict[str, set[bytes]] = {}
    notes = []
    for name, records in view.parts.items():
        exact: set[bytes] = set()
        normal = held[name] = set()
        for record in records:
            text = text_of(record)
            exact.add(digest(text))
            normal.add(digest(normalise(text)))
        parts[name] = {
            "rows": len(records),
            "exact": len(records) - len(exact),
            "normalised": len(records) - len(normal),
        }
    sample = view.train
    clusters = duplicate_clusters([text_of(record) for record in sample]) if sample else None
    found: Section = {"parts": parts, "between": {}, "near": None, "conflicts": [], "conflict_clusters": 0}
    for name in ("validation", "test"):
        if name in held and "train" in held:
            found["between"][name] = len(held[name] & held["train"])
    if clusters is not None:
        counts = clusters.counts
        found["near"] = {
            "rows": len(sample),
            "copies": counts["exact"] + counts["normalised"] + counts["near"],
            "near": counts["near"],
            "clusters": counts["clusters"],
            "largest": counts["largest"],
        }
        torn = _torn(view, clusters.ids.tolist())
        found["conflict_clusters"] = len(torn)
        found["conflicts"] = [
            [{**view.shown(sample[row]), "label": _label(sample[row])} for row in rows] for rows in torn[:SHOWN]
        ]
        share = found["near"]["copies"] / len(sample)
        if share > 0.01:
            text = f"{share:.1%} of the training rows copy another one, exactly or nearly"
            notes.append(finding("warn" if share > 0.05 else "note", text))
        if torn:
            notes.append(finding("warn", f"{len(torn)} groups of copies in train have different labels"))
        if share <= 0.01 and not torn:
            notes.append(finding("good", f"{share:.1%} of the training rows copy another one"))
    for name, count in found["between"].items():
        if count:
            notes.append(finding("warn", f"{count} texts of {name} also stand in train"))
    found["findings"] = notes
    return found


def _label(record: Any) -> str:
    return ", ".join(classes_of(record))


def _torn(view: View, ids: list[int]) -> list[list[int]]:
    """Clusters with more than one label, one row of each label, the largest clusters first."""
    members: dict[int, list[int]] = {}
    for row, cluster in enumerate(ids):
        if isinstance(view.train[row].label, (str, tuple)):
            members.setdefault(cluster, []).append(row)
    torn = []
    if view.task not in ("classification", "multilabel"):
        return []
    for rows in members.values():
        if len(rows) > 1 and len({_label(view.train[row]) for row in rows}) > 1:
            first: dict[str, int] = {}
            for row in rows:
                first.setdefault(_label(view.train[row]), row)
            torn.append((len(rows), sorted(first.values())))
    order = Counter({at: size for at, (size, _) in enumerate(torn)})
    return [torn[at][1] for at, _ in sorted(order.items(), key=lambda item: (-item[1], item[0]))]
