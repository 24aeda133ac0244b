"""JSON as the standard means it, at the speed of the C parser, with the column of what is wrong."""

from __future__ import annotations

import json
import re
from json.scanner import make_scanner
from typing import Any

__all__ = ["Fault", "parse", "parse_prefix", "skip", "refuse", "SPACE", "DEPTH_LIMIT"]

DEPTH_LIMIT = 100
"""Brackets inside brackets; deeper rows would later exhaust the stack of whatever walks them."""


class Fault(ValueError):
    """Text is not strict JSON. `offset` counts characters from the start of the text, from 0; `end`: more text might
    help.
    """

    def __init__(self, offset: int, reason: str, end: bool = False):
        super().__init__(reason)
        self.offset, self.reason, self.end = offset, reason, end


class _Refused(ValueError):
    """Raised inside the C parser by a hook, which does not know its offset."""


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) != len(pairs):
        raise _Refused
    return row


def _integer(text: str) -> int:
    if len(text) > 18 and (len(text) > 20 or not -(1 << 63) <= int(text) < 1 << 64):
        raise _Refused
    return int(text)


def _number(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise _Refused
    return value


def _constant(text: str) -> None:
    raise _Refused


CUT = " (the text ends before the value does)"
_decoder = json.JSONDecoder(object_pairs_hook=_pairs, parse_int=_integer, parse_float=_number, parse_constant=_constant)
_scan = make_scanner(_decoder)  # type: ignore[arg-type]
_lenient = make_scanner(json.JSONDecoder())  # type: ignore[arg-type]

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*+"?|-?(?:Infinity|NaN)|-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?|[\[\]{},:]', re.DOTALL)
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL)
_JSON_OF = {"True": "true", "False": "false", "None": "null"}
_PYTHON = re.compile(rf"({'|'.join(_JSON_OF)})\b")
SPACE = re.compile(r"[ \t\n\r]*")


def parse(text: str) -> Any:
    """The value of a whole text.

    Raises: Fault for anything a strict reader of another tool would refuse or read differently.
    """
    try:
        value, end = _scan(text, 0)
    except (ValueError, StopIteration, RecursionError):
        start = SPACE.match(text).end()  # type: ignore[union-attr]
        value, end = parse_prefix(text, start)
    if (
        (end != len(text) and SPACE.match(text, end).end() != len(text))  # type: ignore[union-attr]
        or ("\\ud" in text or "\\uD" in text)
        or text.count("{") + text.count("[") > DEPTH_LIMIT
    ):
        end = SPACE.match(text, end).end()  # type: ignore[union-attr]
        if end != len(text):
            raise Fault(end, "more text after the end of the JSON value")
        refuse(text)
    return value


def parse_prefix(text: str, start: int) -> tuple[Any, int]:
    """The value that begins at `start`, and the offset of its end.

    Raises: Fault; with `end` set if the text may only be cut off.
    """
    try:
        return _scan(text, start)
    except _Refused:
        refuse(text, start)
        raise Fault(start, "not strict JSON", end=True) from None
    except StopIteration as stop:
        unfinished = stop.value >= len(text.rstrip())
        cut = CUT if unfinished else ""
        what = _spelt(text, stop.value) or f"a value is missing here{cut}"
        raise Fault(stop.value, f"invalid JSON: {what}", end=unfinished) from None
    except RecursionError:
        refuse(text, start)
        raise Fault(start, f"nested deeper than {DEPTH_LIMIT} levels", end=True) from None
    except json.JSONDecodeError as error:
        unfinished = (
            error.msg.startswith("Unterminated") or error.pos >= len(text.rstrip()) or "\\" in text[error.pos - 1 :]
        )
        cut = CUT if unfinished and "escape" not in error.msg else ""
        at = error.pos
        if text[at : at + 1] == ",":  # where Python 3.13 sees a comma too many; older ones see what follows it
            at = SPACE.match(text, at + 1).end()  # type: ignore[union-attr]
        what = _spelt(text, at) or f"{error.msg[0].lower()}{error.msg[1:]}{cut}"
        raise Fault(at, f"invalid JSON: {what}", end=unfinished) from None


def _spelt(text: str, at: int) -> str | None:
    """What stands there instead of JSON, for what is written often; None for anything else."""
    if text[at : at + 1] in ("}", "]") and text[:at].rstrip()[-1:] == ",":
        return f"a comma before {text[at]}"
    if text[at : at + 1] == "'":
        return "'...' is not text; JSON quotes keys and text as \"...\""
    found = _PYTHON.match(text, at)
    return f"{found[0]} is Python's; JSON writes {_JSON_OF[found[0]]}" if found else None


def skip(text: str, start: int) -> int | None:
    """Offset of the end of a refused but well-formed value, or None."""
    try:
        return _lenient(text, start)[1]
    except (ValueError, StopIteration, RecursionError):
        return None


def refuse(text: str, start: int = 0) -> None:
    """Find the first thing that is JSON to a lax reader only, token by token, and say where it is.

    Raises: Fault, if there is one.
    """
    stack: list[set[str] | None] = []
    key = False
    for match in _TOKEN.finditer(text, start):
        token, at = match[0], match.start()
        first = token[0]
        if first in "{[":
            stack.append(set() if first == "{" else None)
            key = first == "{"
            if len(stack) > DEPTH_LIMIT:
                raise Fault(at, f"nested deeper than {DEPTH_LIMIT} levels")
        elif first in "}]":
            if stack:
                stack.pop()
            if not stack:
                return
        elif first == ",":
            key = bool(stack) and stack[-1] is not None
        elif first == ":":
            key = False
        elif first == '"':
            _surrogates(token, at)
            if key and stack and (keys := stack[-1]) is not None:
                if token in keys:
                    raise Fault(at, f"the key {token[:60]} stands twice")
                keys.add(token)
        elif token.lstrip("-") in ("NaN", "Infinity"):
            raise Fault(at, f"{token} is not JSON; write null or leave the field out")
        else:
            try:
                (_number if any(mark in token for mark in ".eE") else _integer)(token)
            except _Refused:
                shown = token if len(token) <= 24 else token[:20] + "..."
                why = "too large for a number" if any(mark in token for mark in ".eE") else "wider than 64 bits"
                raise Fault(at, f"{shown} is {why}; quote it to make it text") from None


def _surrogates(token: str, at: int) -> None:
    if "\\u" not in token:
        return
    high = None
    for match in _ESCAPE.finditer(token):
        code = int(match[1], 16) if match[1] else 0
        paired = high is not None and match.start() == high.end()
        if high is not None and not (paired and 0xDC00 <= code <= 0xDFFF):
            raise Fault(at + high.start(), f"lone surrogate {high[0]}: half of a character")
        if high is None and 0xDC00 <= code <= 0xDFFF:
            raise Fault(at + match.start(), f"lone surrogate {match[0]}: half of a character")
        high = match if 0xD800 <= code <= 0xDBFF else None
    if high is not None:
        raise Fault(at + high.start(), f"lone surrogate {high[0]}: half of a character")
