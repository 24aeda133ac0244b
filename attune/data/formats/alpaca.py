"""Instruction data of the Alpaca family."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from attune.data.formats.base import Bad, Format, Mapping, answer_text, filled, make
from attune.data.rows import Where
from attune.records import Completion, Message, Record

OUTPUTS = ("output", "response", "answer", "completion")
INPUTS = ("input", "context")


class Alpaca(Format):
    """`{"instruction": text, "input"|"context"?: text, "output"|"response"|"answer"|"completion": text, "system"?,
    "history"?}`

    `history` is a list of [question, answer] turns before this one. `instances: [{"input", "output"}, ...]` in place of
    input and output (seed tasks) gives one record for each.
    """

    name = "alpaca"
    task = "generation"

    def sniff(self, row: dict[str, Any]) -> int:
        if "instruction" not in row:
            return 0
        return 45 if isinstance(row.get("instances"), list) or any(key in row for key in OUTPUTS) else 0

    def expand(self, row: dict[str, Any], where: Where) -> Iterator[tuple[Where, dict[str, Any]]]:
        instances = row.get("instances")
        if not isinstance(instances, list):
            yield where, row
            return
        rest = {key: value for key, value in row.items() if key != "instances"}
        for number, instance in enumerate(instances):
            one = {**rest, **instance} if isinstance(instance, dict) else {**rest, "output": instance}
            if len(instances) > 1 and isinstance(row.get("id"), str):
                one["id"] = f"{row['id']}-{number + 1}"
            yield where, one

    def read(self, row: dict[str, Any], where: Where, mapping: Mapping) -> Record:
        text = filled(row, "instruction", mapping)
        given = next((key for key in INPUTS if row.get(key)), None)
        if given is not None:
            text = f"{text}\n\n{filled(row, given, mapping)}"
        output = next((key for key in OUTPUTS if key in row), "output")
        turns = [Message("system", filled(row, "system", mapping))] if row.get("system") else []
        history = row.get("history") or []
        if not isinstance(history, list):
            raise Bad("history is not a list of [question, answer]")
        for number, pair in enumerate(history):
            if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(item, str) for item in pair)):
                raise Bad(f"history[{number}] is not [question, answer]")
            turns += [Message("user", pair[0]), Message("assistant", pair[1])]
        answer = Message("assistant", answer_text(row, output, mapping))
        used = ("instruction", "system", "history", output, *INPUTS)
        return make(row, where, used, prompt=(*turns, Message("user", text)), completions=(Completion((answer,)),))
