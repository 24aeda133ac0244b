"""A conversation written into one text."""

from __future__ import annotations

import re
from typing import Any

from attune.data.formats.base import Bad, Format, Mapping, answers, conversation, filled, make
from attune.data.rows import Where
from attune.records import Record

MARK = re.compile(r"(?:^|\s)### ?(Human|User|Assistant|System):", re.IGNORECASE)
ROLES = {"human": "user", "user": "user", "assistant": "assistant", "system": "system"}


class SingleTextChat(Format):
    """`{"text": "### Human: ... ### Assistant: ..."}`, also User and System, any number of turns."""

    name = "single_text_chat"
    task = "generation"

    def sniff(self, row: dict[str, Any]) -> int:
        text = row.get("text")
        return 45 if isinstance(text, str) and text.lstrip().startswith("###") and len(MARK.findall(text)) > 1 else 0

    def read(self, row: dict[str, Any], where: Where, mapping: Mapping) -> Record:
        parts = MARK.split(filled(row, "text", mapping))
        name = mapping.name("text")
        if len(parts) < 3 or parts[0].strip():
            raise Bad(f"{name} does not begin with `### Human:`")
        rows = [{"role": ROLES[mark.lower()], "content": text.strip()} for mark, text in zip(parts[1::2], parts[2::2])]
        prompt, completion = answers(conversation(rows, name), name)
        return make(row, where, ("text",), prompt=prompt, completions=(completion,))
