"""A text and what it says, as data."""

from __future__ import annotations

import json
from typing import Any

from attune.data.formats.base import Bad, Drop, Format, Mapping, filled, make
from attune.data.rows import Where
from attune.records import Completion, Message, Record

VALUES = ("json", "extraction", "extracted", "structured", "fields")


class Extraction(Format):
    """`{"text": text, "json": value or its JSON text, "schema"?: JSON Schema}`, also extraction, extracted, structured,
    fields for json

    The answer to learn is the value as JSON on one line, its keys in the order in which they are given.
    """

    name = "extraction"
    task = "generation"

    def sniff(self, row: dict[str, Any]) -> int:
        name = next((name for name in VALUES if name in row), None)
        if name is None or not isinstance(row.get("text"), str):
            return 0
        value = row[name]
        return (
            45 if isinstance(value, (dict, list)) or (isinstance(value, str) and value.strip()[:1] in ("{", "[")) else 0
        )

    def read(self, row: dict[str, Any], where: Where, mapping: Mapping) -> Record:
        name = next((name for name in VALUES if name in row), "json")
        value = row.get(name)
        if value is None or value == "":
            raise Drop(f"{mapping.name(name)} is empty")
        try:
            value = json.loads(value) if isinstance(value, str) else value
        except ValueError as error:
            raise Bad(f"{mapping.name(name)} is not JSON: {error}") from None
        schema = row.get("schema")
        if isinstance(schema, dict):
            schema = json.dumps(schema, ensure_ascii=False)
        return make(
            row,
            where,
            ("text", "schema", name),
            prompt=(Message("user", filled(row, "text", mapping)),),
            completions=(Completion((Message("assistant", json.dumps(value, ensure_ascii=False)),)),),
            meta={"schema": schema} if schema else None,
        )
