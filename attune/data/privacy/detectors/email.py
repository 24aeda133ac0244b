"""E-mail addresses, also written out to hide them from machines (`ann (at) example (dot) org`)."""

from __future__ import annotations

import re

from attune.data.privacy.detectors.base import Found

KINDS = ("email",)
PRIORITY = 80

LOCAL = r"(?<![\w.%+-])\w[\w.%+'&=-]{0,63}+"
QUOTED = r'(?<!\w)"[^"\n@]{1,64}+"'
PLAIN = re.compile(
    rf"(?:{LOCAL}|{QUOTED})[@＠](?:\w[\w-]{{0,62}}+(?:\.\w[\w-]{{0,62}}+){{1,8}}+|\[[\d.:A-Fa-f]{{3,45}}+\])"
)
WRITTEN = re.compile(
    r"(?<![\w.%+-])\w[\w.%+-]{0,63}+ ?(?:[(\[{<]\s?(?:at|AT|At|@|chez|arroba|ät)\s?[)\]}>]|(?: AT )) ?"
    r"\w[\w-]{0,62}+(?:(?: ?[(\[{<]\s?(?:dot|DOT|Dot|\.|punkt|punto|point)\s?[)\]}>] ?| DOT | dot |"
    r"\.)\w[\w-]{0,62}+){1,6}+"
)


def find(text: str) -> list[Found]:
    found = []
    if "@" in text or "＠" in text:
        for match in PLAIN.finditer(text):
            end = match.end()
            last = match.group().rpartition(".")[2]
            if not match.group().endswith("]") and not _top_level(last):
                continue
            found.append(Found(match.start(), end, "email", 1.0))
    for match in WRITTEN.finditer(text):
        found.append(Found(match.start(), match.end(), "email", 0.8))
    return found


def _top_level(label: str) -> bool:
    return label.lower().startswith("xn--") or (2 <= len(label) <= 24 and label.isalpha())
