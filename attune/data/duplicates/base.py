"""What the duplicate steps share: which row of a set of copies stays, and how the others say so."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from attune.data.steps import Change, Step
from attune.records import Record, Span

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Deduplicate", "Copies", "Link", "label_name", "several"]


class Link(NamedTuple):
    """How a row that goes is the same as the row that stays."""

    kept: str
    """id of the row that stays"""
    likeness: float


@dataclass
class Copies:
    """Rows that say the same.

    `group`: [rows] rows of one number are the same text. `cluster`: [rows] rows of one number are the same directly or
    through others. `left`, `right`: pairs of groups that are alike though not the same, with their `likeness`.
    """

    group: np.ndarray
    cluster: np.ndarray
    left: np.ndarray
    right: np.ndarray
    likeness: np.ndarray
    facts: dict[str, Any] = field(default_factory=dict)


class Deduplicate(Step):
    """Of rows that say the same the best stays: labelled before unlabelled, then the label that most of them have, then
    the longest, then the one with most columns filled, then the first.

    A row goes only where it is itself the same as one that stays, not through a third row.
    """

    learns = True
    measure = "jaccard"
    """What the likeness in the ledger is called; empty: it is always 1 and not written."""

    def __init__(self, options: Any = None, context: Any = None):
        super().__init__(options, context)
        self.links: dict[int, Link] = {}
        self.found: dict[str, Any] = {}

    @abstractmethod
    def copies(self, train: Sequence[Record]) -> Copies:
        """Which rows are the same; no keys and no ids, only positions."""

    @abstractmethod
    def reason(self, link: Link) -> str:
        """Why a row goes, in the ledger's words."""

    def learn(self, train: Sequence[Record]) -> None:
        copies = self.copies(train)
        self.links, mixed = _choose(train, copies)
        self.found = {"rows": len(train), "left_out": len(self.links), "clusters_with_several_labels": mixed}
        self.found |= copies.facts

    def apply(self, record: Record, number: int) -> Change | None:
        link = self.links.get(number)
        if link is None:
            return None
        more: dict[str, Any] = {self.measure: round(link.likeness, 4)} if self.measure else {}
        return Change.drop(record, self.reason(link), kept=link.kept, **more)

    def facts(self) -> dict[str, Any]:
        return self.found


class _Row(NamedTuple):
    """What decides which row stays, and nothing else of it."""

    row: int
    id: str
    task: str
    label: Any
    length: int
    filled: int


def label_name(record: Record) -> str | None:
    """The label as one word, where it has one: two different ones say different things."""
    label = record.label
    if isinstance(label, tuple):
        names = sorted(f"{one.start}-{one.end} {one.label}" if isinstance(one, Span) else str(one) for one in label)
        return ", ".join(names)
    return None if label is None else str(label)


def _row(number: int, record: Record) -> _Row:
    label = label_name(record)
    if label is None and record.answer is not None:
        label = f"answer: {record.answer}"
    if label is None and record.completions:
        label = ""  # answered, which counts as labelled; answers are part of the text that is compared
    filled = sum(value not in (None, "", [], {}) for value in record.meta.values())
    return _Row(number, record.id, record.task, label, len(record.full_text), filled)


def several(cluster: np.ndarray) -> Iterator[np.ndarray]:
    """The rows of each cluster that has two or more, in their order."""
    import numpy as np

    order = np.argsort(cluster, kind="stable")
    starts = np.flatnonzero(np.diff(cluster[order], prepend=-1))
    ends = np.append(starts[1:], len(order))
    for start, end in zip(starts.tolist(), ends.tolist()):
        if end - start > 1:
            yield order[start:end]


def _choose(train: Sequence[Record], copies: Copies) -> tuple[dict[int, Link], int]:
    """The rows that go, each with the row that stays for it, and in how many clusters labels differ."""
    near: dict[int, list[tuple[int, float]]] = {}
    for a, b, value in zip(copies.left.tolist(), copies.right.tolist(), copies.likeness.tolist()):
        near.setdefault(a, []).append((b, value))
        near.setdefault(b, []).append((a, value))
    gone: dict[int, Link] = {}
    mixed = 0
    for members in several(copies.cluster):
        rows = [_row(number, train[number]) for number in members.tolist()]
        mixed += len({(one.task, one.label) for one in rows if one.label is not None}) > len({one.task for one in rows})
        stays: dict[tuple[str, int], Link] = {}
        for one in sorted(rows, key=_ranking(rows)):
            group = int(copies.group[one.row])
            found = stays.get((one.task, group))
            if found is not None:
                gone[one.row] = found
                continue
            stays[one.task, group] = Link(one.id, 1.0)
            for other, likeness in near.get(group, ()):
                known = stays.get((one.task, other))
                if known is None or known.likeness < likeness:
                    stays[one.task, other] = Link(one.id, likeness)
    return gone, mixed


def _ranking(rows: Iterable[_Row]) -> Any:
    """The best first. Of labels that are equally frequent, the one that came first counts as the usual one."""
    counts = Counter((one.task, one.label) for one in rows if one.label is not None)
    return lambda one: (one.label is None, -counts[one.task, one.label], -one.length, -one.filled, one.row)
