"""What ties two records together, so that they must not stand in different splits.

Their text (exact, normalised or near), the prompt they both answer, or their group. The text of a conversation is
compared without its system prompt: the same conversation under another system prompt is the same conversation.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from attune.data.dedupe import Clusters, digest, duplicate_clusters, normalise, text_digests
from attune.data.ledger import SPLITS
from attune.errors import DataError
from attune.plugins import nearest
from attune.records import Message, Record

__all__ = ["TIES", "Touch", "Ties", "conversation"]

TIES = ("exact", "normalised", "near", "prompt", "group")
"""Strongest first. All but `group` are duplicates."""

INSTRUCTION_ROWS, INSTRUCTION_SHARE = 20, 0.05
"""A prompt that more rows than both of these share is an instruction, not content: it ties nothing."""


class Touch(NamedTuple):
    """Why a row may not stand apart from another."""

    kind: str
    other: int
    jaccard: float


def _said(messages: Iterable[Message]) -> list[str]:
    said = []
    for message in messages:
        if message.role not in ("system", "developer"):
            said.append(message.content)
            if message.tool_calls:
                said.append(json.dumps(message.tool_calls, sort_keys=True, default=str))
    return said


def conversation(record: Record) -> str:
    """What duplicate search compares: everything said but the system prompt; all of it where nothing else was said."""
    said = _said(record.prompt)
    for completion in record.completions:
        said += _said(completion.messages)
    return "\n".join(said) if any(said) else record.full_text


def _codes(keys: list[str | None]) -> tuple[np.ndarray, list[str]]:
    """Numbers for the distinct keys, -1 for None, and the keys by number."""
    known: dict[str, int] = {}
    codes = [-1 if key is None else known.setdefault(key, len(known)) for key in keys]
    return np.array(codes, np.int64), list(known)


class Ties:
    """Nodes (texts, prompts, groups) and the rows that hang on them.

    A row's text node is the position of the first row with the same normalised text; prompts and groups are numbered
    after the texts, and -1 is none.
    """

    def __init__(self, records: list[Record], *, group: str | None, near: bool, seed: int):
        texts = [conversation(record) for record in records]
        digests = text_digests(texts)
        self.clusters: Clusters = duplicate_clusters(texts, near=near, seed=seed, digests=digests)
        self.exact, self.text = self.clusters.exact, self.clusters.same
        self.exact_keys = [f"{high:016x}{low:016x}" for high, low in digests[0].tolist()]
        text_keys = [f"text:{high:016x}{low:016x}" for high, low in digests[1].tolist()]
        prompt, prompt_keys = _codes(_prompts(records))
        self.group_name = group or "group"
        groups, group_keys = _codes(_groups(records, group))
        n = len(records)
        self.prompt = np.where(prompt < 0, -1, prompt + n)
        self.group = np.where(groups < 0, -1, groups + n + len(prompt_keys))
        self.keys = text_keys + prompt_keys + group_keys
        """The key of each node, as the ledger remembers it."""
        close = self.clusters.kind == 2
        self.near, self.near_jaccard = self.clusters.links[close], self.clusters.jaccard[close]

    def nodes(self, row: int) -> list[int]:
        return [node for node in (int(self.text[row]), int(self.prompt[row]), int(self.group[row])) if node >= 0]

    def touches(self, rows: np.ndarray, others: np.ndarray) -> dict[int, Touch]:
        """For each of `rows` that is directly tied to one of `others`: by what, strongest first."""
        there: list[dict[int, int]] = []
        for part in (self.exact, self.text, self.prompt, self.group):
            first: dict[int, int] = {}
            for other in others.tolist():
                first.setdefault(int(part[other]), other)
            first.pop(-1, None)
            there.append(first)
        close: dict[int, tuple[float, int]] = {}
        for (a, b), jaccard in zip(self.near.tolist(), self.near_jaccard.tolist()):
            for here, far in ((a, b), (b, a)):
                if far in there[1]:
                    close[here] = max(close.get(here, (0.0, -1)), (jaccard, there[1][far]))
        found: dict[int, Touch] = {}
        for row in rows.tolist():
            text = int(self.text[row])
            if int(self.exact[row]) in there[0]:
                found[row] = Touch("exact", there[0][int(self.exact[row])], 1.0)
            elif text in there[1]:
                found[row] = Touch("normalised", there[1][text], 1.0)
            elif text in close:
                found[row] = Touch("near", close[text][1], close[text][0])
            elif int(self.prompt[row]) in there[2]:
                found[row] = Touch("prompt", there[2][int(self.prompt[row])], 1.0)
            elif int(self.group[row]) in there[3]:
                found[row] = Touch("group", there[3][int(self.group[row])], 1.0)
        return found

    def units(
        self, rows: np.ndarray, places: dict[int, str], order: list[tuple]
    ) -> tuple[np.ndarray, dict[int, list[str]]]:
        """Sets of rows that must stay together, and the rows that cannot stay with any.

        `places`: node -> the split it already has. `order`: a key for each row, by which rows are taken where a set
        would join two splits: rows of the test split first, then validation, train, new ones; each that would still
        join two is left out. Returns the unit of each row (-1 = left out) and the splits that each such row touches.
        """
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        present = np.zeros(len(self.keys), bool)
        present[self.text[rows]] = True
        near = self.near[present[self.near].all(axis=1)]
        edges = [near]
        for part in (self.prompt, self.group):
            tied = rows[part[rows] >= 0]
            edges.append(np.stack((self.text[tied], part[tied]), 1))
        joined = np.concatenate(edges)
        size = len(self.keys)
        graph = coo_array((np.ones(len(joined), bool), (joined[:, 0], joined[:, 1])), shape=(size, size))
        label = connected_components(graph, directed=False)[1] if size else np.zeros(0, np.int64)
        splits: dict[int, set[str]] = {}
        for node, split in places.items():
            splits.setdefault(int(label[node]), set()).add(split)
        torn = {component for component, found in splits.items() if len(found) > 1}
        unit = label[self.text[rows]].astype(np.int64)
        left_out: dict[int, list[str]] = {}
        if torn:
            self._mend(rows, unit, torn, near, places, order, left_out)
        return unit, left_out

    def _mend(
        self,
        rows: np.ndarray,
        unit: np.ndarray,
        torn: set[int],
        near: np.ndarray,
        places: dict[int, str],
        order: list[tuple],
        left_out: dict[int, list[str]],
    ) -> None:
        """Take the rows of torn components one by one; leave out each that would join two splits."""
        affected = [i for i in range(len(rows)) if int(unit[i]) in torn]
        rank = {split: place for place, split in enumerate(reversed(SPLITS))}
        affected.sort(key=lambda i: (rank.get(places.get(int(self.text[rows[i]]), ""), len(rank)), order[i]))
        wanted = {int(self.text[rows[i]]) for i in affected}
        neighbours: dict[int, list[int]] = {}
        for a, b in near.tolist():
            if a in wanted:
                neighbours.setdefault(a, []).append(b)
                neighbours.setdefault(b, []).append(a)
        parent: dict[int, int] = {}
        split_of: dict[int, str | None] = {}

        def root(node: int) -> int:
            while parent[node] != node:
                parent[node] = parent[parent[node]]
                node = parent[node]
            return node

        for i in affected:
            nodes = self.nodes(rows[i])
            joined = {root(node) for node in [*nodes, *neighbours.get(nodes[0], [])] if node in parent}
            touched = {split_of[node] for node in joined} | {places.get(node) for node in nodes}
            touched.discard(None)
            if len(touched) > 1:
                left_out[int(rows[i])] = sorted(split for split in touched if split)
                unit[i] = -1
                continue
            for node in nodes:
                parent.setdefault(node, node)
            top = root(nodes[0])
            for node in (*nodes, *joined):
                parent[root(node)] = top
            split_of[top] = next(iter(touched), None)
        for i in affected:
            if unit[i] >= 0:
                unit[i] = len(self.keys) + root(int(self.text[rows[i]]))


def _prompts(records: list[Record]) -> list[str | None]:
    """A key for what each record answers; None where it answers nothing, or only a common instruction."""
    keys: list[str | None] = []
    for record in records:
        said = "\n".join(_said(record.prompt)) if record.completions else ""
        keys.append("prompt:" + digest(normalise(said)).hex() if said.strip() else None)
    counts = Counter(key for key in keys if key)
    limit = max(INSTRUCTION_ROWS, INSTRUCTION_SHARE * len(records))
    return [key if key and counts[key] <= limit else None for key in keys]


def _groups(records: list[Record], group: str | None) -> list[str | None]:
    """A key for the group of each record. Without a name, `meta["group"]` counts where it is there.

    Raises: DataError if no record has the named column.
    """
    values: list[Any] = [record.meta.get(group or "group") for record in records]
    if group and records and all(value is None for value in values):
        known = sorted({key for record in records for key in record.meta})
        raise DataError(
            f"no row has the group column '{group}'{nearest(group, known)}",
            why=f"columns that were kept: {', '.join(known) or 'none'}",
            fix="name one of them as `data.split.group`, or leave it out",
        )
    column = group or "group"
    return ["group:" + digest(f"{column}={value}").hex() if value not in (None, "") else None for value in values]
