"""International bank account numbers: a country's length and a right check number (mod 97)."""

from __future__ import annotations

import re

from attune.data.privacy.detectors.base import Found
from attune.data.privacy.detectors.checksums import mod97

KINDS = ("iban",)
PRIORITY = 90

START = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}[ \u00a0]?\d{2}(?=[ \-.\u00a0\u202f]?[A-Za-z0-9])")
LENGTHS = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BI": 27, "BR": 29,
    "BY": 28, "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DJ": 27, "DK": 18, "DO": 28, "EE": 20, "EG": 29,
    "ES": 24, "FI": 18, "FK": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28,
    "HN": 28, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20,
    "LB": 28, "LC": 32, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19,
    "MN": 20, "MR": 27, "MT": 31, "MU": 30, "NI": 28, "NL": 18, "NO": 15, "OM": 23, "PK": 24, "PL": 28, "PS": 29,
    "PT": 25, "QA": 29, "RO": 24, "RS": 22, "RU": 33, "SA": 24, "SC": 31, "SD": 18, "SE": 24, "SI": 19, "SK": 24,
    "SM": 27, "SO": 23, "ST": 25, "SV": 28, "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20,
    "YE": 30,
}  # fmt: skip
"""Source: the IBAN registry of SWIFT."""
BETWEEN = " -.\u00a0\u202f\u2010\u2011"


WHOLE = re.compile(
    r"[A-Za-z]{2}\d{2}(?:[A-Za-z0-9]{11,30}+|(?:[ \-\u00a0][A-Za-z0-9]{4}){2,7}+(?:[ "
    r"\-\u00a0][A-Za-z0-9]{1,3})?)(?![A-Za-z0-9])"
)
"""In one piece, or in fours."""


def find(text: str) -> list[Found]:
    found, done = [], 0
    for match in START.finditer(text):
        if match.start() < done:
            continue
        length = LENGTHS.get(match.group()[:2].upper())
        if length is None:
            continue
        end = _end(text, match.start(), length) or _other_end(text, match.start())
        if end:
            found.append(Found(match.start(), end, "iban", 1.0))
            done = end
    return found


def _end(text: str, start: int, length: int) -> int | None:
    """Where the number ends, if it has this many characters and a right check number."""
    chars: list[str] = []
    at, gap = start, 0
    while at < len(text) and len(chars) < length:
        char = text[at]
        if char.isascii() and char.isalnum():
            chars.append(char.upper())
            gap = 0
        elif char in BETWEEN and not gap:
            gap = 1
        else:
            return None
        at += 1
    if len(chars) < length or (at < len(text) and text[at].isascii() and text[at].isalnum()):
        return None
    letters = [char for char in text[start:at] if char.isalpha()]
    small = all(char.islower() for char in letters)
    if not small and any(char.islower() for char in letters):
        return None  # words of a sentence that pass by chance
    if small and 2 * len(letters) > length:
        return None
    return at if mod97("".join(chars)) else None


def _other_end(text: str, start: int) -> int | None:
    """The same for a length that the registry does not know for this country (a typing slip, an old form): mostly
    digits, and a right check number."""
    match = WHOLE.match(text, start)
    if match is None:
        return None
    chars = "".join(char for char in match.group().upper() if char not in BETWEEN)
    digits = sum(char.isdigit() for char in chars)
    return match.end() if 15 <= len(chars) <= 34 and digits * 2 > len(chars) and mod97(chars) else None
