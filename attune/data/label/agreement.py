"""How far annotators agree beyond chance: Cohen's kappa, Fleiss' kappa, Krippendorff's alpha, each with an interval.

All three are 1 - (disagreement seen) / (disagreement by chance): 1 is full agreement, 0 is what chance gives. Where
everybody gave one and the same label chance agrees too, and the value is not defined (nan).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

__all__ = ["Figure", "Agreement", "Units", "cohen_kappa", "fleiss_kappa", "krippendorff_alpha", "agreement"]

RESAMPLES = 1000


@dataclass(frozen=True)
class Figure:
    """A value with the bounds within which 95 % of the resampled values lie; nan where it is not defined."""

    value: float
    low: float
    high: float
    items: int
    """Texts it rests on."""


@dataclass(frozen=True)
class Agreement:
    """All there is to say about a set of annotators."""

    annotators: tuple[str, ...]
    pairs: dict[tuple[str, str], Figure]
    """Cohen's kappa of each two who share texts."""
    shares: dict[tuple[str, str], float]
    """Share of equal labels of each two."""
    fleiss: Figure | None
    """Of the texts that all annotators labelled; None where there are none."""
    alpha: Figure
    """Krippendorff's, nominal: of every text with two labels or more."""


@dataclass
class Units:
    """What was labelled: for each unit the value that each annotator gave, and the text it belongs to.

    A unit is a text; for several labels a text and one label, for spans a word. Resampling draws whole texts.
    """

    values: list[Mapping[str, Hashable]]
    texts: list[int]

    def __post_init__(self) -> None:
        names = {value for unit in self.values for value in unit.values()}
        self.codes = {value: code for code, value in enumerate(sorted(names, key=repr))}
        self.annotators = tuple(sorted({name for unit in self.values for name in unit}))

    def of(self, annotators: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Codes [unit, annotator] of the units that all of them labelled, and their texts [unit]."""
        rows = [
            ([self.codes[unit[name]] for name in annotators], text)
            for unit, text in zip(self.values, self.texts)
            if all(name in unit for name in annotators)
        ]
        codes = np.array([codes for codes, _ in rows], dtype=np.int64).reshape(len(rows), len(annotators))
        return codes, np.array([text for _, text in rows], dtype=np.int64)

    def counts(self) -> tuple[np.ndarray, np.ndarray]:
        """How many annotators gave each value, [unit, value], and the texts [unit]."""
        counts = np.zeros((len(self.values), len(self.codes)))
        for row, unit in enumerate(self.values):
            for value in unit.values():
                counts[row, self.codes[value]] += 1
        return counts, np.array(self.texts, dtype=np.int64)


def cohen_kappa(units: Units, one: str, other: str, *, seed: int = 0) -> Figure:
    """Agreement of two annotators on the units that both labelled. Source: Cohen 1960."""
    codes, texts = units.of((one, other))
    k = len(units.codes)
    same = (codes[:, 0] == codes[:, 1]).astype(float) if len(codes) else np.zeros(0)
    columns = np.column_stack([np.ones(len(codes)), same, _one_hot(codes[:, 0], k), _one_hot(codes[:, 1], k)])

    def value(sums: np.ndarray) -> np.ndarray:
        n = sums[:, 0]
        chance = (sums[:, 2 : 2 + k] * sums[:, 2 + k :]).sum(1) / n**2
        return 1 - (1 - sums[:, 1] / n) / (1 - chance)

    return _figure(columns, texts, value, seed)


def fleiss_kappa(units: Units, *, seed: int = 0) -> Figure | None:
    """Agreement of all annotators on the units that each of them labelled. Source: Fleiss 1971."""
    codes, texts = units.of(units.annotators)
    raters = len(units.annotators)
    if raters < 2 or not len(codes):
        return None
    counts = np.stack([(codes == code).sum(1) for code in range(len(units.codes))], axis=1).astype(float)
    agreed = ((counts**2).sum(1) - raters) / (raters * (raters - 1))

    def value(sums: np.ndarray) -> np.ndarray:
        n = sums[:, 0]
        chance = ((sums[:, 2:] / (n * raters)[:, None]) ** 2).sum(1)
        return 1 - (1 - sums[:, 1] / n) / (1 - chance)

    return _figure(np.column_stack([np.ones(len(codes)), agreed, counts]), texts, value, seed)


def krippendorff_alpha(units: Units, *, seed: int = 0) -> Figure:
    """Agreement of any number of annotators, some of whom left units out; nominal values.

    Source: Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability".
    """
    counts, texts = units.counts()
    raters = counts.sum(1)
    counts, texts, raters = counts[raters > 1], texts[raters > 1], raters[raters > 1]
    apart = (raters**2 - (counts**2).sum(1)) / (raters - 1)

    def value(sums: np.ndarray) -> np.ndarray:
        n = sums[:, 1:].sum(1)
        return 1 - (n - 1) * sums[:, 0] / (n**2 - (sums[:, 1:] ** 2).sum(1))

    return _figure(np.column_stack([apart, counts]), texts, value, seed)


def agreement(units: Units, *, seed: int = 0) -> Agreement:
    """Every pair, and all together."""
    pairs, shares = {}, {}
    for one, other in combinations(units.annotators, 2):
        codes, _ = units.of((one, other))
        if len(codes):
            pairs[one, other] = cohen_kappa(units, one, other, seed=seed)
            shares[one, other] = float((codes[:, 0] == codes[:, 1]).mean())
    return Agreement(
        units.annotators, pairs, shares, fleiss_kappa(units, seed=seed), krippendorff_alpha(units, seed=seed)
    )


def _one_hot(codes: np.ndarray, k: int) -> np.ndarray:
    return (codes[:, None] == np.arange(k)).astype(float)


def _figure(columns: np.ndarray, texts: np.ndarray, value: Callable[[Any], np.ndarray], seed: int) -> Figure:
    """The value of the columns' sums, and of sums over texts drawn with replacement (percentile interval)."""
    names, which = np.unique(texts, return_inverse=True)
    n = len(names)
    if not n:
        return Figure(np.nan, np.nan, np.nan, 0)
    by_text = np.zeros((n, columns.shape[1]))
    np.add.at(by_text, which, columns)
    rng = np.random.default_rng(seed)
    with np.errstate(divide="ignore", invalid="ignore"):
        whole = float(value(by_text.sum(0, keepdims=True))[0])
        sums = np.stack([rng.multinomial(n, np.full(n, 1 / n)) @ by_text for _ in range(RESAMPLES)])
        drawn = value(sums)
    drawn = drawn[np.isfinite(drawn)]
    if not np.isfinite(whole) or not len(drawn):
        return Figure(np.nan, np.nan, np.nan, n)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Figure(whole, float(low), float(high), n)
