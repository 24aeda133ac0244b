"""Whitespace: one kind of line end, one blank between words, nothing at the ends."""

from __future__ import annotations

import re
from typing import Any

from pydantic import Field

from attune.data.steps import Edit, TextStep
from attune.plugins import Options
from attune.records import LABEL_TASKS

BLANK = " \\t\\u00a0\\u1680\\u2000-\\u200a\\u202f\\u205f\\u3000"
BREAK = "\\n\\r\\x0b\\x0c\\x85\\u2028\\u2029"
# What is already right is not matched: a single space or line feed inside the text.
RUN = re.compile(rf"[{BLANK}{BREAK}]{{2,}}+|[{BLANK}{BREAK}](?<![ \n])|\A[ \n]|[ \n]\Z")
LINE_END = re.compile(rf"\r\n|[{BREAK}]")
LAST_LINE = re.compile(rf"[^{BREAK}]*+\Z")


class Whitespace(TextStep):
    """Makes line ends, blanks between words and empty lines uniform, and trims both ends."""

    name = "whitespace"

    class Config(Options):
        """How much of the layout stays."""

        indentation: bool | None = Field(default=None, strict=True)
        """Whether blanks at the start of a line stay (code, outlines). null keeps them where text is to be written
        (generation, text) and not where it only is to be labelled."""
        blank_lines: int = Field(default=1, ge=0, strict=True)
        """Longest row of empty lines that stays."""

    def __init__(self, options: Any = None, context: Any = None):
        super().__init__(options, context)
        given = self.options.indentation
        self.indentation = self.context.task not in LABEL_TASKS if given is None else given

    def edits(self, text: str) -> list[Edit]:
        edits = []
        for match in RUN.finditer(text):
            new, reason = self._clean(match[0], match.start() == 0, match.end() == len(text))
            if new != match[0]:
                edits.append(Edit(match.start(), match.end(), new, reason))
        return edits

    def _clean(self, run: str, first: bool, last: bool) -> tuple[str, str]:
        if last:
            return "", "blanks at the end"
        lines = len(LINE_END.findall(run))
        if not lines and not first:
            return " ", "blanks between words"
        indent = "".join(c if c == "\t" else " " for c in LAST_LINE.findall(run)[0]) if self.indentation else ""
        if first:
            return indent, "blanks at the start"
        return "\n" * min(lines, self.options.blank_lines + 1) + indent, "line ends"
