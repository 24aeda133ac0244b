"""Numbers: amounts of money, thousands and units of measure in one spelling each."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field

from attune.data.clean.base import settled
from attune.data.steps import Edit, TextStep
from attune.plugins import Options

SYMBOLS = {"$": "", "€": "EUR", "£": "GBP", "¥": "JPY", "₹": "INR"}
CURRENCIES = {
    "USD": "USD", "US$": "USD", "CAD": "CAD", "CA$": "CAD", "C$": "CAD", "AUD": "AUD", "A$": "AUD", "EUR": "EUR",
    "GBP": "GBP", "JPY": "JPY", "CHF": "CHF", "INR": "INR", "CNY": "CNY", "DOLLARS": "", "DOLLAR": "", "EUROS": "EUR",
    "EURO": "EUR", "YEN": "JPY", "RUPEES": "INR",
}  # fmt: skip
UNITS = {
    "kg": "kg kgs kilo kilos kilogram kilograms kilogramme kilogrammes",
    "g": "gram grams gramme grammes",
    "mg": "mg mgs milligram milligrams",
    "lb": "lb lbs",
    "oz": "oz ounce ounces",
    "km": "km kms kilometer kilometers kilometre kilometres",
    "cm": "cm cms centimeter centimeters centimetre centimetres",
    "mm": "mm millimeter millimeters millimetre millimetres",
    "mi": "mi mile miles",
    "ft": "ft foot feet",
    "in": "inch inches",
    "mL": "ml mls milliliter milliliters millilitre millilitres",
    "hours": "h hr hrs",
    "minutes": "min mins",
    "seconds": "sec secs",
    "weeks": "wk wks",
    "months": "mo mos",
    "years": "yr yrs",
    "%": "% percent pct",
}
UNIT_OF = {name: unit for unit, names in UNITS.items() for name in names.split()}
TIMES = ("hours", "minutes", "seconds", "weeks", "months", "years")
WORDS = frozenset("% percent kilo kilos gram grams ounce ounces mile miles foot feet inch inches".split())
"""Units that are no abbreviations (nor any of seven letters): a point after them ends the sentence."""

LEFT = r"(?<![\w.,/:$€£¥₹#§'’+-])(?<!\d\s)"
RIGHT = r"(?![\w/$€£¥₹]|[.,:'’-]\d)"


def _number(thousands: str, decimal: str) -> str:
    """A number in groups of three or in one piece, with or without a fraction."""
    return rf"(?:\d{{1,3}}(?:{thousands}\d{{3}})++|\d{{1,15}}+)(?:{decimal}\d{{1,9}}+)?+"


NUMBER = {".": _number(r"[,']", r"\."), ",": _number(r"[.'\u00a0\u202f]", ",")}
CODE = "(?:" + "|".join(sorted((re.escape(name) for name in CURRENCIES), key=lambda name: (-len(name), name))) + ")"
SCALE = r"(?!\s?(?:[kKmMbB]|bn|million|billion|trillion|thousand|hundred)(?!\w))"
MONEY = {
    mark: re.compile(
        rf"{LEFT}(?:(?P<before>(?i:{CODE})\s?[$€£¥₹]?|[$€£¥₹])\s?(?P<a>{number})(?:\s?(?P<also>(?i:{CODE}))(?!\w))?+"
        rf"|(?P<b>{number})\s?(?P<after>(?i:{CODE})(?!\w)|[€£¥₹]))(?:\.?-(?!\w))?+{RIGHT}{SCALE}"
    )
    for mark, number in NUMBER.items()
}
MEASURE = {
    mark: re.compile(
        rf"{LEFT}(?P<a>{number})(?P<gap>\s?)(?P<unit>(?i:"
        + "|".join(sorted((re.escape(name) for name in UNIT_OF), key=lambda name: (-len(name), name)))
        + r"|per\scent)(?![\w/])\.?+)(?![-'’])"
    )
    for mark, number in NUMBER.items()
}
GROUPED = {
    ".": re.compile(rf"{LEFT}\d{{1,3}}(?:,\d{{3}})++(?:\.\d++)?+{RIGHT}"),
    ",": re.compile(
        rf"{LEFT}(?:\d{{1,3}}(?:[.\u00a0\u202f]\d{{3}}){{2,}}+(?:,\d++)?+|\d{{1,3}}(?:[.]\d{{3}})++,\d++){RIGHT}"
    ),
}
# Where an amount may begin; all alternatives begin with a plain character, so that the search is fast.
FIRST = re.compile(
    "|".join(
        [*(rf"{digit}\d*+" for digit in range(10)), *map(re.escape, SYMBOLS)]
        + [re.escape(form) for name in CURRENCIES for form in dict.fromkeys((name, name.lower(), name.title()))]
    )
)
DIGIT = re.compile(r"\d")


class Numbers(TextStep):
    """Writes money as `1200.50 USD`, thousands without separators, and units in one spelling (`5 kgs` as `5 kg`,
    `2 hrs` as `2 hours`, `8 percent` as `8%`)."""

    name = "numbers"

    class Config(Options):
        """Which numbers, and how they are written in your data."""

        money: bool = Field(default=True, strict=True)
        """Whether amounts of money get one form. `$1.2 million` and `$5k` stay."""
        thousands: bool = Field(default=True, strict=True)
        """Whether separators of thousands go: 1,200 becomes 1200."""
        units: bool = Field(default=True, strict=True)
        """Whether units of weight, length, volume, time and percent after a number get one spelling."""
        decimal: Literal[".", ","] = "."
        """The decimal mark of your data. The result always has a point."""
        dollar: str = Field(default="USD", pattern="^[A-Z]{3}$")
        """Which currency a bare `$` is."""

    def edits(self, text: str) -> list[Edit]:
        return settled(text, self._once) if DIGIT.search(text) else []

    def _once(self, text: str) -> list[Edit]:
        edits, end = [], 0
        mark = self.options.decimal
        for first in FIRST.finditer(text):
            if (start := first.start()) < end:
                continue
            if self.options.money and (match := MONEY[mark].match(text, start)):
                new, reason = self._money(match), "amount of money"
            elif self.options.units and (match := MEASURE[mark].match(text, start)):
                new, reason = _measure(match, mark, text), "unit of measure"
            elif self.options.thousands and (match := GROUPED[mark].match(text, start)):
                new, reason = _amount(match[0], mark), "separator of thousands"
            else:
                continue
            end = match.end()
            if match[0] != new:
                edits.append(Edit(start, end, new, reason))
        return edits

    def _money(self, match: re.Match[str]) -> str:
        name = CURRENCIES.get((match["also"] or "").upper())  # $5 CAD
        code = (match["before"] or match["after"]).upper()
        name = name or CURRENCIES.get(code.rstrip(" $€£¥₹")) or CURRENCIES.get(code) or SYMBOLS.get(code[-1])
        amount = _cents(_amount(match["a"] or match["b"], self.options.decimal))
        return f"{amount} {name or self.options.dollar}"


def _amount(written: str, mark: str) -> str:
    """The number without separators of thousands and with a decimal point."""
    whole, _, part = written.partition(mark)
    whole = "".join(char for char in whole if char.isdigit())
    return f"{whole}.{part}" if part else whole


def _cents(amount: str) -> str:
    """No fraction or two digits of it; more stay, as they mean something (0.0025)."""
    whole, _, part = amount.partition(".")
    part = part.rstrip("0")
    return f"{whole}.{part.ljust(2, '0')}" if part else whole


def _measure(match: re.Match[str], mark: str, text: str) -> str:
    written = match["unit"]
    word = "percent" if written[:3].lower() == "per" else written.rstrip(".").lower()
    unit, amount = UNIT_OF[word], _amount(match["a"], mark)
    if unit in TIMES and amount in ("1", "1.0"):
        unit = unit[:-1]
    full = word in WORDS or len(word) >= 7
    stop = "." if written.endswith(".") and (full or _ends_sentence(text, match.end())) else ""
    return f"{amount}{unit}{stop}" if unit == "%" else f"{amount} {unit}{stop}"


def _ends_sentence(text: str, at: int) -> bool:
    """Whether a point before this place also ends a sentence: the text ends there, or a capital follows."""
    rest = text[at : at + 3].lstrip()
    return not rest or rest[0].isupper()
