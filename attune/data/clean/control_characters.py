"""Characters that do not show: control codes, zero-width noise, hidden text."""

from __future__ import annotations

import re
import unicodedata

from attune.data.clean.base import settled
from attune.data.steps import Edit, TextStep

ZWNJ, ZWJ, KEYCAP = "\u200c", "\u200d", "\u20e3"
SKIN = range(0x1F3FB, 0x1F400)

CONTROL = "\\x00-\\x08\\x0e-\\x1f\\x7f-\\x84\\x86-\\x9f"
NOISE = "\\u00ad\\u180e\\u200b\\u2060-\\u2064\\u206a-\\u206f\\ufeff\\ufff9-\\ufffb"
OVERRIDE = "\\u202a-\\u202e"
DIRECTION = "\\u061c\\u200e\\u200f\\u2066-\\u2069"
SELECTOR = "\\ufe00-\\ufe0f\\U000e0100-\\U000e01ef"
TAG = "\\U000e0000-\\U000e007f"

FLAG = "\\U0001f3f4[\\U000e0020-\\U000e007e]{1,16}+\\U000e007f"
HIDDEN = re.compile(
    rf"(?P<flag>{FLAG})|(?P<page>[\x0b\x0c])|(?P<control>\x1b\[[0-9;?]*+[ -/]*+[@-~]|[{CONTROL}])"
    rf"|(?P<noise>[{NOISE}])|(?P<override>[{OVERRIDE}])|(?P<direction>[{DIRECTION}])|(?P<joiner>[{ZWNJ}{ZWJ}])"
    rf"|(?P<selector>[{SELECTOR}])|(?P<tag>[{TAG}])"
)
ANY = re.compile(f"[\x0b\x0c{CONTROL}{NOISE}{OVERRIDE}{DIRECTION}{ZWNJ}{ZWJ}{SELECTOR}{TAG}]")
RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\U00010800-\U00010fff\U0001e800-\U0001efff]")
# Scripts whose letters join or stack, so that a joiner between them changes what is written: Hebrew to Arabic
# extensions, India to Myanmar, Khmer and Mongolian, presentation forms, newer Indic blocks.
JOINING = re.compile(
    "[\u0590-\u08ff\u0900-\u109f\u1780-\u18af\u1a20-\u1aaf\u1b00-\u1bff\ua840-\uabff\ufb1d-\ufdff\ufe70-\ufefc"
    "\U00010a00-\U00010fff\U00011000-\U00011fff]"
)
REASONS = {
    "page": "page break",
    "control": "control character",
    "noise": "zero-width character",
    "override": "text direction override",
    "direction": "direction mark without right-to-left text",
    "joiner": "joiner that joins nothing",
    "selector": "variation selector that selects nothing",
    "tag": "hidden tag character",
}


class ControlCharacters(TextStep):
    """Takes out control codes, byte order marks, soft hyphens, zero-width and hidden characters.

    Joiners and variation selectors stay where they make an emoji, or a letter of an Indic, Arabic or Persian word.
    """

    name = "control_characters"

    def edits(self, text: str) -> list[Edit]:
        return settled(text, _once) if ANY.search(text) else []


def _once(text: str) -> list[Edit]:
    right_to_left: bool | None = None
    edits = []
    for match in HIDDEN.finditer(text):
        kind, at = match.lastgroup or "", match.start()
        before, after = text[at - 1 : at], text[at + 1 : at + 2]
        if kind == "direction":
            if right_to_left is None:
                right_to_left = RIGHT_TO_LEFT.search(text) is not None
            keep = right_to_left
        elif kind == "joiner":
            keep = _joins(before, match[0], after)
        elif kind == "selector":
            keep = _selects(before, match[0], after)
        else:
            keep = kind == "flag"
        if not keep:
            edits.append(Edit(at, match.end(), "\n" if kind == "page" else "", REASONS[kind]))
    return edits


def _joins(before: str, joiner: str, after: str) -> bool:
    if JOINING.match(before):
        return True
    if joiner == ZWNJ:
        return False
    if JOINING.match(after):
        return True
    return _pictured(after) and (_pictured(before) or before == "\ufe0f" or before == "\U000e007f")


def _selects(before: str, selector: str, after: str) -> bool:
    if not before:
        return False
    if before in "0123456789#*":
        return selector == "\ufe0f" and after == KEYCAP
    # A letter of a script without case (Chinese, Mongolian) has variants; an accented or Latin letter has none.
    return _pictured(before) or unicodedata.category(before) == "Lo" or before in "‼⁉〰〽"


def _pictured(char: str) -> bool:
    return bool(char) and (unicodedata.category(char) in ("So", "Sm") or ord(char) in SKIN) and not char.isascii()
