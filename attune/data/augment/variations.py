"""Step `variations`: the same text as a hurried or careful writer would have typed it."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from functools import partial

from pydantic import Field

from attune.data.augment.base import WORD, chance, drawn, edited, is_made, made, shipped, touches
from attune.data.privacy.detectors.base import PLACEHOLDER
from attune.data.steps import Change, Edit, Step
from attune.plugins import Options
from attune.records import Record

ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
"""An English keyboard; a row is shifted by about half a key against the one above it."""

LAST_SIMPLE = "\u052f"
"""Latin, Greek and Cyrillic come before it. In other scripts a letter swapped or left out may break a whole cluster."""
_CONTRACTIONS = {
    "do not": "don't",
    "does not": "doesn't",
    "did not": "didn't",
    "is not": "isn't",
    "are not": "aren't",
    "was not": "wasn't",
    "were not": "weren't",
    "have not": "haven't",
    "has not": "hasn't",
    "had not": "hadn't",
    "would not": "wouldn't",
    "could not": "couldn't",
    "should not": "shouldn't",
    "cannot": "can't",
    "will not": "won't",
    "i am": "i'm",
    "i will": "i'll",
    "it is": "it's",
    "that is": "that's",
    "what is": "what's",
    "we are": "we're",
    "you are": "you're",
    "they are": "they're",
}
"""Both ways, except where the short form means two things (`it's` is also `it has`)."""
_LONG = {short: long for long, short in _CONTRACTIONS.items() if not short.endswith("'s")}
_LONG_PLACES = re.compile(r"(?<![\w'’])(" + "|".join(_CONTRACTIONS) + r")(?![\w'’])", re.IGNORECASE)
_SHORT_PLACES = re.compile(r"(?<![\w'’])(" + "|".join(_LONG).replace("'", "['’]") + r")(?![\w'’])", re.IGNORECASE)
_NEGATIONS = frozenset("no not never none nor neither nothing nobody without cannot".split())
_SOLID = re.compile(r"\S++")
_END_MARK = re.compile(r"[.!?](?=\s*+\Z)")
_COMMA = re.compile(r",(?= )")


def _neighbours() -> dict[str, str]:
    near: dict[str, list[str]] = {}
    places = {key: (row, column + row / 2) for row, keys in enumerate(ROWS) for column, key in enumerate(keys)}
    for key, (row, column) in places.items():
        near[key] = [
            other
            for other, (above, beside) in places.items()
            if other != key and abs(row - above) <= 1 and abs(column - beside) <= 1
        ]
    return {key: "".join(others) for key, others in near.items()}


NEIGHBOURS = _neighbours()


class Variations(Step):
    """Adds copies of records whose surface differs: typing errors, casing, punctuation, short and long forms, words
    that mean the same. Numbers, negations, addresses and entities stay as they are; answers are never touched."""

    name = "variations"

    class Config(Options):
        """How many, and how much differs. A rate of 0 leaves a kind of change out."""

        share: float = Field(1.0, gt=0, le=1)
        """Share of the training records that get copies."""
        copies: int = Field(1, ge=1, le=20)
        """Copies of each; a copy that would equal another text is not added."""
        typos: float = Field(0.04, ge=0, le=1)
        """Share of words with a typing error (words of four letters or more)."""
        casing: float = Field(0.2, ge=0, le=1)
        """Share of copies in another case: all lower, no first capital, or (seldom) all upper."""
        punctuation: float = Field(0.2, ge=0, le=1)
        """Chance of each comma and each last mark to be left out, and of a text without a last mark to get one."""
        contractions: float = Field(0.5, ge=0, le=1)
        """Share of places such as `do not` and `don't` that become the other (English)."""
        synonyms: float = Field(0.3, ge=0, le=1)
        """Share of words of the built-in list that are replaced (English)."""

    def apply(self, record: Record, number: int = -1) -> Change | None:
        if is_made(record) or not drawn(record, self.options.share, self.context.seed, self.name):
            return None
        added: list[Record] = []
        seen = {record.text}
        for copy in range(1, self.options.copies + 1):
            varied = self._varied(record, chance(self.context.seed, self.name, record.id, copy))
            if varied.text not in seen:
                seen.add(varied.text)
                added.append(made(record, varied, self.name, copy))
        return Change.add(record, added, "surface variation") if added else None

    def _varied(self, record: Record, rng: random.Random) -> Record:
        chosen = self.options
        passes: list[tuple[float, Callable]] = [
            (chosen.contractions, _contractions),
            (chosen.synonyms, _synonyms),
            (chosen.punctuation, _punctuation),
            (chosen.typos, _typos),
        ]
        for rate, change in passes:
            if rate:
                record = edited(record, partial(_outside, change, rng, rate))
        if rng.random() < chosen.casing:
            record = edited(
                record, partial(_outside, _casing, rng, rng.choices(("lower", "first", "upper"), (6, 3, 1))[0])
            )
        return record


def _outside(change: Callable, rng: random.Random, how: object, text: str, spans: list[tuple[int, int]]) -> list[Edit]:
    """The edits that touch no labelled place, and no masked value ([EMAIL])."""
    fixed = [*spans, *(match.span() for match in PLACEHOLDER.finditer(text))]
    return [edit for edit in change(text, how, rng) if not touches(edit, fixed)]


def _typos(text: str, rate: float, rng: random.Random) -> list[Edit]:
    edits = []
    for solid in _SOLID.finditer(text):
        if any(char.isdigit() or char in "@/\\_:<>#" for char in solid[0]):
            continue  # numbers, addresses, markup
        for word in WORD.finditer(text, solid.start(), solid.end()):
            old = word[0]
            if len(old) < 4 or "'" in old or "’" in old or old.lower() in _NEGATIONS or max(old) > LAST_SIMPLE:
                continue
            if rng.random() >= rate:
                continue
            new = _mistyped(old, rng)
            if new != old:
                edits.append(Edit(word.start(), word.end(), new, "typing error"))
    return edits


def _mistyped(word: str, rng: random.Random) -> str:
    """One slip after the first letter: two letters swapped, one left out, doubled, or a neighbouring key."""
    at = rng.randrange(1, len(word) - 1)
    kind = rng.choice(("swap", "omit", "double", "neighbour"))
    if kind == "swap":
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    if kind == "omit":
        return word[:at] + word[at + 1 :]
    if kind == "double":
        return word[:at] + word[at] + word[at:]
    near = NEIGHBOURS.get(word[at].lower())
    if near is None:
        return word
    key = rng.choice(near)
    return word[:at] + (key.upper() if word[at].isupper() else key) + word[at + 1 :]


def _casing(text: str, how: str, rng: random.Random) -> list[Edit]:
    edits = []
    for number, word in enumerate(WORD.finditer(text)):
        if how == "first" and number:
            break
        old = word[0]
        new = old.upper() if how == "upper" else old[0].lower() + old[1:] if how == "first" else old.lower()
        if new != old:
            edits.append(Edit(word.start(), word.end(), new, "casing"))
    return edits


def _punctuation(text: str, rate: float, rng: random.Random) -> list[Edit]:
    edits = [Edit(m.start(), m.end(), "", "comma left out") for m in _COMMA.finditer(text) if rng.random() < rate]
    last = _END_MARK.search(text[-100:])
    if rng.random() < rate:
        if last:
            start = max(0, len(text) - 100) + last.start()
            edits.append(Edit(start, start + 1, "", "last mark left out"))
        elif text[-1:].isalnum():
            edits.append(Edit(len(text), len(text), ".", "last mark"))
    return edits


def _cased(new: str, old: str) -> str:
    return new[0].upper() + new[1:] if old[0].isupper() else new


def _contractions(text: str, rate: float, rng: random.Random) -> list[Edit]:
    found = []
    for match in _LONG_PLACES.finditer(text):
        found.append((match, _CONTRACTIONS[match[0].lower()]))
    for match in _SHORT_PLACES.finditer(text):
        found.append((match, _LONG[match[0].lower().replace("’", "'")]))
    edits = []
    for match, new in sorted(found, key=lambda item: item[0].start()):
        if rng.random() < rate and not (match[0].isupper() and len(match[0]) > 3):
            fixed = "I" + new[1:] if new.startswith(("i'", "i ")) else new
            edits.append(Edit(match.start(), match.end(), _cased(fixed, match[0]), "short or long form"))
    return edits


def _synonyms(text: str, rate: float, rng: random.Random) -> list[Edit]:
    words = shipped("synonyms.json")["words"]
    edits = []
    for word in WORD.finditer(text):
        old = word[0]
        if old.lower() not in words or rng.random() >= rate:
            continue
        before = text[max(0, word.start() - 40) : word.start()].split()
        if old != old.lower() and before and before[-1][-1] not in ".!?:":
            continue  # a capital inside a sentence is part of a name
        new = rng.choice(words[old.lower()].split(", "))
        if before and before[-1].lower() in ("a", "an") and (new[0] in "aeiou") != (old[0].lower() in "aeiou"):
            continue  # "an error" must not become "an mistake"
        edits.append(Edit(word.start(), word.end(), _cased(new, old), "synonym"))
    return edits
