"""OpenAI's preference data."""

from __future__ import annotations

from typing import Any

from attune.data.formats.base import Bad, Format, Mapping, conversation
from attune.data.formats.preference import pair
from attune.data.rows import Where
from attune.records import Record


class OpenAIPreference(Format):
    """`{"input": {"messages": [...], "tools"?: [...]}, "preferred_output": [message], "non_preferred_output":
    [message]}`
    """

    name = "openai_preference"
    task = "preference"

    def sniff(self, row: dict[str, Any]) -> int:
        return 60 if "preferred_output" in row else 0

    def read(self, row: dict[str, Any], where: Where, mapping: Mapping) -> Record:
        given = row.get("input")
        if not isinstance(given, dict):
            raise Bad("input is not an object with messages")
        prompt = conversation(given.get("messages"), "input.messages")
        sides = []
        for key in ("preferred_output", "non_preferred_output"):
            if row.get(key) is None:
                raise Bad(f"{key} is missing")
            sides.append(conversation(row[key], key))
        if sides[0] == sides[1]:
            raise Bad("preferred_output and non_preferred_output are the same")
        rest = {key: value for key, value in row.items() if key != "input"} | {"tools": given.get("tools")}
        used = ("preferred_output", "non_preferred_output", "tools")
        return pair(rest, where, used, prompt, sides, mapping)
