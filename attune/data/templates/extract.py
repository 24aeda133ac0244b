"""Structured extraction."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from attune.data.templates.base import SCHEMA, Template
from attune.records import Record


class Extract(Template):
    """A text and what it says as one JSON object; with a JSON Schema (`data.json_schema`, or the rows' own), which the
    instruction carries, which every training row must obey, and which answers are held against.
    """

    name = "extract"
    formats = ("extraction",)
    metrics = ("field_f1", "field_precision", "field_recall", "json_exact", "json_valid", "schema_valid", "loss",
               "stop_rate", "invalid_rate")  # fmt: skip
    primary = "field_f1"

    def instruction(self, record: Record) -> str:
        schema = record.meta.get(SCHEMA)
        held = f" that obeys this JSON Schema:\n{schema}\n\nThe text:\n" if schema else ".\n\n"
        return f"Write what the text says as one JSON value{held}"

    def brief(self, record: Record) -> str:
        schema = record.meta.get(SCHEMA)
        return f"extract as {schema}: " if schema else "extract: "

    def completed(self, record: Record, schema: dict[str, Any] | None) -> Record:
        own = record.meta.get("schema")
        if own is not None and schema is None:
            schema = parsed_schema(own)
        if record.completions:
            try:
                value = json.loads(record.completions[0].text)
            except ValueError as error:
                raise ValueError(f"the answer is not JSON: {error}") from None
            if schema is not None and (fault := first_fault(value, schema)):
                raise ValueError(f"the answer breaks the schema: {fault}")
        if schema is None:
            return record
        meta = {key: value for key, value in record.meta.items() if key != "schema"}
        return replace(record, meta={**meta, SCHEMA: json.dumps(schema, ensure_ascii=False)})


def parsed_schema(given: Any) -> dict[str, Any]:
    """A JSON Schema from an object or its text.

    Raises: ValueError if it is none.
    """
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import validator_for
    from referencing import Registry
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012

    try:
        schema = json.loads(given) if isinstance(given, str) else given
    except ValueError as error:
        raise ValueError(f"the schema is not JSON: {error}") from None
    if not isinstance(schema, dict):
        raise ValueError("the schema is not an object")
    try:
        validator_for(schema).check_schema(schema)
    except SchemaError as error:
        raise ValueError(f"not a JSON Schema: {error.message}") from None
    for reference in _references(schema):
        try:
            Registry().with_resource("", DRAFT202012.create_resource(schema)).resolver().lookup(reference)
        except Unresolvable:
            raise ValueError(f"it refers to {reference}, which does not stand in it") from None
    return schema


def _references(value: Any) -> Iterator[str]:
    """Every `$ref` in a schema; nothing outside is ever fetched for one."""
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for item in value.values():
            yield from _references(item)
    elif isinstance(value, list):
        for item in value:
            yield from _references(item)


def first_fault(value: Any, schema: dict[str, Any]) -> str | None:
    """Where a value breaks a schema, in words; None where it does not."""
    from jsonschema.validators import validator_for
    from referencing import Registry

    validator: Any = validator_for(schema)(schema, registry=Registry())
    error = next(
        iter(sorted(validator.iter_errors(value), key=lambda error: list(map(str, error.absolute_path)))), None
    )
    if error is None:
        return None
    return f"{error.json_path}: {error.message[:200]}"
