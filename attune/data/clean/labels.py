"""Labels: one spelling for each, and only those that are allowed."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from attune.data.steps import Change, Step
from attune.plugins import Options
from attune.records import Record, Span

SHOWN = 200

COMPARED = 2000
"""Misspellings are looked for among at most this many labels, the most frequent."""

BETWEEN = re.compile(r"[\s_\-‐-―./,:;|'\"’`]++")
DIGITS = re.compile(r"\d++")
NEGATIONS = frozenset(("un", "in", "im", "ir", "il", "non", "dis", "no", "not", "a", "de", "mis", "anti"))


class Labels(Step):
    """Merges spelling variants of a label (`Lost Time`, `lost-time`) and leaves out rows whose label is not allowed.

    Variants that differ only in case, blanks and punctuation are safe. A rare label one or two letters away from a
    frequent one is only ever proposed.
    """

    name = "labels"
    scope = "all"
    learns = True
    tasks = ("classification", "multilabel", "tagging")

    class Config(Options):
        """What is merged without asking, and which labels there may be."""

        mode: Literal["suggest", "auto"] = "suggest"
        """`suggest` changes nothing by itself and asks with the `map` it proposes. `auto` merges what is safe and asks
        about the rest."""
        map: dict[str, str] = {}
        """Labels to rename, always: `{wrong: right}`."""
        allowed: list[str] | None = None
        """All labels there may be. Training rows with another one are left out and counted."""
        rare: float = Field(default=0.1, gt=0, le=1)
        """A label is taken for a misspelling of a similar one only if it has at most this share of its rows."""

        @field_validator("map")
        @classmethod
        def _straight(cls, given: dict[str, str]) -> dict[str, str]:
            for wrong in given:
                _end(wrong, given)
            return given

        @model_validator(mode="after")
        def _to_allowed(self) -> Labels.Config:
            for wrong, right in self.map.items():
                if self.allowed is not None and _end(right, self.map) not in self.allowed:
                    raise ValueError(f"map: '{wrong}' becomes '{right}', which is not in allowed")
            return self

    def __init__(self, options: Any = None, context: Any = None):
        super().__init__(options, context)
        self.map = _resolved(self.options.map)
        self.allowed = None if self.options.allowed is None else frozenset(self.options.allowed)
        self.proposed: dict[str, str] = {}
        self.counts: Counter[str] = Counter()
        self.invalid: Counter[str] = Counter()

    def learn(self, train: Sequence[Record]) -> None:
        for record in train:
            self.counts.update(self.map.get(name, name) for name in _names(record.label))
        safe = same_but_for_form(self.counts, self.allowed)
        if self.options.mode == "auto":
            self.map = _resolved({**safe, **self.map})
            merged: Counter[str] = Counter()
            for name, count in self.counts.items():
                merged[self.map.get(name, name)] += count
            self.proposed = misspelled(merged, self.options.rare, self.allowed)
        else:
            self.proposed = safe
            left = Counter({name: count for name, count in self.counts.items() if name not in safe})
            self.proposed |= misspelled(left, self.options.rare, self.allowed)
        self.proposed = _resolved(self.proposed)

    def apply(self, record: Record, number: int = -1) -> Change | None:
        label = self._renamed(record.label)
        if number >= 0 and self.allowed is not None:
            wrong = sorted({name for name in _names(label) if name not in self.allowed})
            if wrong:
                self.invalid.update(wrong)
                return Change.drop(record, f"label is not allowed: {', '.join(wrong)}")
        return None if label == record.label else Change.relabel(record, label, "spelling of a label")

    def _renamed(self, label: Any) -> Any:
        if isinstance(label, str):
            return self.map.get(label, label)
        if isinstance(label, tuple):
            new = [
                replace(one, label=self.map.get(one.label, one.label))
                if isinstance(one, Span)
                else self.map.get(one, one)
                for one in label
            ]
            return tuple(dict.fromkeys(new))
        return label

    def facts(self) -> dict[str, Any]:
        questions = []
        if self.proposed:
            told = ", ".join(
                f"'{wrong}' ({self.counts[wrong]:,}) is '{right}' ({self.counts[right]:,})"
                for wrong, right in sorted(self.proposed.items())
            )
            given = self.options.model_dump(mode="json", exclude_unset=True)
            merged = {**given, "map": {**self.options.map, **self.proposed}}
            questions.append({"text": f"Are these spellings of one label? {told}", "options": merged})
        return {
            "labels": dict(sorted(self.counts.items(), key=lambda item: (-item[1], item[0]))[:SHOWN]),
            "map": self.map,
            "not_allowed": dict(sorted(self.invalid.items())),
            **({"questions": questions} if questions else {}),
        }

    def state(self) -> dict[str, Any]:
        return {"map": self.map}

    def restore(self, state: dict[str, Any]) -> None:
        self.map = dict(state["map"])


def _names(label: Any) -> list[str]:
    """The labels of a record; a class that several of its spans have counts once."""
    if isinstance(label, str):
        return [label]
    if isinstance(label, tuple):
        return list(dict.fromkeys(one.label if isinstance(one, Span) else one for one in label))
    return []


def _end(name: str, given: Mapping[str, str]) -> str:
    """Where a chain of renamings ends. Raises: ValueError if it does not."""
    seen = [name]
    while (to := given.get(name, name)) != name:
        if to in seen:
            raise ValueError(f"map goes in a circle: {' -> '.join([*seen, to])}")
        seen.append(to)
        name = to
    return name


def _resolved(given: Mapping[str, str]) -> dict[str, str]:
    """Each wrong label with the last right one, sorted."""
    return {wrong: _end(wrong, given) for wrong in sorted(given) if _end(wrong, given) != wrong}


def form_key(name: str) -> str:
    """The label without case, and with one blank for whatever stands between words. What has no letter stays apart
    (1.0 is not 10, and -1 not 1)."""
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    if not any(char.isalpha() for char in plain):
        return " ".join(name.split())
    return BETWEEN.sub(" ", plain).strip() or plain


def same_but_for_form(counts: Mapping[str, int], allowed: frozenset[str] | None) -> dict[str, str]:
    """Labels that differ in case, blanks and punctuation only -> the allowed, else the most frequent spelling."""
    names = dict.fromkeys([*counts, *sorted(allowed or ())])
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(form_key(name), []).append(name)
    found: dict[str, str] = {}
    for group in groups.values():
        valid = [name for name in group if allowed and name in allowed]
        if len(group) < 2 or len(valid) > 1:  # the user says that these are different labels
            continue
        right = valid[0] if valid else min(group, key=lambda name: (-counts.get(name, 0), name))
        found |= {name: right for name in group if name != right and name in counts}
    return found


def misspelled(counts: Mapping[str, int], rare: float, allowed: frozenset[str] | None) -> dict[str, str]:
    """Rare labels -> the frequent one that they miss by one letter, or by two where it is long."""
    ranked = sorted(counts, key=lambda name: (-counts[name], name))[:COMPARED]
    goals = [name for name in ranked if allowed is None or name in allowed]
    goals += sorted(name for name in allowed or () if name not in counts)
    found = {}
    for name in ranked:
        if allowed and name in allowed:
            continue
        key = form_key(name)
        best: tuple[int, str] | None = None
        for goal in goals:
            if goal == name or (allowed is None and counts[name] > rare * counts[goal]):
                continue
            other = form_key(goal)
            most = 2 if min(len(key), len(other)) >= 9 else 1 if min(len(key), len(other)) >= 5 else 0
            if abs(len(key) - len(other)) > most or not _comparable(key, other):
                continue
            distance = edit_distance(key, other, most)
            if distance <= most and (best is None or distance < best[0]):
                best = distance, goal
        if best:
            found[name] = best[1]
    return found


def _comparable(a: str, b: str) -> bool:
    """Whether two labels may be one: the same numbers in both (level 1 is not level 2), and no negation added."""
    if DIGITS.findall(a) != DIGITS.findall(b):
        return False
    long, short = (a, b) if len(a) >= len(b) else (b, a)
    return not (long.endswith(short) and long[: len(long) - len(short)].strip() in NEGATIONS)


def edit_distance(a: str, b: str, most: int) -> int:
    """Letters to add, leave out, replace or swap with their neighbour; `most + 1` where it is more than that."""
    before: list[int] = []
    last = list(range(len(b) + 1))
    for i, left in enumerate(a, 1):
        row = [i]
        for j, right in enumerate(b, 1):
            cost = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (left != right))
            if i > 1 and j > 1 and left == b[j - 2] and a[i - 2] == right:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        if min(row) > most:
            return most + 1
        before, last = last, row
    return min(last[-1], most + 1)
