"""What a recipe's keys mean, in words: `attune explain`, hints of errors, the nearest key, the JSON Schema."""

from __future__ import annotations

import difflib
import re
import types
import typing
from collections.abc import Iterator
from typing import Any, Literal, Union

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from attune import plugins
from attune.errors import UsageError
from attune.plugins import nearest
from attune.recipe import Recipe
from attune.recipe.base import PluginChoice

__all__ = ["CHOICES", "explain", "json_schema", "hint", "misplaced", "type_words", "keys"]

CHOICES: dict[str, type[PluginChoice]] = {
    name: info.annotation  # type: ignore[misc]
    for name, info in Recipe.model_fields.items()
    if isinstance(info.annotation, type) and issubclass(info.annotation, PluginChoice)
}
"""Sections that name a plugin: choosing another one drops the options of the first."""

NOT_HERE = {
    "output_dir": "the run's folder is chosen on the command line: --out",
    "logging_steps": "every step is logged",
    "load_best_model_at_end": "the best checkpoint is always the result",
}
"""Well-known keys of other tools that nothing replaces, and why."""


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The sections an annotation may hold."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in typing.get_args(annotation) for model in _models(inner)]


def _chosen(section: type[PluginChoice], value: Any) -> str:
    name = value.get(section.key, section.fallback) if isinstance(value, dict) else value
    return name if isinstance(name, str) else section.fallback


def section_of(key: tuple[str | int, ...], values: Any) -> type[BaseModel] | None:
    """The model whose field `key` names; a plugin's own `Config` where one is chosen. () is the recipe."""
    model: type[BaseModel] = Recipe
    for part in key:
        if isinstance(part, int):
            values = values[part] if isinstance(values, list) and part < len(values) else None
            continue
        if issubclass(model, PluginChoice):  # one that stands in a list: its name is the next part of the key
            plugin = plugins.find(model.kind).get(part)
            if plugin is None:
                return None
            model, values = plugin.Config, values.get(part) if isinstance(values, dict) else None  # type: ignore[attr-defined]
            continue
        values = values.get(part) if isinstance(values, dict) else None
        inner = _models(model.model_fields[part].annotation) if part in model.model_fields else []  # type: ignore[index]
        if not inner:
            return None
        model = inner[0]
        if issubclass(model, PluginChoice) and not model.nested:
            plugin = plugins.find(model.kind).get(_chosen(model, values))
            if plugin is None:
                return None
            model = plugin.Config  # type: ignore[attr-defined]
    return model


def _field(key: tuple[str | int, ...], values: Any) -> FieldInfo | None:
    words = [part for part in key if isinstance(part, str)]
    if not words:
        return None
    last = len(key) - 1 - key[::-1].index(words[-1])
    section = section_of(key[:last], values)
    return section.model_fields.get(words[-1]) if section else None


def hint(key: tuple[str | int, ...], values: Any) -> str | None:
    """What the key means: its docstring."""
    for end in range(len(key), 0, -1):
        if field := _field(key[:end], values):
            return f"{'.'.join(part for part in key[:end] if isinstance(part, str))}: {_about(field)}"
    return None


def _about(field: FieldInfo) -> str:
    # A field's docstring may speak Python; the reader of a recipe writes null.
    return re.sub(r"\bNone\b", "null", " ".join((field.description or "").split()))


def _words(annotation: Any, plural: bool = False) -> list[str]:
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _words(typing.get_args(annotation)[0], plural)
    if origin in (Union, types.UnionType):
        found = [word for inner in typing.get_args(annotation) for word in _words(inner, plural)]
        return [*dict.fromkeys(word for word in found if word != "null"), *(["null"] if "null" in found else [])]
    if origin is Literal:
        return [str(value) for value in typing.get_args(annotation)]
    if origin is list:
        return [f"a list of {' or '.join(_words(typing.get_args(annotation)[0], True))}"]
    if origin is dict or annotation is dict:
        return ["a mapping of names to text"]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return ["a section of keys"]
    simple = {
        str: ("text", "texts"),
        int: ("a whole number", "whole numbers"),
        float: ("a number", "numbers"),
        bool: ("true or false", "true or false"),
        type(None): ("null", "null"),
    }
    return [simple[annotation][plural] if annotation in simple else str(annotation)]


def type_words(key: tuple[str | int, ...], values: Any) -> str:
    """What may stand there: `a number or null`, `cosine, linear, constant or wsd`."""
    inside = bool(key) and isinstance(key[-1], int)
    field = _field(key[:-1] if inside else key, values)
    if field is None and len(key) > 1:
        inside, field = True, _field(key[:-1], values)
    if field is None:
        return "a value of another kind"
    if not inside:
        return _joined(_words(field.annotation))
    # An item of a list, or a value of a mapping of names.
    arms = [field.annotation, *typing.get_args(field.annotation)]
    items = [typing.get_args(arm)[-1] for arm in arms if typing.get_origin(arm) in (list, dict)]
    return _joined([word for item in items for word in _words(item)] or ["a value of another kind"])


def _joined(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def keys() -> Iterator[str]:
    """Every dotted key of a recipe, with the options of every plugin under its section."""

    def below(model: type[BaseModel], at: str) -> Iterator[str]:
        for name, field in model.model_fields.items():
            yield at + name
            for inner in _models(field.annotation):
                if issubclass(inner, PluginChoice) and inner.nested:
                    for title, plugin in plugins.find(inner.kind).items():
                        yield f"{at}{name}.{title}"
                        yield from below(plugin.Config, f"{at}{name}.{title}.")  # type: ignore[attr-defined]
                elif issubclass(inner, PluginChoice):
                    yield f"{at}{name}.{inner.key}"
                    for plugin in plugins.find(inner.kind).values():
                        yield from below(plugin.Config, f"{at}{name}.")  # type: ignore[attr-defined]
                else:
                    yield from below(inner, f"{at}{name}.")

    yield from dict.fromkeys(below(Recipe, ""))


def misplaced(key: tuple[str | int, ...], values: Any) -> tuple[str, str | None]:
    """(what, fix) for an unknown key: the nearest in its section, or the section where it belongs."""
    *above, name = key
    word = str(name)
    words = tuple(part for part in above if isinstance(part, str))
    section = section_of(tuple(above), values)
    inside = f" in {'.'.join(words)}" if words else ""
    what = f"unknown key '{word}'{inside}"
    if word in NOT_HERE:
        return what, NOT_HERE[word]
    outer = Recipe.model_fields[words[0]].annotation if words and words[0] in Recipe.model_fields else None
    here = list(section.model_fields) if section else []
    if isinstance(outer, type) and issubclass(outer, PluginChoice):
        chosen = _chosen(outer, values.get(words[0]))
        holders = [
            plugin
            for plugin, cls in plugins.find(outer.kind).items()
            if word in cls.Config.model_fields  # type: ignore[attr-defined]
        ]
        if holders:
            fix = f"{words[0]}: {{{outer.key}: {holders[0]}, {word}: ...}}, or leave it out"
            return f"'{word}' is an option of {outer.kind} {_joined(holders)}, not of {chosen}", fix
        here.insert(0, outer.key)
    everywhere = sorted(keys(), key=lambda other: other.count("."))  # the section itself before a list inside it
    elsewhere = [other for other in everywhere if other.split(".")[-1] == word]
    last = {other.split(".")[-1]: other for other in reversed(everywhere)}
    target = elsewhere[0] if elsewhere else _closest(word, here) or last.get(_closest(word, list(last)) or "")
    if target is None:
        return what, f"keys{inside}: {', '.join(here)}" if here else "it has no options"
    return f"{what}; did you mean '{target}'?", hint(
        (*words, target) if target in here else tuple(target.split(".")), values
    )


def _closest(word: str, known: list[str]) -> str | None:
    """The key that was meant, if it is plain: any word may be a key of some other tool, so this is strict."""
    for guess in difflib.get_close_matches(word, known, n=1, cutoff=0.6):
        if guess[0] == word[0] or difflib.SequenceMatcher(None, word, guess).ratio() > 0.75:
            return guess
    return None


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a recipe file, for editors: with every plugin's options, told apart by its name."""
    schema = Recipe.model_json_schema()
    schema["properties"]["extends"] = {
        "type": "string",
        "description": "Another recipe file that this one is laid on top of.",
    }
    schema["required"] = [name for name in schema.get("required", []) if name != "data"]
    schema["anyOf"] = [{"required": ["data"]}, {"required": ["stages"]}, {"required": ["extends"]}]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "attune recipe"}


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return ""
    return f"default {'null' if value is None else str(value).lower() if isinstance(value, bool) else value}"


def _bounds(field: FieldInfo) -> str:
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    flat = [*field.metadata]
    for inner in typing.get_args(field.annotation):
        flat += getattr(inner, "__metadata__", ())
    flat = [part for item in flat for part in (item.metadata if isinstance(item, FieldInfo) else [item])]
    found = [
        f"{sign} {getattr(item, name):g}"
        for item in flat
        for name, sign in signs.items()
        if getattr(item, name, None) is not None
    ]
    return ", ".join(dict.fromkeys(found))


def _line(name: str, field: FieldInfo) -> str:
    default = _default(field)
    return f"  {name}{f' ({default})' if default else ''}: {_about(field)}"


def _plugin_text(title: str, plugin: type) -> str:
    options = plugin.Config.model_fields  # type: ignore[attr-defined]
    return (
        "\n".join([title, *[_line(name, field) for name, field in options.items()]])
        if options
        else f"{title}\n  no options"
    )


def explain(key: str = "") -> str:
    """What a key of a recipe means, its type, default and choices; of a section, all its keys.

    `adapter` lists the adapters, `adapter.lora` the options of one, `adapter.lora.r` (or `adapter.r`) one option.

    Raises: UsageError naming the nearest key.
    """
    parts = [part for part in key.split(".") if part]
    model: type[BaseModel] = Recipe
    if not parts:
        return "\n".join(["A recipe says:", *[_line(name, field) for name, field in Recipe.model_fields.items()]])
    for depth, part in enumerate(parts):
        dotted = ".".join(parts[: depth + 1])
        field = model.model_fields.get(part)
        if field is None:
            known = list(keys())
            same = [other for other in known if other.split(".")[-1] == parts[-1]]
            raise UsageError(
                f"a recipe has no key '{key}'" + (f"; did you mean '{same[0]}'?" if same else nearest(key, known)),
                fix="`attune explain` lists the sections",
            )
        inner = _models(field.annotation)
        if inner and issubclass(inner[0], PluginChoice):
            return _explain_plugin(inner[0], dotted, parts[depth + 1 :])
        if inner:
            model = inner[0]
    assert field is not None
    if inner:
        return "\n".join([f"{key}: {_about(field)}", *[_line(name, item) for name, item in model.model_fields.items()]])
    return _one(key, field)


def _one(key: str, field: FieldInfo) -> str:
    about = ", ".join(part for part in (_joined(_words(field.annotation)), _bounds(field), _default(field)) if part)
    return f"{key}: {_about(field)}\n  {about}"


def _explain_plugin(section: type[PluginChoice], at: str, rest: list[str]) -> str:
    found = plugins.find(section.kind)
    if not rest:
        written = f"Written `{at}: {{{section.key}: NAME, ...options}}` or `{at}: NAME`."
        if section.nested:
            written = f"Written `{at}: [NAME, NAME: {{...options}}]`."
        lines = [f"{at}: {' '.join((section.__doc__ or '').split())} {written}"]
        lines += [
            f"  {name}{' (default)' if name == section.fallback else ''}: {plugins.summary(plugin)}"
            for name, plugin in found.items()
        ]
        return "\n".join([*lines, f"`attune explain {at}.NAME` lists the options of one."])
    if rest == [section.key]:
        return f"{at}.{section.key}: Which {section.kind}.\n  {_joined(section.names())}, default {section.fallback}"
    if rest[0] in found:
        config = found[rest[0]].Config  # type: ignore[attr-defined]
        if len(rest) == 1:
            return _plugin_text(f"{at}.{rest[0]}: {plugins.summary(found[rest[0]])}", found[rest[0]])
        for depth, part in enumerate(rest[1:], 2):
            field = config.model_fields.get(part)
            if field is None:
                break
            if depth == len(rest):
                return _one(".".join([at, *rest]), field)
            config = next(iter(_models(field.annotation)), plugins.Options)
        known = list(config.model_fields)
        what = f"{section.kind} {rest[0]} has no option '{rest[-1]}'{nearest(rest[-1], known)}"
        raise UsageError(what, fix=f"`attune explain {at}.{rest[0]}`")
    configs = {name: plugin.Config.model_fields for name, plugin in found.items()}  # type: ignore[attr-defined]
    if len(rest) == 1 and any(rest[0] in fields for fields in configs.values()):
        return "\n".join(
            _one(f"{at}.{name}.{rest[0]}", fields[rest[0]]) for name, fields in configs.items() if rest[0] in fields
        )
    if holders := [name for name, fields in configs.items() if rest[0] in fields]:  # a key inside an option
        return _explain_plugin(section, at, [holders[0], *rest])
    raise UsageError(
        f"no {section.kind} or option '{rest[0]}'{nearest(rest[0], list(found))}",
        fix=f"`attune explain {at}` lists them",
    )
