"""The commands of a shell script, read and never run: quotes, continued lines, variables and sums are understood."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from attune.errors import RecipeError
from attune.interop.arithmetic import whole
from attune.interop.document import Given, Unread

__all__ = ["Command", "Word", "commands", "options"]

MAX_WORD = 1 << 16
MAX_WORDS = 50_000
ENDS = "\n;&|()"
REDIRECTION = re.compile(r"\d*(<<-?|&>>?|>>?&?|<&?)[ \t]*")
NAME = re.compile(r"[A-Za-z_]\w*")


@dataclass
class Word:
    text: str
    where: str
    unread: bool = False
    """Whether a part of it is known only when the script runs."""
    quoted: bool = False

    @property
    def value(self) -> Any:
        return Unread(self.text) if self.unread else self.text


@dataclass
class Command:
    """One simple command. `env` holds the assignments in front of it and what was exported before."""

    words: list[Word]
    env: dict[str, Word] = field(default_factory=dict)

    @property
    def texts(self) -> list[str]:
        return [word.text for word in self.words]


def commands(text: str, name: str, first_line: int = 1) -> list[Command]:
    """All simple commands in order, variables replaced by what the script itself gave them.

    Raises: RecipeError with file:line for quotes that never close, or a script that only grows.
    """
    return list(_Reading(text, name, first_line).commands())


class _Reading:
    def __init__(self, text: str, name: str, first_line: int):
        self.text, self.name, self.line, self.at = text, name, first_line, 0
        self.variables: dict[str, Word] = {}
        self.exported: dict[str, Word] = {}
        self.n_words = 0

    @property
    def where(self) -> str:
        return f"{self.name}:{self.line}"

    def commands(self) -> Iterator[Command]:
        words: list[Word] = []
        while self.at < len(self.text):
            character = self.text[self.at]
            if found := REDIRECTION.match(self.text, self.at):
                self._step(len(found[0]))
                target = self._word()
                if found[1].startswith("<<"):
                    self._skip_document(target.text)
            elif character in ENDS:
                self._step()
                if words:
                    yield from self._command(words)
                    words = []
            elif character in " \t":
                self._step()
            elif self.text.startswith("\\\n", self.at):
                self._step(2)
            elif character == "#":
                while self.at < len(self.text) and self.text[self.at] != "\n":
                    self._step()
            else:
                words.append(self._word())
                self.n_words += 1
                if self.n_words > MAX_WORDS:
                    raise RecipeError("too many words for a training script", where=self.where)
        if words:
            yield from self._command(words)

    def _command(self, words: list[Word]) -> Iterator[Command]:
        while words and words[0].text in ("if", "then", "else", "elif", "do", "while", "!", "{", "time", "nohup"):
            words = words[1:]
        export = bool(words) and words[0].text == "export"
        env: dict[str, Word] = {}
        rest = words[1:] if export else words
        while rest and (found := re.match(r"([A-Za-z_]\w*)=", rest[0].text)) is not None:
            value = Word(rest[0].text[found.end() :], rest[0].where, rest[0].unread)
            env[found[1]] = value
            rest = rest[1:]
        if export or not rest:
            self.variables.update(env)
            if export:
                self.exported.update(env)
            return
        yield Command(rest, {**self.exported, **env})

    def _step(self, count: int = 1) -> None:
        self.line += self.text.count("\n", self.at, self.at + count)
        self.at += count

    def _skip_document(self, end: str) -> None:
        """Over a here-document, whose lines are no commands."""
        start = self.text.find("\n", self.at)
        close = re.compile(rf"^\t*{re.escape(end)}$", re.M).search(self.text, start + 1) if start >= 0 else None
        self._step((close.end() if close else len(self.text)) - self.at)

    def _word(self) -> Word:
        where, parts, unread, quoted = self.where, [], False, False
        quote = ""
        length = 0
        while self.at < len(self.text):
            character = self.text[self.at]
            if quote == "'":
                if character == "'":
                    quote = ""
                else:
                    parts.append(character)
                self._step()
            elif character == "\\" and self.at + 1 < len(self.text):
                following = self.text[self.at + 1]
                if following != "\n":
                    parts.append(following if not quote or following in '"\\$`' else "\\" + following)
                self._step(2)
            elif character in "\"'" and (not quote or quote == character):
                quote, quoted = ("" if quote else character), True
                self._step()
            elif character in "$`":
                text, known = self._substitution()
                parts.append(text)
                unread = unread or not known
            elif not quote and (character in ENDS or character in " \t<>"):
                break
            else:
                parts.append(character)
                self._step()
            length += len(parts[-1]) if parts else 0
            if length > MAX_WORD:
                raise RecipeError("a word that grows without end", where=where)
        if quote:
            raise RecipeError(f"a quote ({quote}) that is never closed", where=where)
        return Word("".join(parts), where, unread, quoted)

    def _substitution(self) -> tuple[str, bool]:
        """`$name`, `${name}`, `${name:-else}`, `$((sum))`, `$(expr a / b)`; other commands stay as they are written."""
        text, start = self.text, self.at
        if text.startswith("$((", start):
            end = self._close(start)
            self._step(end - start)
            return self._sum(text[start + 3 : end - 2], text[start:end])
        if text.startswith("$(", start) or text[start] == "`":
            end = self._close(start)
            self._step(end - start)
            inner = text[start + 2 : end - 1] if text[start] == "$" else text[start + 1 : end - 1]
            found = re.fullmatch(r"\s*expr\s+(.+)", inner)
            return self._sum(found[1], text[start:end]) if found else (text[start:end], False)
        if found := re.compile(r"\$\{(\w+)(?::?-([^{}$]*))?\}|\$(\w+)").match(text, start):
            self._step(len(found[0]))
            known = self.variables.get(found[1] or found[3]) or self.exported.get(found[1] or found[3])
            if known is not None and (known.text or found[2] is None):
                return known.text, not known.unread
            return (found[2], True) if found[2] is not None else (found[0], False)
        self._step()
        return text[start], text[start : start + 2] in ("$", "$ ", "$\n", '$"')

    def _close(self, start: int) -> int:
        if self.text[start] == "`":
            end = self.text.find("`", start + 1) + 1
        else:
            depth = 0
            end = 0
            for at in range(start + 1, len(self.text)):
                depth += {"(": 1, ")": -1}.get(self.text[at], 0)
                if depth == 0:
                    end = at + 1
                    break
        if not end:
            raise RecipeError("a command in a command that is never closed", where=self.where)
        return end

    def _sum(self, formula: str, written: str) -> tuple[str, bool]:
        def value(found: re.Match[str]) -> str:
            known = self.variables.get(found[1]) or self.exported.get(found[1])
            return known.text if known is not None and not known.unread else found[0]

        result = whole(re.sub(r"\$?\{?([A-Za-z_]\w*)\}?", value, formula.replace("\\*", "*")))
        return (written, False) if result is None else (str(result), True)


def options(words: list[Word], lists: frozenset[str]) -> list[Given]:
    """`--key value`, `--key=value`, `--flag`, `key=value` as keys. Options in `lists` take all words up to the next.

    A word that belongs to no option is a key of its own, so that nothing is lost.
    """
    found: list[Given] = []
    at = 0
    while at < len(words):
        word = words[at]
        at += 1
        key, equals, inline = word.text.partition("=")
        if not word.text.startswith("--"):
            named = not word.text.startswith("-") and equals and NAME.fullmatch(key)
            value = (Unread(inline) if word.unread else _plain(inline)) if named else word.value
            found.append(Given(key if named else f"word '{word.text}'", value, word.where, key if named else ""))
            continue
        name = key[2:].replace("-", "_")
        values = [Word(inline, word.where, word.unread)] if equals else []
        if not equals:
            while at < len(words) and not _is_option(words[at]) and (name in lists or not values):
                values.append(words[at])
                at += 1
        unread = next((Unread(value.text) for value in values if value.unread), None)
        plain = [value.text if value.quoted else _plain(value.text) for value in values]
        value = unread or (plain if name in lists and len(plain) != 1 else plain[0] if plain else True)
        found.append(Given(key, value, word.where, name))
    return found


def _is_option(word: Word) -> bool:
    return word.text.startswith("--") and not word.quoted


def _plain(text: str) -> Any:
    """A word of a command line as a number or a truth value where it is one."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if text.lower() in ("none", "null"):
        return None
    if re.fullmatch(r"[+-]?\d{1,18}", text):
        return int(text)
    if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", text):
        return float(text)
    return text
