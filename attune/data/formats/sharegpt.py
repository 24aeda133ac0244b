"""ShareGPT conversations."""

from __future__ import annotations

import json
from typing import Any

from attune.data.formats.base import Bad, Format, Mapping, answers, conversation, make, parsed, tools_of
from attune.data.rows import Where
from attune.records import Record

ROLES = {
    "system": "system",
    **dict.fromkeys(("human", "user", "prompter"), "user"),
    **dict.fromkeys(("gpt", "assistant", "chatgpt", "bing", "bard", "claude", "bot", "model", "ai"), "assistant"),
    **dict.fromkeys(("function_call", "tool_call"), "call"),
    **dict.fromkeys(("observation", "tool", "function_response", "tool_response", "ipython"), "tool"),
}
USUAL = ("system", "human", "gpt", "function_call", "observation")


class ShareGPT(Format):
    """`{"conversations": [{"from": "human"|"gpt"|"system"|"function_call"|"observation", "value": text}, ...],
    "system"?, "tools"?}`

    Other names of speakers (bing, chatgpt, bard, user ...) are understood and said. A function call's JSON becomes a
    tool call.
    """

    name = "sharegpt"
    task = "generation"

    def sniff(self, row: dict[str, Any]) -> int:
        return 50 if "conversations" in row or _turns(row.get("conversation")) else 0

    def read(self, row: dict[str, Any], where: Where, mapping: Mapping) -> Record:
        key = "conversations" if "conversations" in row else "conversation"
        turns = row.get(key)
        if not isinstance(turns, list):
            raise Bad(f"{mapping.name(key)} is not a list of turns")
        rows: list[dict[str, Any]] = []
        system = row.get("system")
        if isinstance(system, str) and system.strip():
            rows.append({"role": "system", "content": system})
        for number, turn in enumerate(turns):
            rows.append(_message(turn, f"{mapping.name(key)}[{number}]", len(rows), mapping))
        prompt, completion = answers(conversation(rows, mapping.name(key)), mapping.name(key))
        used = ("conversations", "conversation", "system", "tools")
        return make(row, where, used, prompt=prompt, completions=(completion,), tools=tools_of(row))


def _turns(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict) and "from" in value[0]


def _message(turn: Any, name: str, number: int, mapping: Mapping) -> dict[str, Any]:
    if not isinstance(turn, dict) or "from" not in turn and "role" not in turn:
        raise Bad(f"{name} has no `from` and `value`")
    said = turn.get("from", turn.get("role"))
    value = turn.get("value", turn.get("content"))
    role = ROLES.get(said.lower()) if isinstance(said, str) else None
    if role is None:
        raise Bad(f"{name}.from is {said!r}, not one of {', '.join(USUAL)}")
    if said not in USUAL:
        mapping.notices[f"speaker {said!r} read as {role}"] += 1
    if role != "call":
        return {"role": role, "content": value}
    calls = parsed(value, name)
    calls = calls if isinstance(calls, list) else [calls]
    if not all(isinstance(call, dict) and isinstance(call.get("name"), str) for call in calls):
        raise Bad(f"{name} is not a function call: an object with name and arguments is meant")
    return {
        "role": "assistant",
        "content": "",
        "tool_calls": [_call(call, f"call_{number}_{at}") for at, call in enumerate(calls)],
    }


def _call(call: dict[str, Any], name: str) -> dict[str, Any]:
    arguments = call.get("arguments", call.get("parameters", {}))
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return {"id": name, "type": "function", "function": {"name": call["name"], "arguments": text}}
