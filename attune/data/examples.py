"""Example: token ids and which of them are scored. ExampleStore: many of them in flat arrays that map from disk."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, overload

import numpy as np

from attune.durable import fsync
from attune.errors import DataError

__all__ = ["Example", "ExampleStore", "IGNORED", "Store"]

IGNORED = -100
"""Class of a token that is not scored, in per-token targets."""

Target = None | int | float | np.ndarray


@dataclass(slots=True)
class Example:
    """Token ids, and which of them are scored.

    Shapes: ids [T] int32; weight [T] float32.
    """

    ids: np.ndarray
    weight: np.ndarray
    """How much token t counts as a target; 0 = not scored. For next-token objectives t is predicted from t - 1, so
    weight[0] is 0."""
    target: Target = None
    """None = the token itself | class id | number | float vector [C] (multi-label), the last three scored once, at the
    last token | int array [T] of per-token classes (`IGNORED` where weight is 0)."""
    record: int = 0
    """Index of its Record."""
    turn: int = 0
    """Which completion, turn or window of the record."""
    columns: dict[str, np.ndarray] = field(default_factory=dict)
    """name -> [m, ...] values of the m tokens whose weight is not 0, in order: a teacher's log-probabilities, ..."""
    source: np.ndarray | None = None
    """[T'] int32 tokens that an encoder reads; `ids` are the decoder's then. None without an encoder of its own."""

    def __len__(self) -> int:
        return len(self.ids)


def _kind(target: Target) -> str:
    if target is None:
        return "token"
    value = np.asarray(target)
    if value.ndim == 0:
        return "class" if value.dtype.kind in "iu" else "number"
    return "tags" if value.dtype.kind in "iu" else "classes"


COLUMN = "column-"
"""Begins the file name of a column in a saved store."""

_TARGET_TYPE = {"class": np.int64, "number": np.float32, "classes": np.float32, "tags": np.int32}


class _Column:
    """A growing flat array: in memory, or appended to a file so that memory stays bounded."""

    def __init__(self, dtype: Any, path: Path | None = None):
        self.dtype, self.path, self.size = np.dtype(dtype), path, 0
        self._parts: list[np.ndarray] = []
        self._file = path.open("wb") if path else None

    def add(self, values: Any) -> None:
        part = np.asarray(values, dtype=self.dtype).reshape(-1)
        self.size += part.size
        if self._file:
            self._file.write(part.tobytes())
        else:
            self._parts.append(part)
            if len(self._parts) > 4096:
                self._parts = [np.concatenate(self._parts)]

    def array(self) -> np.ndarray:
        if self._file is None or self.path is None:
            return np.concatenate(self._parts) if self._parts else np.empty(0, self.dtype)
        self._file.close()
        if not self.size:  # an empty file cannot be mapped
            return np.empty(0, self.dtype)
        return np.memmap(self.path, dtype=self.dtype, mode="r")


class Store(Protocol):
    """A random-access set of Examples: an ExampleStore, or windows over a memory-mapped corpus."""

    lengths: np.ndarray
    """[N] tokens of each example."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Example: ...


class ExampleStore(Sequence[Example]):
    """Examples as flat arrays: ids and weights of all, one after another, cut by `offsets`.

    Shapes: ids, weights [sum T]; offsets [N + 1]; records, turns [N]; targets by `kind`: class, number [N];
    classes [N, C]; tags [sum T]; None for `token`; columns [M, ...] over the scored tokens of all, one after another;
    sources [sum T'] cut by source_offsets [N + 1], both None without sources.
    """

    def __init__(
        self,
        ids: np.ndarray,
        weights: np.ndarray,
        offsets: np.ndarray,
        records: np.ndarray,
        turns: np.ndarray,
        *,
        kind: str = "token",
        targets: np.ndarray | None = None,
        columns: Mapping[str, np.ndarray] | None = None,
        sources: np.ndarray | None = None,
        source_offsets: np.ndarray | None = None,
    ):
        self.ids, self.weights, self.offsets = ids, weights, offsets
        self.records, self.turns, self.kind, self.targets = records, turns, kind, targets
        self.sources, self.source_offsets = sources, source_offsets
        self.lengths: np.ndarray = np.diff(offsets)
        self.longest = int(self.lengths.max(initial=0))
        """Tokens of the longest sequence; `lengths` counts what an example costs, its source included."""
        if source_offsets is not None:
            of_sources = np.diff(source_offsets)
            self.longest = max(self.longest, int(of_sources.max(initial=0)))
            self.lengths = self.lengths + of_sources
        self.columns = dict(columns or {})
        self._scored: np.ndarray | None = None
        self._hash: str | None = None
        for name, values in self.columns.items():
            if len(values) != self.scored[-1]:
                raise DataError(f"column '{name}' has {len(values)} rows for {self.scored[-1]} scored tokens")

    @property
    def scored(self) -> np.ndarray:
        """[N + 1] where each example's scored tokens lie among those of all; cuts `columns`."""
        if self._scored is None:
            self._scored = np.concatenate([[0], np.cumsum(np.asarray(self.weights) != 0)])[self.offsets]
        return self._scored

    def reweighted(self, weights: np.ndarray) -> ExampleStore:
        """The same examples with other weights where there are any; nothing else is copied. Shapes: weights [sum T]."""
        changed = copy.copy(self)
        changed.weights, changed._hash = weights, None
        return changed

    def with_columns(self, columns: Mapping[str, np.ndarray]) -> ExampleStore:
        """The same examples with further values at their scored tokens; nothing is copied.

        Shapes: columns [M, ...]. Raises: DataError if a column has not one row a scored token.
        """
        arrays = (self.ids, self.weights, self.offsets, self.records, self.turns)
        joined = {**self.columns, **columns}
        more: dict[str, Any] = {"sources": self.sources, "source_offsets": self.source_offsets}
        return ExampleStore(*arrays, kind=self.kind, targets=self.targets, columns=joined, **more)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        if index < 0:
            index += len(self)
        if not 0 <= index < len(self):
            raise IndexError(index)
        start, end = int(self.offsets[index]), int(self.offsets[index + 1])
        target: Target = None
        if self.targets is not None:
            if self.kind == "tags":
                target = np.asarray(self.targets[start:end])
            elif self.kind == "classes":
                target = np.asarray(self.targets[index])
            else:
                target = self.targets[index].item()
        return Example(
            ids=np.asarray(self.ids[start:end], dtype=np.int32),
            weight=np.asarray(self.weights[start:end], dtype=np.float32),
            target=target,
            record=int(self.records[index]),
            turn=int(self.turns[index]),
            columns=self._columns_of(index),
            source=self._source_of(index),
        )

    def _source_of(self, index: int) -> np.ndarray | None:
        if self.sources is None or self.source_offsets is None:
            return None
        start, end = int(self.source_offsets[index]), int(self.source_offsets[index + 1])
        return np.asarray(self.sources[start:end], dtype=np.int32)

    def _columns_of(self, index: int) -> dict[str, np.ndarray]:
        if not self.columns:
            return {}
        part = slice(int(self.scored[index]), int(self.scored[index + 1]))
        return {name: np.asarray(values[part]) for name, values in self.columns.items()}

    def __iter__(self) -> Iterator[Example]:
        return (self[index] for index in range(len(self)))

    @classmethod
    def of(cls, examples: Iterable[Example], *, vocab_size: int, scratch: Path | None = None) -> ExampleStore:
        """Gather examples; with `scratch` (a folder) the arrays grow on disk instead of in memory.

        ids take two bytes each where the vocabulary has fewer than 65 536 entries.
        Raises: DataError if an id is outside the vocabulary or the examples have targets of different kinds.
        """

        def column(name: str, dtype: Any) -> _Column:
            return _Column(dtype, scratch / f"{name}.raw" if scratch else None)

        columns = {
            "ids": column("ids", np.uint16 if vocab_size < 65536 else np.int32),
            "weights": column("weights", np.float32),
            "ends": column("ends", np.int64),
            "records": column("records", np.int64),
            "turns": column("turns", np.int32),
        }
        kind: str | None = None
        shapes: dict[str, tuple[int, ...]] = {}
        classes = end = source_end = 0
        sourced: bool | None = None
        for example in examples:
            ids = np.asarray(example.ids)
            if example.source is not None:
                ids = np.concatenate([example.source, ids])
            if ids.size and not (0 <= ids.min() and ids.max() < vocab_size):
                bad = ids[(ids < 0) | (ids >= vocab_size)][0]
                raise DataError(
                    f"token id {bad} is outside the vocabulary of {vocab_size}",
                    why="the tokenizer does not belong to the model, or tokens were added without resizing it",
                )
            if kind is None:
                kind = _kind(example.target)
                if kind != "token":
                    columns["targets"] = column("targets", _TARGET_TYPE[kind])
                classes = np.asarray(example.target).size if kind == "classes" else 0
                shapes = {name: np.asarray(value).shape[1:] for name, value in example.columns.items()}
                columns |= {COLUMN + name: column(COLUMN + name, v.dtype) for name, v in example.columns.items()}
            if {name: np.asarray(value).shape[1:] for name, value in example.columns.items()} != shapes:
                raise DataError(
                    f"one store cannot hold examples with different columns ({', '.join(shapes) or 'none'})"
                )
            if _kind(example.target) != kind or (kind == "classes" and np.asarray(example.target).size != classes):
                raise DataError(f"one store cannot hold targets of kind '{kind}' and '{_kind(example.target)}'")
            if sourced is None and example.source is not None:
                columns |= {"sources": column("sources", columns["ids"].dtype)}
                columns |= {"source_ends": column("source_ends", np.int64)}
            sourced = example.source is not None if sourced is None else sourced
            if sourced != (example.source is not None):
                raise DataError("one store cannot hold examples with and without a source")
            if example.source is not None:
                source_end += len(example.source)
                columns["sources"].add(example.source)
                columns["source_ends"].add(source_end)
            end += len(example.ids)
            columns["ids"].add(example.ids)
            columns["weights"].add(example.weight)
            columns["ends"].add(end)
            columns["records"].add(example.record)
            columns["turns"].add(example.turn)
            if kind != "token":
                columns["targets"].add(example.target)
            for name, value in example.columns.items():
                columns[COLUMN + name].add(value)
        arrays = {name: value.array() for name, value in columns.items()}
        targets = arrays.get("targets")
        return cls(
            arrays["ids"],
            arrays["weights"],
            np.concatenate([np.zeros(1, np.int64), arrays["ends"]]),
            arrays["records"],
            arrays["turns"],
            kind=kind or "token",
            targets=targets.reshape(-1, classes) if targets is not None and kind == "classes" else targets,
            columns={name: arrays[COLUMN + name].reshape(-1, *shape) for name, shape in shapes.items()},
            sources=arrays.get("sources"),
            source_offsets=np.concatenate([np.zeros(1, np.int64), arrays["source_ends"]]) if sourced else None,
        )

    @classmethod
    def write(cls, examples: Iterable[Example], directory: str | Path, *, vocab_size: int) -> ExampleStore:
        """Stream examples to a folder in bounded memory, and map it."""
        directory = Path(directory)
        directory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".tmp-", dir=directory.parent) as scratch:
            cls.of(examples, vocab_size=vocab_size, scratch=Path(scratch)).save(directory)
        return cls.load(directory)

    def _arrays(self) -> dict[str, np.ndarray]:
        found = {
            "ids": self.ids,
            "weights": self.weights,
            "offsets": self.offsets,
            "records": self.records,
            "turns": self.turns,
        }
        if self.targets is not None:
            found["targets"] = self.targets
        if self.sources is not None and self.source_offsets is not None:
            found |= {"sources": self.sources, "source_offsets": self.source_offsets}
        return found | {COLUMN + name: self.columns[name] for name in sorted(self.columns)}

    @property
    def content_hash(self) -> str:
        """SHA-256 over every array (type, shape, bytes): equal hashes, equal training data."""
        if self._hash is None:
            digest = hashlib.sha256(self.kind.encode())
            for name, array in self._arrays().items():
                digest.update(f"|{name}{array.dtype.str}{array.shape}|".encode())
                flat = array.reshape(-1)
                for start in range(0, flat.size, 1 << 22):
                    digest.update(np.ascontiguousarray(flat[start : start + (1 << 22)]).tobytes())
            self._hash = digest.hexdigest()
        return self._hash

    def save(self, directory: str | Path) -> Path:
        """Write the arrays as `.npy` and a manifest. The folder appears whole or not at all."""
        directory = Path(directory)
        directory.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".tmp-", dir=directory.parent))
        try:
            for name, array in self._arrays().items():
                with (staging / f"{name}.npy").open("wb") as file:
                    np.save(file, array, allow_pickle=False)
                    _sync(file)
            manifest: dict[str, Any] = {"kind": self.kind, "examples": len(self), "tokens": int(self.offsets[-1])}
            manifest |= {"columns": sorted(self.columns), "sources": self.sources is not None}
            with (staging / "store.json").open("w") as file:
                json.dump({**manifest, "content_hash": self.content_hash}, file, indent=1)
                _sync(file)
            if directory.exists():
                old = Path(tempfile.mkdtemp(prefix=".old-", dir=directory.parent))
                os.rename(directory, old / "store")
                os.rename(staging, directory)
                shutil.rmtree(old)
            else:
                os.rename(staging, directory)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        fsync(directory.parent)
        return directory

    @classmethod
    def load(cls, directory: str | Path, *, verify: bool = False) -> ExampleStore:
        """Map a saved store; nothing is read until it is used. `verify` reads it all and compares the hash.

        Raises: DataError if the folder is not a whole store.
        """
        directory = Path(directory)
        fix = "delete the folder; it is made again from the records"
        try:
            manifest = json.loads((directory / "store.json").read_text())
            names = ["ids", "weights", "offsets", "records", "turns"]
            names += [] if manifest["kind"] == "token" else ["targets"]
            names += ["sources", "source_offsets"] if manifest.get("sources") else []
            names += [COLUMN + name for name in manifest.get("columns", [])]
            arrays = {}
            for name in names:
                path = directory / f"{name}.npy"
                try:
                    arrays[name] = np.load(path, mmap_mode="r", allow_pickle=False)
                except ValueError:  # an empty array cannot be mapped
                    arrays[name] = np.load(path, allow_pickle=False)
            columns = {name.removeprefix(COLUMN): arrays[name] for name in names if name.startswith(COLUMN)}
            main = [arrays[name] for name in names[:5]]
            more: dict[str, Any] = {name: arrays.get(name) for name in ("targets", "sources", "source_offsets")}
            store = cls(*main, kind=manifest["kind"], columns=columns, **more)
            whole = len(store) == manifest["examples"] and len(store.ids) == len(store.weights) == manifest["tokens"]
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise DataError(
                "not a readable store of examples", where=str(directory), why=str(error), fix=fix
            ) from error
        if not whole:
            raise DataError("a store of examples is incomplete", where=str(directory), fix=fix)
        if verify and store.content_hash != manifest["content_hash"]:
            raise DataError("a store of examples was changed or damaged", where=str(directory), fix=fix)
        return store


def _sync(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())
