"""Examples -> Batch: a token stream plus a list of scored positions, in a padded or a packed layout.

Axis letters used everywhere: B rows, T columns, M scored positions, S sequences, H hidden width, V vocabulary,
K top-k, C classes, N records.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from attune.data.examples import Example, Store
from attune.data.mix import Mix
from attune.errors import DataError, RecipeError

__all__ = ["Batch", "Segments", "Source", "collate", "Loader", "micro_batches"]


class Rows(NamedTuple):
    """How a stream of [T * heads] rows is rearranged into groups of [heads, n, L] rows, and back."""

    there: Tensor
    """[heads * sum n * L] stream row of each group row."""
    back: Tensor
    """[T * heads] group row of each stream row."""
    padding: Tensor | None
    """Group rows that are padding; None where there is none."""


@dataclass(frozen=True)
class Segments:
    """Where each sequence of a packed row lies, grouped by similar length. Built once a batch, used by every layer.

    Shapes: each group is (index [n * L], n, L): rows of `index` name the stream positions of n sequences padded to L
    (padding repeats a sequence's last position, and is dropped again by `inverse` [T]); `bounds` [S + 1].
    """

    groups: list[tuple[Tensor | None, int, int]]
    inverse: Tensor | None
    bounds: list[int]
    _rows: dict[int, Rows] = field(default_factory=dict, repr=False, compare=False)

    def rows(self, heads: int, device: torch.device) -> Rows:
        """The rearrangement for attention, heads included; made for the first layer and kept for the others."""
        if heads not in self._rows:
            self._rows[heads] = self._rows_of(heads, device)
        return self._rows[heads]

    def _rows_of(self, heads: int, device: torch.device) -> Rows:
        there, place = [], []
        start = 0
        head = torch.arange(heads, device=device)
        for index, n, width in self.groups:
            size = n * width
            places = torch.arange(size, device=device)
            tokens = places if index is None else index
            there.append((tokens * heads + head[:, None]).flatten())
            place.append(start * heads + places[:, None] + head * size)
            start += size
        forth, back = torch.cat(there), torch.cat(place)
        back = (back if self.inverse is None else back.index_select(0, self.inverse)).flatten()
        is_padding = torch.ones_like(forth, dtype=torch.bool).index_fill_(0, back, False)
        padding = is_padding.nonzero()[:, 0]
        return Rows(forth, back, padding if len(padding) else None)

    @classmethod
    def of(cls, lengths: Sequence[int], *, waste: float = 0.15) -> Segments:
        """Group neighbours (the collator orders sequences by length) while padding stays under `waste`."""
        bounds = [0, *np.cumsum(lengths).tolist()]
        runs: list[list[int]] = []
        area = 0
        for number, length in enumerate(lengths):
            longest = max(length, lengths[runs[-1][0]]) if runs else length
            if runs and longest * (len(runs[-1]) + 1) <= (area + length) * (1 + waste):
                runs[-1].append(number)
                area += length
            else:
                runs.append([number])
                area = length
        groups: list[tuple[Tensor | None, int, int]] = []
        inverse = np.empty(bounds[-1], dtype=np.int64)
        offset = 0
        plain = True
        for run in runs:
            width = max(lengths[number] for number in run)
            if all(lengths[number] == width for number in run):
                index = np.arange(bounds[run[0]], bounds[run[-1] + 1])
            else:
                plain = False
                index = np.concatenate(
                    [np.minimum(np.arange(width), lengths[number] - 1) + bounds[number] for number in run]
                )
            for row, number in enumerate(run):
                start = offset + row * width
                inverse[bounds[number] : bounds[number + 1]] = np.arange(start, start + lengths[number])
            groups.append((torch.from_numpy(index), len(run), width))
            offset += len(run) * width
        if plain and len(groups) == 1:  # all of one length: a view will do
            return cls([(None, groups[0][1], groups[0][2])], None, bounds)
        return cls(groups, torch.from_numpy(inverse), bounds)

    def to(self, device: torch.device | str) -> Segments:
        return Segments(
            [(None if index is None else index.to(device), n, width) for index, n, width in self.groups],
            None if self.inverse is None else self.inverse.to(device),
            self.bounds,
        )


@dataclass
class Source:
    """What the encoder of an encoder-decoder reads: one row for each of the batch's. Shapes: both [B, T']."""

    input_ids: Tensor
    mask: Tensor
    """1 = real token."""


@dataclass
class Batch:
    """One forward's worth of sequences, and the positions of it that are scored. Prompt tokens are not listed."""

    input_ids: Tensor
    """[B, T]; packed: B = 1."""
    position_ids: Tensor
    """[B, T], restarting at each sequence."""
    mask: Tensor | None
    """[B, T] 1 = real token; None in the packed layout."""
    src: Tensor
    """[M] flat index (row * T + column) of the hidden state that is scored."""
    target: Tensor
    """[M] token or class id, [M] number, or [M, C] classes."""
    weight: Tensor
    """[M] how much each scored position counts; > 0."""
    seq: Tensor
    """[M] sequence of each position."""
    n_sequences: int
    segments: Segments | None = None
    """Boundaries of the sequences; packed layout only."""
    index: Tensor | None = None
    """[S] which example of the store each sequence is."""
    fields: dict[str, Tensor] = field(default_factory=dict)
    """name -> [S] per-sequence values (reference log-probability, advantage, ...)."""
    tokens: dict[str, Tensor] = field(default_factory=dict)
    """name -> [M] or [M, K] per-position values (old log-probability, teacher's top-k, ...)."""
    source: Source | None = None
    """For encoder-decoders, padded layout only; all positions above index the decoder."""

    @property
    def n_tokens(self) -> int:
        """Real tokens, padding not counted."""
        read = 0 if self.source is None else int(self.source.mask.sum())
        return read + int(self.input_ids.numel() if self.mask is None else self.mask.sum())

    def to(self, device: torch.device | str) -> Batch:
        moved: dict[str, Any] = {
            name: value.to(device, non_blocking=True) for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        if self.segments is not None:
            moved["segments"] = self.segments.to(device)
        if self.source is not None:
            moved["source"] = Source(self.source.input_ids.to(device), self.source.mask.to(device))
        for group in ("fields", "tokens"):
            moved[group] = {name: value.to(device) for name, value in getattr(self, group).items()}
        return replace(self, **moved)


def collate(
    examples: Sequence[Example],
    *,
    layout: str,
    pad_id: int = 0,
    scored: str = "next",
    index: Sequence[int] | None = None,
) -> Batch:
    """Stack examples. `scored="next"`: token t is scored at position t - 1 (language models); `"here"`: at t (heads).

    The order of examples is kept in the padded layout; the packed one orders them by length, which changes no sum.
    Shapes: see `Batch`.
    """
    order = list(range(len(examples)))
    if layout == "packed":
        order.sort(key=lambda number: -len(examples[number].ids))
    rows = [examples[number] for number in order]
    lengths = [len(row.ids) for row in rows]
    width = max(lengths)
    packed = layout == "packed"
    shift = 1 if scored == "next" else 0

    starts = np.cumsum([0, *lengths[:-1]]) if packed else np.arange(len(rows)) * width
    ids = np.full(sum(lengths) if packed else len(rows) * width, pad_id, dtype=np.int64)
    positions = np.zeros_like(ids)
    real = np.zeros_like(ids)
    src, target, weight, seq = [], [], [], []
    names = list(rows[0].columns)
    if any(row.columns.keys() != rows[0].columns.keys() for row in rows):
        raise DataError("examples with and without columns cannot share a batch", where=", ".join(names) or None)
    for number, (row, start, length) in enumerate(zip(rows, starts, lengths)):
        ids[start : start + length] = row.ids
        positions[start : start + length] = np.arange(length)
        real[start : start + length] = 1
        at = np.flatnonzero(row.weight)
        src.append(start + at - shift)
        weight.append(row.weight[at])
        seq.append(np.full(len(at), number))
        if row.target is None:
            target.append(np.asarray(row.ids)[at].astype(np.int64))
        else:
            value = np.asarray(row.target)
            # An integer array is one class per token; a number or a float vector belongs to the one scored position.
            target.append(value[at] if value.ndim == 1 and value.dtype.kind in "iu" else value[None])
    n_rows, n_columns = (1, len(ids)) if packed else (len(rows), width)
    targets = np.concatenate(target)
    return Batch(
        input_ids=torch.from_numpy(ids.reshape(n_rows, n_columns)),
        position_ids=torch.from_numpy(positions.reshape(n_rows, n_columns)),
        mask=None if packed else torch.from_numpy(real.reshape(n_rows, n_columns)),
        src=torch.from_numpy(np.concatenate(src)),
        target=torch.from_numpy(targets.astype(np.int64) if targets.dtype.kind in "iu" else targets.astype(np.float32)),
        weight=torch.from_numpy(np.concatenate(weight).astype(np.float32)),
        seq=torch.from_numpy(np.concatenate(seq)),
        n_sequences=len(rows),
        segments=Segments.of(lengths) if packed else None,
        index=torch.tensor([index[number] for number in order]) if index is not None else None,
        tokens={name: _tensor(np.concatenate([row.columns[name] for row in rows])) for name in names},
        source=_source(rows, pad_id, packed=packed),
    )


def _source(rows: Sequence[Example], pad_id: int, *, packed: bool) -> Source | None:
    """The sources of examples side by side; None where they have none."""
    sources = [row.source for row in rows if row.source is not None]
    if not sources:
        return None
    if packed or len(sources) != len(rows):
        raise DataError("examples with a source share no packed row, and no batch with others")
    width = max(map(len, sources))
    ids = np.full((len(rows), width), pad_id, dtype=np.int64)
    mask = np.zeros_like(ids)
    for number, source in enumerate(sources):
        ids[number, : len(source)] = source
        mask[number, : len(source)] = 1
    return Source(torch.from_numpy(ids), torch.from_numpy(mask))


def _tensor(values: np.ndarray) -> Tensor:
    """A column as torch computes with it: whole numbers as int64, others as they are, but at least float32."""
    if values.dtype.kind in "iu":
        return torch.from_numpy(values.astype(np.int64))
    return torch.from_numpy(values.astype(np.float32) if values.dtype.itemsize < 4 else values)


WASTE = 0.2
SMALLEST_FORWARD = 256
"""Padding a padded forward may hold, and the real tokens from which on it is split rather than padded further."""


def micro_batches(lengths: np.ndarray, limit_tokens: int | None, *, padded: bool) -> list[np.ndarray]:
    """Cut one step's examples into forwards of at most `limit_tokens` (one example may exceed it alone).

    Ordered by length first, so that a padded forward wastes little. Depends on nothing but the lengths.
    """
    order = np.argsort(-lengths, kind="stable")
    if limit_tokens is None:
        return [order]
    groups: list[list[int]] = []
    size = real = 0
    for number in order:
        widest = int(lengths[groups[-1][0]]) if groups else 0
        cost = widest if padded else int(lengths[number])
        # a padded forward that is large enough already takes no more rows that would be mostly padding
        loose = padded and real >= SMALLEST_FORWARD and size + cost > (1 + WASTE) * (real + int(lengths[number]))
        if groups and size + cost <= limit_tokens and not loose:
            groups[-1].append(number)
            size += cost
            real += int(lengths[number])
        else:
            groups.append([number])
            size = real = int(lengths[number])
    return [np.array(group) for group in groups]


class Loader:
    """Which examples make which step: a pure function of (seed, step), so that resuming needs no state.

    Every epoch is its own permutation of all examples, or what `mix` draws from several sources; a step is `batch_size`
    examples, or as many as fit in `batch_tokens`. The last step of an epoch is short rather than padded with repeats.
    """

    def __init__(
        self,
        store: Store,
        *,
        seed: int,
        batch_size: int | None = None,
        batch_tokens: int | None = None,
        layout: str = "packed",
        pad_id: int = 0,
        scored: str = "next",
        rank: int = 0,
        world: int = 1,
        mix: Mix | None = None,
    ):
        if not len(store):
            raise RecipeError("there is nothing to train on", why="no example is left after preparation")
        if (batch_size is None) == (batch_tokens is None):
            raise RecipeError("give train.batch_size or train.batch_tokens, not both")
        self.store, self.seed = store, seed
        self.batch_size, self.batch_tokens = batch_size, batch_tokens
        self.layout, self.pad_id, self.scored = layout, pad_id, scored
        self.rank, self.world, self.mix = rank, world, mix
        self._epoch: tuple[int, list[np.ndarray]] | None = None
        self._sizes: list[int] = []

    def _steps_of(self, epoch: int) -> list[np.ndarray]:
        if self._epoch is None or self._epoch[0] != epoch:
            if self.mix is not None:
                steps = self.mix.steps(self.seed, epoch, self._cut)
            else:
                steps = self._cut(np.random.default_rng([self.seed, epoch]).permutation(len(self.store)))
            self._epoch = (epoch, steps)
        return self._epoch[1]

    def _cut(self, order: np.ndarray) -> list[np.ndarray]:
        if self.batch_size is not None:
            cuts = np.arange(self.batch_size, len(order), self.batch_size)
        else:
            filled = np.cumsum(self.store.lengths[order])
            cuts = np.flatnonzero(np.diff(filled // self.batch_tokens)) + 1
        return np.split(order, cuts)

    @property
    def steps_per_epoch(self) -> int:
        """Steps of the first epoch; with `batch_tokens` later ones may differ by a step or two."""
        return len(self._steps_of(0))

    def examples_of(self, step: int) -> np.ndarray:
        """Indices of the examples of a step (counted from 0), over all ranks."""
        epoch = 0
        while True:
            if epoch == len(self._sizes):
                self._sizes.append(len(self._steps_of(epoch)))
            if step < self._sizes[epoch]:
                return self._steps_of(epoch)[step]
            step -= self._sizes[epoch]
            epoch += 1

    def epoch_of(self, step: int) -> float:
        """How many times the data was seen after `step` steps."""
        if step:
            self.examples_of(step - 1)
        done, epoch = step, 0
        while epoch < len(self._sizes) and done >= self._sizes[epoch]:
            done -= self._sizes[epoch]
            epoch += 1
        return epoch + done / self.steps_per_epoch

    def batches(self, step: int, micro_batch_tokens: int | None = None) -> list[Batch]:
        """This rank's micro-batches of a step. Planned over all ranks and dealt out, so that every rank runs the same
        number of forwards; a rank that has fewer gets one that weighs nothing."""
        chosen = self.examples_of(step)
        groups = micro_batches(self.store.lengths[chosen], micro_batch_tokens, padded=self.layout == "padded")
        if self.world > 1 and len(groups) < self.world:
            groups = [part for part in np.array_split(np.concatenate(groups), self.world) if len(part)]
        mine = [self._collate(chosen[group]) for group in groups[self.rank :: self.world]]
        for _ in range(-(-len(groups) // self.world) - len(mine)):
            weightless = self._collate(chosen[groups[0][-1:]])
            weightless.weight.zero_()
            mine.append(weightless)
        return mine

    def _collate(self, indices: np.ndarray) -> Batch:
        rows = [self.store[int(number)] for number in indices]
        return collate(rows, layout=self.layout, pad_id=self.pad_id, scored=self.scored, index=indices.tolist())

    def all(self, micro_batch_tokens: int) -> Iterator[Batch]:
        """Every example once, in forwards of similar lengths: for evaluation."""
        for group in micro_batches(self.store.lengths, micro_batch_tokens, padded=self.layout == "padded"):
            yield self._collate(group)
