"""Records -> Examples for encoder-decoders (T5, BART): the encoder reads the prompt, the decoder writes the answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from attune.data.chat_template import ChatTemplate, as_dicts
from attune.data.encode import Marks
from attune.data.examples import Example
from attune.data.render import Renderer
from attune.errors import DataError, RecipeError
from attune.records import Message, Record

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Seq2SeqRenderer", "renderer_for", "start_id"]

_PLAIN = """\
{%- if messages | length == 1 -%}
    {{- messages[0].content -}}
{%- else -%}
    {%- for message in messages -%}
        {{- '' if loop.first else '\\n' -}}
        {{- '' if message.role in ('system', 'developer') else (message.role | capitalize) + ': ' -}}
        {{- message.content or '' -}}
    {%- endfor -%}
    {{- '\\nAssistant:' if add_generation_prompt else '' -}}
{%- endif -%}
"""
"""One turn is its text alone, as these bases were trained; several turns carry the speakers' names."""


def renderer_for(tokenizer: PreTrainedTokenizerBase, config: Any, **options: Any) -> Renderer:
    """The renderer that fits a base's configuration; `options` as of `Renderer`."""
    if not config.is_encoder_decoder:
        return Renderer(tokenizer, **options)
    return Seq2SeqRenderer(tokenizer, start_id=start_id(config), **options)


def start_id(config: Any) -> int:
    """The token that a decoder starts from.

    Raises: RecipeError if the configuration names none.
    """
    found = getattr(config, "decoder_start_token_id", None)
    if found is None:
        raise RecipeError(
            f"this {config.model_type} base does not say where its decoder starts",
            why="config.json has no decoder_start_token_id",
            fix="add it to config.json (T5 starts from its pad token, BART from its end-of-sequence token)",
        )
    return int(found)


class Seq2SeqRenderer(Renderer):
    """Text to tokens for an encoder-decoder.

    The source is the prompt between the tokenizer's own begin and end tokens; the decoder starts from `start_id` and,
    where the tokenizer begins every text with a token (BART), from that one too, as `forced_bos_token_id` does. Only
    the answer and its end are scored. Every answer of a conversation is an Example of its own.

    `max_length` holds for source and answer each. `truncate`: `left` and `right` cut the source at that end and a long
    answer at its right end; `drop` leaves the example out.
    Raises: RecipeError for a tokenizer without an end-of-sequence token or with a token for the language.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, start_id: int, **options: Any):
        super().__init__(tokenizer, **options)
        if tokenizer.eos_token_id is None:
            raise RecipeError(
                "the tokenizer has no end-of-sequence token", fix="set its eos_token, or use another base"
            )
        if getattr(tokenizer, "tgt_lang", None) is not None:
            raise RecipeError(
                "this base marks the language of every text with a token of its own",
                why="one source and one target language would have to be chosen, and the data may hold several",
                fix="choose a base that reads plain text (T5, mT5, BART, Pegasus)",
            )
        self.decoder_prefix = (start_id, *self.encoder.frame[0])

    @cached_property
    def template(self) -> ChatTemplate:
        asked, variables = self._asked
        if asked is not None or self.has_own_template:
            return ChatTemplate.of(self.tokenizer, asked, variables)
        return ChatTemplate(_PLAIN, "plain text (no chat template)", True, {**variables})

    @cached_property
    def stop_id(self) -> int | None:
        return self.tokenizer.eos_token_id

    @cached_property
    def stop_ids(self) -> tuple[int, ...]:
        return (self.tokenizer.eos_token_id,)

    def prompt_ids(
        self, source: Record | Sequence[Message | Mapping[str, Any]], tools: Sequence[dict] = ()
    ) -> list[int]:
        """What the encoder reads for a conversation that waits for an answer."""
        where = source.where if isinstance(source, Record) else ""
        rows = as_dicts(source.prompt if isinstance(source, Record) else source)
        tools = source.tools if isinstance(source, Record) else tools
        return self._framed(self._source(rows, tools, where))

    def _source(self, rows: list[dict[str, Any]], tools: Sequence[dict], where: str) -> list[int]:
        if rows and all(row.get("role") == "text" for row in rows):
            return self.text_ids("\n".join(row["content"] for row in rows))
        if tools or any(row.get("tool_calls") for row in rows):
            raise DataError(
                "tool calls cannot be written by an encoder-decoder here",
                where=where or None,
                why="these bases have no words for them",
                fix="drop such rows, or choose a decoder with a chat template for tools",
            )
        [text], marks = self._render(rows, (), [(len(rows), True)], where)
        return self.encoder.encode(text, marks)

    def _framed(self, ids: list[int]) -> list[int]:
        before, after = self.encoder.frame
        return [*before, *ids, *after]

    def _answers(self, record: Record, index: int, number: int, only_last: bool, *, start: int) -> list[Example]:
        messages = [*record.prompt, *(record.completions[number].messages if record.completions else ())]
        raw = any(message.role == "text" for message in messages)
        if raw:
            asked = [len(messages) - 1] if record.completions else []
        else:
            asked = [n for n, m in enumerate(messages) if n >= start and m.role == "assistant" and m.weight != 0]
        fitted: list[Example] = []
        for turn, at in enumerate(asked[-1:] if only_last else asked):
            rows = as_dicts(messages[:at])
            if messages[at].tool_calls:
                rows.append({"role": "assistant", "tool_calls": messages[at].tool_calls})  # refused there
            source = self._source(rows, record.tools, record.where)
            weight = messages[at].weight
            answer = self._answer_ids(messages[at].content)
            fitted += self._fitted(source, answer, 1.0 if weight is None else weight, record.where or record.id)
            for example in fitted[-1:]:
                example.record, example.turn = index, turn
        return fitted

    def _answer_ids(self, text: str) -> list[int]:
        marks = Marks(text)
        return [*self.encoder.encode(self.encoder.mark(text, marks, only_special=True), marks), self.stop_ids[0]]

    def _fitted(self, source: list[int], answer: list[int], weight: float, where: str) -> list[Example]:
        """The example under the truncation policy; empty where it was dropped."""
        limit, report = self.max_length, self.truncation
        frame = len(self._framed([]))
        longest = max(len(source) + frame, len(self.decoder_prefix) + len(answer))
        if report.saw(longest, where):
            room, answer_room = limit - frame, limit - len(self.decoder_prefix)
            lost = max(0, len(source) - room), max(0, len(answer) - answer_room)
            if self.truncate == "drop" or min(room, answer_room) < 1:
                report.dropped += 1
                report.tokens_lost += len(source) + len(answer)
                report.supervised_lost += len(answer)
                return []
            if self.truncate != "error":
                source = source[-room:] if self.truncate == "left" else source[:room]
                answer = answer[:answer_room]
                report.tokens_lost += sum(lost)
                report.supervised_lost += lost[1]
                report.stops_lost += bool(lost[1])
        ids = np.array([*self.decoder_prefix, *answer], dtype=np.int32)
        weights = np.zeros(len(ids), dtype=np.float32)
        weights[len(self.decoder_prefix) :] = weight
        return [Example(ids, weights, source=np.array(self._framed(source), dtype=np.int32))]

    def windows(self, records: Iterable[Record]) -> Iterator[Example]:
        """Raises: RecipeError, always: raw text has no pair of source and answer."""
        raise RecipeError("an encoder-decoder is not trained on raw text", fix="give pairs of input and output")
