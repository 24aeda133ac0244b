"""Tokens and tags as two lists."""

from __future__ import annotations

from typing import Any

from attune.data.formats.base import Bad, Format, Mapping, parsed
from attune.data.formats.conll import tagged
from attune.data.rows import Where
from attune.records import Record

TAGS = ("tags", "ner_tags", "label", "labels")
TOKENS = ("tokens", "words")


class TokensTags(Format):
    """`{"tokens": ["Ann", "left"], "tags"|"ner_tags": ["B-PER", "O"]}`; in a table the two lists are JSON or Python
    text
    """

    name = "tokens_tags"
    task = "tagging"

    def sniff(self, row: dict[str, Any]) -> int:
        tokens = next((key for key in TOKENS if _list(row.get(key))), None)
        return 55 if tokens and any(_list(row.get(key)) for key in TAGS) else 0

    def read(self, row: dict[str, Any], where: Where, mapping: Mapping) -> Record:
        lists = []
        for names in (TOKENS, TAGS):
            key = next((name for name in names if name in row), names[0])
            value = parsed(row.get(key), mapping.name(key))
            if not isinstance(value, list) or not value:
                raise Bad(f"{mapping.name(key)} is not a list with something in it")
            if not all(isinstance(item, str) for item in value):
                numbers = all(isinstance(item, int) for item in value)
                hint = ": tags are numbers; write their names (B-PER, O ...)" if numbers and names is TAGS else ""
                raise Bad(f"{mapping.name(key)} is not a list of texts{hint}")
            lists.append(value)
        tokens, tags = lists
        if len(tokens) != len(tags):
            raise Bad(f"{len(tokens)} tokens but {len(tags)} tags")
        return tagged(tokens, tags, row, where, TOKENS + TAGS + ("text",))


def _list(value: Any) -> bool:
    return isinstance(value, list) or (isinstance(value, str) and value.lstrip()[:1] == "[")
