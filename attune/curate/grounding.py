"""Whether an answer is supported by the text it was made from: its words, numbers and names must stand there."""

from __future__ import annotations

import re
from dataclasses import dataclass

from attune.data.augment.base import WORD
from attune.data.augment.checks import content_words, numbers

__all__ = ["Support", "support"]

_WIDE = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
"""Scripts written without spaces: compared by pairs of characters."""
NUMBER_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"
).split()
_SENTENCE_START = re.compile(r"(?:\A|[.!?:\n•|]|[-*]\s)[\s\"'“”‘(\[]*+\Z")


UNCHECKABLE = 0.5
"""Coverage of an answer without words to look for, such as `Yes.`: a person decides."""
_ASSENT = frozenset(("yes", "ye", "no"))


@dataclass(frozen=True, slots=True)
class Support:
    """What an answer has in the text."""

    coverage: float
    """Share of the content words that the answer adds to the question which the text has."""
    premise: float
    """Share of the question's content words that the text has."""
    numbers: tuple[str, ...]
    """Numbers that the text does not have."""
    names: tuple[str, ...]
    """Names that the text does not have."""

    @property
    def missing(self) -> list[str]:
        words = [f"numbers not in the text: {', '.join(self.numbers)}"] if self.numbers else []
        return words + ([f"names not in the text: {', '.join(self.names)}"] if self.names else [])


def support(answer: str, text: str, question: str = "") -> Support:
    """How much of the answer the text says. Lexical: it finds invention, not a twisted relation between right words.

    Words of the question prove nothing: an answer that repeats an invented question is not supported by that.
    """
    there, asked = _words(text), _words(question)
    said = (_words(answer) - asked or _words(answer)) - _ASSENT
    if said:
        coverage = len(said & there) / len(said)
    else:
        coverage = 1.0 if numbers(answer) else UNCHECKABLE
    premise = len(asked & there) / len(asked) if asked else 1.0
    stated = set(numbers(text)) | _worded(text)
    missing = sorted(number for number in numbers(answer) if number not in stated)
    return Support(coverage, premise, tuple(missing), tuple(_lost_names(answer, text)))


def _words(text: str) -> set[str]:
    return content_words(text) | _pairs(text)


def _pairs(text: str) -> set[str]:
    return {text[i : i + 2] for i in range(len(text) - 1) if _WIDE.match(text[i]) and _WIDE.match(text[i + 1])}


def _worded(text: str) -> set[str]:
    return {str(NUMBER_WORDS.index(word)) for word in re.findall(r"[a-z]+", text.lower()) if word in NUMBER_WORDS}


def _lost_names(answer: str, known: str) -> list[str]:
    """Words with a capital inside a sentence that the text has in no form."""
    there = {word.lower().removesuffix("'s") for word in WORD.findall(known.replace("’", "'"))}
    answer = answer.replace("’", "'")
    lost = []
    for match in WORD.finditer(answer):
        word = match[0].removesuffix("'s")
        if not word[0].isupper() or word in ("I",) or word.lower() in there:
            continue
        if not _SENTENCE_START.search(answer[max(0, match.start() - 12) : match.start()]):
            lost.append(word)
    return list(dict.fromkeys(lost))
