"""Questions whose answer a program can check."""

from __future__ import annotations

from typing import Any

from attune.data.formats.base import Bad, Drop, Format, Mapping, answer_text, filled, make, turns_of
from attune.data.rows import Where
from attune.records import Completion, Message, Record

FINAL = "####"
ANSWERS = ("answer", "solution", "ground_truth")


class Verifiable(Format):
    """`{"question": text, "answer": "working #### final answer"}` (as GSM8K), or `{"prompt",
    "answer"|"solution"|"ground_truth"}`

    What stands after `####` is the answer to check against, the whole is the completion. With a prompt, the answer is
    given as it is and there is no completion.
    """

    name = "verifiable"
    task = "verifiable"

    def sniff(self, row: dict[str, Any]) -> int:
        if isinstance(row.get("question"), str) and isinstance(row.get("answer"), str):
            return 55 if FINAL in row["answer"] else 0
        return 35 if "prompt" in row and "completion" not in row and any(key in row for key in ANSWERS) else 0

    def read(self, row: dict[str, Any], where: Where, mapping: Mapping) -> Record:
        if "prompt" in row:
            key = next((name for name in ANSWERS if name in row), "answer")
            value = row.get(key)
            value = str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value
            answer = answer_text({key: value}, key, mapping).strip()
            prompt = turns_of(row["prompt"], "user", mapping.name("prompt"), mapping)
            if not any(turn.content.strip() for turn in prompt):
                raise Bad(f"{mapping.name('prompt')} is empty")
            return make(row, where, ("prompt", *ANSWERS), prompt=prompt, answer=answer)
        question = filled(row, "question", mapping)
        whole = answer_text(row, "answer", mapping)
        if FINAL not in whole:
            raise Bad(f"{mapping.name('answer')} has no {FINAL} before its final answer")
        final = whole.rsplit(FINAL, 1)[1].strip()
        if not final:
            raise Drop(f"nothing stands after {FINAL}")
        return make(
            row,
            where,
            ("question", "answer"),
            prompt=(Message("user", question),),
            completions=(Completion((Message("assistant", whole),)),),
            answer=final,
        )
