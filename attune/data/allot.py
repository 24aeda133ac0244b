"""Which set of rows goes to which split: in the order of a hash, filling each stratum's share."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from attune.data.row_facts import RowFacts

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


def strata(rows: Sequence[int], facts: RowFacts) -> list[str]:
    """What each row counts as when shares are kept: its class, its rarest class or span, or its number's fifth."""
    used = Counter(facts.kind[row] for row in rows)
    counts: Counter[tuple[str, str]] = Counter()
    numbers: dict[str, list[float]] = {}
    for code, many in used.items():
        kind = facts.kinds[code]
        for item in kind.names:
            counts[kind.task, item] += many
        if kind.number is not None:
            numbers.setdefault(kind.task, []).extend([kind.number] * many)
    edges = {task: [sorted(values)[len(values) * k // 5] for k in range(1, 5)] for task, values in numbers.items()}
    stratum = {}
    for code in used:
        kind = facts.kinds[code]
        if kind.number is not None:
            stratum[code] = f"{kind.task}\0{bisect_right(edges[kind.task], kind.number)}"
        else:
            rarest = min(kind.names, key=lambda item: (counts[kind.task, item], item), default="")
            stratum[code] = f"{kind.task}\0{rarest}"
    return [stratum[facts.kind[row]] for row in rows]


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
