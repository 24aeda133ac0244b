"""The same text with different labels: at most one of them can be right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field

from attune.data.duplicates.base import label_name, several
from attune.data.spool import Texts
from attune.data.steps import Change, Step
from attune.plugins import Options
from attune.records import Record

SHOWN = 20


class Conflicts(Step):
    """Finds rows that say the same and are labelled differently, and leaves out those that cannot be trusted.

    Goes before the duplicate steps, which would leave one row of each such set.
    """

    name = "conflicts"
    tasks = ("classification", "multilabel")
    learns = True

    class Config(Options):
        same: Literal["exact", "normalised", "near"] = "normalised"
        """What counts as the same text. `near` also compares texts that differ in a word, and such a word may be what
        makes the label differ: look at the report first."""
        threshold: float = Field(default=0.9, ge=0.5, le=1.0)
        """For `near`: from this share of common shingles on (Jaccard)."""
        action: Literal["keep_majority", "drop", "report"] = "keep_majority"
        """keep_majority leaves out the rows that more rows contradict than support (all of them in a draw), drop leaves
        out all rows of the set, report leaves out none."""

    def __init__(self, options: Any = None, context: Any = None):
        super().__init__(options, context)
        self.reasons: dict[int, str] = {}
        self.found: dict[str, Any] = {}

    def learn(self, train: Sequence[Record]) -> None:
        from attune.data.dedupe import duplicate_clusters

        near = self.options.same == "near"
        found = duplicate_clusters(Texts(train), near=near, threshold=self.options.threshold, seed=self.context.seed)
        cluster = {"exact": found.exact, "normalised": found.same, "near": found.ids}[self.options.same]
        examples: list[dict[str, Any]] = []
        sets = rows = draws = 0
        for members in several(cluster):
            records = [train[row] for row in members.tolist()]
            for task in sorted({record.task for record in records}):
                labels = {
                    row: name
                    for row, record in zip(members.tolist(), records)
                    if record.task == task and (name := label_name(record)) is not None
                }
                counts = Counter(labels.values()).most_common()
                if len(counts) < 2:
                    continue
                sets, rows = sets + 1, rows + len(labels)
                draw = counts[0][1] == counts[1][1]
                draws += draw
                if len(examples) < SHOWN:
                    ids = {row: record.id for row, record in zip(members.tolist(), records)}
                    some = list(labels)[:SHOWN]
                    examples.append({"ids": [ids[row] for row in some], "labels": [labels[row] for row in some]})
                self._decide(labels, None if draw or self.options.action == "drop" else counts[0][0])
        self.found = {"sets": sets, "rows": rows, "draws": draws, "left_out": len(self.reasons), "examples": examples}

    def _decide(self, labels: dict[int, str], usual: str | None) -> None:
        if self.options.action == "report":
            return
        names = " / ".join(sorted(set(labels.values())))
        kind = "nearly the same" if self.options.same == "near" else "the same"
        for row, label in labels.items():
            if label != usual:
                most = f"; most rows say '{usual}'" if usual is not None else ""
                self.reasons[row] = f"{kind} text has different labels: {names}{most}"

    def apply(self, record: Record, number: int) -> Change | None:
        reason = self.reasons.get(number)
        return None if reason is None else Change.drop(record, reason, label=label_name(record))

    def facts(self) -> dict[str, Any]:
        return self.found
