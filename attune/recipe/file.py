"""Recipes as files: `extends:`, overrides, loading, writing."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.representer import SafeRepresenter

from attune.errors import RecipeError, UsageError
from attune.recipe import Recipe
from attune.recipe.errors import explained
from attune.recipe.help import CHOICES, explain, json_schema
from attune.recipe.names import translate
from attune.recipe.stages import complete
from attune.recipe.yaml import Key, Layer, Reader, compose, read

__all__ = ["load", "dump", "fingerprint", "parsed", "explain", "json_schema"]

EITHER: dict[Key, str] = {("train", "batch_size"): "batch_tokens", ("train", "batch_tokens"): "batch_size"}
"""One replaces the other when an upper layer gives it."""


def _merge(lower: Layer, upper: Layer) -> Layer:
    """`upper` on top of `lower`: mappings merge, anything else replaces."""
    merged = Layer({**lower.values}, {**lower.places}, {**lower.key_places})
    items: dict[Key, Key] = {}
    """Where an override names an item of a list by number or name -> the item's own key."""

    def forget(key: Key) -> None:
        for places in (merged.places, merged.key_places):
            for old in [old for old in places if old[: len(key)] == key]:
                del places[old]

    def lay(below: dict[str, Any], above: dict[str, Any], at: Key) -> dict[str, Any]:
        result = dict(below)
        for name, value in above.items():
            key = (*at, name)
            other = EITHER.get(key)
            if other and value is not None and other not in above and other in result:
                del result[other]
                forget((*at, other))
            if len(key) == 1 and name in CHOICES:
                choice = CHOICES[name].key
                old = {choice: result[name]} if isinstance(result.get(name), str) else result.get(name)
                new = {choice: value} if isinstance(value, str) else value
                if isinstance(old, dict) and isinstance(new, dict):
                    if choice in new and new[choice] != old.get(choice, CHOICES[name].fallback):
                        old = {}
                        forget(key)
                    result[name], value = old, new
            if isinstance(value, dict) and isinstance(result.get(name), list):
                listed = list(result[name])
                for item, inner in value.items():
                    number = _item(listed, item, key, upper)
                    items[(*key, item)] = (*key, number)
                    old = listed[number] if isinstance(listed[number], dict) else {"path": listed[number]}
                    listed[number] = lay(old, inner, (*key, number)) if isinstance(inner, dict) else inner
                result[name] = listed
            elif isinstance(value, dict) and isinstance(result.get(name), dict) and key != ("data", "columns"):
                result[name] = lay(result[name], value, key)
            else:
                result[name] = value
                forget(key)
        return result

    merged.values = lay(lower.values, upper.values, ())
    for places, added in ((merged.places, upper.places), (merged.key_places, upper.key_places)):
        for key, where in added.items():
            for end in range(1, len(key) + 1):
                key = (*items.get(key[:end], key[:end]), *key[end:])
            places[key] = where
    return merged


def _item(listed: list[Any], item: Any, at: Key, upper: Layer) -> int:
    """Which item of a list an override means: its number, counted from 1, or its name.

    Raises: UsageError if there is none.
    """
    names = [str(one.get("name") or one.get("objective") or "") if isinstance(one, dict) else "" for one in listed]
    if item in names:
        return names.index(item)
    if str(item).isdigit() and 1 <= int(item) <= len(listed):
        return int(item) - 1
    dotted = ".".join(map(str, (*at, item)))
    known = [*(str(number + 1) for number in range(len(listed))), *filter(None, names)]
    raise UsageError(
        f"'{dotted}' names no item of the list {'.'.join(map(str, at))}", fix=f"one of: {', '.join(known)}"
    )


def parsed(text: str, name: str) -> Any:
    """The value of an override: a YAML scalar, or a list or mapping in brackets; anything else is text as it stands."""
    text = text.strip()
    if text[:1] in ("{", "[", '"', "'"):
        node = compose(text, name)
        return None if node is None else Reader(name, Layer({})).value(node, (), 0)
    try:
        node = compose(text, name)
        value = None if node is None else Reader(name, Layer({})).value(node, (), 0)
    except RecipeError:
        return text
    if isinstance(value, str | dict | list) or (value is None and text.lower() not in ("", "null", "~")):
        return text
    return value


def _overrides(overrides: Iterable[str] | Mapping[str, Any]) -> Layer:
    """`a.b=c` in any order as one layer; the last of two for one key wins.

    Raises: UsageError if one is not of that form.
    """
    layer = Layer({})
    pairs: list[tuple[str, Any, str]] = []
    if isinstance(overrides, Mapping):
        pairs = [(key, _copied(value), f"override {key}={value}") for key, value in overrides.items()]
    else:
        for text in [overrides] if isinstance(overrides, str) else overrides:
            key, equals, value = text.partition("=")
            if not equals:
                raise UsageError(f"override '{text}' has no '='", fix="write it as train.epochs=1")
            where = f"override {key.strip()}={value.strip()[:60]}"
            pairs.append((key.strip(), parsed(value, where), where))
    for dotted, value, where in pairs:
        if not re.fullmatch(r"\w+(\.[\w-]+)*", dotted):
            raise UsageError(f"override '{dotted}' is not a key", fix="write it as train.epochs=1")
        parts = dotted.split(".")
        block = layer.values
        for depth, part in enumerate(parts[:-1]):
            inner = block.get(part)
            if isinstance(inner, str) and depth == 0 and part in CHOICES:
                inner = {CHOICES[part].key: inner}
            block[part] = inner if isinstance(inner, dict) else {}
            layer.key_places.setdefault(tuple(parts[: depth + 1]), where)
            block = block[part]
        if isinstance(value, str) and dotted in CHOICES and isinstance(block.get(dotted), dict):
            block[dotted] = {**block[dotted], CHOICES[dotted].key: value}
        else:
            block[parts[-1]] = value
        layer.places[tuple(parts)] = layer.key_places[tuple(parts)] = where
    return layer


def _extended(path: Path, above: tuple[Path, ...] = ()) -> tuple[Layer, list[str]]:
    """A file on top of the files it `extends`, which are read first; their paths start at its own folder."""
    if path.resolve() in above:
        chain = " -> ".join(str(step) for step in (*above, path.resolve()))
        raise RecipeError(f"{path} extends itself", why=chain, fix="remove one `extends:`")
    layer = read(path)
    notices = [f"{path}: {notice}" if above else notice for notice in translate(layer)]
    if "extends" not in layer.values:
        return layer, notices
    base = layer.values.pop("extends")
    where = layer.places.get(("extends",))
    if not isinstance(base, str) or not base:
        raise RecipeError("extends must be the name of one recipe file", where=where)
    target = path.parent / base
    if not target.is_file():
        raise RecipeError(f"extends: no such file {target}", where=where, why="the path starts at this recipe's folder")
    lower, lower_notices = _extended(target, (*above, path.resolve()))
    return _merge(lower, layer), [*lower_notices, *notices]


def load(source: str | Path | Mapping[str, Any], overrides: Iterable[str] | Mapping[str, Any] = ()) -> Recipe:
    """The recipe of a file or mapping, with overrides (`train.epochs=1`, or a mapping by dotted key) on top.

    Raises: RecipeError naming every wrong key with file:line:column, what would be right, and what the key means.
    """
    if isinstance(source, Mapping):
        layer, notices = Layer(_copied(source)), []
        notices += translate(layer)
        if "extends" in layer.values:
            raise RecipeError("extends works in files only", fix="load the file and give the rest as overrides")
    else:
        layer, notices = _extended(Path(source))
    upper = _overrides(overrides)
    notices += translate(upper)
    layer = _merge(layer, upper)
    if layer.values.get("stages"):
        layer, more = complete(layer, _merge, source)
        notices += more
    # `train:` with nothing below it is a section left at its defaults, not a wrong value.
    values = {name: value for name, value in layer.values.items() if value is not None}
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        refused = explained(error, values, layer, source)
        refused.file = None if isinstance(source, Mapping) else Path(source)
        raise refused from error
    recipe._notices = tuple(notices)
    recipe._places = {".".join(map(str, key)): where for key, where in layer.places.items() if key}
    return recipe


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copied(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_copied(inner) for inner in value]
    return str(value) if isinstance(value, Path) else value


class _Representer(SafeRepresenter):
    """Unicode's own line breaks are escaped: written bare, they would be read back as folded blanks."""

    def represent_str(self, text: str) -> Any:
        style = '"' if re.search("[\x85\u2028\u2029\ufeff]", text) else None
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Representer.add_representer(str, _Representer.represent_str)


def dump(recipe: Recipe) -> str:
    """The complete recipe as YAML, every default written out; loading it gives an equal recipe."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False  # type: ignore[assignment]
    yaml.allow_unicode = True
    yaml.width = 10_000
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.Representer = _Representer
    stream = io.StringIO()
    yaml.dump(recipe.model_dump(mode="json"), stream)
    return stream.getvalue()


def fingerprint(recipe: Recipe) -> str:
    """SHA-256 over all that changes the result: everything but the name, the trackers and the search."""
    values = recipe.model_dump(mode="json", exclude={"name", "track", "search"})
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
