"""What ties two records together, so that they must not stand in different splits.

Their text (exact, normalised or near), the prompt they both answer, or their group. The text of a conversation is
compared without its system prompt: the same conversation under another system prompt is the same conversation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from attune.data.dedupe import Clusters, duplicate_clusters, fingerprints
from attune.data.ledger import SPLITS
from attune.data.row_facts import RowFacts, conversation
from attune.data.spool import Texts, told
from attune.records import Record

__all__ = ["TIES", "Touch", "Ties", "conversation"]

TIES = ("exact", "normalised", "near", "prompt", "group")
"""Strongest first. All but `group` are duplicates."""


class Touch(NamedTuple):
    """Why a row may not stand apart from another."""

    kind: str
    other: int
    jaccard: float


class Ties:
    """Nodes (texts, prompts, groups) and the rows that hang on them.

    A row's text node is the position of the first row with the same normalised text; prompts and groups are numbered
    after the texts, and -1 is none. The records are read once in their order, and of the near candidates again.
    """

    def __init__(
        self,
        records: Sequence[Record],
        *,
        group: str | None,
        near: bool,
        seed: int,
        say: Callable[[str], None] | None = None,
    ):
        self.facts = RowFacts(group)
        passing = told(records, say, "split: rows compared", len(records))
        self.prints = fingerprints(self.facts.passing(passing), near=near, seed=seed)
        texts = Texts(records, conversation)
        self.clusters: Clusters = duplicate_clusters(texts, near=near, seed=seed, prints=self.prints)
        self.prints.forget_bands()
        self.exact, self.text = self.clusters.exact, self.clusters.same
        prompts, groups = self.facts.prompts, self.facts.groups
        self.group_name = group or "group"
        self.first_prompt = len(records)
        self.first_group = self.first_prompt + len(prompts)
        self.size = self.first_group + len(groups)
        self.prompt = np.where(prompts.codes < 0, -1, prompts.codes + self.first_prompt)
        self.group = np.where(groups.codes < 0, -1, groups.codes + self.first_group)
        close = self.clusters.kind == 2
        self.near, self.near_jaccard = self.clusters.links[close], self.clusters.jaccard[close]

    def key(self, node: int) -> str:
        """The key of a node, as the ledger remembers it. Groups sort before prompts, prompts before texts."""
        if node >= self.first_group:
            return "group:" + self.facts.groups.key(node - self.first_group)
        if node >= self.first_prompt:
            return "prompt:" + self.facts.prompts.key(node - self.first_prompt)
        return "text:" + self.prints.normal_key(node)

    def nodes(self, row: int) -> list[int]:
        return [node for node in (int(self.text[row]), int(self.prompt[row]), int(self.group[row])) if node >= 0]

    def touches(self, rows: np.ndarray, others: np.ndarray) -> dict[int, Touch]:
        """For each of `rows` that is directly tied to one of `others`: by what, strongest first."""
        if not len(rows) or not len(others):
            return {}

        def first_of(part: np.ndarray) -> np.ndarray:
            """node -> the first of `others` that hangs on it, or -1"""
            nodes, at = np.unique(part[others], return_index=True)
            there = np.full(self.size, -1, np.int64)
            there[nodes[nodes >= 0]] = others[at[nodes >= 0]]
            return there

        def ties(part: np.ndarray) -> np.ndarray:
            there = first_of(part)
            return np.where(part[rows] < 0, -1, there[part[rows]])

        same = first_of(self.text)
        asked = np.zeros(self.size, bool)
        asked[self.text[rows]] = True
        close: dict[int, tuple[float, int]] = {}
        for here, far in ((0, 1), (1, 0)):
            hit = np.flatnonzero(asked[self.near[:, here]] & (same[self.near[:, far]] >= 0))
            for at in hit.tolist():
                node, other = int(self.near[at, here]), int(same[self.near[at, far]])
                close[node] = max(close.get(node, (0.0, -1)), (float(self.near_jaccard[at]), other))
        close_row = np.array([close.get(node, (0.0, -1))[1] for node in self.text[rows].tolist()], np.int64)
        by_kind = (ties(self.exact), ties(self.text), close_row, ties(self.prompt), ties(self.group))
        found: dict[int, Touch] = {}
        for at in np.flatnonzero(np.any([part >= 0 for part in by_kind], axis=0)).tolist():
            row = int(rows[at])
            kind, other = next((name, int(part[at])) for name, part in zip(TIES, by_kind) if part[at] >= 0)
            found[row] = Touch(kind, other, close[int(self.text[row])][0] if kind == "near" else 1.0)
        return found

    def units(
        self, rows: np.ndarray, places: dict[int, str], order: Callable[[int], tuple]
    ) -> tuple[np.ndarray, dict[int, list[str]]]:
        """Sets of rows that must stay together, and the rows that cannot stay with any.

        `places`: node -> the split it already has. `order`: gives each row a key, by which rows are taken where a set
        would join two splits: rows of the test split first, then validation, train, new ones; each that would still
        join two is left out. Returns the unit of each row (-1 = left out) and the splits that each such row touches.
        """
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        present = np.zeros(self.size, bool)
        present[self.text[rows]] = True
        near = self.near[present[self.near].all(axis=1)]
        edges = [near]
        for part in (self.prompt, self.group):
            tied = rows[part[rows] >= 0]
            edges.append(np.stack((self.text[tied], part[tied]), 1))
        joined = np.concatenate(edges)
        size = self.size
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
        order: Callable[[int], tuple],
        left_out: dict[int, list[str]],
    ) -> None:
        """Take the rows of torn components one by one; leave out each that would join two splits."""
        affected = np.flatnonzero(np.isin(unit, sorted(torn))).tolist()
        rank = {split: place for place, split in enumerate(reversed(SPLITS))}
        affected.sort(key=lambda i: (rank.get(places.get(int(self.text[rows[i]]), ""), len(rank)), order(int(rows[i]))))
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
                unit[i] = self.size + root(int(self.text[rows[i]]))
