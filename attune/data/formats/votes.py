"""Two answers and what people voted."""

from __future__ import annotations

import json
import re
from typing import Any

from attune.data.formats.base import Bad, Drop, Format, Mapping, make
from attune.data.rows import Where
from attune.records import Completion, Message, Record

VOTE = re.compile(r"annotator_?\d+|vote_?\d*|preference|winner")


class Votes(Format):
    """`{"instruction": text, "input"?: text, "response1": text, "response2": text, "annotator1": 0|1|2, ...}` (as
    PandaLM)

    0 is a tie. The answer with more votes comes first, its score is its share of the votes; a tie is dropped and
    counted.
    """

    name = "votes"
    task = "preference"

    def sniff(self, row: dict[str, Any]) -> int:
        return 60 if "response1" in row and "response2" in row else 0

    def read(self, row: dict[str, Any], where: Where, mapping: Mapping) -> Record:
        asked = [row[key] for key in ("instruction", "input") if row.get(key)]
        if not asked or not all(isinstance(text, str) for text in asked):
            raise Bad("instruction and input are empty or not texts")
        text = "\n\n".join(asked)
        names = [key for key in row if VOTE.fullmatch(key)]
        votes = []
        for key in names:
            if str(row[key]) not in ("0", "1", "2"):
                raise Bad(f"{key} is {row[key]!r}, not 0 (tie), 1 or 2")
            votes.append(int(row[key]))
        if not votes:
            raise Bad("no votes: a column annotator1, vote or preference is meant")
        first, second = votes.count(1), votes.count(2)
        if first == second:
            raise Drop("tie between the two answers", expected=True)
        responses = [_response(row[key], key, mapping) for key in ("response1", "response2")]
        if responses[0] == responses[1]:
            raise Bad("response1 and response2 are the same")
        ranked = sorted(zip((first, second), responses), key=lambda item: -item[0])
        if not ranked[0][1].strip():
            raise Drop("the preferred answer is empty")
        completions = tuple(
            Completion((Message("assistant", answer),), score=count / len(votes)) for count, answer in ranked
        )
        used = ("instruction", "input", "response1", "response2", *names)
        return make(row, where, used, prompt=(Message("user", text),), completions=completions)


def _response(value: Any, name: str, mapping: Mapping) -> str:
    """What a model said; nothing is an answer too, though never a good one."""
    if isinstance(value, (bool, int, float)):
        mapping.notices[f"{name} that is not a text, written as one"] += 1
        return json.dumps(value)
    if value is not None and not isinstance(value, str):
        raise Bad(f"{name} is not a text")
    return value or ""
