"""Web and database addresses that carry a login or an access token."""

from __future__ import annotations

import re

from attune.data.privacy.detectors.base import Found

KINDS = ("url_credentials",)
PRIORITY = 105

LOGIN = re.compile(
    r"(?<![A-Za-z0-9])[A-Za-z][A-Za-z0-9+.-]{1,20}+://[^\s/@:<>\"'\[\]]{0,256}+:[^\s/@<>\"'\[\]]{1,256}+@[^\s<>\"'`\[\]]{1,2048}+"
)
TOKEN = re.compile(
    r"(?i)(?<![A-Za-z0-9])https?+://[^\s?#<>\"'`\[\]]{1,512}+[?#](?:[^\s&<>\"'`=\[\]]{1,64}+=(?:[^\s&<>\"'`\[\]]{0,512}+)&){0,16}?"
    r"(?:access_token|id_token|refresh_token|auth_token|token|api_?key|apikey|key|secret|client_secret|password|"
    r"passwd|pwd|"
    r"sig|signature|x-amz-signature|x-amz-credential|session_?id|sid|jwt|code)="
    r"[^\s&<>\"'`\[\]]{6,2048}+(?:&[^\s<>\"'`\[\]]{0,2048}+)?"
)
AFTER = ".,;:!?)]}'\""


def find(text: str) -> list[Found]:
    if "://" not in text:
        return []
    found = []
    for pattern in (LOGIN, TOKEN):
        for match in pattern.finditer(text):
            end = match.start() + len(match.group().rstrip(AFTER))
            found.append(Found(match.start(), end, "url_credentials", 0.95))
    return found
