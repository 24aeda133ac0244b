"""Unicode: broken encodings repaired, and one form for what looks the same."""

from __future__ import annotations

import re
import unicodedata
from typing import Literal

from pydantic import Field

from attune.data.clean.base import settled
from attune.data.steps import Edit, TextStep, edits_between
from attune.plugins import Options

# Neither is part of any composition, so each piece can be brought into form alone.
LINE = re.compile(r"[^\n]++")
WORD = re.compile(r"[^ \n]++")


class Unicode(TextStep):
    """Repairs text read in the wrong encoding (`cafÃ©`) and brings characters into one Unicode form."""

    name = "unicode"

    class Config(Options):
        """What is repaired."""

        form: Literal["NFC", "NFKC", "none"] = "NFC"
        """NFC joins letters and their accents. NFKC also replaces look-alikes (wide letters, ligatures, superscripts),
        which can change what is meant (x² becomes x2)."""
        mojibake: bool = Field(default=True, strict=True)
        """Whether text that was read in the wrong encoding is repaired."""

    def edits(self, text: str) -> list[Edit]:
        return [] if text.isascii() else settled(text, self._once)

    def _once(self, text: str) -> list[Edit]:
        edits = self._repairs(text) if self.options.mojibake else []
        return edits or self._forms(text)

    def _repairs(self, text: str) -> list[Edit]:
        import ftfy

        # Only the encoding: quotes, entities, control characters and widths are other steps' business.
        config = ftfy.TextFixerConfig(
            unescape_html=False,
            remove_terminal_escapes=False,
            fix_latin_ligatures=False,
            fix_character_width=False,
            uncurl_quotes=False,
            fix_line_breaks=False,
            remove_control_chars=False,
            normalization=None,
            explain=False,
        )
        edits = []
        for line in LINE.finditer(text):
            if not line[0].isascii():
                fixed = ftfy.fix_text(line[0], config)
                edits += _moved(edits_between(line[0], fixed, "wrong encoding"), line.start())
        return edits

    def _forms(self, text: str) -> list[Edit]:
        form = self.options.form
        if form == "none" or unicodedata.is_normalized(form, text):
            return []
        edits = []
        for word in WORD.finditer(text):
            if not unicodedata.is_normalized(form, word[0]):
                normal = unicodedata.normalize(form, word[0])
                edits += _moved(edits_between(word[0], normal, f"Unicode form {form}"), word.start())
        return edits


def _moved(edits: list[Edit], by: int) -> list[Edit]:
    return [Edit(edit.start + by, edit.end + by, edit.new, edit.reason) for edit in edits]
