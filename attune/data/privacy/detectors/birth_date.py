"""Dates of birth: a date right after words that say so. Other dates are left alone."""

from __future__ import annotations

import re

from attune.data.privacy.detectors.base import Found, has_digits

KINDS = ("date_of_birth",)
PRIORITY = 70

SAID = re.compile(
    r"(?i)(?:(?<!\w)(?:d\.?\s?o\.?\s?b\b\.?|born|birth[ -]?date|date[ -]of[ -]birth|birthday|b-?day"
    r"|geb\.|geboren|geburtsdatum|geburtstag|geburtsdag|né\(?e?\)?|date de naissance|naissance|anniversaire"
    r"|nacid[oa]|nació|fecha de nacimiento|f\.? ?nac\.?|nascid[oa]|nasceu|data de nascimento|nascimento"
    r"|nat[oa]|nascita|data di nascita|geboortedatum|urodzon[ya]|urodzenia|ur\.|född|fødd?|født|født den|födelsedatum"
    r"|fødselsdato|syntynyt|syntymäaika|narozena?|narození|doğum(?: tarihi)?|született|születési)(?!\w)"
    r"|дата рождения|родил(?:ся|ась)|生年月日|出生日期|出生于|出生|생년월일|जन्म(?: तिथि)?|تاريخ الميلاد|תאריך לידה)"
)
MONTHISH = r"[^\W\d_]{3,12}+\.?"
DAY = r"(?:0?[1-9]|[12]\d|3[01])"
YEAR = r"(?:1[89]\d\d|20[0-4]\d)"
DATE = re.compile(
    rf"(?<![\w])(?:"
    rf"{YEAR} ?(?:[-/.] ?{DAY} ?[-/.] ?{DAY}(?!\d)|年 ?{DAY} ?月 ?{DAY} ?日|년 ?{DAY}월 ?{DAY}일)"
    rf"|{DAY} ?([-/.]) ?{DAY} ?\1 ?(?:{YEAR}|'?\d\d)(?!\d)"
    rf"|{DAY}(?:st|nd|rd|th|er|º|°)?\.?,?[ -](?:(?:of|de|di|den)\s)?{MONTHISH},?[ -](?:(?:de|del|of|di)\s)?{YEAR}(?!\d)"
    rf"|{MONTHISH} {DAY}(?:st|nd|rd|th)?,? {YEAR}(?!\d)"
    rf"|(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?![\d-])"
    rf")"
)
REACH = 32


def find(text: str) -> list[Found]:
    found: list[Found] = []
    if not has_digits(text, 4) or DATE.search(text) is None:
        return found
    done = 0
    for said in SAID.finditer(text):
        match = DATE.search(text, max(said.end(), done), said.end() + REACH + 20)
        if (
            match
            and match.start() <= said.end() + REACH
            and not re.search(r"[.!?]\s|\n\n|\[", text[said.end() + 2 : match.start()])
        ):
            found.append(Found(match.start(), match.end(), "date_of_birth", 0.9))
            done = match.end()
    return found
