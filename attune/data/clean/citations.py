"""Citations and identifiers: one spelling for each law, code and case number."""

from __future__ import annotations

import re
from bisect import bisect_left
from typing import Any, Literal

from pydantic import field_validator

from attune.data.clean.base import PASSES, settled
from attune.data.steps import Edit, TextStep, apply_edits
from attune.errors import DataError
from attune.plugins import Options

MAX_PATTERN_CHARS = 500
SECONDS_PER_TEXT = 1.0
SECONDS_PER_PROBE = 0.5

DASH = "[-‐-―−]"
SECTION = r"(?:,?\s?(?:§§?|(?i:sections?|sec|sect)(?![a-zA-Z])\.?+))?+\s?"
PARTS = r"(?:\s?\((?:[a-zA-Z]{1,4}|\d{1,3})\)){0,6}+"
FAMILIES: dict[str, tuple[re.Pattern[str], str]] = {
    "ocga": (
        re.compile(
            r"(?<![\w.])(?i:O\.?\s?C\.?\s?G\.?\s?A\.?|Ga\.?\s?Code(?:\s?Ann\.?)?"
            r"|Official Code of Georgia(?:,? Annotated)?)"
            rf"{SECTION}(?P<a>\d{{1,2}}[A-Z]?)\s?{DASH}\s?(?P<b>\d{{1,3}}[A-Z]?)\s?{DASH}\s?"
            rf"(?P<c>\d{{1,4}}(?:\.\d{{1,3}})?)(?!\d)(?P<parts>{PARTS})"
        ),
        "O.C.G.A. § {a}-{b}-{c}{parts}",
    ),
    "usc": (
        re.compile(
            rf"(?<![\w.])(?P<a>\d{{1,2}})\s?(?i:U\.?\s?S\.?\s?C\.?(?:\s?A\.?)?)(?![a-zA-Z]){SECTION}"
            rf"(?P<b>\d{{1,5}}[a-z]{{0,2}}(?:{DASH}\d{{1,3}}[a-z]?)?)(?![\w,]\d|\w)(?P<parts>{PARTS})"
        ),
        "{a} U.S.C. § {b}{parts}",
    ),
    "cfr": (
        re.compile(
            rf"(?<![\w.])(?P<a>\d{{1,2}})\s?(?i:C\.?\s?F\.?\s?R\.?)(?![a-zA-Z]){SECTION}"
            rf"(?P<b>\d{{1,4}}\.\d{{1,4}}[a-z]?)(?!\w)(?P<parts>{PARTS})"
        ),
        "{a} C.F.R. § {b}{parts}",
    ),
    "icd10": (
        re.compile(
            rf"(?<!\w)(?i:ICD)\s?{DASH}?\s?10(?:\s?{DASH}?\s?(?i:CM))?(?:\s(?i:diagnosis|dx))?(?:\s?(?i:codes?))?\s?[:#]?\s?"
            r"(?P<a>[A-TV-Za-tv-z]\d[0-9A-Ba-b])(?:\s?\.\s?(?P<b>[0-9A-Za-z]{1,4}))?(?!\w)"
        ),
        "ICD-10 {a}.{b}",
    ),
    "case_number": (
        re.compile(
            r"(?<!\w)(?i:case|docket|civil action|claim|file|cause)\s?(?:(?i:numbers?|num|nos?)(?!\w)\.?|#)"
            r"\s?[:#]?\s?#?"
            rf"(?P<a>(?:\d{{1,2}}:)?(?:\d{{4}}|\d{{2}}))(?:\s?{DASH}\s?(?P<b>[A-Za-z]{{1,4}})\s?{DASH}\s?"
            r"|\s(?P<blank>(?i:cv|cr|civ|crim|wc|mc|md|mj|ca|ap|bk|sw))\s)(?P<c>\d{2,8})(?!\w)"
        ),
        "Case No. {a}-{b}-{c}",
    ),
}
HINTS = {
    "ocga": re.compile(rf"[0-9][A-Z]?\s?{DASH}\s?[0-9]"),
    "usc": re.compile(r"[0-9]\s?[Uu]\.?\s?[Ss]"),
    "cfr": re.compile(r"[0-9]\s?[Cc]\.?\s?[Ff]"),
    "icd10": re.compile(r"[Ii][Cc][Dd]"),
    "case_number": re.compile(rf"[0-9]\s?{DASH}?\s?[A-Za-z]{{1,4}}\s?{DASH}?\s?[0-9]"),
}
"""What every citation of a family has in it, quick to look for."""
ANY_DASH = re.compile(DASH)
KEEP_KIND = re.compile(r"\A(?i:claim|file)")


class Pattern(Options):
    """Your own identifier: what it looks like and what it becomes."""

    find: str
    """A regular expression, for example `(?i)pol(?:icy)?[ #-]*(\\d{6})`."""
    to: str
    """What stands there then; `\\1` is the first group, `\\g<name>` a named one."""


class Citations(TextStep):
    """Writes laws (`O.C.G.A. § 34-9-1`, `42 U.S.C. § 1983`, `29 C.F.R. § 1910.134`), ICD-10 codes and case numbers in
    one spelling each, and your own identifiers as you say."""

    name = "citations"

    class Config(Options):
        """What is recognised."""

        families: list[Literal["ocga", "usc", "cfr", "icd10", "case_number"]] = [
            "ocga",
            "usc",
            "cfr",
            "icd10",
            "case_number",
        ]
        """Built-in kinds: the Code of Georgia, United States Code, Code of Federal Regulations, diagnoses after the
        word ICD-10, and case numbers after words such as `case no.`"""
        patterns: list[Pattern] = []
        """Your own: a list of `{find: regular expression, to: replacement}`. One that is slow is refused."""

        @field_validator("patterns")
        @classmethod
        def _safe(cls, patterns: list[Pattern]) -> list[Pattern]:
            for pattern in patterns:
                compiled(pattern)
            return patterns

    def __init__(self, options: Any = None, context: Any = None):
        super().__init__(options, context)
        self.families = [(name, *FAMILIES[name]) for name in dict.fromkeys(self.options.families)]
        self.own = [(pattern, compiled(pattern)) for pattern in self.options.patterns]

    def edits(self, text: str) -> list[Edit]:
        edits = settled(text, self._once)
        if self.own and not edits and self._mine(text):
            self._endless(text)
        return edits

    def _once(self, text: str) -> list[Edit]:
        edits: list[Edit] = []
        for name, find, to in self.families:
            if HINTS[name].search(text):
                edits = _joined(edits, _spelled(text, name, find, to))
        return _joined(edits, self._mine(text)) if self.own else edits

    def _mine(self, text: str) -> list[Edit]:
        total: list[Edit] = []
        for pattern, find in self.own:
            edits = []
            try:
                for match in find.finditer(text, timeout=SECONDS_PER_TEXT):
                    if (new := match.expand(pattern.to)) != match[0]:
                        edits.append(Edit(match.start(), match.end(), new, "your pattern"))
            except TimeoutError:
                raise _slow(pattern, f"it took more than {SECONDS_PER_TEXT:g} s on one text") from None
            total = _joined(total, edits)
        return total

    def _endless(self, text: str) -> None:
        """Raises: DataError naming the patterns that would go on changing this text."""
        for _ in range(PASSES):
            text = apply_edits(text, self._mine(text))
        busy = [
            pattern.find
            for pattern, find in self.own
            if any(match.expand(pattern.to) != match[0] for match in find.finditer(text, timeout=SECONDS_PER_TEXT))
        ]
        raise DataError(
            f"a pattern of step 'citations' finds its own result again: {' or '.join(map(repr, busy))}",
            why=f"after {PASSES} passes it still changes the text, so no spelling is the last one",
            fix="let `find` not match what the `to` of any pattern writes, or let `to` write that the same way again",
        )


def _joined(first: list[Edit], second: list[Edit]) -> list[Edit]:
    """Both in order; of the second those that meet none of the first (the next pass sees them again)."""
    if not first or not second:
        return first or second
    starts = [edit.start for edit in first]
    kept = []
    for edit in second:
        at = bisect_left(starts, edit.start)
        if (at == 0 or first[at - 1].end <= edit.start) and (at == len(first) or edit.end <= starts[at]):
            kept.append(edit)
    return sorted([*first, *kept], key=lambda edit: edit.start)


def _spelled(text: str, name: str, find: re.Pattern[str], to: str) -> list[Edit]:
    edits = []
    for match in find.finditer(text):
        groups = {key: ANY_DASH.sub("-", value or "") for key, value in match.groupdict().items()}
        groups["parts"] = "".join(groups.get("parts", "").split())
        if name == "icd10":
            groups = {key: value.upper() for key, value in groups.items()}
        if name == "case_number":
            groups["b"] = (groups["b"] or groups["blank"]).upper()
        new = to.format(**groups).rstrip(".")
        if name == "case_number" and (kind := KEEP_KIND.match(match[0])):
            new = f"{kind[0].capitalize()} No. {new.removeprefix('Case No. ')}"
        if new != match[0]:
            edits.append(Edit(match.start(), match.end(), new, f"spelling of a citation ({name})"))
    return edits


def compiled(pattern: Pattern) -> Any:
    """The user's pattern, for the `regex` package, which can stop a match that takes too long.

    Raises: ValueError if it is no pattern, matches nothing at all, or is slow on texts made to be hard for it.
    """
    import regex

    if len(pattern.find) > MAX_PATTERN_CHARS:
        raise ValueError(f"pattern '{pattern.find[:40]}...' is longer than {MAX_PATTERN_CHARS} characters")
    try:
        found = regex.compile(pattern.find, regex.VERSION0)
        regex.compile(rf"(?:{pattern.find})|").match("").expand(pattern.to)
    except (regex.error, RecursionError, OverflowError, IndexError) as error:
        raise ValueError(f"pattern '{pattern.find}' with '{pattern.to}': {error}") from None
    if found.match(""):
        raise ValueError(f"pattern '{pattern.find}' matches the empty text, so it would write everywhere")
    for probe in _probes(pattern.find):
        try:
            for _ in found.finditer(probe, timeout=SECONDS_PER_PROBE):
                pass
        except TimeoutError:
            raise _slow(pattern, f"it took more than {SECONDS_PER_PROBE:g} s on {len(probe):,} characters") from None
    return found


def _probes(find: str) -> list[str]:
    """Texts that make a pattern with nested or overlapping repeats go through all its ways: what it may look for, over
    and over, and then something else."""
    letters = dict.fromkeys(c for c in find if c not in "\\()[]{}|*+?^$")
    units = [*list(letters)[:12], "a", "1", " ", "a ", "1 ", "a1", "-", ".", "Aa", "a.", "1-", "\n"]
    return [unit * (5000 // len(unit)) + "\x00" for unit in dict.fromkeys(units)]


def _slow(pattern: Pattern, why: str) -> ValueError | DataError:
    text = f"pattern '{pattern.find}' of step 'citations' is too slow: {why}"
    return SlowPattern(
        text,
        why="nested or overlapping repeats such as (a+)+ try every way to divide the text",
        fix="let each repeat begin with something that the one before cannot match",
    )


class SlowPattern(DataError, ValueError):
    """A user's pattern that takes too long; a ValueError too, so that a recipe's check reports its place."""
