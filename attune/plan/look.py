"""What stands in the data, as far as choices depend on it: task, rows, classes, languages, lengths."""

from __future__ import annotations

import re
import statistics
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attune.recipe import Data
    from attune.records import Record

__all__ = ["Look", "look"]

LOOKED_AT = 20_000
"""Rows that are read; a larger file is said to have at least as many."""
SAMPLED = 400
WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Look:
    """The facts, each a number where it can be one."""

    task: str
    why: str
    """How the task was recognised."""
    rows: int
    whole: bool
    """All rows were read, not only the first."""
    classes: dict[str, int] = field(default_factory=dict)
    """Class -> rows, most frequent first; kinds of spans for tagging."""
    languages: dict[str, float] = field(default_factory=dict)
    """ISO code -> share of a sample, commonest first; unrecognised ones are left out."""
    words: dict[str, int] = field(default_factory=dict)
    """median, p95 and longest number of words of a text."""
    answer_words: int = 0
    """Median words of a written answer."""
    grounded: float | None = None
    """Share of an answer's longer words that stand in its prompt already: near 0, answers come from knowledge."""
    sample: tuple[str, ...] = field(default=(), repr=False)
    """Texts to count tokens on."""

    @property
    def smallest(self) -> int:
        return min(self.classes.values(), default=0)

    @property
    def language(self) -> str | None:
        return next(iter(self.languages), None)

    def to_dict(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if key != "sample"}


def look(data: Data) -> Look:
    """Read the first rows of a recipe's data and say what they are.

    Raises: DataError if the data cannot be read.
    """
    from attune.data.sources import load_records

    found = load_records(
        data.paths,
        format=data.format,
        columns=dict(data.columns),
        target=data.target,
        task=None if data.task == "auto" else data.task,
        on_bad_row=data.on_bad_row,
        max_drop=data.max_drop,
        limit=LOOKED_AT if data.task != "text" else SAMPLED,
    )
    records = found.records
    some = records[:: max(1, len(records) // SAMPLED)][:SAMPLED]
    texts = [record.text or record.full_text for record in some]
    lengths = sorted(len(WORD.findall(text)) for text in texts) or [0]
    answers = [record.completions[0].text for record in some if record.completions]
    return Look(
        task=found.task,
        why=found.why,
        rows=len(records),
        whole=len(records) < (LOOKED_AT if found.task != "text" else SAMPLED),
        classes=_classes(found.task, records),
        languages=_languages(texts),
        words={
            "median": int(statistics.median(lengths)),
            "p95": lengths[int(0.95 * (len(lengths) - 1))],
            "longest": lengths[-1],
        },
        answer_words=int(statistics.median(len(WORD.findall(text)) for text in answers)) if answers else 0,
        grounded=_grounded(some),
        sample=tuple(texts),
    )


def _classes(task: str, records: list[Record]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for record in records:
        if task == "classification" and record.label is not None:
            counts[str(record.label)] += 1
        elif task == "multilabel":
            counts.update(str(name) for name in record.label or ())  # type: ignore[union-attr]
        elif task == "tagging":
            counts.update(span.label for span in record.label or ())  # type: ignore[union-attr]
    return dict(counts.most_common())


def _languages(texts: list[str]) -> dict[str, float]:
    from attune.data.filters.guess_language import guess

    counts = Counter(name for name, sure in map(guess, texts) if name is not None)
    total = counts.total()
    return {name: round(count / total, 3) for name, count in counts.most_common() if count / total >= 0.02}


def _grounded(records: list[Record]) -> float | None:
    shares = []
    for record in records:
        answer = {word.lower() for one in record.completions[:1] for word in WORD.findall(one.text) if len(word) > 4}
        if answer:
            asked = {word.lower() for word in WORD.findall(record.text)}
            shares.append(len(answer & asked) / len(answer))
    return round(sum(shares) / len(shares), 3) if shares else None
