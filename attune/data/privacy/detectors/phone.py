"""Phone numbers, international and national. What a date, an amount or a case number could be too is a phone number
only where words before it say so."""

from __future__ import annotations

import re

from attune.data.privacy.detectors.base import Found, digits_of, has_digits, nearest_word
from attune.data.privacy.detectors.words import NUMBERED, PHONE

KINDS = ("phone",)
PRIORITY = 40

GAP = " .\\-/()\u00a0\u2009\u202f\u2010-\u2013"
RUN = re.compile(
    rf"(?<![\w@#])(?:\+ ?|\( ?\+? ?)?\d(?:[{GAP}]{{0,3}}\d){{6,19}}+(?!(?!x\d|ext|poste|int\.|app\.)[^\W\d_])"
)
TAIL = re.compile(r"(?i) ?(?:x|#|ext\.?|extension|poste|int\.?|klappe|durchwahl|dw|app\.) ?\d{1,6}(?!\w|\.\d)")
GROUP = re.compile(r"\d++")
MONEY_BEFORE = re.compile(r"(?i)(?:[$€£¥₹₽₩]|usd|eur|gbp|chf|inr|pln|sek|rs\.?|r\$|zł|kr\.?) ?$")
MONEY_AFTER = re.compile(
    r"(?i) ?(?:[$€£¥₹₽%‰°]|(?:usd|eur|euros?|gbp|dollars?|pounds?|chf|pln|zł|kr|sek|km|kg|g|mg|ml|l|m²|m2|mm|cm|m|"
    r"people|persons?|rows|tokens|users|bytes|units?|miles|years|hours|percent|million|billion|Einwohner|habitants?|"
    r"reais|rupees)(?![a-z]))"
)
DECIMAL = re.compile(r"\d[.,]\d++")
THOUSANDS = re.compile(r"[1-9]\d{0,2}(?:[ .,\u00a0\u202f]\d{3}){1,4}+(?:[.,]\d{1,2})?")
DATE = re.compile(
    r"(?:\d{1,2} ?[./-] ?\d{1,2} ?[./-] ?(?:19|20)\d\d|(?:1[6-9]|20)\d\d ?[./-] ?\d{1,2} ?[./-] ?\d{1,2}(?![\d])|"
    r"\d{1,2}[./-]\d{1,2}[./-]\d\d(?!\d)"
    r"|(?:19|20)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?!\d))"
)
YEARS = re.compile(r"(?:1[6-9]|20)\d\d ?[-/\u2010-\u2013] ?(?:1[6-9]|20)\d\d(?!\d)")
HOURS = re.compile(r"(?:[01]\d|2[0-4])[.:]?[0-5]\d ?[-\u2013] ?(?:[01]\d|2[0-4])[.:]?[0-5]\d(?!\d)")
MOST_GROUPS = 8
SHAPES = {
    (3, 3, 4), (1, 3, 3, 4), (1, 3, 3, 2, 2), (3, 4, 4), (2, 5, 4), (2, 4, 4), (2, 2, 2, 2, 2), (3, 3, 2, 2),
    (4, 3, 3),
}  # fmt: skip
"""Sizes of digit groups that are phone numbers by themselves, if nothing before them says otherwise."""


def find(text: str) -> list[Found]:
    found: list[Found] = []
    if not has_digits(text, 7):
        return found
    for match in RUN.finditer(text):
        at: int | None = match.start()
        while at is not None and at < match.end():
            end = _number(text, at, match.end())
            if end is None:
                at = _next_group(text, at, match.end())
                continue
            if tail := TAIL.match(text, end):
                end = tail.end()
            found.append(Found(at, end, "phone", 0.9 if text[at] in "+(0" else 0.7))
            at = _next_group(text, end, match.end(), inside=False)
    return found


def _next_group(text: str, at: int, end: int, *, inside: bool = True) -> int | None:
    """Where the next group of digits begins (its sign or parenthesis included), behind a space."""
    gap = text.find(" ", at + inside, end)
    while gap != -1 and gap + 1 < end and text[gap + 1] in " -–/.":
        gap += 1
    return gap + 1 if gap != -1 and gap + 1 < end else None


def _number(text: str, start: int, stop: int) -> int | None:
    """The end of the longest phone number that begins here, whole groups of digits only."""
    body = text[start:stop]
    skipped = DATE.match(body) or YEARS.match(body) or HOURS.match(body)
    groups = [(start + g.start(), start + g.end()) for g in GROUP.finditer(body)]
    if stop < len(text) and text[stop].isdecimal():
        groups.pop()  # the run goes on: this group is not whole
    widths = [b - a for a, b in groups]
    said: bool | None = None
    asked = False
    for last in range(min(len(groups), MOST_GROUPS), 0, -1):
        end, total = groups[last - 1][1], sum(widths[:last])
        value = text[start:end]
        if total < 7:
            break
        if total > 16 or 2 * total < 3 * last or value.count("(") != value.count(")"):
            continue  # too long, single digits in a row, or half a parenthesis
        if not asked:
            said, asked = _said(text, start), True
        chosen = [digits_of(text[a:b]) for a, b in groups[:last]]
        if _plausible(value, chosen, said, bool(skipped)) and not _measured(text, start, end):
            return end
    return None


def _said(text: str, start: int) -> bool | None:
    """True: a word for phones stands before; False: a word for other numbers, nearer; None: neither."""
    other = NUMBERED.search(text, max(0, start - 24), start)
    phone = nearest_word(PHONE, text, start)
    if other and (phone is None or phone > start - other.start()):
        return False
    return True if phone is not None else None


def _measured(text: str, start: int, end: int) -> bool:
    """An amount, a decimal number, or part of something longer."""
    if end + 1 < len(text) and text[end] in ",.:" and text[end + 1].isdecimal():
        return True
    if start and text[start] != "+" and text[start - 1] in ".,:-/" and start > 1 and text[start - 2].isdecimal():
        return True
    if text[start] == "+":
        return False
    if text[end : end + 2].lstrip()[:1] == "=":
        return True  # a sum
    return bool(MONEY_BEFORE.search(text, max(0, start - 5), start) or MONEY_AFTER.match(text, end))


def _plausible(value: str, groups: list[str], said: bool | None, dated: bool) -> bool:
    digits = "".join(groups)
    sizes = tuple(len(group) for group in groups)
    if not 7 <= len(digits) <= 16:
        return False
    if "+" in value[:3]:
        return 8 <= len(digits) and digits[0] != "0"
    if dated or DECIMAL.fullmatch(value) or said is False and value[0] != "(":
        return False
    if not said and digits.startswith("00") and digits[2:3] not in ("", "0"):
        return len(digits) >= (9 if len(groups) > 1 else 11)
    if said:
        return THOUSANDS.fullmatch(value) is None or value[0] == "0" or len(digits) >= 9
    if value[0] == "(":
        return 8 <= len(digits) <= 13 and 1 < len(groups) and 2 <= sizes[0] <= 5 and not _year(groups[0])
    if digits[0] == "0":
        return digits[1] != "0" and (9 <= len(digits) <= 12 if len(groups) > 1 else 10 <= len(digits) <= 11)
    if sizes == (5, 5):
        return digits[0] in "6789" and " " in value  # India
    if sizes in SHAPES:
        return THOUSANDS.fullmatch(value) is None and len(set(digits)) > 1
    return False


def _year(group: str) -> bool:
    return len(group) == 4 and group[:2] in ("19", "20")
