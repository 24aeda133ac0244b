"""Texts with a label."""

from __future__ import annotations

import math
from typing import Any

from attune.data.formats.base import Bad, Drop, Format, Mapping, filled, make, parsed
from attune.data.rows import Where
from attune.records import Label, Message, Record

LABEL_NAMES = ("label", "labels", "category", "class", "intent", "target", "sentiment", "topic", "tag", "y")
TEXT_NAMES = ("text", "sentence", "content", "utterance", "query", "review", "document", "note", "body")


class Labelled(Format):
    """`{"text": text, "label": class | [classes] | number}`: columns of a table or keys of a JSON line, by any name

    A list is several labels; a string is split at `;` only for `task: multilabel`; a number is a value to predict only
    for `task: regression`, else the name of a class.
    """

    name = "labelled"
    task = "classification"

    def sniff(self, row: dict[str, Any]) -> int:
        text = any(isinstance(row.get(key), str) for key in TEXT_NAMES)
        label = any(key in row and not isinstance(row[key], dict) for key in LABEL_NAMES)
        return 20 if text and label else 0

    def read(self, row: dict[str, Any], where: Where, mapping: Mapping) -> Record:
        text = filled(row, "text", mapping)
        return make(
            row, where, ("text", "label"), prompt=(Message("user", text),), label=_label(row.get("label"), mapping)
        )


def _label(value: Any, mapping: Mapping) -> Label:
    name = mapping.name("label")
    several = mapping.task == "multilabel"
    if value is None or (isinstance(value, str) and not value.strip() and not several):
        raise Drop(f"{name} is empty")
    if mapping.task == "regression":
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise Bad(f"{name} is {value!r}, a number is meant")
        return number
    if several and isinstance(value, str):
        text = value.strip()
        value = parsed(text, name) if text.startswith("[") else [part for part in text.split(mapping.separator or ";")]
    if isinstance(value, list):
        if not several:
            raise Bad(f"{name} is a list; several labels need task: multilabel")
        if not all(isinstance(item, (str, int)) for item in value):
            raise Bad(f"{name} is a list with something that is not a label in it")
        return tuple(dict.fromkeys(part for part in (str(item).strip() for item in value) if part))
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, str):
        return value.strip()
    raise Bad(f"{name} is an object, a label is meant")
