"""How figures are written: one way for the page, the Markdown and the terminal, so that all three say the same."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

__all__ = ["NOTHING", "number", "interval", "signed", "p_value", "seconds", "whole", "versus", "moment"]

NOTHING = "\N{EN DASH}"


def _missing(value: float | None) -> bool:
    return value is None or isinstance(value, str) or not math.isfinite(value)


def number(value: float | None) -> str:
    """0.871, 34.12, 1,204.5; a dash where undefined."""
    if value is None or _missing(value):
        return NOTHING
    size = abs(value)
    digits = 3 if size < 10 else 2 if size < 100 else 1
    text = f"{value:,.{digits}f}" if size >= 0.001 or size == 0 else f"{value:.1e}"
    return text.replace("-", "\N{MINUS SIGN}", 1) if value < 0 else text


def signed(value: float | None) -> str:
    """A difference: +0.052."""
    if value is None or _missing(value):
        return NOTHING
    return ("+" if value > 0 else "") + number(value)


def interval(figure: Mapping[str, Any] | None) -> str:
    """`0.852 to 0.889`, or nothing where undefined."""
    if not figure or _missing(figure["low"]) or _missing(figure["high"]):
        return ""
    return f"{number(figure['low'])} to {number(figure['high'])}"


def p_value(p: float | None) -> str:
    if p is None or _missing(p):
        return NOTHING
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def versus(row: Mapping[str, Any] | None) -> str:
    """`+0.052 (0.031 to 0.074), p 0.001`, or nothing."""
    if not row or _missing(row["difference"]):
        return ""
    return f"{signed(row['difference'])} ({interval(row)}), p {p_value(row['p'])}"


def seconds(value: float | None) -> str:
    """A duration in the unit that reads best."""
    if value is None or _missing(value):
        return NOTHING
    if 0 < value < 0.01:
        return "< 0.01 s"
    if value < 120:
        return f"{value:.2f} s" if value < 10 else f"{value:.0f} s"
    return f"{value / 60:.1f} min" if value < 7200 else f"{value / 3600:.1f} h"


def moment(iso: str) -> str:
    """`2025-11-21T10:24:00Z` as `2025-11-21 10:24 UTC`; anything else as it is."""
    try:
        time = datetime.fromisoformat(iso)
    except ValueError:
        return iso
    return f"{time:%Y-%m-%d %H:%M} {time.tzname() or ''}".strip()


def whole(value: Any) -> str:
    """Anything as text for a table: counts with separators, lists joined, nested values as `key: value`."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: NOTHING}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return number(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {item if isinstance(item, str) else whole(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return " ".join(whole(item) for item in value)
    return str(value)
