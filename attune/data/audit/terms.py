"""Word lists of the audit: terms for groups of people and function words, one file for each language."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["language_of", "mentions", "function_words", "group_words", "AGES"]

FOLDER = Path(__file__).with_name("lists")
PLAIN = re.compile(r"[^\W\d_]+")
AGES = ((18, "under 18"), (30, "18 to 29"), (45, "30 to 44"), (60, "45 to 59"), (121, "60 and over"))


@cache
def _language(name: str) -> dict[str, Any]:
    """The list of one language, ready to look up: first word of a term -> (all its words, attribute, group)."""
    stored = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    index: dict[str, list[tuple[tuple[str, ...], str, str]]] = {}
    for attribute, groups in stored["groups"].items():
        for group, terms in groups.items():
            for term in terms:
                parts = tuple(PLAIN.findall(term.casefold()))
                index.setdefault(parts[0], []).append((parts, attribute, group))
    return {
        "function": frozenset(word.casefold() for word in stored["function_words"]),
        "index": index,
        "age": [re.compile(pattern) for pattern in stored["age"]],
    }


def language_of(found: Iterable[str], languages: Sequence[str]) -> str:
    """The language whose function words a text has most of; empty if it has none of any."""
    counts = Counter({name: 0 for name in languages})
    for word in found:
        for name in languages:
            counts[name] += word in _language(name)["function"]
    best = max(languages, key=lambda name: (counts[name], -languages.index(name)), default="")
    return best if best and counts[best] else ""


def mentions(text: str, language: str) -> dict[str, set[str]]:
    """Attribute -> groups that a text names by a term of the language's list, or by an age in figures."""
    lists = _language(language)
    folded = text.casefold()
    parts = PLAIN.findall(folded)
    found: dict[str, set[str]] = {}
    for at, word in enumerate(parts):
        for term, attribute, group in lists["index"].get(word, ()):
            if len(term) == 1 or tuple(parts[at : at + len(term)]) == term:
                found.setdefault(attribute, set()).add(group)
    for pattern in lists["age"]:
        for hit in pattern.findall(folded):
            band = next((name for top, name in AGES if int(hit) < top), None)
            if band:
                found.setdefault("age", set()).add(band)
    return found


@cache
def function_words(languages: tuple[str, ...]) -> frozenset[str]:
    return frozenset().union(*(_language(name)["function"] for name in languages))


@cache
def group_words(languages: tuple[str, ...]) -> frozenset[str]:
    """Terms of one word."""
    return frozenset(
        parts[0] for name in languages for rows in _language(name)["index"].values() for parts, _, _ in rows
        if len(parts) == 1
    )  # fmt: skip
