"""attune's own records."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from attune.data.formats.base import Bad, Format, Mapping
from attune.data.rows import Where
from attune.records import ROLES, Record

KEYS = frozenset("id prompt completions label spans answer task tools meta where".split())


class Own(Format):
    """`{"id", "prompt": [message], "completions"?: [{"messages": [...], "score"?, "good"?}],
    "label"|"spans"|"answer"?, "meta"?}`: what `attune data check --write` writes
    """

    name = "record"
    task = "generation"

    def sniff(self, row: dict[str, Any]) -> int:
        return 70 if "id" in row and isinstance(row.get("prompt"), list) and KEYS.issuperset(row) else 0

    def read(self, row: dict[str, Any], where: Where, mapping: Mapping) -> Record:
        try:
            record = Record.from_dict(row)
            turns = [*record.prompt, *(turn for each in record.completions for turn in each.messages)]
            sound = isinstance(record.id, str) and all(
                turn.role in ROLES and isinstance(turn.content, str) for turn in turns
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Bad(f"not a record that attune wrote: {type(error).__name__} {error}") from None
        if not sound:
            raise Bad("not a record that attune wrote: an id, a role or a content is wrong")
        return record if record.where else replace(record, where=f"{where.path}:{where.line}")
