"""Train, validation and test: never a duplicate, a shared prompt or a group in two of them, and no row ever moves.

A set of rows that must stay together gets its split from a hash of its key when it is first seen; the split ledger
remembers it. A test or validation file that the user gives is never altered: its duplicates are removed from train.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from attune.data.allot import Unit, allot, strata
from attune.data.dedupe import digest
from attune.data.leaks import MODES, find_leaks
from attune.data.ledger import SPLITS, Ledger, Place
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
    """The three parts, what was left out of them and why, and a statement that can be printed and kept."""

    train: list[Record]
    validation: list[Record]
    test: list[Record]
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
) -> Split:
    """Divide records so that nothing that is tied together stands in two parts.

    `test` and `validation` are shares of the records; a given file takes the place of its share, which is then unused.
    `group` is the column (`meta`) whose rows stay together; without it, `meta["group"]` where a row has it.
    `leakage`, for given files: drop_train removes their duplicates from train, report leaves them, error refuses.

    Raises: DataError for shares that cannot be, for too few rows, a leaking test file, or a damaged ledger.
    """
    pool = list(records)
    given = {"test": _listed(given_test), "validation": _listed(given_validation)}
    shares = _shares({"test": test, "validation": validation}, given, leakage, len(pool))
    book = Ledger(ledger, made=[name for name in given if given[name] is None], seed=seed)
    everything = [*pool, *(given["test"] or []), *(given["validation"] or [])]
    n, n_test = len(pool), len(given["test"] or [])
    ties = Ties(everything, group=group, near=near, seed=seed)
    leaks = find_leaks(ties, everything, n, n_test)
    leaks.judge(leakage)
    dropped = leaks.dropped() if leakage == "drop_train" else {}
    reasons = dict(dropped)  # row -> (kind, sentence)

    kept = np.array([row for row in range(n) if row not in reasons], np.int64)
    record_keys = {row: _record_key(ties.exact_keys[row], everything[row]) for row in kept.tolist()}
    contradicting = _contradictions(kept, ties, everything, record_keys, book)
    reasons.update(contradicting)
    kept = np.array([row for row in kept.tolist() if row not in reasons], np.int64)

    nodes = sorted({node for row in kept.tolist() for node in ties.nodes(row)}) if book.places else []
    places = {node: book.places[ties.keys[node]].split for node in nodes if ties.keys[node] in book.places}
    order = [(ties.keys[int(ties.text[row])], record_keys[row], everything[row].id) for row in kept.tolist()]
    unit_of, left_out = ties.units(kept, places, order)
    for row, splits in left_out.items():
        old = record_keys[row] in book.records
        why = "the ledger holds tied rows in both" if old else "it is tied to rows of both"
        reasons[row] = ("straddles" if old else "bridges", f"would join {' and '.join(splits)}: {why}")
    kept, unit_of = kept[unit_of >= 0], unit_of[unit_of >= 0]

    units = _units(kept, unit_of, ties, everything, book, seed, stratify)
    if shares:
        _enough(units, shares, ties, n)
    allot(units, shares)
    chosen = {row: unit for unit in units for row in unit.rows}
    for row, unit in chosen.items():
        place = Place(unit.split, unit.cluster)
        book.record(record_keys[row], ties.keys[int(ties.text[row])], place)
        for node in ties.nodes(row)[1:]:
            book.tie(ties.keys[node], place)
    parts: dict[str, list[Record]] = {name: [] for name in SPLITS}
    for row in kept.tolist():
        parts[chosen[row].split].append(everything[row])
    for name, part in (("test", given["test"]), ("validation", given["validation"])):
        if part is not None:
            start = n if name == "test" else n + n_test
            parts[name] = [record for row, record in enumerate(part, start) if row not in reasons]
    for name, part in parts.items():
        if not part and (name == "train" or name in shares or given[name] is not None):
            raise DataError(
                f"no row is left for {name}",
                why=f"{len(kept)} of {n} rows remain, in {len(units)} independent clusters",
                fix="add rows, or change data.split",
            )
    book.write()

    dirty = set(leaks.duplicated_test)
    clean = [everything[row].id for row in leaks.test_rows.tolist() if row not in dirty]
    if given["test"] is None:
        clean = [record.id for record in parts["test"]]
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
        "conflicts": _conflicts(kept, ties, everything, len(contradicting)),
        "duplicate_ids": len(everything) - len({record.id for record in everything}),
        "labels_missing": _missing(parts),
    }
    statement["warnings"] = _warnings(statement, n)
    statement["summary"] = _summary(statement)
    excluded = [(everything[row].id, sentence) for row, (_, sentence) in sorted(reasons.items())]
    return Split(parts["train"], parts["validation"], parts["test"], excluded, clean, statement)


# what is asked -----------------------------------------------------------------------------------------------------


def _listed(rows: Iterable[Record] | None) -> list[Record] | None:
    return None if rows is None else list(rows)


def _shares(
    asked: dict[str, float], given: dict[str, list[Record] | None], leakage: str, rows: int
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


def _class(record: Record) -> str | None:
    """The label where two different ones contradict each other (numbers and spans may differ by a shade)."""
    if isinstance(record.label, str):
        return record.label
    if isinstance(record.label, tuple) and all(isinstance(item, str) for item in record.label):
        return ", ".join(sorted(str(item) for item in record.label))
    return None


def _record_key(exact: str, record: Record) -> str:
    return "record:" + digest(f"{exact}\n{record.task}\n{_class(record)}").hex()


def _contradictions(
    rows: np.ndarray, ties: Ties, everything: list[Record], keys: dict[int, str], book: Ledger
) -> dict[int, tuple[str, str]]:
    """Rows with the very same text and task and another label; one that the ledger knows stays."""
    labels: dict[tuple[int, str], dict[str, list[int]]] = {}
    for row in rows.tolist():
        label = _class(everything[row])
        if label is not None:
            labels.setdefault((int(ties.exact[row]), everything[row].task), {}).setdefault(label, []).append(row)
    found = {}
    for by_label in labels.values():
        if len(by_label) > 1:
            names = " / ".join(sorted(by_label))
            for row in (row for same in by_label.values() for row in same):
                if keys[row] not in book.records:
                    found[row] = ("conflict", f"the same text has different labels: {names}")
    return found


def _conflicts(rows: np.ndarray, ties: Ties, everything: list[Record], identical: int) -> dict[str, Any]:
    """Duplicate clusters, among the rows kept, whose labels differ."""
    clusters: dict[tuple[int, str], list[int]] = {}
    for row in rows.tolist():
        if _class(everything[row]) is not None:
            clusters.setdefault((int(ties.clusters.ids[row]), everything[row].task), []).append(row)
    torn = [members for members in clusters.values() if len({_class(everything[row]) for row in members}) > 1]
    shown = [[everything[row] for row in members[:SHOWN]] for members in torn[:SHOWN]]
    examples = [{"ids": [one.id for one in some], "labels": [_class(one) for one in some]} for some in shown]
    return {"identical_text_rows_excluded": identical, "clusters_kept": len(torn), "examples": examples}


def _units(
    rows: np.ndarray, unit_of: np.ndarray, ties: Ties, everything: list[Record], book: Ledger, seed: int, stratify: bool
) -> list[Unit]:
    """The sets that stay together, with the split they already have, in the order of their hash."""
    members: dict[int, list[int]] = {}
    for row, unit in zip(rows.tolist(), unit_of.tolist()):
        members.setdefault(unit, []).append(row)
    stratum = strata([everything[row] for row in rows.tolist()]) if stratify else [""] * len(rows)
    stratum_of = dict(zip(rows.tolist(), stratum))
    units = []
    for together in members.values():
        nodes = {node for row in together for node in ties.nodes(row)}
        keys = sorted(ties.keys[node] for node in nodes)  # groups sort before prompts, prompts before texts
        known = sorted((book.places[key] for key in keys if key in book.places), key=lambda place: place.cluster)
        cluster = known[0].cluster if known else keys[0]
        counts = Counter(stratum_of[row] for row in together)
        usual = min(counts, key=lambda name: (-counts[name], name))
        units.append(Unit(together, cluster, usual, digest(f"{seed}:{cluster}"), known[0].split if known else ""))
    return sorted(units, key=lambda unit: (unit.hash, ties.keys[int(ties.text[unit.rows[0]])]))


def _missing(parts: dict[str, list[Record]]) -> dict[str, list[str]]:
    """Labels that a part has no row of, for tasks with one class a row."""
    have = {name: {record.label for record in part if isinstance(record.label, str)} for name, part in parts.items()}
    every = set().union(*have.values())
    return {name: sorted(every - labels) for name, labels in have.items() if parts[name]}  # type: ignore[type-var]


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
