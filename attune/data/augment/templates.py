"""Step `templates`: the same question or request in another frame."""

from __future__ import annotations

import re

from pydantic import Field, field_validator

from attune.data.augment.base import chance, drawn, edited, is_made, made, touches
from attune.data.steps import Change, Edit, Step
from attune.plugins import Options
from attune.records import Record

HOW_TO = (
    "how do i {rest}?",
    "how can i {rest}?",
    "can you tell me how to {rest}?",
    "please tell me how to {rest}.",
    "i would like to know how to {rest}.",
    "what do i have to do to {rest}?",
    "could you explain how to {rest}?",
)
WISH = ("i want to {rest}.", "i would like to {rest}.", "i'd like to {rest}, please.", "please help me to {rest}.")
PLEASE = ("please {rest}.", "could you {rest}?", "can you please {rest}?", "would you {rest}, please?")
MAY = ("can i {rest}?", "is it possible to {rest}?", "am i able to {rest}?", "may i {rest}?")
KINDS = (
    (re.compile(r"(?:how (?:do|can|could|would|should) i|how to)\s++", re.IGNORECASE), HOW_TO),
    (re.compile(r"i(?: would like|'d like|’d like| want| wish)(?: to)\s++", re.IGNORECASE), WISH),
    (re.compile(r"(?:please|(?:can|could|would|will) you(?: please)?)\s++", re.IGNORECASE), PLEASE),
    (re.compile(r"(?:can|may|could) i\s++", re.IGNORECASE), MAY),
)
"""How a request begins, and the other ways to say it. Each takes the same verb form after it, so no word changes."""
FRAMES = ("i have a question: {text}", "quick question: {text}", "{text} thanks in advance.", "hello, {text}")
"""For any other question."""
_NO_VERB = re.compile(r"(?:me|us|not|be|have|know|mind|like|see|also|just|still|ever|never)\b", re.IGNORECASE)
"""After `could you`: no request begins so, or not one that other frames fit."""
_SENTENCE_END = re.compile(r"[.!?]++(?=\s)")
_CLOSING = re.compile(r"(?:,? ?\bplease)?[\s.!?]*+\Z", re.IGNORECASE)
_I = re.compile(r"\bi\b(?=[ '’])")
_QUESTION_WORD = re.compile(
    r"(?:what|which|who|whom|whose|when|where|why|how|is|are|was|were|do|does|did|can|could|will|would|should|has|have)\b",
    re.IGNORECASE,
)


class Templates(Step):
    """Adds paraphrases of short questions and requests made by templates (English): `How do I freeze my card?` becomes
    `Can you tell me how to freeze my card?`. Texts of several sentences, and statements, stay alone."""

    name = "templates"

    class Config(Options):
        """How many, and with which frames."""

        share: float = Field(1.0, gt=0, le=1)
        """Share of the training records that are looked at."""
        copies: int = Field(1, ge=1, le=6)
        """Paraphrases of each, where there are as many."""
        most_words: int = Field(30, ge=1)
        """Longer texts are left alone."""
        frames: tuple[str, ...] = ()
        """Your own frames around any question or request, in any language, as `Dear team, {text}`. They come in place
        of the built-in frames for questions of no known form."""

        @field_validator("frames")
        @classmethod
        def _whole(cls, frames: tuple[str, ...]) -> tuple[str, ...]:
            for frame in frames:
                if frame.count("{text}") != 1:
                    raise ValueError(f"the frame {frame!r} must hold {{text}} once")
            return frames

    def apply(self, record: Record, number: int = -1) -> Change | None:
        if is_made(record) or not drawn(record, self.options.share, self.context.seed, self.name):
            return None
        asked = [message for message in record.prompt if message.role in ("user", "text") and message.content]
        if not asked:
            return None
        last = asked[-1].content
        rng = chance(self.context.seed, self.name, record.id)
        ways = self._ways(last)
        rng.shuffle(ways)
        added: list[Record] = []
        seen = {" ".join(last.lower().split())}
        for edits in ways:
            if len(added) == self.options.copies:
                break
            content = edited(
                record,
                lambda text, spans: edits if text is last and not any(touches(e, spans) for e in edits) else [],  # noqa: B023
            )
            new = next(m.content for m in reversed(content.prompt) if m.role in ("user", "text") and m.content)
            if " ".join(new.lower().split()) not in seen:
                seen.add(" ".join(new.lower().split()))
                added.append(made(record, content, self.name, len(added) + 1))
        return Change.add(record, added, "the same request in other words") if added else None

    def _ways(self, text: str) -> list[list[Edit]]:
        """Every way to say it, as edits of its beginning and its end."""
        start = len(text) - len(text.lstrip())
        core = text[start:]
        closing = _CLOSING.search(core)
        end = closing.start() if closing else len(core)
        core = core[:end]
        if not core or len(core.split()) > self.options.most_words or _SENTENCE_END.search(core):
            return []
        for pattern, templates in KINDS:
            match = pattern.match(core)
            if match and match.end() < len(core) and not _NO_VERB.match(core, match.end()):
                if self.options.frames:
                    break
                return [_around(text, start, match.end(), end, way) for way in templates]
        question = text.rstrip().endswith("?") or _QUESTION_WORD.match(core)
        if self.options.frames:
            return [_framed(text, frame, as_is=True) for frame in self.options.frames]
        return [_framed(text, frame, as_is=False) for frame in FRAMES] if question else []


def _proper(text: str, like: str) -> str:
    """The template's text written as carefully as the original: `i` and the first letter follow it."""
    careful = like[:1].isupper() or not like[:1].isalpha()
    text = _I.sub("I", text) if careful else text
    return text[:1].upper() + text[1:] if careful else text


def _around(text: str, start: int, head: int, end: int, way: str) -> list[Edit]:
    before, after = way.split("{rest}")
    like = text[start:]
    edits = [Edit(start, start + head, _proper(before, like), "another frame")]
    tail = text[start + end :]
    if not tail.strip() and not like[:1].isupper() and "," not in after:
        after = ""  # a writer without marks stays one
    if after != tail:
        edits.append(Edit(start + end, len(text), after, "another frame"))
    return [edit for edit in edits if text[edit.start : edit.end] != edit.new]


def _framed(text: str, frame: str, *, as_is: bool) -> list[Edit]:
    before, after = frame.split("{text}")
    edits = []
    start = len(text) - len(text.lstrip())
    if before:
        new = before if as_is else _proper(before, text[start:])
        old = text[start : start + 1]
        lower = not as_is and before.endswith(", ") and old.isupper() and not text[start + 1 : start + 2].isupper()
        lower = lower and text[start : start + 2] not in ("I ", "I'", "I’")
        edits.append(Edit(start, start + 1 if lower else start, new + (old.lower() if lower else ""), "a frame"))
    if after:
        careful = text[start : start + 1].isupper() and not as_is
        mark = "" if as_is or text.rstrip()[-1:] in ".!?" else "?"
        words = after.strip()
        edits.append(
            Edit(len(text), len(text), mark + (" " + words[0].upper() + words[1:] if careful else after), "a frame")
        )
    return edits
