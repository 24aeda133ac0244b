"""How several sources share the steps of one training: a pure function of (seed, epoch), so that resuming needs no
state."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from attune.errors import RecipeError

if TYPE_CHECKING:
    from attune.data.examples import Example, Store

__all__ = ["Mix", "Joined", "allotted"]


def allotted(sizes: Sequence[int], weights: Sequence[float], temperature: float | None = 1.0) -> list[int]:
    """How many examples of each source make an epoch, which has as many examples as there are in all.

    A source's share is proportional to weight * size ** (1 / temperature): 1 takes every example once where all weights
    are equal, more favours small sources, None (no bound) makes the weights themselves the shares. What a share leaves
    over goes to the largest remainders; a source of weight above 0 has at least one example.
    Source: Arivazhagan et al. 2019 (arXiv:1907.05019), section 3.2, for the temperature.
    Raises: RecipeError if no source has both examples and a weight.
    """
    power = 0.0 if temperature is None else 1.0 / temperature
    strength = np.array([weight * size**power if size else 0.0 for size, weight in zip(sizes, weights, strict=True)])
    if not strength.sum() > 0:
        raise RecipeError("there is nothing to train on", why="no source has both examples and a weight above 0")
    wanted = strength / strength.sum() * sum(sizes)
    counts = np.floor(wanted + 1e-9).astype(int)
    for number in np.argsort(-(wanted - counts), kind="stable")[: sum(sizes) - int(counts.sum())]:
        counts[number] += 1
    return [max(int(count), 1) if share > 0 else 0 for count, share in zip(counts, strength)]


@dataclass(frozen=True, eq=False)
class Mix:
    """Which examples of which source make an epoch, in which order.

    Each source is gone through in passes, every pass its own permutation, and goes on in the next epoch where it
    stopped: none of its examples comes a third time before all came twice. Sources are spread evenly over the epoch,
    so that each step holds its share of each source to about one example.
    """

    parts: Sequence[np.ndarray]
    """The examples of each source, by their index in the store."""
    per_epoch: Sequence[int]
    """How many of each source an epoch takes: fewer than it has, or more (see `allotted`)."""
    separate: bool = False
    """Whether every step is of one source alone."""

    def steps(self, seed: int, epoch: int, cut: Callable[[np.ndarray], list[np.ndarray]]) -> list[np.ndarray]:
        """The steps of an epoch; `cut` divides a row of examples into steps."""
        drawn = [self._drawn(source, seed, epoch) for source in range(len(self.parts))]
        offsets = np.random.default_rng([seed, 0, epoch]).random(len(drawn))
        if not self.separate:
            return cut(np.concatenate(drawn)[_spread([len(part) for part in drawn], offsets)])
        rows = [cut(part) if len(part) else [] for part in drawn]
        flat = [step for row in rows for step in row]
        return [flat[number] for number in _spread([len(row) for row in rows], offsets)]

    def _drawn(self, source: int, seed: int, epoch: int) -> np.ndarray:
        part, count = self.parts[source], self.per_epoch[source]
        if not count:
            return np.empty(0, dtype=np.int64)
        start = epoch * count
        first, last = start // len(part), (start + count - 1) // len(part)
        passes = [
            np.random.default_rng([seed, 1 + source, number]).permutation(part) for number in range(first, last + 1)
        ]
        return np.concatenate(passes)[start - first * len(part) :][:count]


def _spread(counts: Sequence[int], offsets: np.ndarray) -> np.ndarray:
    """An order of sum(counts) things, of which counts[k] are of kind k, each kind at even distances."""
    keys = [(np.arange(count) + offset) / max(count, 1) for count, offset in zip(counts, offsets, strict=True)]
    return np.argsort(np.concatenate(keys), kind="stable")


class Joined:
    """Stores one after another as one, so that a `Mix` can draw from all of them.

    Raises: RecipeError if their targets are of different kinds, which no objective could score together.
    """

    def __init__(self, stores: Sequence[Store]):
        kinds = {getattr(store, "kind", "token") for store in stores}
        if len(kinds) > 1:
            raise RecipeError(f"examples with targets of kind {' and '.join(sorted(kinds))} cannot train together")
        self.stores, self.kind = list(stores), kinds.pop()
        self.lengths: np.ndarray = np.concatenate([store.lengths for store in stores])
        self._ends = np.cumsum([len(store) for store in stores])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> Example:
        number = int(np.searchsorted(self._ends, index, side="right"))
        return self.stores[number][index - int(self._ends[number]) + len(self.stores[number])]

    @property
    def parts(self) -> list[np.ndarray]:
        """The examples of each store, by their index here."""
        return np.split(np.arange(len(self)), self._ends[:-1])

    @property
    def scored(self) -> np.ndarray:
        """[N + 1] where each example's scored tokens lie among those of all; cuts columns."""
        sizes = [np.diff(store.scored) for store in self.stores]  # type: ignore[attr-defined]
        return np.concatenate([[0], np.cumsum(np.concatenate(sizes))])

    def with_columns(self, columns: Mapping[str, np.ndarray]) -> Joined:
        """The same examples with further values at their scored tokens. Shapes: columns [M, ...]."""
        cuts = np.cumsum([store.scored[-1] for store in self.stores])  # type: ignore[attr-defined]
        found = []
        for store, start, end in zip(self.stores, [0, *cuts[:-1]], cuts):
            part = {name: values[start:end] for name, values in columns.items()}
            found.append(store.with_columns(part))  # type: ignore[attr-defined]
        return Joined(found)

    @property
    def content_hash(self) -> str:
        return hashlib.sha256("".join(store.content_hash for store in self.stores).encode()).hexdigest()  # type: ignore[attr-defined]
