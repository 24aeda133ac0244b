"""Some examples of a store, as a store."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from attune.data.examples import Example, Store
    from attune.data.prepared import Prepared

__all__ = ["Some", "spread", "train_sample", "some_records", "some_validation"]

SAMPLE, SAMPLE_TOKENS = 128, 32_768
"""Training examples that are measured like validation's, and the tokens they may have however few validation has."""


class Some:
    """The examples of a store at some indices, in that order; columns come along, `records` are counted anew."""

    def __init__(self, store: Store, indices: np.ndarray):
        self.store, self.indices = store, np.asarray(indices)
        self.lengths: np.ndarray = np.asarray(store.lengths)[self.indices]
        self.kind: str = getattr(store, "kind", "token")
        if hasattr(store, "records"):
            _, self.records = np.unique(np.asarray(store.records)[self.indices], return_inverse=True)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Example:
        return self.store[int(self.indices[index])]


def spread(total: int, wanted: int) -> np.ndarray:
    """At most so many numbers below `total`, evenly spaced: always the same ones."""
    return np.unique(np.linspace(0, total - 1, num=min(total, wanted)).astype(int)) if total else np.arange(0)


def train_sample(train: Any, validation: Any) -> Some:
    """Training examples whose loss is measured like validation's, to see the gap between the two: at most 128, and no
    more tokens than validation has, so that long texts do not cost more to watch than to learn.
    """
    some = Some(train, spread(len(train), SAMPLE))
    tokens, allowed = int(some.lengths.sum()), max(SAMPLE_TOKENS, int(np.sum(validation.lengths)))
    return some if tokens <= allowed else Some(train, spread(len(train), max(1, SAMPLE * allowed // tokens)))


def some_records(store: Any, records: list[Any], *, tokens: int) -> tuple[Some, list[Any]]:
    """About so many tokens of a store, evenly spaced over its records and each of these whole; with the records."""
    whole = int(np.sum(store.lengths))
    owners = np.asarray(store.records) if records else np.arange(len(store))
    named = np.unique(owners)
    chosen = named[spread(len(named), max(1, min(len(named), round(len(named) * tokens / max(whole, 1)))))]
    kept = Some(store, np.flatnonzero(np.isin(owners, chosen)))
    return kept, [records[int(number)] for number in chosen] if records else []


def some_validation(prepared: Prepared, *, tokens: int) -> Prepared | None:
    """The validation part alone, about so many tokens of it, the same share of every task; None where there is none."""
    from attune.data.mix import Joined

    whole: Any = prepared.stores.get("validation")
    if whole is None:
        return None
    if not prepared.tasks:
        store, records = some_records(whole, prepared.validation, tokens=tokens)
        return replace(prepared, stores={"validation": store}, validation=records)
    share = tokens / max(1, int(np.sum(whole.lengths)))
    tasks, stores, every = {name: replace(one, stores={}) for name, one in prepared.tasks.items()}, [], []
    having = [name for name, one in prepared.tasks.items() if "validation" in one.stores]
    for name, of_task in zip(having, whole.stores, strict=True):
        wanted = round(share * int(np.sum(of_task.lengths)))
        store, records = some_records(of_task, prepared.tasks[name].validation, tokens=wanted)
        tasks[name] = replace(prepared.tasks[name], stores={"validation": store}, validation=records)
        stores.append(store)
        every += records
    return replace(prepared, tasks=tasks, stores={"validation": Joined(stores)}, validation=every)
