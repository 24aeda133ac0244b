"""National identity, tax and insurance numbers. A number with a check digit or an unmistakable form is taken as it
stands; one that any order number could look like only after words that name it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from attune.data.privacy.detectors.base import Found, digits_of, has_digits, nearest_word
from attune.data.privacy.detectors.checksums import iso7064, luhn, verhoeff, weighted
from attune.data.privacy.detectors.words import IDENTITY, PHONE

KINDS = ("ssn", "national_id")
PRIORITY = 72

SSN_SAID = r"ssn|ssa|social security|social insurance|soc\.? ?sec|itin|taxpayer"
SSN = re.compile(r"(?<![\w-])(?<!\d[.,])\d{3}([- .\u2011\u2013])\d{2}\1\d{4}(?![\w-])(?![.,]\d)")
SSN_BARE = re.compile(r"(?<![\w.-])\d{9}(?![\w-])(?![.,]\d)")
SSN_WORD = re.compile(rf"(?i)(?<![a-z\[])(?:{SSN_SAID})(?![a-z])")


class Form(NamedTuple):
    """How one country's number is written. `named` are the words that must stand before it, empty for none."""

    country: str
    pattern: re.Pattern[str]
    right: Callable[[str], bool]
    named: re.Pattern[str] | None = None


def _words(words: str) -> re.Pattern[str]:
    return re.compile(rf"(?i)(?<!\w)(?:{words})(?![a-z])")


def _number(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"(?:{pattern})(?![\w-])(?!\.\d)")


def _day(digits: str, *, day: int, month: int) -> bool:
    return 1 <= int(digits[day : day + 2]) <= 31 and 1 <= int(digits[month : month + 2]) <= 12


def _dni(value: str) -> bool:
    chars = re.sub(r"\W", "", value).upper()
    number = chars[:-1].replace("X", "0").replace("Y", "1").replace("Z", "2")
    return chars[-1] == "TRWAGMYFPDXBNJZSQVHLCKE"[int(number) % 23]


def _fiscal(value: str) -> bool:
    chars = re.sub(r"\W", "", value).upper()
    odd = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23)
    total = 0
    for place, char in enumerate(chars[:15]):
        order = int(char) if char.isdigit() else ord(char) - 65
        total += order if place % 2 else odd[order]
    return chr(65 + total % 26) == chars[15]


def _nir(value: str) -> bool:
    chars = re.sub(r"\W", "", value).upper().replace("2A", "19").replace("2B", "18")
    return len(chars) == 15 and 97 - int(chars[:13]) % 97 == int(chars[13:])


def _pesel(value: str) -> bool:
    digits = digits_of(value)
    born = 1 <= int(digits[2:4]) % 20 <= 12 and 1 <= int(digits[4:6]) <= 31
    return born and weighted(digits, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1)) % 10 == 0


def _cpf(value: str) -> bool:
    digits = digits_of(value)
    first = weighted(digits, range(10, 1, -1)) * 10 % 11 % 10
    second = weighted(digits, range(11, 1, -1)) * 10 % 11 % 10
    return len(set(digits)) > 1 and digits[9:] == f"{first}{second}"


def _norwegian(value: str) -> bool:
    digits = digits_of(value)
    one = weighted(digits, (3, 7, 6, 1, 8, 9, 4, 5, 2, 1)) % 11
    two = weighted(digits, (5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1)) % 11
    return one == 0 and two == 0


def _hetu(value: str) -> bool:
    digits = value[:6] + value[7:10]
    return value[10].upper() == "0123456789ABCDEFHJKLMNPRSTUVWXY"[int(digits) % 31] and _day(digits, day=0, month=2)


def _chinese(value: str) -> bool:
    return "10X98765432"[weighted(value, [2**place % 11 for place in range(17, 0, -1)]) % 11] == value[17].upper()


def _rut(value: str) -> bool:
    chars = re.sub(r"[.-]", "", value).upper()
    total = sum(int(char) * (2 + place % 6) for place, char in enumerate(reversed(chars[:-1])))
    return "0123456789K0"[11 - total % 11] == chars[-1]


def _belgian(value: str) -> bool:
    digits = digits_of(value)
    return int(digits[9:]) in (97 - int(digits[:9]) % 97, 97 - int("2" + digits[:9]) % 97)


def _swedish(value: str) -> bool:
    digits = digits_of(value)[-10:]
    return _day(digits, day=4, month=2) and luhn(digits)


def _czech(value: str) -> bool:
    """Women's months are 50 higher, and 20 more where the numbers of a day ran out."""
    digits = digits_of(value)
    born = 1 <= int(digits[2:4]) % 50 % 20 <= 12 and 1 <= int(digits[4:6]) <= 31
    return born and (len(digits) == 9 or int(digits) % 11 == 0 or int(digits[:9]) % 11 == 10)


def _always(value: str) -> bool:
    return True


FORMS = (
    Form(
        "GB",
        _number(
            r"(?!BG|GB|NK|KN|TN|NT)[A-CEGHJ-PR-TW-Za-ceghj-pr-tw-z][A-CEGHJ-NPR-TW-Za-ceghj-npr-tw-z] ?(?:\d{2}[ "
            r"-]?){3}[A-DTa-dt]"
        ),
        _always,
    ),
    Form(
        "ES",
        _number(r"(?:[XYZxyz][ -]?)?\d{1,2}(?:\.?\d{3}){2}[ -]?[A-Za-z]"),
        lambda value: len(re.sub(r"\W", "", value)) == 9 and _dni(value),
    ),
    Form(
        "IT",
        _number(
            r"[A-Za-z]{6}\d{2}[A-EHLMPR-Ta-ehlmpr-t]\d{2}[A-Za-z]\d{3}[A-Za-z]|[A-Za-z]{3} [A-Za-z]{3} "
            r"\d{2}[A-EHLMPR-T]\d{2} [A-Z]\d{3}[A-Z]"
        ),
        _fiscal,
    ),
    Form("FR", _number(r"[1-478] ?\d{2} ?(?:0[1-9]|1[0-2]|[2-9]\d) ?(?:\d{2}|2[ABab]) ?\d{3} ?\d{3} ?\d{2}"), _nir),
    Form("PL", _number(r"\d{11}"), _pesel),
    Form("BR", _number(r"\d{3}\.\d{3}\.\d{3}-\d{2}"), _always),
    Form("BR", _number(r"\d{11}"), _cpf, _words(r"cpf|cadastro")),
    Form("NO", _number(r"\d{6} ?\d{5}"), _norwegian),
    Form("FI", _number(r"\d{6}[-+A-FYXWVU]\d{3}[0-9A-Ya-y]"), _hetu),
    Form("SE", _number(r"(?:19|20)?\d{6}[-+]\d{4}"), _swedish),
    Form("DK", _number(r"\d{6}-\d{4}"), lambda value: _day(value, day=0, month=2)),
    Form("CN", _number(r"[1-9]\d{5}(?:19|20)\d{2}(?:0[1-9]|1[0-2])\d{2}\d{3}[\dXx]"), _chinese),
    Form("KR", _number(r"\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])-[1-8]\d{6}"), _always),
    Form(
        "IN",
        _number(r"[2-9]\d{3}([ -]?)\d{4}\1\d{4}"),
        lambda value: verhoeff(digits_of(value)),
        _words(r"aadhaa?r|uidai|uid"),
    ),
    Form("IN", _number(r"[A-Z]{5}\d{4}[A-Z]"), _always, _words(r"pan|permanent account|tax")),
    Form(
        "CA",
        _number(r"\d{3}([ -])\d{3}\1\d{3}"),
        lambda value: luhn(digits_of(value)),
        _words(r"sin|social insurance|nas|insurance n(?:o|umber)"),
    ),
    Form("BE", _number(r"\d{2}\.\d{2}\.\d{2}-\d{3}\.\d{2}"), _belgian),
    Form("CL", _number(r"\d{1,2}\.\d{3}\.\d{3}-[\dKk]"), _rut),
    Form("CH", _number(r"756\.\d{4}\.\d{4}\.\d{2}"), _always),
    Form("CZ", _number(r"\d{2}[0-35-8]\d[0-3]\d/\d{3,4}"), _czech),
    Form(
        "DE",
        _number(r"\d{11}|\d{2} \d{3} \d{3} \d{3}"),
        lambda value: iso7064(digits_of(value)),
        _words(r"steuer[- ]?id(?:entifikationsnummer)?|steuernummer|idnr|tax id|identifikationsnummer"),
    ),
)
"""Source of the check digits: each authority's published rule."""

START = re.compile(r"(?<![\w.-])(?=\d|[A-Za-z]{1,6}[ -]?\d|[A-Za-z]{3} [A-Za-z]{3} \d)")
"""Where a number of any form can begin."""
TOKEN = r"(?:[A-Za-z]{0,6}\d[A-Z0-9]{0,18}+|[A-Z]{1,2}(?![A-Za-z0-9]))"
VALUE = re.compile(rf"{TOKEN}(?:[ ./-]?{TOKEN}){{0,6}}(?:(?<=[\dX])|(?<=[A-Z0-9]{{2}})|(?! [a-z]))(?!\w)")


def find(text: str) -> list[Found]:
    if not has_digits(text, 4):
        return []
    found = []
    for match in SSN.finditer(text):
        if _ssn(match.group()) or nearest_word(SSN_WORD, text, match.start()) is not None:
            found.append(Found(match.start(), match.end(), "ssn", 0.9))
    for match in SSN_BARE.finditer(text):
        if nearest_word(SSN_WORD, text, match.start(), before=32) is not None:
            found.append(Found(match.start(), match.end(), "ssn", 0.8))
    for start in START.finditer(text):
        for form in FORMS:
            here = form.pattern.match(text, start.start())
            if here is None or not form.right(here.group()):
                continue
            if form.named is not None and nearest_word(form.named, text, here.start()) is None:
                continue
            if here.group().isdecimal() and nearest_word(PHONE, text, here.start()) is not None:
                continue  # a phone number passes a check digit by chance
            found.append(Found(here.start(), here.end(), "national_id", 0.8 if form.named else 0.9))
    for match in IDENTITY.finditer(text):
        value = VALUE.match(text, match.end())
        if value and 6 <= sum(map(str.isalnum, value.group())) <= 20 and len(digits_of(value.group())) >= 4:
            found.append(Found(value.start(), value.end(), "national_id", 0.7))
    return found


def _ssn(value: str) -> bool:
    """Numbers that can be issued: SSN, or ITIN (9xx with a middle of 50 and more)."""
    area, group, serial = value[:3], value[4:6], value[7:]
    if area == "000" or area == "666" or group == "00" or serial == "0000":
        return False
    return area[0] != "9" or group >= "50"
