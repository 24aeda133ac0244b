"""Structured extraction: is the answer JSON, does it obey its schema, and which of its fields are right."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from attune.evaluate.metrics.counts import ratios
from attune.evaluate.metrics.texts import answers, references

if TYPE_CHECKING:
    import numpy as np

    from attune.evaluate.predictions import Predictions
    from attune.records import Record

FENCE = re.compile(r"\s*```(?:json)?\s*\n(.*?)\n\s*```\s*", re.DOTALL)
NOTHING = object()


def parsed(text: str) -> Any:
    """The JSON value that a text is (a fence of three backticks around it is allowed), or NOTHING."""
    inside = FENCE.fullmatch(text)
    try:
        return json.loads(inside[1] if inside else text)
    except (ValueError, RecursionError):
        return NOTHING


def fields(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """(path, value) of every leaf; the place in a list does not count, an empty object or list is a leaf."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from fields(item, f"{path}.{key}")
    elif isinstance(value, list) and value:
        for item in value:
            yield from fields(item, f"{path}[]")
    else:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        yield path, json.dumps(value.strip() if isinstance(value, str) else value, ensure_ascii=False)


class _Share:
    """A share of rows."""

    tasks = ("generation",)
    higher_is_better = True

    def value(self, statistics: np.ndarray) -> float:
        return float(statistics.mean()) if len(statistics) else float("nan")


class JsonValid(_Share):
    """Share of answers that are one JSON value, a code fence around it allowed."""

    name = "json_valid"

    def statistics(self, records: list[Record], predictions: Predictions) -> np.ndarray:
        import numpy as np

        return np.array([parsed(answer) is not NOTHING for answer in answers(predictions)], dtype=float)[:, None]


class JsonExact(_Share):
    """Share of answers that are the very same value as a reference, whatever the order of keys and the spacing."""

    name = "json_exact"

    def statistics(self, records: list[Record], predictions: Predictions) -> np.ndarray:
        import numpy as np

        right = []
        for record, answer in zip(records, answers(predictions), strict=True):
            said = parsed(answer)
            right.append(said is not NOTHING and any(_same(said, parsed(text)) for text in references(record)))
        return np.array(right, dtype=float)[:, None]


def _same(one: Any, other: Any) -> bool:
    """Python takes true for 1; JSON does not."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and one == other


class SchemaValid:
    """Share of answers that obey the JSON Schema of their row. NaN where no row has one.

    Source: the jsonschema library, by the draft that the schema names.
    """

    name = "schema_valid"
    tasks = ("generation",)
    higher_is_better = True

    def statistics(self, records: list[Record], predictions: Predictions) -> np.ndarray:
        """Obeyed, and whether there is a schema. Shapes: [N, 2]."""
        import numpy as np

        from attune.data.templates.base import SCHEMA
        from attune.data.templates.extract import first_fault

        rows = []
        for record, answer in zip(records, answers(predictions), strict=True):
            schema, said = record.meta.get(SCHEMA), parsed(answer)
            obeys = schema is not None and said is not NOTHING and first_fault(said, json.loads(schema)) is None
            rows.append((obeys, schema is not None))
        return np.array(rows, dtype=float).reshape(-1, 2)

    def value(self, statistics: np.ndarray) -> float:
        obeyed, all_rows = statistics.sum(axis=0)
        return float(obeyed / all_rows) if all_rows else float("nan")


class _Fields:
    tasks = ("generation",)
    higher_is_better = True
    figure: ClassVar[int]

    def statistics(self, records: list[Record], predictions: Predictions) -> np.ndarray:
        """Fields found, wrongly said and missed, against the reference that fits best. Shapes: [N, 3]."""
        import numpy as np

        rows = []
        for record, answer in zip(records, answers(predictions), strict=True):
            value = parsed(answer)
            said = Counter() if value is NOTHING else Counter(fields(value))
            counts = []
            for text in references(record):
                reference = parsed(text)
                true = Counter() if reference is NOTHING else Counter(fields(reference))
                counts.append(((said & true).total(), (said - true).total(), (true - said).total()))
            rows.append(max(counts, key=lambda count: ratios(np.array(count, dtype=float))[2]))
        return np.array(rows, dtype=float).reshape(-1, 3)

    def value(self, statistics: np.ndarray) -> float:
        return float(ratios(statistics.sum(axis=0))[self.figure]) if len(statistics) else float("nan")


class FieldPrecision(_Fields):
    """Of the fields written, the share that is right: same path, same value. Text that is no JSON writes none."""

    name = "field_precision"
    figure = 0


class FieldRecall(_Fields):
    """Of the reference's fields, the share that is written: same path, same value."""

    name = "field_recall"
    figure = 1


class FieldF1(_Fields):
    """Harmonic mean of field precision and field recall over all rows (micro)."""

    name = "field_f1"
    figure = 2
