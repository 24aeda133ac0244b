"""What a detector is: a module with `KINDS`, `PRIORITY` and `find(text)`, found by scanning this folder.

`find` says where in a text personal data of its kinds stands. Every regex is linear: repeats are bounded or possessive,
and what a regex cannot say (checksums, lengths, the words around) is code.
"""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["Found", "PLACEHOLDER", "nearest_word", "digits_of", "has_digits"]


class Found(NamedTuple):
    """Characters [start, end) of a text are personal data of that kind. `score` (0 to 1) is how sure the detector is:
    1 with a checksum or an unmistakable form, about 0.6 where only the words around speak for it."""

    start: int
    end: int
    kind: str
    score: float


PLACEHOLDER = re.compile(r"\[[A-Z]{2,12}(?:_[A-Z]{2,12}){0,3}\]")
"""What a masked value looks like, such as [EMAIL] or [DATE_OF_BIRTH]."""


def nearest_word(pattern: re.Pattern[str], text: str, start: int, *, before: int = 48) -> int | None:
    """How many characters before `start` the last match of the pattern ends, looking back at most `before`; None if
    there is none."""
    window = text[max(0, start - before) : start]
    last = None
    for match in pattern.finditer(window):
        last = match
    return None if last is None else len(window) - last.end()


def digits_of(text: str) -> str:
    """The decimal digits of a text as 0-9 (other scripts' digits too), without anything between them."""
    return "".join(str(int(char)) for char in text if char.isdecimal())


_DIGIT = re.compile(r"\d")


def has_digits(text: str, count: int) -> bool:
    """Whether a text has so many digits at all: most have not, and need no closer look."""
    at = 0
    for _ in range(count):
        match = _DIGIT.search(text, at)
        if match is None:
            return False
        at = match.end()
    return True
