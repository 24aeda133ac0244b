"""Written tasks in a run: which template the data is for, and whether its rows are examples of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attune import plugins
from attune.data.templates.base import NAME, choose, tagged
from attune.errors import DataError, RecipeError

if TYPE_CHECKING:
    from attune.data.sources import Report
    from attune.recipe import Recipe
    from attune.records import Record

__all__ = ["as_written_task", "common_words", "schema_of", "template_of"]

SHOWN = 20
"""Rows that are named when several do not fit."""


def as_written_task(
    records: Iterable[Record],
    report: Report,
    *,
    template: str,
    instruction: str | None = None,
    schema: dict[str, Any] | None = None,
    skip: bool = False,
    notices: list[str],
) -> Iterator[Record]:
    """The records under a template, or (`auto`) their own, or the one that fits their shape. `skip` leaves out what
    does not fit.

    Raises: DataError naming the rows that are no examples of it.
    """
    name = template
    if name == "auto":
        name = "extract" if schema is not None else choose(report.format, report.columns)
        if name != "none" and report.format != "record":
            plugin: Any = plugins.get("template", name)
            notices.append(f"template {name}, by the shape of the data: answers are judged by {plugin.primary} first")
    bad: list[str] = []
    for record in records:
        try:
            own = record.meta.get(NAME) if template == "auto" else None  # said when the data was prepared
            fitted = tagged(record, own or name, schema, instruction)
        except ValueError as error:
            bad.append(f"{record.where or record.id}: {error}")
            if not skip and len(bad) == SHOWN:
                break
        else:
            yield fitted
    if bad and not skip:
        raise DataError(
            "\n".join([f"{len(bad)} rows do not fit template {name}", *bad]) if len(bad) > 1 else bad[0],
            fix="correct the rows, or leave them out with data.on_bad_row=skip",
        )
    if bad:
        notices.append(f"{len(bad)} rows left out that do not fit template {name}; first: {bad[0]}")


def schema_of(recipe: Recipe) -> dict[str, Any] | None:
    """The JSON Schema that a recipe names.

    Raises: RecipeError if the file is none, or the template has no use for it.
    """
    path = recipe.data.json_schema
    if path is None:
        return None
    from attune.data.templates.extract import parsed_schema

    where = recipe.where("data.json_schema")
    if recipe.data.template not in ("auto", "extract"):
        raise RecipeError(f"data.json_schema has no meaning for template {recipe.data.template}", where=where)
    try:
        return parsed_schema(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecipeError(f"data.json_schema {path} is no JSON Schema", where=where, why=str(error)) from error


def common_words(records: Sequence[Record], *, brief: bool) -> str | None:
    """The instruction of a template that goes by the row, where all rows have the same: later requests get it too."""
    found = set()
    for record in records:
        plugin: Any = plugins.get("template", record.meta.get(NAME, "none"))
        if not plugin.varies:
            return None
        template = plugin()
        found.add(template.brief(record).removesuffix(": ") if brief else template.instruction(record).strip())
    return found.pop() if len(found) == 1 else None


def template_of(records: Sequence[Record]) -> str:
    """The one template of all records; `auto` where they are examples of several, `none` where of none."""
    names = {record.meta.get(NAME, "none") for record in records}
    return names.pop() if len(names) == 1 else "auto" if names else "none"
