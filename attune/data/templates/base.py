"""What a written task is: the words that ask for it, the columns it is recognised by, the figures that judge it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, ClassVar

from attune.records import Record

__all__ = ["Template", "NAME", "TOLD", "SCHEMA", "WORDS", "choose", "tagged", "wrapped", "source_text"]

NAME, TOLD, SCHEMA, WORDS = "attune.template", "attune.told", "attune.schema", "attune.instruction"
"""Keys of a record's meta: its template, how many characters of its prompt are the instruction, its JSON Schema, and
the user's own words for the instruction."""


class Template:
    """A written task. `instruction` stands before the text for decoders, `brief` for encoder-decoders."""

    name: ClassVar[str]
    columns: ClassVar[tuple[tuple[str, ...], ...]] = ()
    """Sets of columns that show the task by their names alone."""
    formats: ClassVar[tuple[str, ...]] = ()
    """Formats of data that are this task and nothing else."""
    varies: ClassVar[bool] = False
    """Whether the instruction depends on the row."""
    metrics: ClassVar[tuple[str, ...]]
    """Figures of written answers, the ones shown first first."""
    primary: ClassVar[str]
    """The figure that decides."""

    def fits(self, format: str, columns: frozenset[str]) -> bool:
        """Whether data of this shape is this task."""
        return format in self.formats or any(columns >= set(names) for names in self.columns)

    def instruction(self, record: Record) -> str:
        """What stands before the text, its own separator included; empty for nothing."""
        return ""

    def brief(self, record: Record) -> str:
        """The same for an encoder-decoder: a short prefix, as those bases were trained with."""
        return self.instruction(record)

    def completed(self, record: Record, schema: dict[str, Any] | None) -> Record:
        """A record as it was read, with what the template adds to its meta.

        Raises: ValueError with the reason why it is not an example of the task.
        """
        return record


def choose(format: str, columns: Iterable[str]) -> str:
    """The template that data of a format with these columns is for; `none` where the text asks for nothing by itself
    that is known."""
    from attune import plugins

    seen = frozenset(columns)
    for name, plugin in plugins.find("template").items():
        if plugin().fits(format, seen):  # type: ignore[attr-defined]
            return name
    return "none"


def tagged(record: Record, name: str, schema: dict[str, Any] | None = None, instruction: str | None = None) -> Record:
    """The record as an example of a task, whatever it was an example of before (only a text that is wrapped already
    stays); `instruction` replaces the template's words.

    Raises: ValueError with the reason why it is none.
    """
    if TOLD in record.meta:
        return record
    words = {} if instruction is None else {WORDS: instruction}
    return _template(name).completed(replace(record, meta={**record.meta, **words, NAME: name}), schema)


def wrapped(record: Record, *, brief: bool) -> Record:
    """The record as the model reads it: its one user turn behind the instruction of its template.

    A conversation of several turns, raw text, and a text that is wrapped already stay as they are.
    """
    name = record.meta.get(NAME)
    turns = record.prompt
    if name is None or TOLD in record.meta or len(turns) != 1 or turns[0].role != "user":
        return record
    template = _template(name)
    told = template.brief(record) if brief else template.instruction(record)
    if told and (words := record.meta.get(WORDS)):
        told = words + (": " if brief else "\n\n")
    if not told:
        return record
    text = turns[0].content
    turn = replace(turns[0], content=text if text.startswith(told) else told + text)
    return replace(record, prompt=(turn,), meta={**record.meta, TOLD: len(told)})


def source_text(record: Record) -> str:
    """The text that a record is about, without the instruction before it."""
    text = record.prompt[-1].content if record.prompt else ""
    return text[record.meta.get(TOLD, 0) :]


def _template(name: str) -> Template:
    from attune import plugins

    return plugins.get("template", name)()
