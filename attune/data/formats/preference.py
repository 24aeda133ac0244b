"""Two answers, one preferred (TRL's columns)."""

from __future__ import annotations

import re
from typing import Any

from attune.data.formats.base import Bad, Drop, Format, Mapping, conversation, make, tools_of, turns_of
from attune.data.rows import Where
from attune.records import Completion, Message, Record

TURN = re.compile(r"(?:^|\n\n)(Human|Assistant):")


class Preference(Format):
    """`{"prompt"?: text or messages, "chosen": text or messages, "rejected": text or messages}`

    Without a prompt (as HH-RLHF), it is what both answers begin with: the same turns, or the same `Human: ...
    Assistant: ...`.
    """

    name = "preference"
    task = "preference"

    def sniff(self, row: dict[str, Any]) -> int:
        return 50 if "chosen" in row and ("rejected" in row or "prompt" in row) else 0

    def read(self, row: dict[str, Any], where: Where, mapping: Mapping) -> Record:
        sides = []
        for key in ("chosen", "rejected"):
            if row.get(key) is None:
                raise Bad(f"{mapping.name(key)} is missing")
            value = row[key]
            if row.get("prompt") is None and isinstance(value, str) and TURN.match(value):
                sides.append(_written(value, mapping.name(key)))
            else:
                sides.append(turns_of(value, "assistant", mapping.name(key), mapping))
        if sides[0] == sides[1]:
            raise Bad(f"{mapping.name('chosen')} and {mapping.name('rejected')} are the same")
        if row.get("prompt") is None:
            shared = _shared(*sides)
            if not shared:
                raise Bad(f"{mapping.name('prompt')} is missing, and the two answers do not begin with the same turns")
            prompt, sides = sides[0][:shared], [side[shared:] for side in sides]
        else:
            prompt = turns_of(row["prompt"], "user", mapping.name("prompt"), mapping)
            if not any(turn.content.strip() for turn in prompt):
                raise Bad(f"{mapping.name('prompt')} is empty")
            sides = [side[len(prompt) :] if side[: len(prompt)] == prompt else side for side in sides]
        return pair(row, where, ("prompt", "chosen", "rejected", "tools"), prompt, sides, mapping)


def pair(
    row: dict[str, Any],
    where: Where,
    used: tuple[str, ...],
    prompt: tuple[Message, ...],
    sides: list[tuple[Message, ...]],
    mapping: Mapping,
) -> Record:
    """A Record of a better and a worse answer. Raises: Bad, Drop."""
    for side, name in zip(sides, ("chosen", "rejected")):
        if not side or side[-1].role not in ("assistant", "text"):
            raise Bad(f"{mapping.name(name)} does not end with an assistant turn")
        if not side[-1].content.strip() and not side[-1].tool_calls:
            raise Drop(f"{mapping.name(name)} is empty")
    completions = tuple(Completion(side) for side in sides)
    return make(row, where, used, prompt=prompt, completions=completions, tools=tools_of(row))


def _shared(left: tuple[Message, ...], right: tuple[Message, ...]) -> int:
    """Number of first turns that both have, at least one answer left on each side."""
    same = 0
    while same < min(len(left), len(right)) - 1 and left[same] == right[same]:
        same += 1
    return same


def _written(text: str, name: str) -> tuple[Message, ...]:
    parts = TURN.split(text)
    roles = {"Human": "user", "Assistant": "assistant"}
    turns = [{"role": roles[mark], "content": said.strip()} for mark, said in zip(parts[1::2], parts[2::2])]
    return conversation(turns, name)
