"""Replacements of the same shape: the same value always becomes the same invented one.

What comes out is drawn from an HMAC of the value, so nobody without the key can tell which value it stands for, and no
table of pairs has to be kept (or lost).
"""

from __future__ import annotations

import hashlib
import hmac
import random
import re
import unicodedata
from collections.abc import Callable

from attune.data.privacy.detectors.checksums import luhn, mod97
from attune.data.privacy.detectors.iban import LENGTHS
from attune.data.privacy.detectors.person import AMBIGUOUS, given_names
from attune.data.privacy.find import normal_value

__all__ = ["Pseudonyms"]

SURNAMES = (
    "Abbott Acker Alder Arden Barlow Beck Bellamy Berg Birch Bowen Brandt Brook Calder Carver Castell Colby Corbin "
    "Dahl "
    "Dalton Denham Drake Dunmore Ekman Ellery Falk Farrow Fenn Fischer Garland Gauthier Graves Hale Harlan Hart Hayes "
    "Holt Ibsen Jansen Keller Kerr Kirby Kraus Lang Larkin Lindqvist Lund Mabry Marlow Mercer Moreau Nash Nolan "
    "Norberg "
    "Oakley Orwin Palmer Pascal Quill Ramsey Reeve Rossi Sander Shaw Sorel Stark Stone Sutton Tanner Thorne Tilden "
    "Upton "
    "Valdez Vance Voss Wade Walden Ward Weber West Winslow Yates Zeller"
).split()
STREETS = (
    "Acorn Alder Beech Birch Cedar Chestnut Elm Hazel Juniper Larch Linden Maple Oak Pine Poplar Rowan Willow".split()
)


class Pseudonyms:
    """Invented values for real ones, under one key."""

    def __init__(self, key: bytes):
        self.key = key
        # sorted and filtered by us: the same list in every process
        self.given = sorted(name for name in given_names() if name not in AMBIGUOUS and "-" not in name)

    def __call__(self, value: str, kind: str) -> str:
        makers: dict[str, Callable[[str, random.Random], str]] = {
            "email": self._email,
            "name": self._name,
            "card": _card,
            "iban": _iban,
            "ip": _ip,
            "date_of_birth": _date,
            "address": _address,
            "url_credentials": self._url,
        }
        made = value
        for attempt in range(8):  # a replacement that is the value itself would hide nothing
            made = makers.get(kind, _shape)(value, self._rng(kind, normal_value(value), attempt))
            if normal_value(made) != normal_value(value):
                break
        return made

    def _rng(self, kind: str, value: str, attempt: int = 0) -> random.Random:
        message = f"{kind}\0{unicodedata.normalize('NFC', value)}\0{attempt}".encode("utf-8", "surrogatepass")
        return random.Random(hmac.new(self.key, message, hashlib.sha256).digest())

    def _email(self, value: str, rng: random.Random) -> str:
        """At a domain that nobody can own (RFC 2606)."""
        made = f"{rng.choice(self.given)}.{rng.choice(SURNAMES)}{rng.randrange(1000)}"
        made = unicodedata.normalize("NFKD", made).encode("ascii", "ignore").decode().lower()
        return f"{made}@example.{rng.choice(('com', 'net', 'org'))}"

    def _name(self, value: str, rng: random.Random) -> str:
        """Word for word, so that `Karen Easton` and `Ms. Easton` stay the same person; initials and particles keep
        their form."""
        words = value.split(" ")
        made = []
        for at, word in enumerate(words):
            if word.islower() or (len(word) <= 2 and word.endswith(".")):
                made.append(word if word.islower() else f"{chr(65 + rng.randrange(26))}.")
                continue
            surname = at == len(words) - 1 if len(words) > 1 else word not in given_names()
            own = self._rng("surname" if surname else "given", normal_value(word))
            new = own.choice(SURNAMES if surname else self.given)
            if normal_value(new) == normal_value(word):
                new = own.choice(SURNAMES if surname else self.given)
            made.append(new.upper() if word.isupper() and len(word) > 1 else new)
        return " ".join(made)

    def _url(self, value: str, rng: random.Random) -> str:
        """The scheme stays; host and secrets are invented."""
        scheme = value.partition("://")[0]
        login = "@" in value.partition("://")[2].partition("?")[0]
        token = _shape("a0b1c2d3e4f5g6h7", rng)
        return f"{scheme}://user:{token}@example.com/" if login else f"{scheme}://example.com/?token={token}"


def _shape(value: str, rng: random.Random) -> str:
    """Another letter for each letter, another digit for each digit; the rest stays. A leading `+49` or `0` and known
    openings of keys stay too, since they say what it is and not whose."""
    keep = re.match(
        r"\+\d{1,2}|0{1,2}|sk-(?:proj-)?|gh[pousr]_|github_pat_|xox[a-z]-|AKIA|eyJ|-----BEGIN [A-Z ]+-----", value
    )
    done = keep.end() if keep else 0
    made = [value[:done]]
    end = value.rfind("-----END ")
    for at, char in enumerate(value[done:], done):
        if end != -1 and at >= end:
            made.append(char)
        elif char.isdecimal():
            made.append(str(rng.randrange(10)))
        elif char.isalpha() and char.isascii():
            made.append(chr((65 if char.isupper() else 97) + rng.randrange(26)))
        elif char.isalpha():
            made.append("X" if char.isupper() else "x")
        else:
            made.append(char)
    return "".join(made)


def _spread(value: str, chars: str) -> str:
    """The characters in the places of the value's own, its spaces and hyphens kept."""
    left = iter(chars)
    return "".join(next(left) if char.isalnum() else char for char in value)


def _card(value: str, rng: random.Random) -> str:
    digits = "".join(char for char in value if char.isdecimal())
    body = digits[:1] + "".join(str(rng.randrange(10)) for _ in digits[2:])
    return _spread(value, next(body + str(check) for check in range(10) if luhn(body + str(check))))


def _iban(value: str, rng: random.Random) -> str:
    chars = "".join(char for char in value.upper() if char.isalnum())
    body = "".join(char if char.isalpha() else str(rng.randrange(10)) for char in chars[4:])
    country = chars[:2] if chars[:2] in LENGTHS else "DE"
    check = next(f"{number:02d}" for number in range(2, 99) if mod97(f"{country}{number:02d}{body}"))
    made = f"{country}{check}{body}"
    return _spread(value, made.lower() if value.islower() else made)


def _ip(value: str, rng: random.Random) -> str:
    """From the networks kept for documentation (RFC 5737, RFC 3849)."""
    if ":" in value:
        return f"2001:db8:{rng.randrange(1 << 16):x}:{rng.randrange(1 << 16):x}::{rng.randrange(1, 1 << 16):x}"
    return f"{rng.choice(('192.0.2', '198.51.100', '203.0.113'))}.{rng.randrange(1, 255)}"


def _date(value: str, rng: random.Random) -> str:
    """Other digits where a day, month and year can have them; a month written out stays."""

    def other(match: re.Match[str]) -> str:
        number = match.group()
        if len(number) == 8:
            return f"{rng.randrange(1940, 2005)}{rng.randrange(1, 13):02d}{rng.randrange(1, 29):02d}"
        if len(number) == 4:
            return str(rng.randrange(1940, 2005))
        # below 13 it is right as a day and as a month
        return str(rng.randrange(1, 13)).zfill(len(number)) if len(number) == 2 else str(rng.randrange(1, 10))

    return re.sub(r"\d++", other, value)


def _address(value: str, rng: random.Random) -> str:
    """A street and house number; what town it was in goes."""
    street, number = rng.choice(STREETS), rng.randrange(1, 200)
    return (
        f"{number} {street} Street"
        if value[:1].isdigit()
        else f"{street}straße {number}"
        if "str" in value
        else f"{street} {number}"
    )
