"""Records that lie on disk, used like a list: a million of them cost 8 bytes each in memory."""

from __future__ import annotations

import json
import os
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, overload

from attune.records import Record

__all__ = ["Spool", "SpoolWriter", "Texts", "Chosen", "Joined", "spooled", "told"]

ENCODE = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode

SAID_EVERY = 100_000


class SpoolWriter:
    """Writes records one after the other; `close` makes them a Spool."""

    def __init__(self, path: Path):
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file: IO[bytes] = open(path, "wb", buffering=1 << 20)
        self.offsets = array("q", [0])

    def append(self, record: Record) -> None:
        line = (ENCODE(record.to_dict()) + "\n").encode("utf-8", "surrogatepass")
        self.file.write(line)
        self.offsets.append(self.offsets[-1] + len(line))

    def close(self) -> Spool:
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        return Spool(self.path, self.offsets)


class Spool(Sequence[Record]):
    """A JSON-lines file of records (format `record`). Reading in order is fastest."""

    def __init__(self, path: Path, offsets: array | None = None):
        self.path = Path(path)
        if offsets is None:
            offsets = array("q", [0])
            with open(self.path, "rb") as file:
                for line in file:
                    offsets.append(offsets[-1] + len(line))
        self.offsets = offsets
        self._file: IO[bytes] | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> list[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | list[Record]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        return Record.from_dict(json.loads(self._line(index)))

    def __iter__(self) -> Iterator[Record]:
        with open(self.path, "rb", buffering=1 << 20) as file:
            for line in file:
                yield Record.from_dict(json.loads(line))

    def _line(self, index: int) -> bytes:
        if index < 0:
            index += len(self)
        if not 0 <= index < len(self):
            raise IndexError(index)
        if self._file is None:
            self._file = open(self.path, "rb", buffering=0)
        start = self.offsets[index]
        # No position is shared, so forked processes and threads may read at the same time.
        return os.pread(self._file.fileno(), self.offsets[index + 1] - start, start)


class Chosen(Sequence[Record]):
    """Some rows of a sequence of records, in the order given; they stay where they lie."""

    def __init__(self, records: Sequence[Record], rows: Any):
        """`rows`: positions in `records`, as a list or an array."""
        self.records, self.rows = records, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self.records[int(row)] for row in self.rows[index]]
        return self.records[int(self.rows[index])]

    def __iter__(self) -> Iterator[Record]:
        return (self.records[int(row)] for row in self.rows)


class Joined(Sequence[Any]):
    """Several sequences (of records, of texts), one after the other."""

    def __init__(self, *parts: Sequence[Any]):
        self.parts = parts
        self.begins = [0]
        for part in parts:
            self.begins.append(self.begins[-1] + len(part))

    def __len__(self) -> int:
        return self.begins[-1]

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        if index < 0:
            index += len(self)
        if not 0 <= index < len(self):
            raise IndexError(index)
        part = bisect_right(self.begins, index) - 1
        return self.parts[part][index - self.begins[part]]

    def __iter__(self) -> Iterator[Any]:
        for part in self.parts:
            yield from part


def spooled(records: Iterable[Record], path: Path) -> Spool:
    """Write records as they come; nothing of them stays in memory but where each begins."""
    writer = SpoolWriter(path)
    try:
        for record in records:
            writer.append(record)
    except BaseException:
        writer.file.close()
        path.unlink(missing_ok=True)
        raise
    return writer.close()


def told(
    records: Iterable[Record], say: Callable[[str], None] | None, what: str, total: int | None = None
) -> Iterator[Record]:
    """The same records; a line now and then says how many have passed."""
    if say is None:
        yield from records
        return
    for number, record in enumerate(records):
        if number and number % SAID_EVERY == 0:
            say(f"{what}: {number:,}" + (f" of {total:,}" if total else ""))
        yield record


class Texts(Sequence[str]):
    """One text of each record, read when asked for."""

    def __init__(self, records: Sequence[Record], text: Callable[[Record], str] = lambda record: record.full_text):
        self.records, self.text = records, text

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: Any) -> Any:
        found = self.records[index]
        return [self.text(record) for record in found] if isinstance(found, list) else self.text(found)

    def __iter__(self) -> Iterator[str]:
        return (self.text(record) for record in self.records)
