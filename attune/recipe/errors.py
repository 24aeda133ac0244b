"""What is wrong with a recipe, in the words of its file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from attune.errors import RecipeError
from attune.plugins import nearest
from attune.recipe.help import CHOICES, hint, misplaced, type_words
from attune.recipe.yaml import Key, Layer, shown

__all__ = ["explained"]


def explained(error: ValidationError, values: dict[str, Any], layer: Layer, source: Any) -> RecipeError:
    """pydantic's findings in the words of the file: one line each, in the order of the file."""
    found: dict[Key, tuple[str, str | None, str | None]] = {}
    for item in error.errors(include_url=False):
        missing, unknown = item["type"] == "missing", item["type"] == "extra_forbidden"
        key = _real(item["loc"], values, missing)
        if key in found:
            continue  # the other arms of a union
        dotted = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in key).lstrip(".")
        where = layer.key_places.get(key) if unknown else None
        for n in range(len(key), 0, -1):
            where = where or layer.places.get(key[:n]) or layer.key_places.get(key[:n])
        if unknown:
            what, fix = misplaced(key, values)
        elif missing:
            what, fix = f"{dotted} is missing", hint(key, values)
            if where is None and not isinstance(source, Mapping):
                where = str(source)
        elif item["type"] in ("value_error", "unknown_plugin", "plugin_auto", "plugin_type"):
            text = str(item["ctx"]["error"]) if item["type"] == "value_error" else item["msg"]
            single = not isinstance(item["input"], dict | list)
            subject = f"{dotted} {shown(item['input'])}" if single and text.startswith("is ") else dotted
            what = f"{subject} {text}" if text.startswith(("is ", "must ", "has ")) else f"{subject}: {text}"
            what += f", not {shown(item['input'])}" if single and text.startswith("must ") else ""
            fix = hint(key, values) if single else None
            if item["type"] == "unknown_plugin":
                fix = f"one of: {item['ctx']['known']}"
                if key[0] in CHOICES:
                    where = layer.places.get((*key, CHOICES[str(key[0])].key)) or where
        else:
            wanted = _bound(item["msg"]) or type_words(key, values)
            what, fix = f"{dotted} must be {wanted}, not {shown(item['input'])}", hint(key, values)
            if item["type"] == "literal_error":
                what += nearest(str(item["input"]), re.split(", | or ", wanted))
        found[key] = (what, where, fix)
    # A list that fails as text too is said once, at the item that is wrong.
    kept = [entry for key, entry in found.items() if not any(other[: len(key)] == key != other for other in found)]
    order = sorted(kept, key=lambda entry: [int(part) for part in re.findall(r":(\d+)", entry[1] or "")] or [1 << 30])
    (what, where, fix), rest = order[0], order[1:8]
    for other, place, _ in rest:
        what += f"\n{place}: {other}" if place else f"\n{other}"
    if len(order) > 8:
        what += f"\nand {len(order) - 8} more"
    return RecipeError(what, where=where, fix=fix)


def _bound(message: str) -> str | None:
    """The limit that pydantic's message speaks of, if any: `at least 1`."""
    for said, ours in (
        ("greater than or equal to ", "at least "),
        ("less than or equal to ", "at most "),
        ("greater than ", "greater than "),
        ("less than ", "less than "),
    ):
        if said in message:
            return ours + message.split(said)[1]
    return None


def _real(loc: tuple[str | int, ...], values: Any, missing: bool) -> Key:
    """pydantic's location without the names of union arms: only what leads somewhere in the values."""
    key: list[str | int] = []
    for part in loc:
        if isinstance(values, dict) and part in values:
            values = values[part]
        elif isinstance(values, list) and isinstance(part, int) and part < len(values):
            values = values[part]
        elif isinstance(values, dict) and len(values) == 1 and key and isinstance(key[-1], int):
            # a plugin in a list, `{labels: {mode: auto}}`: its errors name only the option
            ((name, options),) = values.items()
            if not isinstance(options, dict) or (part not in options and not missing):
                continue
            key.append(name)
            values = options.get(part)  # type: ignore[arg-type]
        elif missing and part == loc[-1]:
            pass
        else:
            continue
        key.append(part)
    return tuple(key)
