"""IP addresses, version 4 and 6. Version and section numbers are told from them by the word before."""

from __future__ import annotations

import ipaddress
import re

from attune.data.privacy.detectors.base import Found, nearest_word

KINDS = ("ip",)
PRIORITY = 75

OCTET = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
V4 = re.compile(rf"(?<![\w.])(?<!\d[,-])(?:{OCTET}\.){{3}}{OCTET}(?![\w-])(?!\.\d)", re.ASCII)
V6 = re.compile(
    r"(?<![\w:.])(?:::)?[0-9A-Fa-f]{0,4}+(?::{1,2}[0-9A-Fa-f]{1,4}+){2,8}+(?:(?:\.\d{1,3}){3}|::)?(?![\w:])", re.ASCII
)
NOT_BEFORE = re.compile(
    r"(?i)(?:\b(?:v|ver\.?|version|versión|versione|release|build|firmware|section|sec\.|clause|chapter|appendix|oid|"
    r"kernel|driver|update|upgraded? (?:to|from)|sdk|api|§)|[§~^<>]=?|==)\s*$"
)


def find(text: str) -> list[Found]:
    found = []
    for match in V4.finditer(text):
        if nearest_word(NOT_BEFORE, text, match.start(), before=16) is None and match.group() != "0.0.0.0":
            found.append(Found(match.start(), match.end(), "ip", 0.95))
    if text.count(":") >= 2:
        for match in V6.finditer(text):
            if _is_v6(match.group()):
                found.append(Found(match.start(), match.end(), "ip", 0.95))
    return found


def _is_v6(value: str) -> bool:
    """`12:30::05` and `dead::beef` are legal addresses too, but hardly meant as one."""
    try:
        ipaddress.IPv6Address(value)
    except ValueError:
        return False
    groups = [group for group in value.split(":") if group]
    return len(groups) >= 3 or (len(groups) == 2 and len(groups[0]) == 4 and groups[0][0] in "23fF")
