"""Train, validation and test: never a duplicate, a shared prompt or a group in two of them, and no row ever moves.

A set of rows that must stay together gets its split from a hash of its key when it is first seen; the split ledger
remembers it. A test or validation file that the user gives is never altered: its duplicates are removed from train.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from attune.data.allot import Unit, allot, strata
from attune.data.dedupe import digest
from attune.data.leaks import MODES, find_leaks
from attune.data.ledger import SPLITS, Ledger, Place
from attune.data.spool import Chosen, Joined, Spool
from attune.data.ties import Ties
from attune.errors import DataError
from attune.records import Record

__all__ = ["Split", "split"]

CROWD = 0.1
"""A cluster with more than this share of the rows is worth a warning."""
SHOWN = 20
THRESHOLD = 0.8


@dataclass(frozen=True, slots=True)
class Split:
    """The three parts, what was left out of them and why, and a statement that can be printed and kept.

    Records that came as a list are in lists; records on disk stay there, and the parts are views of them.
    """

    train: Sequence[Record]
    validation: Sequence[Record]
    test: Sequence[Record]
    excluded: list[tuple[str, str]]
    """(id, reason) of each row that is in no part."""
    clean_test_ids: list[str]
    """Test rows that had no duplicate in train before any was removed (all, where attune made the test split)."""
    statement: dict[str, Any] = field(default_factory=dict)
    """Plain JSON: counts, method, duplicates, leakage, conflicts, recall of the search, and a `summary` sentence."""


def split(
    records: Iterable[Record],
    *,
    validation: float = 0.1,
    test: float = 0.2,
    stratify: bool = True,
    group: str | None = None,
    seed: int = 0,
    ledger: Path | None = None,
    given_test: Iterable[Record] | None = None,
    given_validation: Iterable[Record] | None = None,
    leakage: str = "drop_train",
    near: bool = True,
    say: Callable[[str], None] | None = None,
) -> Split:
    """Divide records so that nothing that is tied together stands in two parts.

    `test` and `validation` are shares of the records; a given file takes the place of its share, which is then unused.
    `group` is the column (`meta`) whose rows stay together; without it, `meta["group"]` where a row has it.
    `leakage`, for given files: drop_train removes their duplicates from train, report leaves them, error refuses.
    A million rows in a Spool need less than 1 GiB. `say` is told now and then how far it is.

    Raises: DataError for shares that cannot be, for too few rows, a leaking test file, or a damaged ledger.
    """
    pool = _sequence(records)
    given = {
        name: None if rows is None else _sequence(rows)
        for name, rows in (("test", given_test), ("validation", given_validation))
    }
    shares = _shares({"test": test, "validation": validation}, given, leakage, len(pool))
    book = Ledger(ledger, made=[name for name in given if given[name] is None], seed=seed)
    everything = Joined(pool, *(part for part in given.values() if part is not None))
    n, n_test = len(pool), len(given["test"] or [])
    ties = Ties(everything, group=group, near=near, seed=seed, say=say)
    facts = ties.facts
    leaks = find_leaks(ties, everything, n, n_test)
    leaks.judge(leakage)
    dropped = leaks.dropped() if leakage == "drop_train" else {}
    reasons = dict(dropped)  # row -> (kind, sentence)

    kept = np.setdiff1d(np.arange(n), np.fromiter(reasons, np.int64, len(reasons)), assume_unique=True)
    contradicting = _contradictions(kept, ties, book)
    reasons.update(contradicting)
    kept = np.setdiff1d(kept, np.fromiter(contradicting, np.int64, len(contradicting)), assume_unique=True)

    places = _known_places(kept, ties, book)
    unit_of, left_out = ties.units(
        kept, places, lambda row: (ties.key(int(ties.text[row])), _record_key(ties, row), facts.ids[row])
    )
    for row, splits in left_out.items():
        old = _record_key(ties, row) in book.records
        why = "the ledger holds tied rows in both" if old else "it is tied to rows of both"
        reasons[row] = ("straddles" if old else "bridges", f"would join {' and '.join(splits)}: {why}")
    kept, unit_of = kept[unit_of >= 0], unit_of[unit_of >= 0]

    units = _units(kept, unit_of, ties, book, seed, stratify)
    if shares:
        _enough(units, shares, ties, n)
    allot(units, shares)
    part_of = np.full(n, -1, np.int8)
    for unit in units:
        part_of[unit.rows] = SPLITS.index(unit.split)
    if ledger is not None:
        _remember(units, ties, book)
    rows_of = {name: np.flatnonzero(part_of == number) for number, name in enumerate(SPLITS)}
    parts = {name: _chosen(pool, rows) for name, rows in rows_of.items()}
    for name, part in given.items():
        if part is not None:
            start = n if name == "test" else n + n_test
            rows = np.array([row for row in range(start, start + len(part)) if row not in reasons], np.int64)
            parts[name], rows_of[name] = _chosen(part, rows - start), rows
    for name, part in parts.items():
        if not part and (name == "train" or name in shares or given[name] is not None):
            raise DataError(
                f"no row is left for {name}",
                why=f"{len(kept)} of {n} rows remain, in {len(units)} independent clusters",
                fix="add rows, or change data.split",
            )
    book.write()

    dirty = set(leaks.duplicated_test)
    clean = [facts.ids[row] for row in leaks.test_rows.tolist() if row not in dirty]
    if given["test"] is None:
        clean = [facts.ids[row] for row in rows_of["test"].tolist()]
    groups = len(np.unique(ties.group[ties.group >= 0]))
    statement: dict[str, Any] = {
        "rows": {"given": n, **{name: len(parts[name]) for name in SPLITS}, "excluded": len(reasons)},
        "made": book.head["made"],
        "shares": shares,
        "stratified": stratify,
        "seed": book.head["seed"],
        "ledger": None if ledger is None else {"path": str(ledger), "records": len(book.records)},
        "independent_clusters": len(units),
        "groups": {"column": ties.group_name, "count": groups} if groups else None,
        "duplicates": ties.clusters.counts,
        "near_search": {
            "used": near,
            "threshold": THRESHOLD,
            "estimated_recall": round(ties.clusters.estimated_recall, 5),
            "not_compared_at_most": ties.clusters.skipped,
        },
        "leakage": leaks.statement(leakage, dropped, n) if len(everything) > n else None,
        "excluded": dict(sorted(Counter(kind for kind, _ in reasons.values()).items())),
        "conflicts": _conflicts(kept, ties, len(contradicting)),
        "duplicate_ids": len(facts.ids) - len(set(facts.ids)),
        "labels_missing": _missing(rows_of, ties),
    }
    statement["warnings"] = _warnings(statement, n)
    statement["summary"] = _summary(statement)
    excluded = [(facts.ids[row], sentence) for row, (_, sentence) in sorted(reasons.items())]
    return Split(parts["train"], parts["validation"], parts["test"], excluded, clean, statement)


def _sequence(rows: Iterable[Record]) -> Sequence[Record]:
    return rows if isinstance(rows, (Spool, Chosen, Joined)) else list(rows)


def _chosen(rows: Sequence[Record], numbers: np.ndarray) -> Sequence[Record]:
    return [rows[number] for number in numbers.tolist()] if isinstance(rows, list) else Chosen(rows, numbers)


# what is asked -----------------------------------------------------------------------------------------------------


def _shares(
    asked: dict[str, float], given: dict[str, Sequence[Record] | None], leakage: str, rows: int
) -> dict[str, float]:
    """The splits that have to be made, with their shares.

    Raises: DataError if they cannot be.
    """
    if leakage not in MODES:
        raise DataError(f"data.leakage is {leakage!r}", fix=f"one of: {', '.join(MODES)}")
    if not rows:
        raise DataError("there are no rows to split", fix="check data.path, and what data.prepare dropped")
    for name, part in given.items():
        if part is not None and not part:
            raise DataError(f"the given {name} file has no rows", fix=f"leave it out: a {name} split is then made")
    shares = {name: share for name, share in asked.items() if given[name] is None}
    for name, share in shares.items():
        if not isinstance(share, (int, float)) or isinstance(share, bool) or not math.isfinite(share) or share < 0:
            raise DataError(f"data.split.{name} is {share!r}, which is no share of the rows", fix="write 0.1")
    if shares.get("test") == 0:
        raise DataError(
            "nothing would be held out: data.split.test is 0 and no test file is given",
            fix="set data.split.test (0.2 is usual), or give a test file",
        )
    if sum(shares.values()) >= 1:
        asked_for = " + ".join(f"{name} {share:g}" for name, share in shares.items())
        fix = "shares that sum to less than 1, such as validation 0.1 and test 0.2"
        raise DataError(f"{asked_for} leaves nothing to train on", fix=fix)
    return {name: float(share) for name, share in shares.items() if share > 0}


def _enough(units: list[Unit], shares: dict[str, float], ties: Ties, rows: int) -> None:
    needed = len(shares) + 1
    if len(units) >= needed:
        return
    largest = max((len(unit.rows) for unit in units), default=0)
    fix = "add rows, or give test and validation files"
    if largest > 1:
        fix += "; if one template fills most of every row, move it to the system prompt or search with near: false"
    raise DataError(
        f"too few rows: {rows} rows make {len(units)} independent clusters, and {needed} are needed "
        f"({', '.join(('train', *shares))})",
        why=f"duplicates and rows of one group stay together; the largest such cluster has {largest} rows",
        fix=fix,
    )


# what is found -----------------------------------------------------------------------------------------------------


def _record_key(ties: Ties, row: int) -> str:
    kind = ties.facts.of(row)
    return "record:" + digest(f"{ties.prints.exact_key(row)}\n{kind.task}\n{kind.name}").hex()


def _known_places(rows: np.ndarray, ties: Ties, book: Ledger) -> dict[int, str]:
    """node -> the split that the ledger has it in."""
    if not book.places:
        return {}
    nodes = np.unique(np.concatenate([part[rows] for part in (ties.text, ties.prompt, ties.group)]))
    keys = ((node, ties.key(node)) for node in nodes[nodes >= 0].tolist())
    return {node: book.places[key].split for node, key in keys if key in book.places}


def _remember(units: list[Unit], ties: Ties, book: Ledger) -> None:
    unit_of = np.full(len(ties.text), -1, np.int64)
    for number, unit in enumerate(units):
        unit_of[unit.rows] = number
    placed = [Place(unit.split, unit.cluster) for unit in units]
    for row in np.flatnonzero(unit_of >= 0).tolist():
        place = placed[unit_of[row]]
        book.record(_record_key(ties, row), ties.key(int(ties.text[row])), place)
        for node in ties.nodes(row)[1:]:
            book.tie(ties.key(node), place)


def _together(rows: np.ndarray, tie: np.ndarray, ties: Ties) -> list[list[int]]:
    """Labelled rows that share a tie and a task, where two or more do: in the order of their first row."""
    named = np.array([kind.name is not None for kind in ties.facts.kinds], bool)
    tasks: dict[str, int] = {}
    task = np.array([tasks.setdefault(kind.task, len(tasks)) for kind in ties.facts.kinds], np.int64)
    code = np.frombuffer(ties.facts.kind, np.int32)[rows]
    rows, code = rows[named[code]], code[named[code]]
    key = tie[rows] * max(len(tasks), 1) + task[code]
    order = np.argsort(key, kind="stable")
    starts = np.flatnonzero(np.diff(key[order], prepend=-1))
    ends = np.append(starts[1:], len(order))
    return sorted(rows[order[start:end]].tolist() for start, end in zip(starts, ends) if end - start > 1)


def _contradictions(rows: np.ndarray, ties: Ties, book: Ledger) -> dict[int, tuple[str, str]]:
    """Rows with the very same text and task and another label; one that the ledger knows stays."""
    found = {}
    for same in _together(rows, ties.exact, ties):
        names = sorted({str(ties.facts.of(row).name) for row in same})
        if len(names) > 1:
            for row in same:
                if _record_key(ties, row) not in book.records:
                    found[row] = ("conflict", f"the same text has different labels: {' / '.join(names)}")
    return found


def _conflicts(rows: np.ndarray, ties: Ties, identical: int) -> dict[str, Any]:
    """Duplicate clusters, among the rows kept, whose labels differ."""
    facts = ties.facts
    torn = [
        members
        for members in _together(rows, ties.clusters.ids, ties)
        if len({facts.of(row).name for row in members}) > 1
    ]
    examples = [
        {"ids": [facts.ids[row] for row in some], "labels": [facts.of(row).name for row in some]}
        for some in (members[:SHOWN] for members in torn[:SHOWN])
    ]
    return {"identical_text_rows_excluded": identical, "clusters_kept": len(torn), "examples": examples}


def _units(rows: np.ndarray, unit_of: np.ndarray, ties: Ties, book: Ledger, seed: int, stratify: bool) -> list[Unit]:
    """The sets that stay together, with the split they already have, in the order of their hash."""
    stratum = strata(rows.tolist(), ties.facts) if stratify else [""] * len(rows)
    order = np.argsort(unit_of, kind="stable")
    starts = np.flatnonzero(np.diff(unit_of[order], prepend=-1)).tolist()
    units = []
    for start, end in zip(starts, [*starts[1:], len(order)]):
        places = order[start:end].tolist()
        together = [int(rows[place]) for place in places]
        keys = sorted(ties.key(node) for node in {node for row in together for node in ties.nodes(row)})
        known = sorted((book.places[key] for key in keys if key in book.places), key=lambda place: place.cluster)
        cluster = known[0].cluster if known else keys[0]
        counts = Counter(stratum[place] for place in places)
        usual = min(counts, key=lambda name: (-counts[name], name))
        units.append(Unit(together, cluster, usual, digest(f"{seed}:{cluster}"), known[0].split if known else ""))
    return sorted(units, key=lambda unit: (unit.hash, ties.key(int(ties.text[unit.rows[0]]))))


def _missing(rows_of: dict[str, np.ndarray], ties: Ties) -> dict[str, list[str]]:
    """Labels that a part has no row of, for tasks with one class a row."""
    kind = np.frombuffer(ties.facts.kind, np.int32)
    have = {
        part: {str(one.name) for code in np.unique(kind[rows]).tolist() if (one := ties.facts.kinds[code]).single}
        for part, rows in rows_of.items()
    }
    every = set().union(*have.values())
    return {part: sorted(every - labels) for part, labels in have.items() if len(rows_of[part])}


def _warnings(statement: dict[str, Any], rows: int) -> list[str]:
    """What the user should look at, in sentences."""
    found = []
    largest, skipped = statement["duplicates"]["largest"], statement["near_search"]["not_compared_at_most"]
    if largest > max(20, CROWD * rows):
        found.append(
            f"{largest:,} rows are duplicates of one another, directly or through others: a template that fills most "
            "of each row does this; they stay in one split"
        )
    if skipped:
        found.append(
            f"up to {skipped:,} pairs of look-alike rows were not compared, because thousands of rows share a "
            "template; remove its fixed text, or drop duplicates first"
        )
    if statement["duplicate_ids"]:
        found.append(f"{statement['duplicate_ids']:,} rows have an id that another row has")
    return found


def _summary(statement: dict[str, Any]) -> str:
    rows, leak, search = statement["rows"], statement["leakage"], statement["near_search"]
    kinds = "exact, normalised"
    if search["used"]:
        kinds += f", near at Jaccard >= {THRESHOLD:g} with {search['estimated_recall']:.1%} recall"
    text = f"{rows['train']:,} train, {rows['validation']:,} validation and {rows['test']:,} test rows"
    if leak is None:
        return (
            f"{text}; no duplicate ({kinds}), shared prompt or group stands in two of them; "
            f"{rows['excluded']:,} of {rows['given']:,} rows left out."
        )
    if leak["test_rows"]:
        text += (
            f"; {leak['test_rows_with_duplicate']:,} test rows ({leak['share']:.1%}) had a duplicate in train ({kinds})"
        )
    if leak["mode"] == "report":
        return f"{text}; none was removed (leakage: report); {leak['clean_test_rows']:,} test rows are clean."
    return f"{text}; {leak['removed_from_train']:,} rows were removed from train; {rows['excluded']:,} left out in all."
