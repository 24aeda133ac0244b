"""Pages that open from disk: one file that loads nothing, data always escaped, one look for all of them."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path
from typing import Any

__all__ = ["render", "safe", "clean"]

STYLE = Path(__file__).with_name("page.css")


def render(template: Path, shown: dict[str, Any], *, script: Path | None = None) -> str:
    """The template with what is shown.

    It also gets `style`, `script` and their hashes, for a policy that allows exactly these two and no request.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(template.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    style = STYLE.read_text(encoding="utf-8")
    code = script.read_text(encoding="utf-8") if script else ""
    page = environment.get_template(template.name).render(
        **shown, style=safe(style), script=safe(code), style_hash=_hash(style), script_hash=_hash(code)
    )
    return clean(page)


def safe(svg: str) -> Any:
    """Mark a chart as markup; charts escape what they are given."""
    from markupsafe import Markup

    return Markup(svg)


def clean(text: str) -> str:
    """Lone surrogates cannot be written as UTF-8: each becomes the replacement character."""
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
