"""Keys, tokens and passwords: known shapes, private key blocks, and random-looking values behind telling names."""

from __future__ import annotations

import math
import re
from collections import Counter

from attune.data.privacy.detectors.base import Found

KINDS = ("secret",)
PRIORITY = 100

SHAPES = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"(?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{16}"
    r"|gh[pousr]_[A-Za-z0-9]{20,255}+|github_pat_[A-Za-z0-9_]{22,255}+"
    r"|sk-(?:proj-|svcacct-|ant-|or-v1-|lf-)?[A-Za-z0-9_-]{20,255}+"
    r"|(?:sk|pk|rk)_(?:live|test)_[A-Za-z0-9]{10,255}+|whsec_[A-Za-z0-9]{16,255}+"
    r"|xox[abeprs]-[A-Za-z0-9-]{10,255}+|xapp-\d-[A-Za-z0-9-]{10,255}+"
    r"|AIza[A-Za-z0-9_-]{35}|ya29\.[A-Za-z0-9_-]{20,255}+|GOCSPX-[A-Za-z0-9_-]{28}"
    r"|glpat-[A-Za-z0-9_-]{20,255}+|npm_[A-Za-z0-9]{36}|hf_[A-Za-z0-9]{30,64}+|pypi-[A-Za-z0-9_-]{50,512}+"
    r"|SG\.[A-Za-z0-9_-]{16,64}+\.[A-Za-z0-9_-]{16,64}+|key-[0-9a-f]{32}|(?:SK|AC)[0-9a-f]{32}"
    r"|dop_v1_[0-9a-f]{64}|shp(?:at|ss|ca|pa)_[0-9a-fA-F]{32}|eyJ[A-Za-z0-9_-]{8,8192}+\.eyJ[A-Za-z0-9_-]{4,8192}+"
    r"\.[A-Za-z0-9_-]{0,1024}+"
    r"|EAACEdEose0cBA[A-Za-z0-9]{1,255}+|sq0(?:atp|csp)-[A-Za-z0-9_-]{22,64}+|AGE-SECRET-KEY-1[A-Z0-9]{58}"
    r")(?![A-Za-z0-9])"
)
HOOK = re.compile(
    r"https://(?:hooks\.slack\.com/(?:services|workflows)|discord(?:app)?\.com/api/webhooks)/[\w/-]{10,256}+"
)
BLOCK = re.compile(r"-----BEGIN (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----")
BLOCK_END = re.compile(r"-----END (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----")
NAMED = re.compile(
    r"(?i)(?:api[ _-]?key|api[ _-]?token|access[ _-]?key(?:[ _-]?id)?|access[ _-]?token|auth[ _-]?token|refresh[ "
    r"_-]?token"
    r"|client[ _-]?secret|secret[ _-]?key|secret[ _-]?access[ _-]?key|private[ _-]?key|signing[ _-]?key"
    r"|encryption[ _-]?key|session[ _-]?(?:id|key|token)|apikey|secret|token|credentials?|authorization)"
    r"[\"']?\s{0,3}+(?:[:=]{1,2}>?|\bis\b)\s{0,3}+(?:bearer |basic |token "
    r")?[\"'`]?(?P<value>[A-Za-z0-9_+/=.~-]{12,512}+)"
)
BEARER = re.compile(r"(?i)(?<![a-z])(?:bearer|basic) (?P<value>[A-Za-z0-9_+/=.~-]{16,2048}+)")
PASSWORD = re.compile(
    r"(?i)(?:pass(?:word|wd|phrase|code)|pwd|passwort|kennwort|mot de passe|contraseña|senha|wachtwoord|lösenord|hasło)"
    r"[\"']?\s{0,3}+(?:[:=]{1,2}>?|\b(?:is|ist|est|es|é)\b)\s{0,3}+[\"'`]?(?P<value>[^\s\"'`,;<>\[\]]{5,128}+)"
)

NAMING = (
    *("key", "token", "secret", "session", "credential", "authorization", "bearer", "basic", "pass", "pwd", "kennwort"),
    *("mot de passe", "contraseña", "senha", "wachtwoord", "lösenord", "hasło"),
)
"""One of these stands in every match of the three patterns above."""


def find(text: str) -> list[Found]:
    found = [Found(*match.span(), "secret", 1.0) for match in SHAPES.finditer(text)]
    found += [Found(*match.span(), "secret", 1.0) for match in HOOK.finditer(text)]
    at = 0
    while begin := BLOCK.search(text, at):
        end = BLOCK_END.search(text, begin.end())
        at = end.end() if end else len(text)  # cut off: all that follows is the key
        found.append(Found(begin.start(), at, "secret", 1.0))
    low = text.lower()
    if not any(word in low for word in NAMING):
        return found
    for pattern in (NAMED, BEARER):
        for match in pattern.finditer(text):
            value = match["value"].rstrip(".")
            if random_looking(value):
                found.append(Found(match.start("value"), match.start("value") + len(value), "secret", 0.8))
    for match in PASSWORD.finditer(text):
        value = match["value"].rstrip(".!?)") if match["value"][-1] in "." else match["value"]
        if any(not char.isalpha() for char in value) and len(value) >= 5:
            found.append(Found(match.start("value"), match.start("value") + len(value), "secret", 0.7))
    return found


def random_looking(value: str) -> bool:
    """Whether a value is drawn by a machine rather than written: its characters are spread, and not letters alone."""
    if len(value) < 12 or value.isalpha() and (value.islower() or value.istitle()):
        return False
    total = len(value)
    bits = -sum(n / total * math.log2(n / total) for n in Counter(value).values())
    return bits >= 2.8 and any(char.isdigit() for char in value) or bits >= 3.8 and value.lower() != value
