"""Texts that do not look like prose: symbols, fragments, lists, shouting."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

from pydantic import Field

from attune.data.filters.base import Broken, Filter
from attune.plugins import Options

SYMBOL = re.compile(r"#++|\.\.\.|…")
BULLETS = ("•", "‣", "◦", "▪", "*", "-", "–", "·")
STOP_WORDS = frozenset("the be to of and that have with".split())


class Quality(Filter):
    """Leaves out texts that break a rule of Gopher (Rae et al. 2021, appendix A) or are written in capitals.

    Each rule has its own option, null turns it off, and the facts count what each of them left out. The rules were made
    for web pages in English: texts of fewer than `min_words` words are not judged, and stop words are off by default.
    Prompt and answers are judged apart.
    """

    name = "quality"
    apart = True

    class Config(Options):
        min_words: int = Field(default=20, ge=1)
        """Shorter texts are not judged."""
        mean_word_chars: tuple[float, float] | None = (3.0, 10.0)
        """Least and most characters of a word, on average."""
        symbols_per_word: float | None = Field(default=0.1, ge=0)
        """Most hash signs (a run of them is one) and ellipses per word."""
        alphabetic_words: float | None = Field(default=0.6, ge=0, le=1)
        """Least share of words with a letter in them. Gopher: 0.8, which takes half of a set of sums in words."""
        letters: float | None = Field(default=0.5, ge=0, le=1)
        """Least share of letters among characters that are no space."""
        bullet_lines: float | None = Field(default=0.9, ge=0, le=1)
        """Most share of lines that begin with a bullet, of three lines or more."""
        ellipsis_lines: float | None = Field(default=0.3, ge=0, le=1)
        """Most share of lines that end with an ellipsis, of three lines or more."""
        capitals: float | None = Field(default=0.7, ge=0, le=1)
        """Most share of capitals among letters that have a case."""
        stop_words: int | None = Field(default=None, ge=1)
        """Least number of different words among: the, be, to, of, and, that, have, with. English only; Gopher: 2."""

    def judge(self, text: str) -> Broken | None:
        words = text.split()
        if len(words) < self.options.min_words:
            return None
        lines = [line.strip() for line in text.split("\n") if line.strip()]
        return next((found for rule in _RULES if (found := rule(self.options, text, words, lines))), None)


def _mean_word(rules: Any, text: str, words: list[str], lines: list[str]) -> Broken | None:
    if rules.mean_word_chars is None:
        return None
    low, high = rules.mean_word_chars
    value = sum(map(len, words)) / len(words)
    if low <= value <= high:
        return None
    return Broken(
        "mean_word_chars", round(value, 2), f"words have {value:.1f} characters on average, not {low:g} to {high:g}"
    )


def _symbols(rules: Any, text: str, words: list[str], lines: list[str]) -> Broken | None:
    value = len(SYMBOL.findall(text)) / len(words)
    return _above("symbols_per_word", rules.symbols_per_word, value, "hash signs and ellipses per word")


def _alphabetic(rules: Any, text: str, words: list[str], lines: list[str]) -> Broken | None:
    value = sum(any(char.isalpha() for char in word) for word in words) / len(words)
    return _below("alphabetic_words", rules.alphabetic_words, value, "of the words have a letter")


def _letters(rules: Any, text: str, words: list[str], lines: list[str]) -> Broken | None:
    value = sum(map(_is_letter, "".join(words))) / sum(map(len, words))
    return _below("letters", rules.letters, value, "of the characters are letters")


def _is_letter(char: str) -> bool:
    # Signs that stand on a letter are part of it: a third of a Hindi text.
    return char.isalpha() or (not char.isascii() and unicodedata.category(char)[0] == "M")


def _bullets(rules: Any, text: str, words: list[str], lines: list[str]) -> Broken | None:
    value = sum(line.startswith(BULLETS) for line in lines) / len(lines) if len(lines) > 2 else 0.0
    return _above("bullet_lines", rules.bullet_lines, value, "of the lines are list items")


def _ellipses(rules: Any, text: str, words: list[str], lines: list[str]) -> Broken | None:
    value = sum(line.endswith(("...", "…")) for line in lines) / len(lines) if len(lines) > 2 else 0.0
    return _above("ellipsis_lines", rules.ellipsis_lines, value, "of the lines end with an ellipsis")


def _capitals(rules: Any, text: str, words: list[str], lines: list[str]) -> Broken | None:
    upper = sum(char.isupper() for char in text)
    value = upper / max(upper + sum(char.islower() for char in text), 1)
    return _above("capitals", rules.capitals, value, "of the letters are capitals")


def _stop_words(rules: Any, text: str, words: list[str], lines: list[str]) -> Broken | None:
    if rules.stop_words is None:
        return None
    value = len(STOP_WORDS & {word.strip(".,;:!?\"'()").lower() for word in words})
    if value >= rules.stop_words:
        return None
    return Broken("stop_words", value, f"{value} of the commonest English words, fewer than {rules.stop_words}")


_RULES = (_mean_word, _symbols, _alphabetic, _letters, _bullets, _ellipses, _capitals, _stop_words)


def _share(value: float, what: str) -> str:
    return f"{value:.2f} {what}" if what.endswith("per word") else f"{value:.0%} {what}"


def _above(rule: str, limit: float | None, value: float, what: str) -> Broken | None:
    if limit is None or value <= limit:
        return None
    return Broken(rule, round(value, 4), f"{_share(value, what)}, more than {limit:g}")


def _below(rule: str, limit: float | None, value: float, what: str) -> Broken | None:
    if limit is None or value >= limit:
        return None
    return Broken(rule, round(value, 4), f"{_share(value, what)}, less than {limit:g}")
