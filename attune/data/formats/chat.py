"""OpenAI chat messages."""

from __future__ import annotations

from typing import Any

from attune.data.formats.base import Format, Mapping, answers, conversation, make, tools_of
from attune.data.rows import Where
from attune.records import Record


class Chat(Format):
    """`{"messages": [{"role", "content", "weight"?, "name"?, "tool_calls"?, "tool_call_id"?}, ...], "tools"?: [...]}`

    Content may be a list of text parts. What follows the last user turn is the completion (an answer, or tool calls,
    their
    results and the answer); earlier turns are the prompt and keep their weight, so that they can be trained on as well.
    """

    name = "chat"
    task = "generation"

    def sniff(self, row: dict[str, Any]) -> int:
        return 50 if "messages" in row else 0

    def read(self, row: dict[str, Any], where: Where, mapping: Mapping) -> Record:
        turns = conversation(row.get("messages"), mapping.name("messages"))
        prompt, completion = answers(turns, mapping.name("messages"))
        return make(row, where, ("messages", "tools"), prompt=prompt, completions=(completion,), tools=tools_of(row))
