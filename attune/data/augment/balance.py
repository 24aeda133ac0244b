"""Step `balance`: no class so rare that it is not learned, none so common that it is always guessed."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from typing import Any

from pydantic import Field, model_validator

from attune.data.augment.base import chance, made
from attune.data.augment.variations import Variations
from attune.data.steps import Change, Context, Step
from attune.plugins import Options
from attune.records import Record


class Balance(Step):
    """Mixes the classes: rows of rare classes are repeated (as they are, or varied), rows of common ones left out."""

    name = "balance"
    tasks = ("classification",)
    learns = True

    class Config(Options):
        """How far the classes are brought together. Sizes count the training rows that the steps before left."""

        raise_to: float | None = Field(0.5, gt=0, le=1)
        """Rare classes are repeated until they have this share of the commonest class's rows (after `cap`)."""
        cap: int | None = Field(None, ge=1)
        """Most rows of one class; of the rest, which rows stay is drawn by chance."""
        most_copies: int = Field(5, ge=1, le=100)
        """A row is not repeated more often, even if its class stays smaller: ten rows do not become a thousand."""
        vary: bool = True
        """Repeated rows get surface variations (see step `variations`); where none is found, the row as it is."""

        @model_validator(mode="after")
        def _something(self) -> Balance.Config:
            if self.raise_to is None and self.cap is None:
                raise ValueError("one of raise_to and cap must be set")
            return self

    def __init__(self, options: Any = None, context: Context | None = None):
        super().__init__(options, context)
        self._plan: array = array("h")
        """For each training row the copies it gets; -1 leaves it out."""
        self._facts: dict[str, Any] = {}

    def learn(self, train: Sequence[Record]) -> None:
        rows: dict[str, list[tuple[float, int]]] = {}
        for number, record in enumerate(train):
            if isinstance(record.label, str):
                draw = chance(self.context.seed, self.name, record.id).random()
                rows.setdefault(record.label, []).append((draw, number))
        self._plan = array("h", bytes(2 * len(train)))
        before = {label: len(numbers) for label, numbers in rows.items()}
        for numbers in rows.values():
            numbers.sort()
            if self.options.cap is not None:
                for _, number in numbers[self.options.cap :]:
                    self._plan[number] = -1
                del numbers[self.options.cap :]
        most = max(map(len, rows.values()), default=0)
        after: Counter[str] = Counter()
        wanted = round(most * (self.options.raise_to or 0))
        for label, numbers in rows.items():
            missing = min(max(0, wanted - len(numbers)), self.options.most_copies * len(numbers))
            for place in range(missing):
                self._plan[numbers[place % len(numbers)][1]] += 1
            after[label] = len(numbers) + missing
        self._facts = {
            "before": dict(sorted(before.items())),
            "after": dict(sorted(after.items())),
            "short": sorted(label for label in after if after[label] < wanted),
        }

    def apply(self, record: Record, number: int) -> Change | None:
        copies = self._plan[number] if 0 <= number < len(self._plan) else 0
        if copies < 0:
            return Change.drop(record, f"class '{record.label}' has more than {self.options.cap} rows")
        if not copies:
            return None
        varied: list[Record] = []
        if self.options.vary and "made_by" not in record.meta:
            options = Variations.Config.model_validate({"copies": min(copies, 20)})
            change = Variations(options, self.context).apply(record)
            varied = list(change.added) if change else []
        added = [made(record, varied[at] if at < len(varied) else record, self.name, at + 1) for at in range(copies)]
        return Change.add(record, added, f"class '{record.label}' is rare")

    def facts(self) -> dict[str, Any]:
        return self._facts
