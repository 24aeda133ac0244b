"""SQuAD reading comprehension."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from attune.data.formats.base import Drop, Format, Mapping, filled, make
from attune.data.rows import Where
from attune.records import Completion, Message, Record

NO_ANSWER = "The text does not say."


class Squad(Format):
    """`{"data": [{"title", "paragraphs": [{"context", "qas": [{"id", "question", "answers": [{"text"}]}]}]}]}`

    Also flat rows `{"context", "question", "answers": {"text": [...]}}`, or `"answer": text`. The prompt is the
    context, an empty line and the question. A question marked `is_impossible`, or whose list of answers is empty, is
    answered "The text does not say."; one article is one group.
    """

    name = "squad"
    task = "generation"

    def sniff(self, row: dict[str, Any]) -> int:
        data = row.get("data")
        nested = isinstance(data, list) and bool(data) and isinstance(data[0], dict) and "paragraphs" in data[0]
        flat = all(key in row for key in ("context", "question")) and ("answers" in row or "answer" in row)
        return 60 if nested or flat else 0

    def expand(self, row: dict[str, Any], where: Where) -> Iterator[tuple[Where, dict[str, Any]]]:
        if "data" not in row:
            yield where, row
            return
        for article in _objects(row["data"]):
            title = {"group": article["title"]} if isinstance(article.get("title"), str) and article["title"] else {}
            for paragraph in _objects(article.get("paragraphs")):
                for question in _objects(paragraph.get("qas")):
                    yield where, {**question, "context": paragraph.get("context"), **title}

    def read(self, row: dict[str, Any], where: Where, mapping: Mapping) -> Record:
        text = f"{filled(row, 'context', mapping)}\n\n{filled(row, 'question', mapping)}"
        given = row.get("answers", row.get("answer"))
        texts = _answers(given)
        listed = given.get("text") if isinstance(given, dict) else given
        impossible = row.get("is_impossible") is True or listed == []
        if not texts and not impossible:
            raise Drop(f"{mapping.name('answers')} is empty")
        answer = NO_ANSWER if impossible else texts[0]
        return make(
            row,
            where,
            ("context", "question", "answers", "answer", "is_impossible"),
            prompt=(Message("user", text),),
            completions=(Completion((Message("assistant", answer),)),),
            meta={"references": sorted(set(texts))} if len(set(texts)) > 1 else None,
        )


def _answers(found: Any) -> list[str]:
    given = found.get("text") if isinstance(found, dict) else [found] if isinstance(found, str) else found
    items = [item.get("text") if isinstance(item, dict) else item for item in given] if isinstance(given, list) else []
    return [item for item in items if isinstance(item, str) and item.strip()]


def _objects(value: Any) -> list[dict[str, Any]]:
    """The objects of a list; what should be one and is not becomes an empty one, which is refused when it is read."""
    return [item if isinstance(item, dict) else {} for item in value] if isinstance(value, list) else [{}]
