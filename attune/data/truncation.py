"""What did not fit in `max_length`: counted exactly, never silent."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from attune.data.examples import Example
from attune.errors import DataError

__all__ = ["Truncation", "POLICIES"]

POLICIES = ("error", "drop", "left", "right", "window")


@dataclass
class Truncation:
    """Counts over everything a Renderer made."""

    policy: str
    max_length: int
    over: int = 0
    """Examples that were longer than `max_length`."""
    dropped: int = 0
    """Of these, left out whole."""
    tokens_lost: int = 0
    supervised_lost: int = 0
    """Scored tokens among them."""
    stops_lost: int = 0
    """Answers cut before their end: they teach no stopping."""
    lengths: array[int] = field(default_factory=lambda: array("l"))
    """Tokens of every example before any cut."""
    first: list[tuple[str, int]] = field(default_factory=list)
    """(where, tokens) of the first few that were too long."""

    def saw(self, length: int, where: str) -> bool:
        """Note an example's length; True if it is too long."""
        self.lengths.append(length)
        if length <= self.max_length:
            return False
        self.over += 1
        if len(self.first) < 5:
            self.first.append((where, length))
        return True

    def fit(self, example: Example, where: str, *, keep_first: bool) -> list[Example]:
        """Apply the policy to a language-model example. `keep_first`: its first token is the BOS and stays."""
        scored = np.flatnonzero(example.weight)
        if len(example.ids) > self.max_length and len(scored):
            # Text after the last scored token teaches nothing: it goes first, and nothing is lost.
            end = max(int(scored[-1]) + 1, self.max_length)
            example = _cut(example, np.arange(end))
        if not self.saw(len(example.ids), where) or self.policy == "error":
            return [example]
        lost = len(example.ids) - self.max_length
        if self.policy == "drop":
            return self._drop(example)
        if self.policy == "right":
            kept = np.arange(self.max_length)
        else:
            head = 1 if keep_first else 0
            kept = np.concatenate([np.arange(head), np.arange(head + lost, len(example.ids))])
        short = _cut(example, kept)
        if len(short.weight):
            short.weight[0] = 0  # nothing stands before it to predict it from
        if not short.weight.any():
            return self._drop(example)
        self.tokens_lost += lost
        self.supervised_lost += int(len(scored) - np.count_nonzero(short.weight))
        self.stops_lost += int(len(scored) > 0 and scored[-1] not in kept)
        return [short]

    def _drop(self, example: Example) -> list[Example]:
        self.dropped += 1
        self.tokens_lost += len(example.ids)
        self.supervised_lost += int(np.count_nonzero(example.weight))
        return []

    def percentiles(self) -> dict[str, int]:
        """Tokens of the median, 95th, 99th percentile and longest example."""
        if not self.lengths:
            return {"p50": 0, "p95": 0, "p99": 0, "max": 0}
        lengths = np.frombuffer(self.lengths, dtype=np.dtype("l"))
        found = np.percentile(lengths, [50, 95, 99, 100], method="higher").astype(int).tolist()
        return dict(zip(("p50", "p95", "p99", "max"), found, strict=True))

    def check(self) -> None:
        """Raises: DataError under policy `error` if anything was too long: the first, how many, what would keep all."""
        if self.policy != "error" or not self.over:
            return
        at = self.percentiles()
        rows = ", ".join(f"{where or 'a record'} ({length} tokens)" for where, length in self.first)
        raise DataError(
            f"{self.over} of {len(self.lengths)} examples are longer than data.max_length {self.max_length}",
            where=self.first[0][0] or None,
            why=f"first: {rows}; 95 % have at most {at['p95']}, 99 % at most {at['p99']}, the longest {at['max']}",
            fix=f"data.max_length: {at['max']} keeps all; or data.truncate: drop | left | right",
        )

    def to_dict(self) -> dict[str, Any]:
        names = ("policy", "max_length", "over", "dropped", "tokens_lost", "supervised_lost", "stops_lost")
        return {"examples": len(self.lengths), **{name: getattr(self, name) for name in names}, **self.percentiles()}


def _cut(example: Example, kept: np.ndarray) -> Example:
    return Example(example.ids[kept], example.weight[kept].copy(), example.target, example.record, example.turn)
