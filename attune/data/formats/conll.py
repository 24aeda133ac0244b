"""CoNLL columns."""

from __future__ import annotations

from typing import Any

from attune.data.formats.base import Bad, Format, Mapping, make
from attune.data.rows import Where
from attune.data.tags import offsets_of, spans_of
from attune.records import Message, Record


class Conll(Format):
    """`token <tab or space> ... tag`, one token a line, an empty line between sentences; first column token, last
    column tag

    The text is the tokens joined by one space; meta["tokens"] keeps [[start, end], ...] of each.
    """

    name = "conll"
    task = "tagging"

    def sniff(self, row: dict[str, Any]) -> int:
        return 80 if isinstance(row.get("conll"), list) else 0

    def read(self, row: dict[str, Any], where: Where, mapping: Mapping) -> Record:
        cells = row.get("conll")
        if (
            not isinstance(cells, list)
            or not all(isinstance(cell, list) and len(cell) > 1 for cell in cells)
            or not cells
        ):
            raise Bad("not a sentence of a CoNLL file: columns of token and tag are meant")
        if not all(isinstance(cell[at], str) for cell in cells for at in (0, -1)):
            raise Bad("a token or a tag is not a text")
        return tagged([cell[0] for cell in cells], [cell[-1] for cell in cells], {}, where, ("conll",))


def tagged(tokens: list[str], tags: list[str], row: dict[str, Any], where: Where, used: tuple[str, ...]) -> Record:
    """A Record of tokens and their tags. Raises: Bad."""
    if not all(tokens):
        raise Bad(f"token {tokens.index('') + 1} is empty")
    offsets = offsets_of(tokens)
    try:
        label = spans_of(tags, offsets)
    except ValueError as error:
        raise Bad(str(error)) from None
    return make(row, where, used, prompt=(Message("user", " ".join(tokens)),), label=label, meta={"tokens": offsets})
