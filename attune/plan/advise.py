"""Prompting, retrieval or tuning: which answers the need, and the number each reason rests on."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attune.plan.look import Look

__all__ = ["Advice", "advise"]

FACTS = (
    r"\b(latest|current|today|news|price|stock|policy|policies|handbook|faq|knowledge|look ?up|documents?|manuals?)\b"
)
"""Words of a goal that speak of facts which change or stand in documents."""
FEW_ROWS = 100
FEW_PER_CLASS = 8
ENOUGH_PER_CLASS = 30
FEW_ANSWERS = 200
GOOD = 0.9
UNGROUNDED = 0.25


@dataclass(frozen=True)
class Advice:
    """One way, whether it is worth it here (`first`, `yes`, `maybe`, `no`), and why."""

    way: str
    worth: str
    reason: str

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))


def advise(seen: Look, goal: str | None, zero_shot: dict[str, int] | None = None) -> list[Advice]:
    """What to do, the best first. `zero_shot`: how many of some training rows the untuned base gets right, measured."""
    prompting, tuning = _prompting(seen, zero_shot), _tuning(seen, zero_shot)
    retrieval = _retrieval(seen, goal)
    order = {"first": 0, "yes": 1, "maybe": 2, "no": 3}
    found = sorted([tuning, prompting, retrieval], key=lambda one: order[one.worth])
    if labels := _labels(seen):
        found.insert(0, labels)
    return found


def _labels(seen: Look) -> Advice | None:
    if seen.task in ("classification", "multilabel", "tagging") and seen.classes and seen.smallest < FEW_PER_CLASS:
        poor = [name for name, count in seen.classes.items() if count < FEW_PER_CLASS]
        return Advice(
            "label more",
            "yes",
            f"{len(poor)} of {len(seen.classes)} classes have fewer than {FEW_PER_CLASS} rows (the smallest, "
            f"'{poor[-1]}', {seen.smallest}): `attune data label` asks for the most useful ones first",
        )
    return None


def _prompting(seen: Look, zero_shot: dict[str, int] | None) -> Advice:
    if zero_shot and zero_shot["rows"]:
        low, high = _wilson(zero_shot["right"], zero_shot["rows"])
        share = zero_shot["right"] / zero_shot["rows"]
        said = (
            f"zero-shot, the base gets {zero_shot['right']} of {zero_shot['rows']} training rows right "
            f"({share:.0%}, 95 % interval {low:.0%} to {high:.0%})"
        )
        if low >= GOOD:
            return Advice("prompting", "first", f"{said}: that may be enough")
        if share >= 0.7:
            return Advice("prompting", "maybe", f"{said}: a few examples in the prompt may do for a start")
        return Advice("prompting", "no", f"{said}: too far from useful")
    if seen.whole and seen.rows < FEW_ROWS:
        return Advice(
            "prompting",
            "first",
            f"{seen.rows} rows are few: show some of them in the prompt of a large model before tuning a small one",
        )
    return Advice("prompting", "maybe", f"with {_rows(seen)} rows it is the baseline to beat; every report measures it")


def _retrieval(seen: Look, goal: str | None) -> Advice:
    named = re.search(FACTS, (goal or "").lower())
    if seen.task in ("classification", "multilabel", "regression", "tagging"):
        return Advice("retrieval", "no", f"the answer is a label ({seen.task}), which stands in no document")
    if seen.task == "text":
        return Advice("retrieval", "maybe", "facts of these texts that change are better looked up than learned")
    if seen.grounded is not None and seen.grounded < UNGROUNDED:
        word = f", and the goal says '{named[0]}'" if named else ""
        return Advice(
            "retrieval",
            "yes" if named else "maybe",
            f"only {seen.grounded:.0%} of an answer's words stand in its prompt{word}: tuning teaches form, "
            "facts that change belong into documents that are searched",
        )
    if named:
        return Advice("retrieval", "maybe", f"the goal says '{named[0]}': facts that change are better looked up")
    share = f"{seen.grounded:.0%} of an answer's words stand in its prompt" if seen.grounded is not None else "prompts"
    return Advice("retrieval", "no", f"{share}: what is needed is given")


def _tuning(seen: Look, zero_shot: dict[str, int] | None) -> Advice:
    if seen.task == "text":
        return Advice("tuning", "yes", f"{_rows(seen)} raw texts: continued pre-training teaches their language")
    if seen.whole and seen.rows < FEW_ROWS:
        return Advice("tuning", "maybe", f"{seen.rows} rows are few to learn from; {FEW_ROWS} and more are usual")
    if seen.classes:
        typical = sorted(seen.classes.values())[len(seen.classes) // 2]
        if typical >= ENOUGH_PER_CLASS:
            return Advice("tuning", "yes", f"{_rows(seen)} rows, {typical} in a typical class: labels are learned well")
        return Advice("tuning", "maybe", f"{typical} rows in a typical class; {ENOUGH_PER_CLASS} and more are better")
    if seen.task == "generation" and seen.rows < FEW_ANSWERS:
        return Advice(
            "tuning", "maybe", f"{seen.rows} answers teach a format, hardly a skill; {FEW_ANSWERS} are better"
        )
    return Advice("tuning", "yes", f"{_rows(seen)} rows of {seen.task}: style and format are learned")


def _rows(seen: Look) -> str:
    return f"{seen.rows:,}" if seen.whole else f"{seen.rows:,} or more"


def _wilson(right: int, rows: int) -> tuple[float, float]:
    z, share = 1.96, right / rows
    centre = (share + z * z / (2 * rows)) / (1 + z * z / rows)
    half = z / (1 + z * z / rows) * (share * (1 - share) / rows + z * z / (4 * rows * rows)) ** 0.5
    return max(0.0, centre - half), min(1.0, centre + half)
