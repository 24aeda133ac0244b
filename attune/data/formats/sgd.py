"""Schema-guided dialogues."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from attune.data.formats.base import Bad, Format, Mapping, answers, conversation, make
from attune.data.rows import Where
from attune.records import Record

ROLES = {"USER": "user", "SYSTEM": "assistant"}


class SGD(Format):
    """`{"dialogue_id": "1_00000", "services": [...], "turns": [{"speaker": "USER"|"SYSTEM", "utterance": text,
    "frames": [...]}]}`
    """

    name = "sgd_dialogues"
    task = "generation"

    def sniff(self, row: dict[str, Any]) -> int:
        turns = row.get("turns")
        return (
            60
            if isinstance(turns, list) and bool(turns) and isinstance(turns[0], dict) and "utterance" in turns[0]
            else 0
        )

    def expand(self, row: dict[str, Any], where: Where) -> Iterator[tuple[Where, dict[str, Any]]]:
        yield where, {**row, "id": row["dialogue_id"]} if "dialogue_id" in row else row

    def read(self, row: dict[str, Any], where: Where, mapping: Mapping) -> Record:
        turns = row.get("turns")
        if not isinstance(turns, list):
            raise Bad("turns is not a list")
        rows = []
        for number, turn in enumerate(turns):
            speaker = turn.get("speaker") if isinstance(turn, dict) else None
            if speaker not in ROLES:
                raise Bad(f"turns[{number}].speaker is {speaker!r}, not USER or SYSTEM")
            rows.append({"role": ROLES[speaker], "content": turn.get("utterance")})
        prompt, completion = answers(conversation(rows, "turns"), "turns")
        services = [item for item in row.get("services") or [] if isinstance(item, str)]
        meta = {"services": "+".join(services)} if services else None
        return make(row, where, ("turns", "dialogue_id"), prompt=prompt, completions=(completion,), meta=meta)
