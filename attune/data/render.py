"""Records -> Examples: which text the model reads, and which tokens of it are supervised.

Parity. `prompt_ids` is what the server sends; `sft` trains on exactly those ids, followed by what the template renders
after them. Ids are those of the whole text encoded at once (equal to `tokenizer.apply_chat_template`), with two
exceptions that training and serving share: control tokens inside anybody's text are encoded as plain text, and an
answer whose first characters would merge with the prompt's last is encoded on its own, because a server cannot send a
token that is half prompt and half answer.

Multi-turn. An answer joins the Example of the turns before it when the ids a server would send at that turn begin with
what that Example already holds; otherwise (templates that rewrite or drop earlier text, such as past reasoning) it
starts an Example of its own.

Literal text. In system, user and tool text every added token is literal; in assistant text only the special ones are,
so that an answer may hold tokens such as `<think>` or `<tool_call>` that the model has to write itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from attune.data.chat_template import ChatTemplate, as_dicts
from attune.data.encode import Encoder, Marks
from attune.data.examples import Example, ExampleStore
from attune.data.labelling import classify, tag
from attune.data.template_sandbox import TemplateFailure
from attune.data.truncation import POLICIES, Truncation
from attune.errors import DataError, RecipeError
from attune.records import ROLES, Message, Record

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Renderer"]

Messages = Sequence[Message | Mapping[str, Any]]


class Renderer:
    """Text to tokens, one way for training, evaluation and serving.

    `template`: `chatml`, `plain`, a `.jinja` file or Jinja text; None = the tokenizer's own, or `plain` if it has none.
    `train_on`: `all_assistant` (every assistant turn whose weight is not 0) or `last` (only the final one).
    `variables`: extra template variables, such as `{"enable_thinking": False}`.
    Raises: RecipeError for options that do not exist, DataError for a tokenizer that cannot be used.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        template: str | None = None,
        max_length: int = 512,
        truncate: str = "error",
        train_on: str = "all_assistant",
        variables: Mapping[str, Any] | None = None,
    ):
        if truncate not in POLICIES:
            raise RecipeError(f"data.truncate: '{truncate}' is not a policy", fix=f"one of: {', '.join(POLICIES)}")
        if train_on not in ("all_assistant", "last"):
            raise RecipeError(f"train_on: '{train_on}' is unknown", fix="all_assistant or last")
        if max_length < 4:
            raise RecipeError(f"data.max_length: {max_length} is too short for any example", fix="at least 4")
        self.tokenizer, self.max_length, self.truncate, self.train_on = tokenizer, max_length, truncate, train_on
        self.encoder = Encoder(tokenizer)
        self._asked = (template, dict(variables or {}))
        self.truncation = Truncation(truncate, max_length)
        self.decoder_prefix: tuple[int, ...] = ()
        """What every answer of an encoder-decoder begins with; empty for other models."""

    @cached_property
    def template(self) -> ChatTemplate:
        """The chat template in use; its `source` is what has to be saved with the model."""
        return ChatTemplate.of(self.tokenizer, *self._asked)

    @property
    def has_own_template(self) -> bool:
        """Does the tokenizer bring a chat template?"""
        return bool(self.tokenizer.chat_template)

    # Stops -----------------------------------------------------------------------------------------------------------

    @cached_property
    def stop_id(self) -> int | None:
        """The token that ends an answer: the last control token that follows it whoever speaks next.

        None if the template writes no control token there; the end-of-sequence token is then appended to answers.
        """
        shared = self._controls(self.template.shared_tail)
        if shared:
            return shared[-1]
        last = self._controls(self.template.tails[0])
        return last[0] if last else None

    def _controls(self, text: str) -> list[int]:
        ids = self.encoder.encode(text)
        special = [token for token in ids if token in self.encoder.special_ids]
        return special or [token for token in ids if token in self.encoder.added_ids]

    @cached_property
    def stop_ids(self) -> tuple[int, ...]:
        """Every token at which generation has to stop: the turn's end, a tool call's end, the end of sequence."""
        after_call = self._controls(self.template.tool_tail)
        found = [self.stop_id, after_call[0] if after_call and self.stop_id not in after_call else None]
        found.append(self.tokenizer.eos_token_id)
        return tuple(dict.fromkeys(token for token in found if token is not None))

    # Prompts ---------------------------------------------------------------------------------------------------------

    def prompt_ids(self, source: Record | Messages, tools: Sequence[dict[str, Any]] = ()) -> list[int]:
        """The ids a server sends for a conversation that waits for an answer.

        Raises: DataError if the template rejects the conversation.
        """
        where = ""
        if isinstance(source, Record):
            rows, tools, where = as_dicts(source.prompt), source.tools, source.where
        else:
            rows = as_dicts(source)
        if rows and all(row.get("role") == "text" for row in rows):
            return self._raw_prompt("\n".join(row["content"] for row in rows))
        [text], marks = self._render(rows, tools, [(len(rows), True)], where)
        return self.encoder.encode(text, marks)

    def text_ids(self, text: str) -> list[int]:
        """Ids of raw text, nothing added, control tokens in it literal."""
        return self.encoder.text_backend(text).encode(text, add_special_tokens=False).ids

    def _raw_prompt(self, text: str) -> list[int]:
        return [*self.encoder.frame[0], *self.text_ids(text)]

    def _render(
        self, rows: list[dict[str, Any]], tools: Sequence[dict[str, Any]], cuts: list[tuple[int, bool]], where: str
    ) -> tuple[list[str], Marks | None]:
        """Text of the first n messages for each (n, with the next answer's header), control tokens in them marked."""
        for row in rows:
            if row.get("role") not in ROLES or row["role"] == "text":
                raise DataError(
                    f"role '{row.get('role')}' cannot stand in a conversation",
                    where=where or None,
                    fix=f"one of: {', '.join(role for role in ROLES if role != 'text')}",
                )
        calls = [(rows[:n], generation) for n, generation in cuts]
        try:
            plain = self.template.render(calls, tools)
            guarded = [self._control_text(row) for row in rows]
            if not any(guarded) and not (tools and self.encoder.has_control(str(tools))):
                return plain, None
            marks = Marks("".join(plain))
            marked_rows = [
                {
                    "role": row["role"],
                    **self.encoder.mark(
                        {key: value for key, value in row.items() if key != "role"},
                        marks,
                        only_special=row["role"] == "assistant",
                    ),
                }
                for row in rows
            ]
            marked = self.template.render(
                [(marked_rows[:n], generation) for n, generation in cuts], self.encoder.mark(list(tools), marks)
            )
        except TemplateFailure as failure:
            raise self._rejected(rows, where, str(failure)) from None
        marked = [marks.unescape(text) for text in marked]
        if [marks.strip(text) for text in marked] != plain:
            raise DataError(
                f"the {self.template.name} changes text that holds a control token",
                where=where or None,
                why="the token could not be kept as literal text",
                fix="remove the control token from the text, or use another template",
            )
        return marked, marks

    def _control_text(self, row: dict[str, Any]) -> bool:
        text = row.get("content") if len(row) == 2 and isinstance(row.get("content"), str) else str(row)
        return self.encoder.has_control(text or "", only_special=row["role"] == "assistant")

    def _rejected(self, rows: list[dict[str, Any]], where: str, reason: str) -> DataError:
        has_system = any(row["role"] in ("system", "developer") for row in rows)
        if has_system and self.template.system_role == "rejected":
            return DataError(
                f"the {self.template.name} has no system role",
                where=where or None,
                why=reason,
                fix="move the system text to the start of the first user turn, or choose another template",
            )
        return DataError(
            f"the {self.template.name} rejects this conversation",
            where=where or None,
            why=reason,
            fix="correct the order and the roles of the messages, or choose another template",
        )

    # Answers ---------------------------------------------------------------------------------------------------------

    def sft(self, record: Record, index: int = 0) -> list[Example]:
        """The record's first completion as Examples: answers supervised up to and with their stop token.

        `index`: the record's number. Empty if truncation dropped it.
        Raises: RecipeError for `truncate: window`; DataError if the template rejects the record.
        """
        return self._answers(record, index, 0, self.train_on == "last", start=0)

    def completions(self, record: Record, index: int = 0) -> list[Example]:
        """One Example for each completion (preference pairs, reward models, KTO), `turn` naming which; only the
        completion's own answers are supervised.

        Raises: DataError if the template rewrites a completion's earlier turns, so that it is not one sequence.
        """
        found = []
        for number in range(len(record.completions)):
            examples = self._answers(record, index, number, False, start=len(record.prompt))
            if len(examples) > 1:
                raise DataError(
                    "a completion of several turns cannot be rendered as one sequence",
                    where=record.where or None,
                    why=f"the {self.template.name} rewrites earlier turns",
                    fix="give completions of one turn",
                )
            for example in examples:
                example.turn = number
            found += examples
        return found

    def _answers(self, record: Record, index: int, number: int, only_last: bool, *, start: int) -> list[Example]:
        if self.truncate == "window":
            raise RecipeError(
                "data.truncate: window does not fit fine-tuning on answers",
                why="a window that begins in the middle of an answer has no prompt",
                fix="data.truncate: left | right | drop, or a larger data.max_length",
            )
        messages = [*record.prompt, *(record.completions[number].messages if record.completions else ())]
        if any(message.role == "text" for message in messages):
            examples = [self._raw(record, number)]
        else:
            asked = [n for n, m in enumerate(messages) if n >= start and m.role == "assistant" and m.weight != 0]
            examples = self._turns(messages, asked[-1:] if only_last else asked, record)
        fitted: list[Example] = []
        for turn, example in enumerate(examples):
            example.record, example.turn = index, turn
            bos = self.tokenizer.bos_token_id
            keep_first = bos is not None and len(example.ids) > 0 and int(example.ids[0]) == bos
            fitted += self.truncation.fit(example, record.where or record.id, keep_first=keep_first)
        return fitted

    def _raw(self, record: Record, number: int) -> Example:
        """Prompt and completion as they stand, and the end-of-sequence token as the stop."""
        prompt = self._raw_prompt(record.text)
        text = record.completions[number].text if record.completions else ""
        marks = Marks(text)
        answer = self.encoder.continuing(self.encoder.mark(text, marks), marks) if record.text else self.text_ids(text)
        if self.tokenizer.eos_token_id is not None:
            answer = [*answer, self.tokenizer.eos_token_id]
        weight = record.completions[number].messages[-1].weight if record.completions else None
        return _example([(prompt, 0.0), (answer, 1.0 if weight is None else float(weight))])

    def _turns(self, messages: Sequence[Message], asked: list[int], record: Record) -> list[Example]:
        """Examples that supervise the messages numbered in `asked`."""
        if not asked:
            return []
        rows = as_dicts(messages)
        cuts = [cut for n in asked for cut in ((n, True), (n + 1, False))]
        texts, marks = self._render(rows, record.tools, cuts, record.where)
        examples: list[list[tuple[list[int], float]]] = []
        held: list[int] = []
        trailing: list[int] = []
        for n, prompt, whole in zip(asked, texts[::2], texts[1::2], strict=True):
            prompt_ids = self.encoder.encode(prompt, marks)
            answer, trailing_next = self._answer(prompt, prompt_ids, whole, marks, messages[n], record.where)
            weight = messages[n].weight
            scored = (answer, 1.0 if weight is None else float(weight))
            if examples and prompt_ids[: len(held)] == held:
                examples[-1] += [(prompt_ids[len(held) :], 0.0), scored]
            else:
                if examples:
                    examples[-1].append((trailing, 0.0))
                examples.append([(prompt_ids, 0.0), scored])
            held, trailing = prompt_ids + answer, trailing_next
        examples[-1].append((trailing, 0.0))
        return [_example(parts) for parts in examples]

    def _answer(
        self, prompt: str, prompt_ids: list[int], whole: str, marks: Marks | None, message: Message, where: str
    ) -> tuple[list[int], list[int]]:
        """(supervised ids, ids after the stop) of one turn, given its prompt and the text that ends with it."""
        if whole.startswith(prompt):
            answer = whole[len(prompt) :]
        else:
            answer = self._rewritten(prompt, whole, marks, message, where)
            whole = prompt + answer
        ids = self.encoder.encode(whole, marks)
        if ids[: len(prompt_ids)] == prompt_ids:
            ids = ids[len(prompt_ids) :]
        else:  # the border would merge
            ids = self.encoder.continuing(answer, marks)
        at = self._stop_at(ids)
        if at is None:
            end = self.tokenizer.eos_token_id
            return (ids if self.stop_id is not None or end is None else [*ids, end]), []
        return ids[: at + 1], ids[at + 1 :]

    def _stop_at(self, ids: list[int]) -> int | None:
        """Where in the control tokens and blanks that end an answer its stop is."""
        start = len(ids)
        while start and (
            ids[start - 1] in self.encoder.added_ids or not self.encoder.backend.decode([ids[start - 1]]).strip()
        ):
            start -= 1
        tail = range(start, len(ids))
        for wanted in ({self.stop_id}, self.encoder.special_ids):
            for at in tail:
                if ids[at] in wanted:
                    return at
        return None

    def _rewritten(self, prompt: str, whole: str, marks: Marks | None, message: Message, where: str) -> str:
        """The answer after a prompt that the template does not keep: it opens reasoning for generation, but removes it
        from the conversation it renders. The text is the message's own; a missing reasoning is closed at once."""
        content = message.content
        if marks:
            content = self.encoder.mark(content, marks, only_special=True)
        shown = re.split(r"</think(?:ing)?>", content)[-1].strip()
        at = whole.rfind(shown) if shown else -1
        if at < 0:
            raise DataError(
                f"the {self.template.name} renders an answer in a way that cannot follow its prompt",
                where=where or None,
                why="the text a server sends is not the beginning of the rendered conversation",
                fix="choose another template, or give this turn weight 0",
            )
        tail = whole[at + len(shown) :]
        opened = re.search(r"<(think(?:ing)?)>(\s*)$", prompt)
        if not opened:
            return shown + tail
        name, blank = opened.groups()
        if f"</{name}>" in content:
            own = content.lstrip().removeprefix(f"<{name}>")
            return (own.lstrip("\n") if blank else own).rstrip() + tail
        return f"\n</{name}>\n\n{shown}{tail}"

    # Labels and raw text ---------------------------------------------------------------------------------------------

    def classify(
        self, record: Record, labels: Sequence[str] | Mapping[str, int], task: str | None = None, index: int = 0
    ) -> list[Example]:
        """The record's text with its label as the target, scored once at the last token; several if cut into windows.

        `task`: classification | multilabel | regression; None = by the kind of label.
        Raises: DataError for a label that is not in `labels`.
        """
        return classify(self, record, labels, task, index)

    def tag(self, record: Record, tags: Sequence[str] | Mapping[str, int], index: int = 0) -> list[Example]:
        """The record's text with a BIO tag at the first token of each word. See `labelling.words_of`."""
        return tag(self, record, tags, index)

    @overload
    def pretrain(self, source: Record) -> list[Example]: ...
    @overload
    def pretrain(self, source: Iterable[Record]) -> ExampleStore: ...
    def pretrain(self, source: Record | Iterable[Record]) -> list[Example] | ExampleStore:
        """Raw text in windows of `max_length`. One record: its own windows. Many: documents joined, in one store."""
        if isinstance(source, Record):
            return list(self.windows([source]))
        return ExampleStore.of(self.windows(source), vocab_size=max(self.encoder.vocab_size, len(self.tokenizer)))

    def windows(self, records: Iterable[Record]) -> Iterator[Example]:
        """Documents joined by the tokenizer's BOS and EOS and cut into windows of `max_length`, as a stream.

        Every token but the first of each document is scored exactly once: a window begins with the last token of the
        one before, unscored. `record` is the document a window begins in.
        """
        head = self.encoder.frame[0]
        eos = self.tokenizer.eos_token_id
        ids: list[int] = []
        scored: list[float] = []
        owner: list[int] = []
        for number, record in enumerate(records):
            body = self.text_ids(record.full_text)
            document = [*head, *body] + ([] if eos is None else [eos])
            ids += document
            scored += [0.0, *[1.0] * (len(document) - 1)]
            owner += [number] * len(document)
            start = 0
            while len(ids) - start >= self.max_length + 1:
                end = start + self.max_length
                yield self._window(ids[start:end], scored[start:end], owner[start])
                start = end - 1
            ids, scored, owner = ids[start:], scored[start:], owner[start:]
        if len(ids) > 1:
            yield self._window(ids, scored, owner[0])

    def _window(self, ids: list[int], scored: list[float], record: int) -> Example:
        weight = np.array(scored, dtype=np.float32)
        weight[0] = 0
        self.truncation.lengths.append(len(ids))
        return Example(np.array(ids, dtype=np.int32), weight, record=record)


def _example(parts: list[tuple[list[int], float]]) -> Example:
    ids = np.array([token for part, _ in parts for token in part], dtype=np.int32)
    weight = np.concatenate([np.full(len(part), value, dtype=np.float32) for part, value in parts])
    if len(weight):
        weight[0] = 0  # nothing stands before it to predict it from
    return Example(ids, weight)
