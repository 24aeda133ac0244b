"""Documents cut into pieces that a model can be asked about: whole sentences under one heading, with some overlap."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from attune.curate.reading import Document
from attune.records import Record

__all__ = ["Chunk", "chunks", "sentences"]

_END = re.compile(r"[.!?…]++[\"'”’»)\]]*+(?=\s)|[。！？]++[」』”’]*+|\n[ \t]*+\n|\n(?=[ \t]*+(?:[-*•|]|\d{1,3}[.)])\s)")
_ABBREVIATION = re.compile(
    r"(?:\b(?:[A-Z]|[Dd]r|[Mm]rs?|[Mm]s|[Pp]rof|[Ss]t|[Nn]o|[Nn]r|[Aa]rt|[Ff]ig|[Vv]ol|[Pp]p?|vs|etc|e\.g|i\.e|z\.B|d\.h|"
    r"ca|cf|al|Inc|Ltd|Co|Corp|Jr|Sr|Jan|Feb|Mar|Apr|Aug|Sept?|Oct|Nov|Dec|Abs|bzw|usw)|§)\.\Z"
)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a document, as it stands there."""

    id: str
    source: str
    title: str
    heading: str
    number: int
    """Position in its document, from 1."""
    text: str


def sentences(text: str) -> list[tuple[int, int]]:
    """Where sentences (and list items, and paragraphs) begin and end; together they are all of the text but spaces."""
    found, start = [], 0
    for match in _END.finditer(text):
        tail = text[max(start, match.end() - 12) : match.end()]
        following = text[match.end() : match.end() + 3].lstrip()[:1]
        if match[0] == "." and (_ABBREVIATION.search(tail) or following.islower()):
            continue
        found.append((start, match.end()))
        start = match.end()
    found.append((start, len(text)))
    trimmed = []
    for begin, end in found:
        part = text[begin:end]
        begin += len(part) - len(part.lstrip())
        end -= len(part) - len(part.rstrip())
        if begin < end:
            trimmed.append((begin, end))
    return trimmed


def chunks(
    documents: Iterable[Document],
    *,
    size: int = 1500,
    overlap: int = 150,
    least: int = 200,
    length: Callable[[str], int] = len,
) -> Iterator[Chunk]:
    """Pieces of at most `size`, which begin and end with a sentence and never cross a heading.

    `overlap` of the end of a piece stands again at the beginning of the next one of the section. A section shorter
    than `least` goes together with the one after it, its heading in the text. `length` measures: characters, or tokens
    with a tokenizer. A sentence longer than `size` is cut at spaces.
    """
    for document in documents:
        number = 0
        for heading, text in _merged(document.sections, size, least, length):
            for piece in _packed(text, size, overlap, length):
                number += 1
                name = Record.content_id([document.sha256, number, piece])
                yield Chunk(name, document.path, document.title, heading, number, piece)


def _merged(
    sections: Iterable[tuple[str, str]], size: int, least: int, length: Callable[[str], int]
) -> Iterator[tuple[str, str]]:
    held: tuple[str, str] | None = None
    for heading, text in sections:
        if held is not None:
            joined = f"{held[1]}\n\n{heading}\n{text}" if heading else f"{held[1]}\n\n{text}"
            if length(joined) <= size:
                heading, text = held[0] or heading, joined
            else:
                yield held
        held = (heading, text)
        if length(text) >= least:
            yield held
            held = None
    if held is not None:
        yield held


def _packed(text: str, size: int, overlap: int, length: Callable[[str], int]) -> Iterator[str]:
    parts = [part for begin, end in sentences(text) for part in _short(text, begin, end, size, length)]
    first = 0
    for at in range(1, len(parts)):
        if length(text[parts[first][0] : parts[at][1]]) <= size:
            continue
        yield text[parts[first][0] : parts[at - 1][1]]
        back = at
        while (
            back - 1 > first
            and length(text[parts[back - 1][0] : parts[at - 1][1]]) <= overlap
            and length(text[parts[back - 1][0] : parts[at][1]]) <= size
        ):
            back -= 1
        first = back
    if parts:
        yield text[parts[first][0] : parts[-1][1]]


def _short(text: str, begin: int, end: int, size: int, length: Callable[[str], int]) -> Iterator[tuple[int, int]]:
    """The sentence, or pieces of it that are no longer than `size`."""
    while length(text[begin:end]) > size:
        cut = begin + max(1, int((end - begin) * size / length(text[begin:end]) * 0.9))
        while cut - begin > 1 and length(text[begin:cut]) > size:
            cut = begin + (cut - begin) // 2
        space = max(text.rfind(" ", begin + 1, cut), text.rfind("\n", begin + 1, cut))
        cut = space if space > begin + (cut - begin) // 2 else cut
        yield begin, cut
        begin = cut + (len(text[cut:end]) - len(text[cut:end].lstrip()))
    if begin < end:
        yield begin, end
