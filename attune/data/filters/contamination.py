"""Training rows that stand in a test suite too: what is measured on it would be memory."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import Field

from attune.data.files import files_of
from attune.data.spool import Texts
from attune.data.steps import Change, Step
from attune.errors import DataError
from attune.plugins import Options
from attune.records import Record

if TYPE_CHECKING:
    import numpy as np

SHOWN = 20
LEAST_WORDS = 3
"""A field of a suite with fewer words (a label, an id, a yes) is no test item."""
BLOCK_CHARS = 500_000


class Hit(NamedTuple):
    item: int
    reason: str
    facts: dict[str, Any]


@dataclass
class Suite:
    """Every text of the files: whole fields, wherever they stand in a row."""

    texts: list[str] = field(default_factory=list)
    """normalised"""
    where: list[tuple[str, int]] = field(default_factory=list)
    """path as the user named it, line"""


class Contamination(Step):
    """Leaves out training rows that share text with the files named: test suites, benchmarks, what a customer will
    try.

    A row goes if it has a run of `words` words in common with a text of a suite (Brown et al. 2020, appendix C, with
    13), if the two are the same but for case, spacing and punctuation, or, for texts of fewer words than that, nearly
    the same.
    """

    name = "contamination"
    learns = True

    class Config(Options):
        against: tuple[str, ...] = Field(min_length=1)
        """Files, folders or patterns in any format that attune reads; every text in their rows is compared."""
        words: int = Field(default=13, ge=5, le=100)
        """Length of the run of words that must not be shared."""
        common: int | None = Field(default=5, ge=1)
        """A run that more rows of the suites than this have is their template and proves nothing; null: all count."""
        threshold: float = Field(default=0.8, ge=0.5, le=1)
        """For texts shorter than `words`: from this Jaccard similarity on they are nearly the same."""

    def __init__(self, options: Any = None, context: Any = None):
        super().__init__(options, context)
        self.hits: dict[int, Hit] = {}
        self.suite = Suite()
        self.seen = 0

    def reads(self) -> list[Path]:
        return [file for path in self.options.against for file in files_of(path)]

    def learn(self, train: Sequence[Record]) -> None:
        self.seen = len(train)
        self.suite = _read(self.options.against)
        self._same(train)
        self._runs(train)
        self._near(train)

    def _hit(self, row: int, item: int, how: str, facts: dict[str, Any]) -> None:
        path, line = self.suite.where[item]
        self.hits.setdefault(row, Hit(item, f"{how} {path}:{line}", {"suite": path, "line": line, **facts}))

    def _same(self, train: Sequence[Record]) -> None:
        from attune.data.dedupe import digest, normalise

        items: dict[bytes, int] = {}
        for number, text in enumerate(self.suite.texts):
            items.setdefault(digest(text), number)
        for row, record in enumerate(train):
            item = next((items[key] for text in _texts(record) if (key := digest(normalise(text))) in items), None)
            if item is not None:
                self._hit(row, item, "the same text as", {"match": "same"})

    def _runs(self, train: Sequence[Record]) -> None:
        import numpy as np

        from attune.data.dedupe import normalise
        from attune.data.minhash import word_grams

        size, limit = self.options.words, self.options.common
        runs, owners = _suite_runs(self.suite.texts, size, limit)
        if not len(runs):
            return
        for first, block in _blocks(normalise(record.full_text) for record in train):
            grams, owner = word_grams(block, size)
            place = np.minimum(np.searchsorted(runs, grams), len(runs) - 1)
            found = np.flatnonzero(runs[place] == grams)
            rows, start, counts = np.unique(owner[found], return_index=True, return_counts=True)
            for row, at, count in zip(rows.tolist(), start.tolist(), counts.tolist()):
                item = int(owners[place[found[at]]])
                words = block[row].split()
                # The run is told in words: where it begins among the runs of its own text.
                begin = int(found[at]) - int(np.searchsorted(owner, row))
                shared = " ".join(words[begin : begin + size])
                self._hit(
                    first + row,
                    item,
                    f"{size} words in a row stand in",
                    {"match": "run", "runs": count, "shared": shared},
                )

    def _near(self, train: Sequence[Record]) -> None:
        from attune.data.dedupe import cross_duplicates

        short: dict[str, int] = {}
        for number, text in enumerate(self.suite.texts):
            if text.count(" ") + 1 < self.options.words:
                short.setdefault(text, number)
        if not short:
            return
        numbers = list(short.values())
        found = cross_duplicates(
            list(short), Texts(train, _asked), threshold=self.options.threshold, seed=self.context.seed
        )
        for match in sorted(found, key=lambda match: (match.corpus, -match.jaccard, match.query)):
            if match.kind == "near":
                facts = {"match": "near", "jaccard": round(match.jaccard, 4)}
                self._hit(match.corpus, numbers[match.query], "nearly the same text as", facts)

    def apply(self, record: Record, number: int) -> Change | None:
        hit = self.hits.get(number)
        return None if hit is None else Change.drop(record, hit.reason, **hit.facts)

    def facts(self) -> dict[str, Any]:
        by_suite: dict[str, dict[str, int]] = {}
        texts = Counter(path for path, _ in self.suite.where)
        rows = Counter(hit.facts["suite"] for hit in self.hits.values())
        items: dict[str, set[int]] = defaultdict(set)
        for hit in self.hits.values():
            items[hit.facts["suite"]].add(hit.facts["line"])
        for path in sorted(texts):
            by_suite[path] = {"texts": texts[path], "rows_left_out": rows[path], "items_touched": len(items[path])}
        matches = Counter(hit.facts["match"] for hit in self.hits.values())
        return {
            "rows": self.seen,
            "left_out": len(self.hits),
            "by_match": dict(sorted(matches.items())),
            "suites": by_suite,
        }


def _asked(record: Record) -> str:
    return record.text or record.full_text


def _texts(record: Record) -> list[str]:
    return list(dict.fromkeys((record.full_text, _asked(record))))


def _read(against: Sequence[str]) -> Suite:
    """Raises: DataError if a file has no text to compare."""
    from attune.data.dedupe import normalise
    from attune.data.rows import iter_rows

    suite = Suite()
    for path in against:
        before = len(suite.texts)
        for where, row in iter_rows(path):
            for text in _strings(row):
                plain = normalise(text)
                if plain.count(" ") + 1 >= LEAST_WORDS or (len(plain) >= 8 and not plain.isascii()):
                    suite.texts.append(plain)
                    suite.where.append((where.path, where.line))
        if len(suite.texts) == before:
            raise DataError(
                f"step 'contamination': no text of {LEAST_WORDS} words or more is in it", where=path, fix="name a suite"
            )
    return suite


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _strings(one)
    elif isinstance(value, list):
        if value and all(isinstance(one, list) and one and isinstance(one[0], str) for one in value):
            yield " ".join(one[0] for one in value)  # a sentence of tokens with their tags
        else:
            for one in value:
                yield from _strings(one)


def _blocks(texts: Iterator[str]) -> Iterator[tuple[int, list[str]]]:
    """Texts in blocks of bounded size, with the number of the first."""
    first, block, size = 0, list[str](), 0
    for number, text in enumerate(texts):
        if block and size + len(text) > BLOCK_CHARS:
            yield first, block
            first, block, size = number, [], 0
        block.append(text)
        size += len(text)
    if block:
        yield first, block


def _suite_runs(texts: Sequence[str], size: int, limit: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of the runs of words, sorted, without those that more than `limit` texts have; and a text of each."""
    import numpy as np

    from attune.data.minhash import word_grams

    runs, owners = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
    for first, block in _blocks(iter(texts)):
        grams, owner = word_grams(block, size)
        runs.append(grams)
        owners.append(owner + first)
    every, owner = np.concatenate(runs), np.concatenate(owners)
    order = np.lexsort((owner, every))
    every, owner = every[order], owner[order]
    new = np.ones(len(every), bool)
    new[1:] = (every[1:] != every[:-1]) | (owner[1:] != owner[:-1])
    distinct, start, having = np.unique(every[new], return_index=True, return_counts=True)
    keep = having <= limit if limit is not None else np.ones(len(distinct), bool)
    return distinct[keep], owner[new][start[keep]]
