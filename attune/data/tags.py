"""Tags on tokens (BIO, IOBES, BILOU) as spans of characters."""

from __future__ import annotations

from collections.abc import Sequence

from attune.records import Span

__all__ = ["spans_of", "offsets_of"]

BEGIN, INSIDE, END, SINGLE = "B", "I", "EL", "SUW"


def offsets_of(tokens: Sequence[str]) -> list[list[int]]:
    """[start, end) of each token in the tokens joined by one space."""
    offsets, at = [], 0
    for token in tokens:
        offsets.append([at, at + len(token)])
        at += len(token) + 1
    return offsets


def spans_of(tags: Sequence[str], offsets: Sequence[Sequence[int]]) -> tuple[Span, ...]:
    """Spans that the tags mark. An inside tag that nothing begins, or of another label, begins a span (as IOB1 means
    it).

    Raises: ValueError naming a tag that is none.
    """
    spans: list[Span] = []
    start, end, label = 0, 0, ""
    for tag, (left, right) in zip(tags, offsets, strict=True):
        prefix, mark, name = tag[:1], tag[1:2], tag[2:]
        if tag == "O":
            prefix = "O"
        elif mark not in ("-", "_") or not name or prefix not in BEGIN + INSIDE + END + SINGLE:
            raise ValueError(f"tag {tag!r} is not O, B-name, I-name (or E-, L-, S-, U-name)")
        if label and (prefix not in INSIDE + END or name != label):
            spans.append(Span(start, end, label))
            label = ""
        if prefix == "O":
            continue
        if not label:
            start, label = left, name
        end = right
        if prefix in END + SINGLE:
            spans.append(Span(start, end, label))
            label = ""
    if label:
        spans.append(Span(start, end, label))
    return tuple(spans)
