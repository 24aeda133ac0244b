"""Markup residue: HTML tags and entities, scripts and styles, Markdown signs."""

from __future__ import annotations

import html
import re
from html.entities import html5
from typing import Any

from pydantic import Field

from attune.data.clean.base import matches, settled
from attune.data.steps import Edit, TextStep
from attune.plugins import Options
from attune.records import LABEL_TASKS

BLOCKS = frozenset(
    "address article aside blockquote br center dd div dl dt fieldset figcaption figure footer form h1 h2 h3 h4 h5 h6 "
    "head header hr html body li main nav ol p pre section table tbody tfoot thead tr ul".split()
)
CELLS = frozenset(("td", "th"))
INLINE = frozenset(
    "a abbr acronym b base basefont bdi bdo big button caption cite code col colgroup data datalist del dfn dialog "
    "em embed font i iframe img input ins kbd label legend link map mark meta meter noscript object optgroup option "
    "output param picture progress q rp rt ruby s samp script select small source span strike strong style sub "
    "summary sup svg template textarea time title track tt u var video wbr".split()
)
ALONE = frozenset("br hr img input meta link base col embed source track wbr param".split())
"""Elements without an end tag."""
WORDS = frozenset(
    "address article aside button caption center cite code data del dialog figure footer form head".split()
)
WORDS |= frozenset("header input label legend link main map mark menu meter nav object option output param".split())
WORDS |= frozenset("picture progress section select source summary template time title track var video".split())
"""Elements whose name may as well be a placeholder, such as <address>: they need an end tag or attributes."""

# The text of code in backticks is never looked at. Attributes must have values (or be the few that have none), so that
# "x <b and c> y" is no tag. Between underscores there must be a blank, else it may be a name (__init__).
CODE = r"```(?:[^`]|`(?!``))*+(?:```)?|`[^`\n]++`"
NAMES = "|".join(sorted(BLOCKS | CELLS | INLINE, key=lambda name: (-len(name), name)))
BARE = "async|checked|compact|controls|defer|disabled|hidden|multiple|noshade|nowrap|open|readonly|required|selected"
VALUE = r"\s*+=\s*+(?:\"[^\"<>]*+\"|'[^'<>]*+'|[^\s\"'<>=`]++)"
ATTRIBUTE = rf"\s++(?:(?:{BARE})(?=[\s/>])|[a-zA-Z_:@][\w:.@-]*+{VALUE})"
AMP = r"(?:amp;|AMP;|#0*+38;|#[xX]0*+26;)"
TOKEN = re.compile(
    rf"(?P<code>{CODE})|(?P<comment><!--)|(?P<doctype><![dD][oO][cC][tT][yY][pP][eE]\b[^<>]*+>)"
    rf"|<(?P<close>/?)(?P<name>(?i:{NAMES}))(?P<attributes>(?:{ATTRIBUTE})*+)\s*+/?>"
    rf"|&(?P<amp>{AMP}*+)(?:(?P<entity>#[0-9]{{1,7}}+|#[xX][0-9a-fA-F]{{1,6}}+|[A-Za-z][A-Za-z0-9]{{1,31}}+);)?+"
)
MARK = re.compile("[<&`]")
END = {name: re.compile(rf"</{name}\s*+>", re.IGNORECASE) for name in ("script", "style")}

SIGN = re.compile(r"[*_~\[`#>]|---")
MARKDOWN = re.compile(
    rf"(?P<code>{CODE})"
    r"|^ {0,3}(?P<heading>\#{1,6}[ \t]++)(?=[^\Wa-z_][^\n]*+(?:\n[ \t]*+(?:\n|\Z)|\Z))"
    r"|^ {0,3}(?P<rule>\*{3,}+|-{3,}+|_{3,}+)[ \t]*+$"
    r"|^ {0,3}(?P<quote>>[ ])(?=[^\Wa-z_\d])"
    r"|(?<!\w)!?\[(?P<link>[^\[\]\n]*+)\]\((?:https?:|mailto:|www\.|[/#.])[^()\s]*+(?:[ ]\"[^\"\n()]*+\")?\)"
    r"|(?<![\w*\\])\*\*(?P<strong>[^\W_][^*\n]*+)(?<![\s\\])\*\*(?![\w*])"
    r"|(?<![\w*\\])\*(?P<slanted>[^\W\d_][^*\n]*+)(?<![\s\\.])\*(?![\w*])"
    r"|(?<![\w_\\])__(?P<strong_>[^\W_][^_ \n]*+ [^_\n]*+)(?<![\s\\])__(?![\w_])"
    r"|(?<![\w_\\])_(?P<slanted_>[^\W\d_][^_ \n]*+ [^_\n]*+)(?<![\s\\.])_(?![\w_])"
    r"|(?<![\w~\\])~~(?P<struck>[^\W_][^~\n]*+)(?<![\s\\])~~(?![\w~])",
    re.MULTILINE,
)


class Markup(TextStep):
    """Takes out what is left of web pages: tags, entities, scripts, styles, and Markdown signs.

    Text that merely has `<` or `*` in it, and code in backticks, stays.
    """

    name = "markup"

    class Config(Options):
        """Which markup goes."""

        html: bool = Field(default=True, strict=True)
        """Whether HTML tags and comments go, line breaks and paragraphs become new lines, and entities such as
        `&amp;` become the character they stand for."""
        markdown: bool | None = Field(default=None, strict=True)
        """Whether signs of emphasis, headings, quotes and links go, and their text stays. null takes them out where
        text only is to be labelled, and not where it is to be written."""

    def __init__(self, options: Any = None, context: Any = None):
        super().__init__(options, context)
        given = self.options.markdown
        self.markdown = self.context.task in LABEL_TASKS if given is None else given

    def edits(self, text: str) -> list[Edit]:
        return settled(text, self._once)

    def _once(self, text: str) -> list[Edit]:
        edits = _html(text) if self.options.html and ("<" in text or "&" in text) else []
        return edits or (_markdown(text) if self.markdown and SIGN.search(text) else [])


def _html(text: str) -> list[Edit]:
    edits: list[Edit] = []
    open_names: set[str] = set()
    closed_names: set[str] = set()
    for each in matches(TOKEN, MARK, text):
        if each["name"]:
            (closed_names if each["close"] else open_names).add(each["name"].lower())
    first, last = len(text) - len(text.lstrip()), len(text.rstrip())
    at = 0
    endless: set[str] = set()
    for mark in MARK.finditer(text):
        if mark.start() < at or not (match := TOKEN.match(text, mark.start())):
            continue
        start, at = match.span()
        if match["comment"]:
            end = text.find("-->", at) if "-->" not in endless else -1
            if end < 0:
                endless.add("-->")  # looked for once: many openings without an end take no longer than one
                continue
            at = end + 3
            edits.append(Edit(start, at, "", "HTML comment"))
        elif match["doctype"]:
            edits.append(Edit(start, at, "", "HTML tag"))
        elif name := (match["name"] or "").lower():
            paired = name in ALONE or name in open_names & closed_names
            if not paired and not match["attributes"] and not _surely(text, start, at, name):
                continue
            if name in END and not match["close"] and name not in endless:
                if closing := END[name].search(text, at):
                    at = closing.end()
                    edits.append(Edit(start, at, "", f"HTML {name}"))
                    continue
                endless.add(name)
            outer = start <= first or at >= last
            new = "" if outer else "\n" if name in BLOCKS else " " if name in CELLS else ""
            edits.append(Edit(start, at, new, "HTML tag"))
        elif not match["code"] and (new := _entity(match)) != match[0]:
            edits.append(Edit(start, at, new, "HTML entity"))
    return edits


def _surely(text: str, start: int, end: int, name: str) -> bool:
    """Whether a tag without its other half and without attributes is one: no placeholder, no `List<b>`, no `a<b>c`."""
    glued = text[start - 1 : start] if start else ""
    return (
        name not in WORDS
        and not (glued.isalnum() or glued == "_")
        and not (len(name) == 1 and text[end : end + 1].isalnum() and name != "p")
    )


def _entity(match: re.Match[str]) -> str:
    name = match["entity"]
    if name is None:
        return "&" if match["amp"] else match[0]
    if not name.startswith("#") and f"{name};" not in html5:
        return f"&{name};"
    char = html.unescape(f"&{name};")
    if char in ("\u00a0", "\t", "\n", "\r"):
        return " "
    if len(char) == 1 and (ord(char) < 32 or char == "\ufffd" or 0x7F <= ord(char) < 0xA0):
        return f"&{name};"
    return char


def _markdown(text: str) -> list[Edit]:
    edits = []
    for match in MARKDOWN.finditer(text):
        kind = match.lastgroup or ""
        if kind == "code":
            continue
        if kind in ("heading", "quote", "rule"):
            edits.append(Edit(*match.span(kind), "", f"Markdown {kind}"))
            continue
        reason = "Markdown link" if kind == "link" else "Markdown emphasis"
        inner = match.span(kind)
        edits += [Edit(match.start(), inner[0], "", reason), Edit(inner[1], match.end(), "", reason)]
    return edits
