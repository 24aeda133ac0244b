"""Texts that say the same again and again."""

from __future__ import annotations

from collections import Counter
from itertools import chain

from pydantic import Field

from attune.data.filters.base import Broken, Filter
from attune.plugins import Options


class Repetition(Filter):
    """Leaves out texts whose lines, paragraphs or runs of words repeat more than prose does.

    Ratios are those of Gopher (Rae et al. 2021, "Scaling Language Models", table A1). A threshold of null turns its
    rule off. Of Gopher's six lengths for repeated runs the shortest and the longest are measured. Texts of fewer than
    `min_words` words are left alone, for a short one repeats itself by chance. Prompt and answers are judged apart: an
    answer may well repeat what was asked.
    """

    name = "repetition"
    apart = True

    class Config(Options):
        min_words: int = Field(default=30, ge=1)
        """Shorter texts are not judged."""
        duplicate_lines: float | None = Field(default=0.3, gt=0, le=1)
        """Share of lines that stood before."""
        duplicate_paragraphs: float | None = Field(default=0.3, gt=0, le=1)
        """Share of paragraphs (between empty lines) that stood before."""
        duplicate_line_chars: float | None = Field(default=0.2, gt=0, le=1)
        """Share of characters in lines that stood before."""
        duplicate_paragraph_chars: float | None = Field(default=0.2, gt=0, le=1)
        """Share of characters in paragraphs that stood before."""
        top_2_gram: float | None = Field(default=0.2, gt=0, le=1)
        """Share of characters in the most frequent pair of words."""
        top_3_gram: float | None = Field(default=0.18, gt=0, le=1)
        """The same for three words."""
        top_4_gram: float | None = Field(default=0.16, gt=0, le=1)
        """The same for four words."""
        duplicate_5_grams: float | None = Field(default=0.15, gt=0, le=1)
        """Share of characters in runs of five words that stood before."""
        duplicate_10_grams: float | None = Field(default=0.1, gt=0, le=1)
        """The same for ten words."""

    def judge(self, text: str) -> Broken | None:
        words = text.split()
        if len(words) < self.options.min_words:
            return None
        lines = [line.strip() for line in text.split("\n") if line.strip()]
        paragraphs = [part.strip() for part in _paragraphs(text)]
        chars = sum(map(len, words))
        measures = {
            "duplicate_lines": lambda: _again(lines, len(lines), by_char=False),
            "duplicate_paragraphs": lambda: _again(paragraphs, len(paragraphs), by_char=False),
            "duplicate_line_chars": lambda: _again(lines, len(text), by_char=True),
            "duplicate_paragraph_chars": lambda: _again(paragraphs, len(text), by_char=True),
            "top_2_gram": lambda: _top(words, 2, chars),
            "top_3_gram": lambda: _top(words, 3, chars),
            "top_4_gram": lambda: _top(words, 4, chars),
            "duplicate_5_grams": lambda: _repeated(words, 5, chars),
            "duplicate_10_grams": lambda: _repeated(words, 10, chars),
        }
        for rule, measure in measures.items():
            limit = getattr(self.options, rule)
            if limit is not None and (value := measure()) > limit:
                what = rule.replace("_", " ").replace("top ", "most frequent ").replace(" gram", "-gram")
                return Broken(rule, round(value, 4), f"{what}: {value:.0%} of the text, more than {limit:.0%}")
        return None


def _paragraphs(text: str) -> list[str]:
    found: list[list[str]] = [[]]
    for line in text.split("\n"):
        if line.strip():
            found[-1].append(line)
        elif found[-1]:
            found.append([])
    return ["\n".join(part) for part in found if part]


def _again(parts: list[str], total: int, *, by_char: bool) -> float:
    seen: set[str] = set()
    again = 0
    for part in parts:
        if part in seen:
            again += len(part) if by_char else 1
        seen.add(part)
    return again / max(total, 1)


def _grams(words: list[str], size: int) -> list[tuple[str, ...]]:
    return list(zip(*(words[start:] for start in range(size))))


def _top(words: list[str], size: int, chars: int) -> float:
    """Share of characters in the most frequent run of words, if there are three of it (a short text has two by chance);
    overlaps are counted once."""
    counts = Counter(_grams(words, size))
    most = max(counts.values(), default=0)
    if most < 3:
        return 0.0
    gram = max((gram for gram, count in counts.items() if count == most), key=lambda gram: sum(map(len, gram)))
    return _covered(words, size, [start for start, one in enumerate(_grams(words, size)) if one == gram]) / chars


def _repeated(words: list[str], size: int, chars: int) -> float:
    """Share of characters in runs of words that stood before; each character is counted once."""
    seen: set[tuple[str, ...]] = set()
    starts = []
    for start, gram in enumerate(_grams(words, size)):
        if gram in seen:
            starts.append(start)
        seen.add(gram)
    return _covered(words, size, starts) / chars


def _covered(words: list[str], size: int, starts: list[int]) -> int:
    inside = set(chain.from_iterable(range(start, start + size) for start in starts))
    return sum(len(words[place]) for place in inside)
