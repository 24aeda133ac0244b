"""A prompt and its completion."""

from __future__ import annotations

from typing import Any

from attune.data.formats.base import Bad, Drop, Format, Mapping, filled, make, tools_of, turns_of
from attune.data.rows import Where
from attune.records import Completion, Record


class PromptCompletion(Format):
    """`{"prompt": text or messages, "completion": text or messages, "tools"?: [...]}`

    A prompt that is a text becomes one user turn and a completion one assistant turn; with `raw` both stay raw text
    outside any chat template.
    """

    name = "prompt_completion"
    task = "generation"

    def sniff(self, row: dict[str, Any]) -> int:
        return 40 if "prompt" in row and "completion" in row else 0

    def read(self, row: dict[str, Any], where: Where, mapping: Mapping) -> Record:
        prompt = turns_of(row.get("prompt"), "user", mapping.name("prompt"), mapping)
        if isinstance(row.get("prompt"), str) and not mapping.raw:
            filled(row, "prompt", mapping)
        value = row.get("completion")
        if value is None or value == [] or (isinstance(value, str) and not value.strip()):
            raise Drop(f"{mapping.name('completion')} is empty")
        answer = turns_of(value, "assistant", mapping.name("completion"), mapping)
        if answer[-1].role not in ("assistant", "text"):
            raise Bad(f"{mapping.name('completion')} ends with a {answer[-1].role} turn: there is no answer to learn")
        if not answer[-1].content.strip() and not answer[-1].tool_calls:
            raise Drop("the last answer is empty")
        used = ("prompt", "completion", "tools")
        return make(row, where, used, prompt=prompt, completions=(Completion(answer),), tools=tools_of(row))
