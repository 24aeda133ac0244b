"""Text -> token ids in which only the template writes control tokens.

Control tokens found in a user's text are wrapped in two private-use characters BEFORE the template renders, so that
they can be told from the template's own afterwards, whatever the template does with the text (strip it, move it, put it
into JSON). Text without a mark is encoded whole, exactly as a server would; marked pieces are encoded as plain text.
"""

from __future__ import annotations

import copy
import json
import re
from functools import cached_property
from typing import TYPE_CHECKING, Any

from attune.errors import DataError

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

__all__ = ["Encoder", "Marks"]


class Marks:
    """Two private-use characters that do not occur in the texts they will mark."""

    def __init__(self, texts: str = ""):
        free = (chr(code) for code in range(0xE000, 0xF8FF) if chr(code) not in texts)
        self.open, self.close = next(free), next(free)

    def strip(self, text: str) -> str:
        return text.replace(self.open, "").replace(self.close, "")

    def unescape(self, text: str) -> str:
        """Undo what an ASCII-only JSON filter made of the marks."""
        for mark in (self.open, self.close):
            text = text.replace(json.dumps(mark)[1:-1], mark)
        return text


class Encoder:
    """A fast tokenizer with its own copy of the backend, so that nobody's truncation setting reaches it.

    Raises: DataError for a tokenizer without a fast backend.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise DataError(
                f"the tokenizer {type(tokenizer).__name__} has no fast version",
                why="character offsets and literal text need a `tokenizer.json`",
                fix="save one with transformers' AutoTokenizer, or use another base",
            )
        self.tokenizer = tokenizer
        self.backend: Tokenizer = copy.deepcopy(backend)
        self.backend.no_truncation()
        self.backend.no_padding()
        self.backend.encode_special_tokens = False
        added = self.backend.get_added_tokens_decoder()
        # Whitespace runs that some tokenizers keep as added tokens are ordinary text.
        self.added = {token.content: number for number, token in added.items() if not token.content.isspace()}
        named = set(tokenizer.all_special_tokens)
        self.special = {t.content: number for number, t in added.items() if t.special or t.content in named}
        self.added_ids = frozenset(self.added.values())
        self.special_ids = frozenset(self.special.values())
        self.vocab_size = max(self.backend.get_vocab(with_added_tokens=True).values(), default=-1) + 1
        # An added token that is matched after normalisation can be spelled in more than one way.
        self._respelled = self.backend.normalizer is not None and any(t.normalized for t in added.values())
        self._any_added = self._pattern(self.added)
        self._any_special = self._pattern(self.special)

    @staticmethod
    def _pattern(tokens: dict[str, int]) -> re.Pattern[str]:
        longest_first = sorted(tokens, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, longest_first)) or "(?!)")

    @cached_property
    def literal(self) -> Tokenizer:
        """The same tokenizer without its added tokens: whatever it reads is text.

        Their entries in the vocabulary are renamed, because a Unigram or WordPiece model would find them there.
        """
        from tokenizers import Tokenizer

        state = json.loads(self.backend.to_str())
        state["added_tokens"] = []
        model = state["model"]
        new_name = {token: f"\U0010fffd{number}" for token, number in self.added.items()}
        if isinstance(model["vocab"], dict):
            model["vocab"] = {new_name.get(token, token): number for token, number in model["vocab"].items()}
        else:
            model["vocab"] = [[new_name.get(token, token), score] for token, score in model["vocab"]]
        if model.get("unk_token") in new_name:
            model["unk_token"] = new_name[model["unk_token"]]
        if "merges" in model:
            pairs = [merge.split(" ", 1) if isinstance(merge, str) else merge for merge in model["merges"]]
            model["merges"] = [
                [left, right] for left, right in pairs if not {left, right, left + right} & new_name.keys()
            ]
        return Tokenizer.from_str(json.dumps(state))

    @cached_property
    def _prefixed(self) -> bool:
        """Does it put a space before the first word of a text (SentencePiece)?"""
        newline = self.backend.encode("\n", add_special_tokens=False).ids
        after = self.backend.encode("\na", add_special_tokens=False).ids
        return self.backend.encode("a", add_special_tokens=False).ids != after[len(newline) :]

    @cached_property
    def frame(self) -> tuple[list[int], list[int]]:
        """What the tokenizer puts before and after a raw text, such as ([BOS], []) or ([CLS], [SEP])."""
        plain = self.backend.encode("a", add_special_tokens=False).ids
        framed = self.backend.encode("a", add_special_tokens=True).ids
        at = next(n for n in range(len(framed)) if framed[n : n + len(plain)] == plain)
        return framed[:at], framed[at + len(plain) :]

    def has_control(self, text: str, *, only_special: bool = False) -> bool:
        if self._respelled:
            return bool(self._respelt(text, only_special))
        return bool((self._any_special if only_special else self._any_added).search(text))

    def _respelt(self, text: str, only_special: bool) -> list[tuple[int, int]]:
        """Character ranges that the tokenizer reads as control tokens."""
        wanted = self.special_ids if only_special else self.added_ids
        unknown = self.tokenizer.unk_token_id
        encoding = self.backend.encode(text, add_special_tokens=False)
        found = zip(encoding.ids, encoding.offsets, strict=True)
        return [span for number, span in found if number in wanted and number != unknown]

    def mark(self, value: Any, marks: Marks, *, only_special: bool = False) -> Any:
        """Wrap every control token in a string, or in all strings (keys too) of lists and dicts."""
        if isinstance(value, str):
            pattern = self._any_special if only_special else self._any_added
            if self._respelled:
                for start, end in reversed(self._respelt(value, only_special)):
                    value = f"{value[:start]}{marks.open}{value[start:end]}{marks.close}{value[end:]}"
                return value
            return pattern.sub(lambda found: f"{marks.open}{found[0]}{marks.close}", value)
        if isinstance(value, dict):
            return {
                self.mark(key, marks, only_special=only_special): self.mark(item, marks, only_special=only_special)
                for key, item in value.items()
            }
        if isinstance(value, list | tuple):
            return [self.mark(item, marks, only_special=only_special) for item in value]
        return value

    def encode(self, text: str, marks: Marks | None = None) -> list[int]:
        """Ids of rendered text, the whole at once where nothing is marked; no BOS is added (templates write it)."""
        ids: list[int] = []
        for piece, literal in self._pieces(text, marks):
            ids += self._after(piece, literal) if ids else self._plain(piece, literal)
        return ids

    def continuing(self, text: str, marks: Marks | None = None) -> list[int]:
        """As `encode`, for text that follows other text: without the space SentencePiece puts before a first word."""
        return [token for piece, literal in self._pieces(text, marks) for token in self._after(piece, literal)]

    def _pieces(self, text: str, marks: Marks | None) -> list[tuple[str, bool]]:
        """(piece, is it literal). A mark that a template tore from its partner only breaks the text."""
        if marks is None or marks.open not in text and marks.close not in text:
            return [(text, False)]
        both = marks.open + marks.close
        pieces: list[tuple[str, bool]] = []
        at = 0
        for found in re.finditer(f"{marks.open}([^{both}]*){marks.close}|[{both}]", text):
            pieces.append((text[at : found.start()], False))
            if found[1]:
                pieces.append((found[1], found[1] in self.added or self._respelled))
            at = found.end()
        pieces.append((text[at:], False))
        return [(piece, literal) for piece, literal in pieces if piece]

    def _plain(self, text: str, literal: bool) -> list[int]:
        return (self.literal if literal else self.backend).encode(text, add_special_tokens=False).ids

    def _after(self, text: str, literal: bool) -> list[int]:
        if self._prefixed:
            for anchor in ("\n", "x", ")"):
                start = self._plain(anchor, literal)
                ids = self._plain(anchor + text, literal)
                if ids[: len(start)] == start:
                    return ids[len(start) :]
        return self._plain(text, literal)

    def text_backend(self, text: str) -> Tokenizer:
        """The tokenizer for a raw text: the usual one, or the literal one if the text contains control tokens."""
        return self.literal if self.has_control(text) else self.backend
