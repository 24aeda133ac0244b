"""A text and what to make of it: summaries, rewriting, translation, questions and answers."""

from __future__ import annotations

from typing import Any

from attune.data.formats.base import Bad, Drop, Format, Mapping, make
from attune.data.rows import Where
from attune.records import Completion, Message, Record

PAIRS = (
    ("source", "target"),
    ("document", "summary"),
    ("article", "highlights"),
    ("article", "summary"),
    ("text", "summary"),
    ("dialogue", "summary"),
    ("complex", "simple"),
    ("original", "rewritten"),
    ("original", "simplified"),
    ("informal", "formal"),
    ("draft", "revised"),
    ("question", "answer"),
    ("input", "output"),
    ("input", "target"),
)


class Pairs(Format):
    """`{"source": text or [sentences], "target": text or [references]}`, also document/summary, article/highlights,
    complex/simple, original/rewritten, original/simplified, informal/formal, draft/revised, question/answer,
    input/output

    A list of source sentences is joined by spaces. Of several references the first is learnt; all are kept in
    meta["references"] for metrics.
    """

    name = "pairs"
    task = "generation"

    def sniff(self, row: dict[str, Any]) -> int:
        return 30 if _names(row) and "instruction" not in row else 0

    def read(self, row: dict[str, Any], where: Where, mapping: Mapping) -> Record:
        names = _names(row)
        if not names:
            raise Bad(f"no pair of columns such as {', '.join('/'.join(pair) for pair in PAIRS[:4])}")
        left, right = names
        source, target = row[left], row[right]
        if isinstance(source, list) and all(isinstance(item, str) for item in source):
            source = " ".join(item.strip() for item in source)
        if not isinstance(source, str) or not source.strip():
            raise Bad(f"{mapping.name(left)} is empty or not a text")
        references = target if isinstance(target, list) else [target]
        if not all(isinstance(item, str) for item in references if item is not None):
            raise Bad(f"{mapping.name(right)} is not a text or a list of texts")
        references = [item for item in references if item and item.strip()]
        if not references:
            raise Drop(f"{mapping.name(right)} is empty")
        return make(
            row,
            where,
            names,
            prompt=(Message("user", source),),
            completions=(Completion((Message("assistant", references[0]),)),),
            meta={"references": references} if len(references) > 1 else None,
        )


def _names(row: dict[str, Any]) -> tuple[str, str] | None:
    for left, right in PAIRS:
        if all(isinstance(row.get(name), (str, list)) or (name in row and row[name] is None) for name in (left, right)):
            return left, right
    return None
