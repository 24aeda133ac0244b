"""Which set of rows goes to which split: in the order of a hash, filling each stratum's share."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass

from attune.records import Record, Span

__all__ = ["Unit", "allot", "strata"]

LEAST_UNITS = 3
"""A stratum with fewer independent units than this cannot be in every split; such strata are filled together."""
RARE = "\0rare"


@dataclass(slots=True)
class Unit:
    """Rows that must stay together."""

    rows: list[int]
    cluster: str
    stratum: str
    hash: bytes
    split: str
    """Empty until it is decided; not empty = decided at an earlier time, and left as it is."""


def strata(records: list[Record]) -> list[str]:
    """What each record counts as when shares are kept: its class, its rarest class or span, or its number's fifth."""
    items = [_items(record) for record in records]
    counts = Counter((record.task, item) for record, labels in zip(records, items) for item in labels)
    numbers: dict[str, list[float]] = {}
    for record in records:
        if isinstance(record.label, (int, float)) and not isinstance(record.label, bool):
            numbers.setdefault(record.task, []).append(float(record.label))
    edges = {task: [sorted(values)[len(values) * k // 5] for k in range(1, 5)] for task, values in numbers.items()}
    found = []
    for record, labels in zip(records, items):
        task = record.task
        if task in edges and isinstance(record.label, (int, float)):
            found.append(f"{task}\0{bisect_right(edges[task], float(record.label))}")
        else:
            found.append(f"{task}\0{min(labels, key=lambda item: (counts[task, item], item), default='')}")
    return found


def _items(record: Record) -> list[str]:
    if isinstance(record.label, str):
        return [record.label]
    if isinstance(record.label, tuple):
        return sorted({item.label if isinstance(item, Span) else item for item in record.label})
    return []


def allot(units: list[Unit], shares: dict[str, float]) -> None:
    """Decide the split of every unit that has none; `units` come in the order of their hash.

    Each stratum's share is rounded with the remainder carried to the next stratum, so that the whole keeps the shares
    too. A stratum of three units or more is in every split.
    """
    by_stratum: dict[str, list[Unit]] = {}
    for unit in units:
        by_stratum.setdefault(unit.stratum, []).append(unit)
    rare = [name for name, members in by_stratum.items() if len(members) < LEAST_UNITS]
    if rare:
        by_stratum[RARE] = [unit for unit in units if unit.stratum in set(rare)]
        for name in rare:
            del by_stratum[name]
    carry = dict.fromkeys(shares, 0.0)
    # Big strata first: what small ones take beyond their share, to be in every split, is taken from none of them.
    for name in sorted(by_stratum, key=lambda name: (-sum(len(unit.rows) for unit in by_stratum[name]), name)):
        members = by_stratum[name]
        total = sum(len(unit.rows) for unit in members)
        goal = {split: total * share + carry[split] for split, share in shares.items()}
        _fill(members, {split: max(0, math.floor(value + 0.5)) for split, value in goal.items()})
        for split in shares:
            carry[split] = goal[split] - sum(len(unit.rows) for unit in members if unit.split == split)


def _fill(members: list[Unit], goal: dict[str, int]) -> None:
    free = [unit for unit in members if not unit.split]
    everywhere = len(members) >= LEAST_UNITS
    rows, count = Counter[str](), Counter[str]()
    for unit in members:
        if unit.split:
            rows[unit.split] += len(unit.rows)
            count[unit.split] += 1
    for unit in free:
        size = len(unit.rows)
        # A unit is taken while it brings the split nearer to its goal.
        unit.split = next((split for split, rest in goal.items() if size < 2 * (rest - rows[split])), "train")
        rows[unit.split] += size
        count[unit.split] += 1
    if not everywhere:
        return
    for split in ("train", *goal):
        if count[split]:
            continue
        giving = [unit for unit in free if count[unit.split] > 1]
        if giving:
            unit = min(giving, key=lambda unit: (unit.split != "train", len(unit.rows)))
            count[unit.split] -= 1
            count[split] += 1
            unit.split = split
