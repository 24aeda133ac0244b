"""The chat template: where it comes from, what it can and cannot do, and how messages are rendered with it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attune.data.template_sandbox import TemplateFailure, render, variables_of
from attune.errors import DataError
from attune.records import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["ChatTemplate", "CHATML", "plain_template", "as_dicts"]

CHATML = Path(__file__).with_name("chatml.jinja")
"""ChatML with generation markers: the template of the bundled starter."""

_PLAIN = """\
{%- for message in messages -%}
    {{- '### ' + (message.role | capitalize) + ':\\n' + (message.content or '') -}}
    {%- if message.role == 'assistant' -%}{{- eos_token -}}{%- endif -%}
    {{- '\\n\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '### Assistant:\\n' -}}{%- endif -%}
"""

_SYSTEM, _USER, _ANSWER = "Sys7Probe", "Usr7Probe", "Ans7Probe"


def plain_template(*, bos: bool) -> str:
    """For base models without a chat template: role headers as text (`### User:`), and the end-of-sequence token as the
    stop after each answer. No token is added to the vocabulary. `bos`: begin with the tokenizer's BOS."""
    return ("{{- bos_token -}}\n" if bos else "") + _PLAIN


def as_dicts(messages: Sequence[Message | Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Messages as templates expect them: no training weight, tool-call arguments as objects rather than JSON text."""
    rows = []
    for message in messages:
        row = message.to_dict() if isinstance(message, Message) else {k: v for k, v in message.items() if v is not None}
        row.pop("weight", None)
        if row.get("tool_calls"):
            row["tool_calls"] = [_with_object_arguments(call) for call in row["tool_calls"]]
        rows.append(row)
    return rows


def _with_object_arguments(call: Mapping[str, Any]) -> dict[str, Any]:
    function = dict(call.get("function") or {})
    if isinstance(function.get("arguments"), str):
        try:
            function["arguments"] = json.loads(function["arguments"])
        except ValueError:
            return dict(call)
    return {**call, **({"function": function} if function else {})}


@dataclass(frozen=True)
class ChatTemplate:
    """A Jinja template and the tokens it may name. Foreign ones render in a process with limits.

    Raises: DataError (at the first rendering) naming the template, if it has a syntax error or breaks a limit.
    """

    source: str
    name: str = "chat template"
    trusted: bool = False
    variables: Mapping[str, Any] = field(default_factory=dict)
    """Special tokens by name (`eos_token`), and switches such as `enable_thinking`."""

    @classmethod
    def of(
        cls, tokenizer: PreTrainedTokenizerBase, template: str | None = None, variables: Mapping[str, Any] | None = None
    ) -> ChatTemplate:
        """The template to use: the one asked for (`chatml`, `plain`, a `.jinja` file, or Jinja text), else the
        tokenizer's own, else `plain`.

        Raises: DataError if a file cannot be read, or `plain` is needed and there is no end-of-sequence token.
        """
        named: dict[str, Any] = dict(tokenizer.special_tokens_map)
        named.update(variables or {})
        if template == "chatml":
            return cls(CHATML.read_text(encoding="utf-8"), "chatml", True, named)
        if template is not None and template != "plain":
            return cls(*_given(template), False, named)
        own = tokenizer.chat_template if template is None else None
        if isinstance(own, dict):
            own = own.get("default") or next(iter(own.values()), None)
        if own:
            trusted = own == CHATML.read_text(encoding="utf-8")
            return cls(own, f"chat template of {tokenizer.name_or_path or 'the tokenizer'}", trusted, named)
        if tokenizer.eos_token is None:
            raise DataError(
                "the tokenizer has neither a chat template nor an end-of-sequence token",
                why="a model trained on it could never stop",
                fix="set the tokenizer's eos_token, or give a template that writes a stop token",
            )
        first = tokenizer("a").input_ids[:1]
        bos = tokenizer.bos_token_id is not None and first == [tokenizer.bos_token_id]
        return cls(plain_template(bos=bos), "plain", True, named)

    def render(
        self, calls: Sequence[tuple[list[dict[str, Any]], bool]], tools: Sequence[dict[str, Any]] = ()
    ) -> list[str]:
        """Text of each (messages, with the header of the next answer).

        Raises: TemplateFailure if the template itself raises.
        """
        if not self.knows_developer:
            calls = [([{**m, "role": "system"} if m.get("role") == "developer" else m for m in c], g) for c, g in calls]
        requests = [variables_of(c, list(tools), generation=g, extra=self.variables) for c, g in calls]
        return render(self.source, requests, trusted=self.trusted, name=self.name)

    def _probe(self, messages: list[dict[str, Any]], generation: bool = False) -> str | None:
        try:
            return self.render([(messages, generation)])[0]
        except TemplateFailure:
            return None

    @property
    def knows_developer(self) -> bool:
        return "developer" in self.source

    @property
    def has_generation_markers(self) -> bool:
        """Are the answers marked with `{% generation %}`? Not needed here; other trainers do."""
        return bool(re.search(r"\{%-?\s*generation\s*-?%\}", self.source))

    @property
    def uses_clock(self) -> bool:
        """Does the text depend on today's date?"""
        return "strftime_now" in self.source

    @cached_property
    def system_role(self) -> str:
        """`kept`, `rejected` (the template raises) or `dropped` (its text is nowhere to be seen)."""
        text = self._probe([{"role": "system", "content": _SYSTEM}, {"role": "user", "content": _USER}], True)
        if text is None:
            return "rejected"
        return "kept" if _SYSTEM in text else "dropped"

    @cached_property
    def tails(self) -> tuple[str, str]:
        """What follows an answer: when it is the last turn, and when the user speaks again."""
        user, answer = {"role": "user", "content": _USER}, {"role": "assistant", "content": _ANSWER}
        last = self._probe([user, answer])
        if last is None or _ANSWER not in last:
            raise DataError(
                f"the {self.name} does not render a question and an answer",
                fix="use another template, or correct this one",
            )
        middle = self._probe([user, answer, user]) or ""
        return last.rsplit(_ANSWER, 1)[1], middle.rsplit(_ANSWER, 1)[-1] if _ANSWER in middle else ""

    @cached_property
    def tool_tail(self) -> str:
        """The last characters of a turn that calls a tool; empty if the template knows no tools."""
        call = {"type": "function", "id": "call00000", "function": {"name": "look", "arguments": {"at": _ANSWER}}}
        answer = {"role": "assistant", "content": "", "tool_calls": [call]}
        text = self._probe([{"role": "user", "content": _USER}, answer]) or ""
        return text.rsplit(_ANSWER, 1)[1] if _ANSWER in text else ""

    @cached_property
    def shared_tail(self) -> str:
        """What follows an answer in either case: the end of the turn."""
        return os.path.commonprefix(self.tails)


def _given(template: str) -> tuple[str, str]:
    if "{" in template or "\n" in template:
        return template, "chat template of the recipe"
    try:
        return Path(template).read_text(encoding="utf-8"), f"chat template {template}"
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"the chat template '{template}' cannot be read",
            why=str(error),
            fix="give `chatml`, `plain`, the path of a .jinja file, or the template's text",
        ) from error
