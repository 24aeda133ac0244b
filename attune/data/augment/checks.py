"""Whether a text says the same as another, by rules that need no model: crude each, together they stop most slips."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

from attune.data.augment.base import WORD

__all__ = ["content_words", "fault", "numbers"]

_NUMBER = re.compile(r"\d++(?:[.,:/]\d++)*+")
NEGATIONS = frozenset(
    "no not never none nobody nothing neither nor without cannot kein keine keinen keiner nicht nie niemals ohne "
    "jamais aucun aucune nunca".split()
)
FUNCTION = frozenset(
    "a about after all also am an and any are as at be because been before being both but by can could did do does "
    "doing down during each few for from further get got had has have having he her here hers him his how i if in "
    "into is it its just let me more most my of off on once one only or other our out over own please same shall she "
    "should so some such than that the their them then there these they this those through to too under until up us "
    "very was we were what when where which while who whom whose why will with would you your yours".split()
)


def numbers(text: str) -> Counter[str]:
    """Numbers written in digits, without the marks that group thousands."""
    text = unicodedata.normalize("NFKC", text)
    return Counter(re.sub(r"[,.](?=\d{3}\b)", "", found) for found in _NUMBER.findall(text))


def content_words(text: str) -> set[str]:
    """The words that carry meaning, cut to a stem."""
    words = (word.lower().replace("’", "'").removesuffix("'s") for word in WORD.findall(text))
    return {_stem(word) for word in words if len(word) > 1 and word not in FUNCTION and "'" not in word}


def _stem(word: str) -> str:
    """Without plural and the commonest endings, roughly: both texts are cut alike."""
    for end in ("ations", "ation", "ings", "ing", "ies", "ied", "edly", "ed", "es", "ly", "s", "y", "e"):
        if word.endswith(end) and len(word) - len(end) >= 3:
            return word[: -len(end)]
    return word


def negated(text: str) -> bool:
    words = [word.lower().replace("’", "'") for word in WORD.findall(text)]
    return any(word in NEGATIONS or word.endswith("n't") for word in words)


def fault(before: str, after: str, *, least_shared: float, longest_ratio: float) -> str | None:
    """Why `after` does not pass as the same thing said otherwise; None if nothing speaks against it."""
    if not after.strip():
        return "empty"
    if " ".join(after.lower().split()) == " ".join(before.lower().split()):
        return "unchanged"
    longer, shorter = max(len(before), len(after)), min(len(before), len(after))
    if longer > longest_ratio * shorter + 20:
        return "length"
    if numbers(before) != numbers(after):
        return "numbers"
    if negated(before) != negated(after):
        return "negation"
    old, new = content_words(before), content_words(after)
    shared = len(old & new) / max(1, min(len(old), len(new)))
    if old and shared < least_shared:
        return "too far"
    return None
