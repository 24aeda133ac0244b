"""Dates: every written form becomes YYYY-MM-DD, where it is sure which day is meant."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date
from pathlib import PurePath
from typing import Any, Literal

from pydantic import Field

from attune.data.clean.base import matches, settled
from attune.data.steps import Change, Edit, TextStep, apply_edits
from attune.plugins import Options
from attune.records import Record

MONTHS = {
    1: "january jan januar jänner janvier janv enero ene gennaio gen janeiro januari",
    2: "february feb februar februari février févr fevrier febrero febbraio fevereiro fev",
    3: "march mar märz mrz maerz mars marzo março maart mrt",
    4: "april apr avril avr abril abr aprile",
    5: "may mai mayo maggio mag maio mei",
    6: "june jun juni juin junio giugno giu junho",
    7: "july jul juli juillet juil julio luglio lug julho",
    8: "august aug août aout agosto ago augustus",
    9: "september sept sep septembre septiembre settembre set setembro",
    10: "october oct oktober okt octobre octubre ottobre ott outubro out",
    11: "november nov novembre noviembre novembro",
    12: "december dec dezember dez décembre déc decembre diciembre dic dicembre dezembro",
}
MONTH_OF = {name: number for number, names in MONTHS.items() for name in names.split()}


def _names(names: list[str]) -> str:
    return "(?i:" + "|".join(sorted(names, key=lambda name: (-len(name), name))) + r")(?!\w)\.?+"


MONTH = _names(list(MONTH_OF))
ENGLISH = _names([name for names in MONTHS.values() for name in names.split()[:2]] + ["sep"])

BEFORE = r"(?<![\w./$€£§#+-])(?<!\d[,:])"
AFTER = r"(?![\w/]|[-.,:]\d)"
LONG = r"(?:1[6-9]|20|21)\d\d(?!\d)"
SHORT = r"['’]\d\d(?!\d)"
DAY = r"\d{1,2}(?:(?i:st|nd|rd|th|er)|º|ª)?+"
OF = r"(?:(?i:of|de|del)\s)?+"
DATE = re.compile(
    rf"{BEFORE}(?:"
    rf"(?P<y1>{LONG})(?P<s1>[/.])(?P<m1>\d{{1,2}})(?P=s1)(?P<d1>\d{{1,2}})"
    rf"|(?P<a2>\d{{1,2}})(?P<s2>[/.-])(?P<b2>\d{{1,2}})(?P=s2)(?P<y2>{LONG}|{SHORT})"
    rf"|(?P<a3>\d{{1,2}})/(?P<b3>\d{{1,2}})/(?P<y3>\d\d(?!\d))"
    rf"|(?P<d4>{DAY})(?P<s4>\.?\s|[-/.])(?P<o4>{OF})(?P<m4>{MONTH})(?:,?\s{OF}|[-/])(?P<y4>{LONG}|{SHORT}|(?<=[-/])\d\d(?!\d))"
    rf"|(?P<m5>{ENGLISH})(?:\s|-)(?P<d5>{DAY})(?:,\s?|\s|-)(?:(?i:of)\s)?+(?P<y5>{LONG}|{SHORT})"
    rf"){AFTER}"
)
# Numbers after these words look like dates and are something else.
NO_DATE = re.compile(
    r"(?i)(?<!\w)(?:v|ver|version|release|build|rev|firmware|section|sec|ratio|odds|phone|tel|fax|call|ip|part|code|"
    r"article|rule|chapter)(?:[.:#]|\s|\bno\b|\bnumber\b){1,4}\Z|§\s?\Z"
)
# Alternatives that all begin with a plain character: the search for them is fast.
FIRST = re.compile(
    "|".join(rf"{digit}\d*+" for digit in range(10))
    + "|"
    + "|".join(
        form
        for name in "jan feb mar apr may jun jul aug sep oct nov dec".split()
        for form in (name, name.title(), name.upper())
    )
)
DIGIT = re.compile(r"\d++")


class Dates(TextStep):
    """Writes dates as YYYY-MM-DD. Whether 3/4/2025 means March or April is learned from dates of the same source that
    leave no choice (3/14/2025); where they do not tell, it stays as it is and is counted.

    Months may be named in English, German, French, Spanish, Italian, Portuguese or Dutch. A year of two digits is
    read only after a slash, an apostrophe or a month's name with a hyphen (`5/6/24`, `Dec. 8, '24`, `8-Dec-24`).
    """

    name = "dates"
    learns = True

    class Config(Options):
        """How dates are read."""

        order: Literal["auto", "month_first", "day_first"] = "auto"
        """What stands first in dates of numbers. `auto` learns it from the training data."""
        pivot: int = Field(default=50, ge=0, le=100, strict=True)
        """Years of two digits below this are 20xx, the others 19xx."""
        min_evidence: int = Field(default=3, ge=1, strict=True)
        """How many dates that leave no choice `auto` needs."""
        max_contrary: float = Field(default=0.02, ge=0, lt=0.5)
        """Share of these that may say the opposite."""
        columns: list[str] = []
        """Other columns of the rows (kept beside the text) in which dates are written this way too."""

    def __init__(self, options: Any = None, context: Any = None):
        super().__init__(options, context)
        self.orders: dict[str, str] = {}
        """Source -> what stands first; empty where its dates contradict one another. "" stands for all sources."""
        self.evidence: dict[str, Counter[str]] = {}
        self.counts: Counter[str] = Counter()
        self.left: dict[str, list[str]] = {"ambiguous": [], "impossible": []}
        self.place = ""

    def learn(self, train: Sequence[Record]) -> None:
        for record in train:
            source = _source(record)
            texts = [(source, record.full_text)]
            texts += [(f"{source}:{name}", value) for name, value in self._columns(record)]
            for place, text in texts:
                for match in matches(DATE, FIRST, text):
                    if order := _evident(match):
                        for where in {place, ""}:
                            self.evidence.setdefault(where, Counter())[order] += 1
        for where, counted in sorted(self.evidence.items()):
            first, second = counted["month_first"], counted["day_first"]
            if max(first, second) < self.options.min_evidence:
                continue
            clear = min(first, second) <= self.options.max_contrary * (first + second)
            self.orders[where] = ("month_first" if first > second else "day_first") if clear else ""

    def _columns(self, record: Record) -> list[tuple[str, str]]:
        values = ((name, record.meta.get(name)) for name in self.options.columns)
        return [(name, value) for name, value in values if isinstance(value, str)]

    def apply(self, record: Record, number: int = -1) -> Change | None:
        source = self.place = _source(record)
        change = super().apply(record, number)
        entries = list(change.entries) if change else []
        kept = change.record if change and change.record else record
        meta = dict(kept.meta)
        for name, value in self._columns(record):
            self.place = f"{source}:{name}"
            if edits := self.edits(value):
                entries += self._entries(f"meta.{name}", value, edits)
                meta[name] = apply_edits(value, edits)
        return Change(replace(kept, meta=meta), tuple(entries)) if entries else None

    def edits(self, text: str) -> list[Edit]:
        if not DIGIT.search(text):
            return []
        first = True

        def once(text: str) -> list[Edit]:
            nonlocal first
            edits = self._once(text, self._count if first else lambda kind, written: None)
            first = False
            return edits

        return settled(text, once)

    def _count(self, kind: str, written: str) -> None:
        self.counts[kind] += 1
        if kind in self.left and len(self.left[kind]) < 5 and written not in self.left[kind]:
            self.left[kind].append(written)

    def _once(self, text: str, count: Callable[[str, str], None]) -> list[Edit]:
        edits = []
        for match in matches(DATE, FIRST, text):
            if (match["s2"] or match["y1"] or match["a3"]) and NO_DATE.search(
                text[max(0, match.start() - 24) : match.start()]
            ):
                continue
            new = self._read(match)
            if isinstance(new, date):
                count("rewritten", match[0])
                edits.append(Edit(match.start(), match.end(), new.isoformat(), "one form of dates"))
            else:
                count(new, match[0])
        return edits

    def _read(self, match: re.Match[str]) -> date | str:
        if match["y1"]:
            return _day(int(match["y1"]), int(match["m1"]), int(match["d1"]))
        if name := match["m4"] or match["m5"]:
            year, day = match["y4"] or match["y5"], match["d4"] or match["d5"]
            return _day(self._year(year), MONTH_OF[name.rstrip(".").lower()], int(DIGIT.findall(day)[0]))
        first, second = int(match["a2"] or match["a3"]), int(match["b2"] or match["b3"])
        year = self._year(match["y2"] or match["y3"])
        order = self._order()
        if first <= 12 and second <= 12 and first != second:
            if not order:
                return "ambiguous"
            month, day = (first, second) if order == "month_first" else (second, first)
        else:
            month, day = (first, second) if second > 12 else (second, first)
        return _day(year, month, day)

    def _order(self) -> str:
        if self.options.order != "auto":
            return self.options.order
        # Its own dates are the best witness, also where they contradict one another.
        return self.orders.get(self.place, self.orders.get("", ""))

    def _year(self, written: str) -> int:
        year = int(DIGIT.findall(written)[0])
        return year if year >= 100 else year + (2000 if year < self.options.pivot else 1900)

    def facts(self) -> dict[str, Any]:
        return {
            "orders": dict(sorted(self.orders.items())),
            "evidence": {where: dict(sorted(counted.items())) for where, counted in sorted(self.evidence.items())},
            "rewritten": self.counts["rewritten"],
            "ambiguous_left": self.counts["ambiguous"],
            "impossible_left": self.counts["impossible"],
            "examples_left": self.left,
        }

    def state(self) -> dict[str, Any]:
        return {"orders": dict(sorted(self.orders.items()))}

    def restore(self, state: dict[str, Any]) -> None:
        self.orders = dict(state["orders"])


def _source(record: Record) -> str:
    """Where a record comes from: its `source` column, or the name of its file."""
    source = record.meta.get("source")
    return source if isinstance(source, str) else PurePath(record.where.rpartition(":")[0]).name


def _evident(match: re.Match[str]) -> str:
    """The order that a date of numbers leaves no doubt about."""
    if not (match["s2"] or match["a3"]):
        return ""
    first, second = int(match["a2"] or match["a3"]), int(match["b2"] or match["b3"])
    if first <= 12 < second <= 31:
        return "month_first"
    return "day_first" if second <= 12 < first <= 31 else ""


def _day(year: int, month: int, day: int) -> date | str:
    try:
        return date(year, month, day)
    except ValueError:
        return "impossible"
