"""Plugins: one small file each, found by scanning a folder or an entry point. Nothing central to edit.

A plugin is a class with a `name` and, where it has options, a nested pydantic `Config`. Its module imports nothing
heavier than pydantic at its top (torch, transformers and peft are imported inside functions), so that a recipe can be
checked, explained and completed without loading any of them.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
import re
from functools import cache
from importlib.metadata import entry_points

from pydantic import BaseModel, ConfigDict

from attune.errors import RecipeError

__all__ = ["Options", "ROOMS", "find", "names", "get", "nearest", "summary"]


class Options(BaseModel):
    """Base of every plugin's `Config`: frozen, an unknown key is an error, field docstrings are the help."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


ROOMS = {
    "format": ("attune.data.formats",),
    "step": tuple(f"attune.data.{room}" for room in ("clean", "duplicates", "filters", "privacy", "augment")),
    "strategy": ("attune.data.label.strategies",),
    "template": ("attune.data.templates",),
    "adapter": ("attune.model.adapters",),
    "objective": ("attune.objectives",),
    "metric": ("attune.evaluate.metrics",),
    "baseline": ("attune.evaluate.baselines",),
    "suite": ("attune.evaluate.suites",),
    "importer": ("attune.interop",),
}
"""Kind of plugin -> the folders that are scanned for it. Outside packages use the entry point group `attune.<kind>`."""


def nearest(word: str, known: list[str]) -> str:
    """`; did you mean 'x'?` for the closest known word, or an empty string."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else ""


@cache
def find(kind: str) -> dict[str, type]:
    """All plugins of a kind, by name, sorted.

    Raises: RuntimeError if two plugins of a kind have one name (a bug in the code, not the user's).
    """
    modules = [
        importlib.import_module(f"{room}.{item.name}")
        for room in ROOMS[kind]
        for item in pkgutil.iter_modules(importlib.import_module(room).__path__)
        if item.name != "base"
    ]
    classes = [
        value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type) and value.__module__ == module.__name__ and isinstance(vars(value).get("name"), str)
    ]
    classes += [point.load() for point in entry_points(group=f"attune.{kind}")]
    found: dict[str, type] = {}
    for plugin in classes:
        name = plugin.name  # type: ignore[attr-defined]
        if name in found:
            raise RuntimeError(f"two {kind} plugins are named {name!r}: {found[name]} and {plugin}")
        found[name] = plugin
    return dict(sorted(found.items()))


def summary(plugin: type) -> str:
    """What a plugin is, in one sentence: the first of its docstring."""
    paragraph = " ".join((plugin.__doc__ or "").strip().split("\n\n")[0].split())
    return re.split(r"(?<=[a-z\d)`])\. ", paragraph)[0]


def names(kind: str) -> list[str]:
    return list(find(kind))


def get(kind: str, name: str) -> type:
    """The plugin class of that name.

    Raises: RecipeError naming the nearest known name.
    """
    found = find(kind)
    if name not in found:
        raise RecipeError(f"unknown {kind} '{name}'{nearest(name, list(found))}", fix=f"one of: {', '.join(found)}")
    return found[name]
