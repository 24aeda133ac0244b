"""Payment card numbers: an issuer's prefix, a length that issuer uses, and a right Luhn digit."""

from __future__ import annotations

import re

from attune.data.privacy.detectors.base import Found, digits_of, has_digits, nearest_word
from attune.data.privacy.detectors.checksums import luhn
from attune.data.privacy.detectors.words import IDENTITY

KINDS = ("card",)
PRIORITY = 85

RUN = re.compile(r"(?<![\w.])\d(?:[ \-.\u00a0\u202f\u2010-\u2013_]?\d){11,30}+(?!\w)")
GROUP = re.compile(r"\d++")
ISSUERS: tuple[tuple[str, tuple[int, ...]], ...] = (
    (r"4", (13, 16, 19)),
    (r"5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720|220[0-4]", (16,)),
    (r"3[47]", (15,)),
    (r"30[0-5]|3[689]", (14, 16, 19)),
    (r"6011|64[4-9]|65", (16, 19)),
    (r"35", (16, 17, 18, 19)),
    (r"2131|1800", (15,)),
    (r"62|81", (16, 17, 18, 19)),
    (r"50|5[6-8]|6[0137]|0604", tuple(range(12, 20))),
)
KNOWN = tuple((re.compile(prefix), lengths) for prefix, lengths in ISSUERS)


def find(text: str) -> list[Found]:
    found: list[Found] = []
    if not has_digits(text, 12):
        return found
    for match in RUN.finditer(text):
        groups = [(match.start() + g.start(), match.start() + g.end()) for g in GROUP.finditer(match.group())]
        first = 0
        while first < len(groups):
            last = _card(text, groups, first)
            if last is None or (
                # a short card number (Maestro has 12 digits) could be an identity number with another check digit
                groups[last][1] - groups[first][0] < 16
                and nearest_word(IDENTITY, text, groups[first][0], before=24) is not None
            ):
                first += 1
                continue
            found.append(Found(groups[first][0], groups[last][1], "card", 1.0))
            first = last + 1
    return found


def _card(text: str, groups: list[tuple[int, int]], first: int) -> int | None:
    """The last group of a card number that begins with this one: the longest, since a shorter one is chance."""
    best, digits = None, ""
    start = groups[first][0]
    if start > 1 and text[start - 1] in ".," and text[start - 2].isdecimal():
        return None  # decimals
    for last in range(first, len(groups)):
        digits += digits_of(text[slice(*groups[last])])
        if len(digits) > 19:
            break
        if len(digits) >= 12 and _issued(digits) and luhn(digits) and _layout(groups[first : last + 1], len(digits)):
            best = last
    return best


def _issued(digits: str) -> bool:
    return any(len(digits) in lengths and prefix.match(digits) for prefix, lengths in KNOWN)


def _layout(groups: list[tuple[int, int]], length: int) -> bool:
    """Groups as cards have them: not a date, a phone number and an amount in a row."""
    sizes = [end - start for start, end in groups]
    return len(sizes) == 1 or (min(sizes[:-1]) >= 3 and sizes[-1] >= 1 and sizes[0] in (4, 5, 6, 8))
