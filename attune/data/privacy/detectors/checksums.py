"""Check digits of identifiers: each function says whether a string of digits (or characters) carries a right one."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["luhn", "mod97", "weighted", "verhoeff", "iso7064"]

_TIMES = (
    "0123456789 1234067895 2340178956 3401289567 4012395678 5987604321 6598710432 7659821043 8765932104 9876543210"
).split()
_TURN = "0123456789 1576283094 5803796142 8916043527 9453126870 4286573901 2793806415 7046913258".split()


def luhn(digits: str) -> bool:
    """Cards, IMEI, Canadian SIN, Swedish personnummer."""
    total = 0
    for place, char in enumerate(reversed(digits)):
        value = int(char) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def mod97(iban: str) -> bool:
    """ISO 13616, letters in capitals."""
    return int("".join(str(int(char, 36)) for char in iban[4:] + iban[:4])) % 97 == 1


def weighted(digits: str, weights: Sequence[int]) -> int:
    return sum(int(char) * weight for char, weight in zip(digits, weights))


def verhoeff(digits: str) -> bool:
    """Indian Aadhaar."""
    check = 0
    for place, char in enumerate(reversed(digits)):
        check = int(_TIMES[check][int(_TURN[place % 8][int(char)])])
    return check == 0


def iso7064(digits: str) -> bool:
    """ISO 7064 mod 11,10: German tax number."""
    product = 10
    for char in digits[:-1]:
        product = ((int(char) + product) % 10 or 10) * 2 % 11
    return (11 - product) % 10 == int(digits[-1])
