"""The time of a search: what is used up, and how long a trial and the final test will take."""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attune.durable import write_json

if TYPE_CHECKING:
    from attune.recipe import Recipe

__all__ = ["Clock", "Costs"]

SCORING = 1 / 3
"""What an example costs to score, as a share of what it costs to train on: the forward pass alone."""
WRITING = 10
"""What an example costs where an answer is written token by token, in examples trained on."""


class Clock:
    """Time used over all sessions, and the file `search.json` that keeps it with the search's state."""

    def __init__(self, folder: Path, budget: float | None):
        self.file, self.budget, self._started = folder / "search.json", budget, time.monotonic()
        self.known: dict[str, Any] = json.loads(self.file.read_text())

    @property
    def elapsed(self) -> float:
        return self.known["seconds"] + time.monotonic() - self._started

    def save(self, state: str, **facts: Any) -> None:
        """Write the state, the time used and what else is to be known."""
        self.known = {**self.known, **facts, "state": state}
        write_json(self.file, {**self.known, "seconds": round(self.elapsed, 2)})


class Costs:
    """Seconds an example, learned from ended trials."""

    def __init__(self, fixed: float, rows: int, tokens: float = 1.0):
        """`fixed`: seconds a process needs before its first step. `rows`: training examples, of `tokens` each."""
        self.fixed, self.rows, self.tokens = fixed, rows, max(1.0, tokens)
        self._seen: list[tuple[str, float]] = []

    @property
    def known(self) -> bool:
        """Whether anything ended yet."""
        return bool(self._seen)

    def work(self, recipe: Recipe) -> float:
        """Examples that a trial trains on over its whole schedule."""
        train = recipe.train
        if train.max_steps is not None:
            return train.max_steps * (train.batch_size or (train.batch_tokens or 1) / self.tokens)
        return train.epochs * self.rows

    def learn(self, recipe: Recipe, seconds: float, share: float) -> None:
        """A trial took so long for that share of its schedule."""
        at_work = seconds - self.fixed
        if share > 0 and at_work > 0:
            self._seen.append((recipe.adapter.name, at_work / (self.work(recipe) * share)))

    def of_trial(self, recipe: Recipe) -> float:
        """Seconds that a trial will take, from those of the same adapter where there are any; 0 while unknown."""
        if not self._seen:
            return 0.0
        same = [cost for adapter, cost in self._seen if adapter == recipe.adapter.name]
        return self.fixed + statistics.median(same or [cost for _, cost in self._seen]) * self.work(recipe)

    def of_test(self, recipe: Recipe, facts: dict[str, Any]) -> float:
        """Seconds that the final test of two models will take."""
        rows = facts["rows"].get("test", 0)
        if not self._seen or not rows:
            return self.fixed
        one_epoch = self.work(recipe.replace({"train.epochs": 1.0, "train.max_steps": None}))
        row = statistics.median(cost for _, cost in self._seen) * one_epoch / max(1, self.rows)
        if facts["task"] == "generation":
            return self.fixed + 2 * WRITING * row * min(rows, recipe.evaluate.generate_rows)
        return self.fixed + 2 * SCORING * row * rows
