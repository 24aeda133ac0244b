"""The text of one document file, in sections. Run as a process of its own: `python -m attune.curate.extract FILE`.

A document comes from anywhere, and its parser may be made to loop or to eat memory; here it can only hurt itself.
"""

from __future__ import annotations

import json
import re
import sys
import zipfile
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

__all__ = ["Refused", "extract", "KINDS"]

KINDS = {
    ".pdf": "pdf",
    ".docx": "docx",
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
    ".md": "markdown",
    ".markdown": "markdown",
    ".txt": "text",
    ".text": "text",
}
"""End of a file's name -> how it is read."""

LONGEST_CHARS = 50_000_000
XML_BYTES = 256 << 20
"""A DOCX part that unpacks to more is refused."""
MEMORY_BYTES, CPU_S = 3 << 30, 300

Sections = list[tuple[str, str]]
"""(heading, text) in their order; the heading is empty where there is none."""


class Refused(Exception):
    """The file cannot be read. Arguments: what, why, fix."""


def extract(path: Path) -> dict[str, Any]:
    """{"title": ..., "sections": [[heading, text], ...]} of a document.

    Raises: Refused.
    """
    kind = KINDS[path.suffix.lower()]
    title, sections = {"pdf": _pdf, "docx": _docx, "html": _html, "markdown": _markdown, "text": _text}[kind](path)
    sections = [(_line(heading), _tidy(text)) for heading, text in sections]
    sections = [(heading, text) for heading, text in sections if text]
    size = sum(len(text) for _, text in sections)
    if not size:
        why, fix = "", "leave it out"
        if kind == "pdf":
            why, fix = (
                "its pages are probably pictures",
                "put it through text recognition (OCR) first, as ocrmypdf does",
            )
        raise Refused("the document holds no text", why, fix)
    if size > LONGEST_CHARS:
        raise Refused(f"the document holds more than {LONGEST_CHARS:,} characters", "", "divide it")
    return {"title": _line(title), "sections": sections}


def _line(text: str) -> str:
    return " ".join(text.split())[:300]


def _tidy(text: str) -> str:
    """No control characters, no spaces at line ends, at most one empty line."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\u00a0", " ").replace("\u00ad", "")
    text = re.sub(r"[\x00-\x08\x0b-\x1f\x7f]", " ", text)
    text = "".join(char if not "\ud800" <= char <= "\udfff" else "\ufffd" for char in text)
    lines = [line.rstrip() for line in text.split("\n")]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def _decoded(path: Path) -> str:
    raw = path.read_bytes()
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return raw.decode("utf-16", "replace")
    declared = re.search(rb"""charset=["']?([\w-]{1,40})""", raw[:4096])
    names = ["utf-8-sig"] + (
        [declared[1].decode()] if declared and path.suffix.lower().startswith((".h", ".x")) else []
    )
    for name in names:
        try:
            return raw.decode(name)
        except (UnicodeDecodeError, LookupError) as error:
            place = f"byte {error.start + 1}" if isinstance(error, UnicodeDecodeError) else str(error)
    raise Refused("the text is not UTF-8", f"the first byte that is none is {place}", "convert it, as with iconv")


# text -----------------------------------------------------------------------------------------------------------------


def _text(path: Path) -> tuple[str, Sections]:
    return "", [("", _decoded(path))]


_FENCE = re.compile(r" {0,3}(```|~~~)")
_ATX = re.compile(r" {0,3}#{1,6}[ \t]+(.+?)[ \t]*#*[ \t]*\Z")


def _markdown(path: Path) -> tuple[str, Sections]:
    text = _decoded(path).replace("\r\n", "\n")
    text = re.sub(r"\A---\n(?:[^\n]*\n){0,200}?---\n", "", text)  # front matter
    text = re.sub(r"<!--.{0,20000}?-->", "", text, flags=re.DOTALL)
    sections: Sections = []
    lines: list[str] = []
    heading = fenced = title = ""
    for line in text.split("\n"):
        mark = _FENCE.match(line)
        if mark and fenced in ("", mark[1]):
            fenced = "" if fenced else mark[1]
        found = _ATX.match(line) if not fenced and len(line) < 1000 else None
        if found:
            sections.append((heading, "\n".join(lines)))
            heading, lines = found[1], []
            title = title or heading
        elif not fenced and lines and lines[-1].strip() and re.fullmatch(r" {0,3}(?:=+|-{2,})\s*", line):
            heading_line = lines.pop()
            sections.append((heading, "\n".join(lines)))
            heading, lines = heading_line, []
            title = title or heading
        else:
            lines.append(line)
    return title, [*sections, (heading, "\n".join(lines))]


# HTML -----------------------------------------------------------------------------------------------------------------


class _Page(HTMLParser):
    SKIPPED = frozenset("script style nav footer aside form template noscript svg button select iframe object".split())
    BLOCKS = frozenset(
        "p div li ul ol table tr br hr section article main header dd dt dl pre blockquote figcaption body".split()
    )

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.sections: Sections = []
        self.title = self.heading = ""
        self.parts: list[str] = []
        self.skipping = ""
        self.depth = 0
        self.into: list[str] | None = None
        self.fence = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self.skipping:
            self.depth += tag == self.skipping
        elif tag in self.SKIPPED:
            self.skipping, self.depth = tag, 1
        elif tag == "title" or re.fullmatch("h[1-6]", tag):
            self.into = []
        elif tag in self.BLOCKS:
            self.parts.append("\n\n" if tag == "p" else "\n")
        elif tag in ("td", "th"):
            self.parts.append(" | " if self.parts and self.parts[-1].strip() else "")
        self.fence += tag == "pre"

    def handle_endtag(self, tag: str) -> None:
        if self.skipping:
            self.depth -= tag == self.skipping
            if not self.depth:
                self.skipping = ""
        elif self.into is not None and (tag == "title" or re.fullmatch("h[1-6]", tag)):
            text, self.into = " ".join("".join(self.into).split()), None
            if tag == "title":
                self.title = self.title or text
            else:
                self.close_section()
                self.heading = text
                self.title = self.title or text
        elif tag in self.BLOCKS:
            self.parts.append("\n\n" if tag in ("p", "table", "ul", "ol", "pre") else "\n")
        self.fence -= tag == "pre" and self.fence > 0

    def handle_data(self, data: str) -> None:
        if self.skipping:
            return
        if self.into is not None:
            self.into.append(data)
        else:
            self.parts.append(data if self.fence else re.sub(r"\s+", " ", data))

    def close_section(self) -> None:
        text = re.sub(r"[ \t]*\n[ \t]*", "\n", "".join(self.parts)) if not self.fence else "".join(self.parts)
        self.sections.append((self.heading, text))
        self.parts = []


def _html(path: Path) -> tuple[str, Sections]:
    page = _Page()
    page.feed(_decoded(path))
    page.close()
    page.close_section()
    return page.title, page.sections


# DOCX -----------------------------------------------------------------------------------------------------------------

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
_HEADING = re.compile(r"(heading|title|berschrift|titre|titolo|t[ií]tulo|kop)\s*\d?", re.IGNORECASE)


def _docx(path: Path) -> tuple[str, Sections]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if "word/document.xml" not in names:
                raise Refused(
                    "not a DOCX document", "it has no word/document.xml", "save it as .docx in a word processor"
                )
            info = archive.getinfo("word/document.xml")
            if info.flag_bits & 1:
                raise Refused("the document is encrypted", "", "save it without a password")
            with archive.open(info) as part:
                raw = part.read(XML_BYTES + 1)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError) as error:
        raise Refused("the DOCX file is damaged", str(error), "copy or download it again") from error
    if len(raw) > XML_BYTES:
        raise Refused(
            f"the document unpacks to more than {XML_BYTES >> 20} MiB", "such a file can fill memory", "divide it"
        )
    if b"<!DOCTYPE" in raw or b"<!ENTITY" in raw:
        raise Refused("the document declares XML entities", "no word processor writes them", "do not trust this file")
    try:
        root = ElementTree.fromstring(raw)
    except ElementTree.ParseError as error:
        raise Refused("the DOCX file is damaged", str(error), "save it again in a word processor") from error
    body = root.find(f"{_W}body")
    sections: Sections = []
    heading, lines, title = "", [], ""
    for block in body if body is not None else ():
        if block.tag == f"{_W}tbl":
            for row in block.iter(f"{_W}tr"):
                lines.append(" | ".join(_words(cell) for cell in row.iter(f"{_W}tc")))
            lines.append("")
            continue
        for paragraph in [block] if block.tag == f"{_W}p" else block.iter(f"{_W}p"):
            text = _words(paragraph)
            style = paragraph.find(f"{_W}pPr/{_W}pStyle")
            outline = paragraph.find(f"{_W}pPr/{_W}outlineLvl")
            named = style is not None and _HEADING.match(style.get(f"{_W}val", ""))
            if text and (named or outline is not None):
                sections.append((heading, "\n".join(lines)))
                heading, lines = text, []
                title = title or text
            else:
                lines += [text, ""]
    return title, [*sections, (heading, "\n".join(lines))]


def _words(element: ElementTree.Element) -> str:
    """The text that a reader sees: no deleted text, no field codes, a text box once."""
    parts: list[str] = []
    stack = [element]
    while stack:
        item = stack.pop()
        if item.tag == _FALLBACK:
            continue
        if item.tag == f"{_W}t":
            parts.append(item.text or "")
        elif item.tag in (f"{_W}tab", f"{_W}br", f"{_W}cr"):
            parts.append(" ")
        elif item.tag == f"{_W}p" and parts:
            parts.append(" ")
        stack.extend(reversed(item))
    return " ".join("".join(parts).split())


# PDF ------------------------------------------------------------------------------------------------------------------


def _pdf(path: Path) -> tuple[str, Sections]:
    try:
        import pypdf
    except ImportError as error:
        raise Refused("reading PDF needs pypdf", "", "pip install 'attune[documents]'") from error
    import logging

    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    try:
        reader = pypdf.PdfReader(path)
        if reader.is_encrypted and not reader.decrypt(""):
            raise Refused("the PDF is encrypted", "", "save it without a password")
        title = str((reader.metadata and reader.metadata.title) or "")
        pages = [page.extract_text() for page in reader.pages]
    except Refused:
        raise
    except MemoryError as error:
        raise Refused("the PDF needs too much memory", "", "print it to a new PDF") from error
    except Exception as error:  # pypdf raises many kinds for damaged files
        why = f"{type(error).__name__}: {error}"[:200]
        raise Refused("the PDF is damaged or not a PDF", why, "open it and print it to a new PDF") from error
    return title, [("", _joined(pages))]


def _joined(pages: list[str]) -> str:
    """Pages as running text: words cut at line ends made whole, lines of a paragraph joined, running heads left out."""
    lines = [[line.strip() for line in page.split("\n")] for page in pages]
    edge: dict[str, int] = {}
    for page in lines:
        filled = [line for line in page if line]
        for line in {re.sub(r"\d+", "#", line) for line in filled[:1] + filled[-1:]}:
            edge[line] = edge.get(line, 0) + 1
    repeated = {line for line, count in edge.items() if count >= 3 and count >= len(lines) / 2}
    text = "\n".join("\n".join(x for x in page if re.sub(r"\d+", "#", x) not in repeated) for page in lines)
    text = re.sub(r"(?<=[a-zäöüßéèàç])-\n(?=[a-zäöüßéèàç])", "", text)
    return re.sub(r"(?<=[^\n.!?:;])\n(?=[a-zäöüß(\d])", " ", text)


def main() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    sys.setrecursionlimit(5000)
    try:
        told = extract(Path(sys.argv[1]))
    except Refused as error:
        told = {"refused": error.args}
    except (MemoryError, RecursionError) as error:
        told = {"refused": ["the document needs too much memory", type(error).__name__, "divide it, or leave it out"]}
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    main()
