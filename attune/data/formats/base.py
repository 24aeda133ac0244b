"""What a format is, and the checks that all formats share."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from attune.data.rows import Where
from attune.records import Completion, Label, Message, Record

__all__ = [
    "Bad",
    "Drop",
    "Mapping",
    "Format",
    "make",
    "message",
    "conversation",
    "answers",
    "text_of",
    "filled",
    "tools_of",
    "parsed",
]

ROLE_NAMES = frozenset(("system", "developer", "user", "assistant", "tool"))
META_LIMIT_CHARS = 200


class Bad(ValueError):
    """The row is not what its format says: an error, unless the user lets bad rows be skipped."""


class Drop(ValueError):
    """The row is well formed but has nothing to learn from; it is left out and counted.

    `expected`: it says nothing against the data (a tie between two answers) and does not count towards `max_drop`.
    """

    def __init__(self, reason: str, expected: bool = False):
        super().__init__(reason)
        self.expected = expected


@dataclass
class Mapping:
    """What the user, or the first look at the data, decided about the columns."""

    columns: dict[str, str] = field(default_factory=dict)
    """Our name -> the user's name. Rows reach a format with our names."""
    task: str | None = None
    raw: bool = False
    """Prompts and completions that are strings stay raw text (role `text`) instead of becoming chat turns."""
    separator: str | None = None
    """Splits a label string into several labels."""
    notices: Counter[str] = field(default_factory=Counter)

    def name(self, ours: str) -> str:
        """The user's word for a column, for messages."""
        return self.columns.get(ours, ours)


class Format:
    """One shape of row and how it becomes a Record. The first paragraph of a format's docstring shows the shape."""

    name: ClassVar[str]
    task: ClassVar[str]
    """What data of this shape is for unless the user says otherwise."""

    def sniff(self, row: dict[str, Any]) -> int:
        """0 = not this shape; the highest answer of all formats wins, so a more particular shape answers higher."""
        raise TypeError(f"{type(self).__name__} must say how to recognise its rows")

    def expand(self, row: dict[str, Any], where: Where) -> Iterator[tuple[Where, dict[str, Any]]]:
        """The rows inside a row: one for most formats, many for nested documents."""
        yield where, row

    def read(self, row: dict[str, Any], where: Where, mapping: Mapping) -> Record:
        """Raises: Bad, Drop."""
        raise TypeError(f"{type(self).__name__} must say how to read a row")


def make(
    row: dict[str, Any],
    where: Where,
    used: Iterable[str],
    *,
    prompt: tuple[Message, ...] = (),
    completions: tuple[Completion, ...] = (),
    label: Label = None,
    answer: str | None = None,
    tools: tuple[dict, ...] = (),
    meta: dict[str, Any] | None = None,
) -> Record:
    """A Record with the id of the row's `id` column, else of its content; short scalar columns not `used` go to
    meta.
    """
    extra = dict(meta or ())
    task = "default"
    given = None
    for key, value in row.items():
        if key == "id" and isinstance(value, (str, int)) and value != "":
            given = str(value)
        elif key == "task" and key not in used and isinstance(value, str) and value:
            task = value
        elif key not in used and value is not None and value != "" and key not in extra:
            kind = type(value)
            if kind in (int, float, bool) or (kind is str and len(value) <= META_LIMIT_CHARS):
                extra[key] = value
    if given is None:
        parts = [_content(prompt)]
        parts += [f"|{each.good}{_content(each.messages)}" for each in completions]
        if label is not None or answer is not None or tools:
            parts.append(json.dumps([label, answer, tools], default=str, sort_keys=True))
        given = hashlib.sha256("|".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return Record(given, prompt, completions, label, answer, task, tools, extra, f"{where.path}:{where.line}")


def _content(messages: tuple[Message, ...]) -> str:
    """What an id is made of; each content with its length, so that no two conversations read alike."""
    return "".join(
        [f"{turn.role}{len(turn.content)}:{turn.content}" for turn in messages]
        + [json.dumps(turn.tool_calls, sort_keys=True) for turn in messages if turn.tool_calls]
    )


def filled(row: dict[str, Any], key: str, mapping: Mapping) -> str:
    """A text that must be there. Raises: Bad."""
    value = row.get(key)
    if isinstance(value, str) and value.strip():
        return value
    name = mapping.name(key)
    if key not in row:
        raise Bad(f"{name} is missing")
    if value is None or isinstance(value, str):
        raise Bad(f"{name} is {'null' if value is None else 'empty'}")
    raise Bad(f"{name} is {_kind(value)}, a text is meant")


def answer_text(row: dict[str, Any], key: str, mapping: Mapping) -> str:
    """A text to learn: without it there is nothing to learn from this row. Raises: Drop, Bad."""
    value = row.get(key)
    if value is None or (isinstance(value, str) and not value.strip()):
        raise Drop(f"{mapping.name(key)} is empty")
    if not isinstance(value, str):
        raise Bad(f"{mapping.name(key)} is {_kind(value)}, a text is meant")
    return value


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", bool: "true or false", str: "a text", type(None): "null"}
    return names.get(type(value), "a number")


def parsed(value: Any, name: str) -> Any:
    """A list or object that a table holds as JSON text. Raises: Bad."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        pass
    try:
        from ast import literal_eval as literal

        return literal(value)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        raise Bad(f"{name} is not JSON: {value[:60]!r}") from None


def tools_of(row: dict[str, Any]) -> tuple[dict, ...]:
    """The functions a model may call: a list, or its JSON text. Raises: Bad."""
    tools = row.get("tools")
    if tools is None or tools == "":
        return ()
    if isinstance(tools, str):
        try:
            tools = json.loads(tools)
        except ValueError as error:
            raise Bad(f"tools is not JSON: {error}") from None
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise Bad("tools is not a list of objects")
    return tuple(tools)


def text_of(content: Any, name: str) -> str:
    """Text of a message's content: a string, or a list of text parts. Raises: Bad."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        texts = []
        for number, part in enumerate(content):
            if isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str):
                texts.append(part["text"])
            else:
                kind = part.get("type") if isinstance(part, dict) else _kind(part)
                raise Bad(f"{name}[{number}] is {kind}: only text parts can be trained on")
        return "\n".join(texts)
    raise Bad(f"{name} is {_kind(content)}, a text is meant")


def message(row: Any, name: str) -> Message:
    """One OpenAI message. `name` is where it stands, for the reason. Raises: Bad."""
    if type(row) is not dict:
        raise Bad(f"{name} is {_kind(row)}, an object with role and content is meant")
    role, content = row.get("role"), row.get("content")
    if type(role) is not str or role not in ROLE_NAMES:
        if role != "function":
            raise Bad(f"{name}.role is {role!r}, not one of system, developer, user, assistant, tool")
        role = "tool"
    if len(row) == 2 and type(content) is str:
        if not content.strip() and role in ("system", "developer", "user"):
            raise Bad(f"{name}.content is empty")
        return Message(role, content)
    calls = row.get("tool_calls") or ()
    if not calls and isinstance(row.get("function_call"), dict):
        calls = [{"type": "function", "function": row["function_call"]}]
    if calls and (not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls)):
        raise Bad(f"{name}.tool_calls is not a list of objects")
    if calls and role != "assistant":
        raise Bad(f"{name}.tool_calls stands in a {role} turn, only the assistant calls tools")
    if content is None:
        if not calls:
            raise Bad(f"{name}.content is null")
        content = ""
    content = text_of(content, f"{name}.content")
    if not content.strip() and role in ("system", "developer", "user"):
        raise Bad(f"{name}.content is empty")
    weight = row.get("weight")
    if weight is not None and (isinstance(weight, bool) or not isinstance(weight, (int, float)) or weight < 0):
        raise Bad(f"{name}.weight is {weight!r}, a number from 0 is meant")
    for key in ("name", "tool_call_id"):
        if row.get(key) is not None and not isinstance(row[key], str):
            raise Bad(f"{name}.{key} is {_kind(row[key])}, a text is meant")
    return Message(
        role, content, row.get("name"), None if weight is None else float(weight), tuple(calls), row.get("tool_call_id")
    )


def conversation(rows: Any, name: str) -> tuple[Message, ...]:
    """Turns in an order that a chat template can render. Raises: Bad."""
    if type(rows) is not list:
        raise Bad(f"{name} is {_kind(rows)}, a list of turns is meant")
    if not rows:
        raise Bad(f"{name} is empty")
    turns = tuple([message(row, f"{name}[{number}]") for number, row in enumerate(rows)])
    for number, turn in enumerate(turns):
        if number and turn.role in ("system", "developer"):
            two = turns[0].role in ("system", "developer")
            raise Bad(
                f"{name}[{number}] is {'a second' if two else 'a late'} {turn.role} turn: one, at the start, is allowed"
            )
    return turns


def answers(turns: tuple[Message, ...], name: str) -> tuple[tuple[Message, ...], Completion]:
    """Prompt and completion: the completion is everything after the last user turn.

    Raises: Bad if the last turn is not the assistant's, Drop if it says nothing.
    """
    last = turns[-1]
    if last.role != "assistant":
        raise Bad(f"{name} ends with a {last.role} turn: there is no answer to learn")
    if not last.content.strip() and not last.tool_calls:
        raise Drop("the last answer is empty")
    start = next((at + 1 for at in range(len(turns) - 1, -1, -1) if turns[at].role == "user"), None)
    if start is None:
        start = next(at for at, turn in enumerate(turns) if turn.role not in ("system", "developer"))
    return turns[:start], Completion(turns[start:])


def turns_of(value: Any, role: str, name: str, mapping: Mapping) -> tuple[Message, ...]:
    """A prompt or an answer given as a text or as messages. An answer's text that is empty is kept for the caller to
    judge.
    """
    if isinstance(value, str):
        return (Message("text" if mapping.raw else role, value),)
    if value is None:
        raise Bad(f"{name} is null")
    if isinstance(value, dict):
        value = [value]
    return conversation(value, name)
