"""Training rows whose label is probably wrong: report them, leave them out, or give them the likelier label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from attune.data.noise import Noise, Suspect, find_label_noise
from attune.data.steps import Change, Context, Step
from attune.plugins import Options
from attune.records import Record

__all__ = ["LabelNoise"]

SHOWN_PAIRS = 20


class LabelNoise(Step):
    """Confident learning: models that never saw the row disagree with its label, and say which one fits."""

    name: ClassVar[str] = "label_noise"
    scope = "train"
    tasks = ("classification",)
    learns = True

    class Config(Options):
        action: Literal["report", "drop", "relabel"] = "report"
        """`report` writes suspects to the ledger and changes nothing; `drop` leaves them out; `relabel` gives them the
        suggested label."""
        threshold: Annotated[float, Field(ge=0, le=1)] = 0.5
        """Only rows whose suggested label is more probable than the given one by at least this much. Lower finds more
        errors, and takes more rows that are only hard."""
        share: Annotated[float, Field(gt=0, le=1)] = 0.3
        """At most this share of the training rows, the surest first."""
        embeddings: bool = False
        """Also judge by sentence embeddings (extra `offline`): slower, and better where the same thing is said in many
        words."""
        rounds: Annotated[int, Field(ge=1, le=5)] = 2
        """Judge again, so often, by models that learned from the labels as corrected so far: finds more where many are
        wrong, and takes so much longer."""

    def __init__(self, options: Any = None, context: Context | None = None):
        super().__init__(options, context)
        self.found: dict[int, Suspect] = {}
        self.noise = Noise([], 0, {}, 0.0, {}, "no row was seen")
        self.over = 0

    def learn(self, train: Sequence[Record]) -> None:
        texts, labels, rows = [], [], []
        for number, record in enumerate(train):
            if isinstance(record.label, str):
                texts.append(record.text)
                labels.append(record.label)
                rows.append(number)
        self.noise = find_label_noise(
            texts,
            labels,
            embeddings=self.options.embeddings,
            rounds=self.options.rounds,
            surest=self.options.threshold,
        )
        chosen = [one for one in self.noise.confident if one.margin >= self.options.threshold]
        chosen.sort(key=lambda one: (-one.margin, one.row))
        most = int(self.options.share * len(train))
        self.over = max(0, len(chosen) - most)
        self.found = {rows[one.row]: one for one in chosen[:most]}

    def apply(self, record: Record, number: int) -> Change | None:
        suspect = self.found.get(number)
        if suspect is None:
            return None
        reason = f"label '{suspect.given}' is probably '{suspect.suggested}' (by {suspect.margin:.2f})"
        if self.options.action == "drop":
            return Change.drop(record, reason, label=suspect.given, suggested=suspect.suggested)
        if self.options.action == "relabel":
            return Change.relabel(record, suspect.suggested, reason)
        entry = {"action": "suspect", "label": suspect.given, "suggested": suspect.suggested, "reason": reason}
        return Change(record, (entry,))

    def facts(self) -> dict[str, Any]:
        noise = self.noise
        pairs = [{"given": a, "suggested": b, "rows": rows} for a, b, rows in noise.pairs()[:SHOWN_PAIRS]]
        return {
            "examined": noise.examined,
            "counted_as_wrong": len(noise.confident),
            "above_threshold": len(self.found) + self.over,
            "left_over_share": self.over,
            "agreement": noise.agreement,
            "models": noise.models,
            "pairs": pairs,
            "classes_too_rare": noise.rare,
            **({"reason": noise.reason} if noise.reason else {}),
        }
