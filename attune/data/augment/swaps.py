"""Which words of a text tell a person's group, and what they become when the group is another one.

A swap is found for the whole record first and then carried out in all its texts, so that he, his and Leon stay one
person. What a rule cannot decide is left: a word wrongly kept costs a pair, a word wrongly swapped teaches nonsense.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from functools import cache

from attune.data.augment.base import WORD, shipped
from attune.data.steps import Edit

__all__ = ["GROUPS", "Swap", "swap_for"]

GROUPS = ("gender", "names", "ethnicity", "religion", "age", "disability")

Swap = Callable[[str], list[Edit]]
"""The edits that turn one text's people into others."""

_AGE = re.compile(
    r"\b(?:(?:aged?|age of)[: ](\d{1,2})|(\d{1,2})[- ]years?[- ]old|(\d{1,2})[- ]?(?:y/o|yo|yrs old))\b", re.IGNORECASE
)
_AGE_ELSEWHERE = re.compile(
    r"\b(?:born|birth|dob|retire[ds]?|retirement|pension|pensioners?|school|teen\w*|child|children|minors?)\b",
    re.IGNORECASE,
)
_EITHER = re.compile(r"\b(?:he|she|him|her|his|hers)(?: or |/)(?:he|she|him|her|his|hers)\b", re.IGNORECASE)
"""Already both."""
_TITLES = {"mr": "Ms", "mrs": "Mr", "ms": "Mr", "miss": "Mr"}
_GIVEN_BACK = frozenset(
    "bring brings brought call called calls drive drives drove get got have held hold invite invited keep "
    "kept pay paid pays pull pulled push pushed send sends sent take takes took turn turned walk walked want "
    "wanted wants write wrote phoned texted hit punched answered followed".split()
)
"""Before `her back` these mean him; otherwise it is a part of the body."""
_NOT_OWNED = frozenset(
    "a about after again against all also an and anyway are as at away badly because been before better but "
    "by can completely could did directly do does during each every for from fully had has have her him his "
    "how i if in instead into is it less may might more my never no not of off on once or our out over please "
    "quickly she should since so some than that the their them then there these they this those to today "
    "tomorrow tonight too under until up very was we well were what when where which while who why will with "
    "without would yesterday you your".split()
)
"""What follows `her` where it means him, and `his` where it means hers: words that begin no noun."""
_BE = frozenset("is are was were am be been being he's she's i'm they're who's".split())
_BOTH_SENTENCE_ENDS = '.!?:;\n"“(•-|>'


def swap_for(group: str, texts: Sequence[str], rng: random.Random, own: dict[str, str]) -> Swap | None:
    """How the texts of one record swap that group; None where they tell nothing of it, or more than can be swapped."""
    if group == "age":
        swap = _age_swap(texts)
    elif group == "gender":
        swap = _gender_swap(texts, rng)
    else:
        table = {
            "names": _names_table,
            "religion": _religion_table,
            "ethnicity": _ethnicity_table,
            "disability": lambda texts, rng: _both_ways(shipped("group_terms.json")["disability"]),
            "own": lambda texts, rng: _both_ways(own),
        }[group](texts, rng)
        if not table:
            return None
        guard = {"names": _is_name, "religion": _is_religion, "own": lambda *_: True}.get(group, _is_person)
        swap = _by_table(table, guard, group)
    return swap if any(swap(text) for text in texts) else None


# tables -------------------------------------------------------------------------------------------------------------


def _both_ways(pairs: dict[str, str]) -> dict[str, str]:
    table = {right.lower(): left for left, right in pairs.items()}
    return table | {left.lower(): right for left, right in pairs.items()}


@cache
def _names() -> dict[str, tuple[str, str]]:
    """Given name -> (gender, origin)."""
    names = shipped("given_names.json")
    return {
        name: (gender, origin)
        for gender in ("man", "woman")
        for origin, listed in names[gender].items()
        for name in listed.split()
    }


def _found_names(texts: Sequence[str]) -> list[str]:
    """Given names in the texts, each once, in their order."""
    known = _names()
    words = (word[0] for text in texts for word in re.finditer(r"\b[A-Z][A-Za-z]++\b", text))
    return list(dict.fromkeys(word for word in words if word in known))


def _others(texts: Sequence[str], rng: random.Random, gender_of: Callable, origin_of: Callable) -> dict[str, str]:
    found = _found_names(texts)
    listed, taken = shipped("given_names.json"), set(found)
    table = {}
    for name in found:
        gender, origin = _names()[name]
        pool = [new for new in listed[gender_of(gender)][origin_of(origin)].split() if new not in taken]
        if pool:
            table[name.lower()] = rng.choice(pool)
            taken.add(table[name.lower()])
    return table


def _names_table(texts: Sequence[str], rng: random.Random) -> dict[str, str]:
    """Every given name becomes one of the same gender and another origin, the same for all of the record."""
    origins = list(shipped("given_names.json")["man"])
    target = rng.choice(origins)
    other = rng.choice([origin for origin in origins if origin != target])
    return _others(texts, rng, lambda gender: gender, lambda origin: target if origin != target else other)


def _religion_table(texts: Sequence[str], rng: random.Random) -> dict[str, str]:
    told = shipped("group_terms.json")["religion"]
    size = len(told["columns"])
    shift = rng.randrange(1, size)
    return {row[at].lower(): row[(at + shift) % size] for row in told["rows"] for at in range(size)}


def _ethnicity_table(texts: Sequence[str], rng: random.Random) -> dict[str, str]:
    terms = shipped("group_terms.json")["ethnicity"]
    shift = rng.randrange(1, len(terms))
    return {term.lower(): terms[(at + shift) % len(terms)] for at, term in enumerate(terms)}


# what a word must stand beside --------------------------------------------------------------------------------------


@cache
def _people() -> frozenset[str]:
    return frozenset(shipped("group_terms.json")["people"].split())


def _after(text: str, end: int) -> str:
    """The word that follows directly, with only spaces between."""
    match = WORD.match(text, end + 1) if text[end : end + 1] == " " else None
    return match[0] if match else ""


def _before(text: str, start: int) -> str:
    words = text[max(0, start - 30) : start].split(" ")
    return words[-2] if len(words) > 1 and not words[-1] else ""


def _is_person(text: str, start: int, end: int) -> bool:
    following = _after(text, end)
    if following:
        return following.lower() in _people()
    return _before(text, start).lower() in _BE and text[end : end + 1] in ("", ".", ",", ";", "!", "?")


def _is_name(text: str, start: int, end: int) -> bool:
    return (
        text[start].isupper()
        and text[end : end + 1] != "."
        and text[start - 1 : start] not in ("@", "/", ".", "_", "&")
    )


def _is_religion(text: str, start: int, end: int) -> bool:
    """`Christian Bale` is a name; `Church Street` is a place."""
    following = _after(text, end)
    own_name = following[:1].isupper() and following.lower() not in _people()
    place = text[start].isupper() and text[start:end].lower() in ("church", "temple", "mosque")
    return not own_name and not (place and not _begins(text, start))


def _begins(text: str, start: int) -> bool:
    """Whether a sentence (or the text, or a quotation) begins here."""
    before = text[max(0, start - 20) : start].rstrip(" ")
    return not before and start <= 20 or before[-1:] in _BOTH_SENTENCE_ENDS


# the swaps ----------------------------------------------------------------------------------------------------------


def _cased(new: str, old: str) -> str:
    if len(old) > 1 and old.isupper():
        return new.upper()
    return new[0].upper() + new[1:] if old[0].isupper() else new


def _by_table(table: dict[str, str], fits: Callable[[str, int, int], bool], group: str) -> Swap:
    listed = "|".join(re.escape(term) for term in sorted(table, key=lambda term: (-len(term), term)))
    pattern = re.compile(rf"(?<![\w-])(?:{listed})(?![\w-])", re.IGNORECASE)

    def swap(text: str) -> list[Edit]:
        return [
            Edit(match.start(), match.end(), _cased(table[match[0].lower()], match[0]), f"{group} swapped")
            for match in pattern.finditer(text)
            if fits(text, match.start(), match.end())
        ]

    return swap


def _age_swap(texts: Sequence[str]) -> Swap:
    terms = _by_table(_both_ways(shipped("group_terms.json")["age"]), _is_person, "age")

    def swap(text: str) -> list[Edit]:
        edits = []
        for match in _AGE.finditer(text):
            at = next(number for number in (1, 2, 3) if match[number])
            years = int(match[at])
            if 18 <= years <= 90:
                new = years + 30 if years < 45 else max(18, years - 30)
                edits.append(Edit(match.start(at), match.end(at), str(new), "age swapped"))
        return sorted(edits + terms(text), key=lambda edit: edit.start)

    # Where the text tells the age in other ways too, changing the number alone would contradict them.
    return (lambda text: []) if any(_AGE_ELSEWHERE.search(text) for text in texts) else swap


def _gender_swap(texts: Sequence[str], rng: random.Random) -> Swap:
    told = shipped("group_terms.json")
    bodies = frozenset(told["bodies"].split())
    if any(word[0].lower() in bodies for text in texts for word in WORD.finditer(text)):
        return lambda text: []
    table = _both_ways(told["gender"])
    names = _others(texts, rng, lambda gender: "woman" if gender == "man" else "man", lambda origin: origin)

    def swap(text: str) -> list[Edit]:
        edits = []
        neutral = {at for match in _EITHER.finditer(text) for at in range(match.start(), match.end())}
        for match in WORD.finditer(text):
            if match.start() in neutral:
                continue
            old, low = match[0], match[0].lower().replace("’", "'")
            new = None
            stem = low.removesuffix("'s") if low not in table else low
            if stem.title() in _TITLED and text[match.start()].isupper() and _after_title(text, match.end()):
                new = _TITLES[stem]
            elif low in ("him", "her", "his", "hers"):
                new = _pronoun(text, low, match.start(), match.end())
            elif (
                stem in names and old[0].isupper() and _is_name(text, match.start(), match.end() - len(low) + len(stem))
            ):
                new = names[stem] + old[len(stem) :]
            elif stem in table and not _inside_name(text, match.start(), old):
                new = table[stem] + old[len(stem) :]
            if new is not None:
                edits.append(Edit(match.start(), match.end(), _cased(new, old), "gender swapped"))
        return edits

    return swap


_TITLED = frozenset(title.title() for title in _TITLES)


def _after_title(text: str, end: int) -> bool:
    return re.compile(r"\.? [A-Z]").match(text, end) is not None


def _inside_name(text: str, start: int, old: str) -> bool:
    """A capital inside a sentence, as in `Hollis & Sons`, unless the whole text shouts."""
    if not old[0].isupper() or _begins(text, start) or old.lower() in ("sir", "madam"):
        return False
    return not (len(old) > 1 and old.isupper())


def _pronoun(text: str, low: str, start: int, end: int) -> str:
    following = _after(text, end).lower()
    owns = bool(following) and following not in _NOT_OWNED
    if following == "back" and low == "her":
        owns = _before(text, start).lower() not in _GIVEN_BACK
    if low == "him":
        return "her"
    if low == "hers":
        return "his"
    if low == "his":
        return "her" if owns else "hers"
    return "his" if owns else "him"
