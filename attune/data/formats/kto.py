"""Single answers marked good or bad."""

from __future__ import annotations

from typing import Any

from attune.data.formats.base import Bad, Drop, Format, Mapping, filled, make, turns_of
from attune.data.rows import Where
from attune.records import Completion, Record


class KTO(Format):
    """`{"prompt": text or messages, "completion": text or messages, "label": true | false}`"""

    name = "kto"
    task = "kto"

    def sniff(self, row: dict[str, Any]) -> int:
        return 50 if all(key in row for key in ("prompt", "completion", "label")) else 0

    def read(self, row: dict[str, Any], where: Where, mapping: Mapping) -> Record:
        good = row.get("label")
        if isinstance(good, str) and good.strip().lower() in ("true", "false"):
            good = good.strip().lower() == "true"
        if not isinstance(good, bool):
            raise Bad(f"{mapping.name('label')} is {good!r}, true or false is meant")
        prompt = turns_of(row.get("prompt"), "user", mapping.name("prompt"), mapping)
        if isinstance(row.get("prompt"), str) and not mapping.raw:
            filled(row, "prompt", mapping)
        completion = turns_of(row.get("completion"), "assistant", mapping.name("completion"), mapping)
        if not any(turn.content.strip() or turn.tool_calls for turn in completion):
            raise Drop(f"{mapping.name('completion')} is empty")
        used = ("prompt", "completion", "label")
        return make(row, where, used, prompt=prompt, completions=(Completion(completion, good=good),))
