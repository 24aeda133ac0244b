"""One JSON object of splits, each a list of [text, label]."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from attune.data.formats.base import Bad, Drop, Format, Mapping, make
from attune.data.rows import Where
from attune.records import Message, Record


class SplitPairs(Format):
    """`{"train": [["text", "label"], ...], "test": [...]}` (as CLINC150); the split's name is kept in meta["split"]"""

    name = "split_pairs"
    task = "classification"

    def sniff(self, row: dict[str, Any]) -> int:
        return 60 if row and all(_pairs(value) for value in row.values()) else 0

    def expand(self, row: dict[str, Any], where: Where) -> Iterator[tuple[Where, dict[str, Any]]]:
        for split, pairs in row.items():
            for pair in pairs if isinstance(pairs, list) else [pairs]:
                yield where, {"pair": pair, "split": split}

    def read(self, row: dict[str, Any], where: Where, mapping: Mapping) -> Record:
        pair = row.get("pair")
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(item, str) for item in pair)):
            raise Bad(f"{row.get('split')}: {str(pair)[:60]} is not [text, label]")
        text, label = pair
        if not text.strip():
            raise Bad(f"{row.get('split')}: a text is empty")
        if not label.strip():
            raise Drop("label is empty")
        return make(row, where, ("pair",), prompt=(Message("user", text),), label=label.strip())


def _pairs(value: Any) -> bool:
    if not isinstance(value, list) or not value:
        return False
    first = value[0]
    return isinstance(first, list) and len(first) == 2 and all(isinstance(item, str) for item in first)
