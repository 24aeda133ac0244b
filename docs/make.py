"""Writes the generated pages from the recipe's and the plugins' docstrings, and from the importers' tables of keys.

    python docs/make.py            # or `make docs`

`tests/test_docs.py` fails while a page is not what this makes.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attune import plugins
from attune.recipe import Recipe
from attune.recipe.help import explain
from attune.records import Record

HERE = Path(__file__).parent
NOTE = "Made by `make docs` from the docstrings; do not edit.\n"
KINDS = {
    "format": (
        "Formats",
        "How rows of data may be written. `data.format: auto` recognises them; `data.format: NAME` says so.",
    ),
    "step": (
        "Steps of the data desk",
        "What is done to data before training, in the order of `data.prepare: [NAME, NAME: {...options}]`.",
    ),
    "template": (
        "Templates",
        "What written answers are for: `data.template: NAME`. `auto` decides from the columns and says so.",
    ),
    "objective": ("Objectives", "What is minimised: `objective: NAME` or `objective: {name: NAME, ...options}`."),
    "adapter": ("Adapters", "Which weights train: `adapter: NAME` or `adapter: {type: NAME, ...options}`."),
    "baseline": ("Baselines", "What the tuned model is compared with on the same rows: `evaluate.baselines`."),
    "metric": ("Metrics", "What is measured, each with its 95 % interval: `evaluate.metrics`, `evaluate.primary`."),
    "suite": (
        "Suites",
        "Further questions that a model is measured on, before and after training: `evaluate.suites: [FILE, NAME, "
        "NAME: {...options}]`.",
    ),
}

SECTIONS = {
    "step": "data.prepare",
    "objective": "objective",
    "adapter": "adapter",
    "suite": "evaluate.suites",
}
"""Kinds whose plugins have options -> where those stand in a recipe."""


def sections(model: type = Recipe, at: str = "") -> Iterator[str]:
    """The recipe's sections by dotted key, outermost first; plugin sections are left to reference.md."""
    for name, field in model.model_fields.items():  # type: ignore[attr-defined]
        inner = next((arm for arm in _arms(field.annotation) if hasattr(arm, "model_fields")), None)
        if inner is not None:
            yield at + name
            if not hasattr(inner, "kind"):
                yield from sections(inner, f"{at}{name}.")


def _arms(annotation: object) -> Iterator[type]:
    if isinstance(annotation, type):
        yield annotation
    for inner in getattr(annotation, "__args__", ()):
        yield from _arms(inner)


def recipe_page() -> str:
    """Every key of a recipe, as `attune explain` tells it."""
    parts = ["# The recipe\n", NOTE, "The same on the command line: `attune explain`, `attune explain train`.\n"]
    for key in ["", *sections()]:
        title, *lines = explain(key).splitlines()
        parts.append(f"## {key or 'Top level'}\n\n{title.removeprefix(f'{key}: ')}\n")
        parts.append("\n".join(_item(line) for line in lines) + "\n")
    return "\n".join(parts)


def _item(line: str) -> str:
    found = re.fullmatch(r"  (\w+)( \(.*?\))?: (.*)", line)
    return f"- `{found[1]}`{found[2] or ''}: {found[3]}" if found else f"\n{line.strip()}"


def reference_page() -> str:
    """One entry for every plugin: its docstring, its tasks and its options."""
    contents = ", ".join(f"[{title}](#{title.lower().replace(' ', '-')})" for title, _ in KINDS.values())
    parts = ["# Reference\n", NOTE, f"Contents: {contents}\n"]
    trained = {task for plugin in plugins.find("objective").values() for task in plugin.tasks}  # type: ignore[attr-defined]
    for kind, (title, about) in KINDS.items():
        parts.append(f"## {title}\n\n{about}\n")
        if kind == "adapter":
            parts.append(adapter_table() + "\n")
        for name, plugin in plugins.find(kind).items():
            parts.append(f"### {name}\n\n{inspect.cleandoc(plugin.__doc__ or '')}\n")
            facts = []
            if tasks := getattr(plugin, "tasks", None) or ((plugin.task,) if hasattr(plugin, "task") else None):
                untrained = [] if kind != "format" else [task for task in tasks if task not in trained]
                note = "; trained as generation, on the better or good answer" if untrained else ""
                facts.append(f"- for: {', '.join(tasks)}{note}")
            if kind == "template":
                facts.append(f"- instruction: {_told(plugin)}")
                shapes = [*(f"format `{name}`" for name in plugin.formats), *("/".join(c) for c in plugin.columns)]  # type: ignore[attr-defined]
                facts.append(f"- recognised by: {', '.join(shapes) or 'nothing; it is what is left'}")
                facts.append(f"- judged by: **{plugin.primary}**, {', '.join(plugin.metrics)}")  # type: ignore[attr-defined]
            if kind == "step":
                where = {"all": "every part, and later requests", "train": "training rows"}
                facts.append(f"- runs over: {where[plugin.scope]}")  # type: ignore[attr-defined]
            if isinstance(better := getattr(plugin, "higher_is_better", None), bool):
                facts.append(f"- {'higher' if better else 'lower'} is better")
            if facts:
                parts.append("\n".join(facts) + "\n")
            if kind in SECTIONS:
                options = explain(f"{SECTIONS[kind]}.{name}").splitlines()[1:]
                parts.append("\n".join(_item(line) for line in options).strip() + "\n")
    return "\n".join(parts)


def adapter_table() -> str:
    """What each adapter goes together with; the rest is refused with the recipe."""
    lines = ["| adapter | heads | bases | layouts | saved as |", "|---|---|---|---|---|"]
    for name, plugin in plugins.find("adapter").items():
        adapter: Any = plugin
        saved = "a model of the base's architecture"
        if adapter.wraps:
            saved = "the adapter; for label heads " + ("the merged model" if adapter.merges else "the adapter too")
        cells = [", ".join(cell) for cell in (adapter.heads, adapter.bases, adapter.layouts)]
        lines.append(f"| `{name}` | " + " | ".join(cells) + f" | {saved} |")
    return "\n".join(lines)


def import_page() -> str:
    """Every key of another tool's recipe that `attune import` knows, and what becomes of it."""
    parts = ["# Keys of other tools\n", "Made by `make docs` from the importers' tables; do not edit.\n"]
    parts.append("What `attune import` makes of each key: [import.md](import.md). `*` stands for any ending.\n")
    for plugin in plugins.find("importer").values():
        importer: Any = plugin
        parts.append(f"## {importer.title}\n\n{inspect.cleandoc(importer.__doc__)}\n")
        read = {key: rule for key, rule in importer.table.items() if not rule.drops and key}
        rows = [f"| `{key}` | {_code(rule.to)} | {rule.how} |" for key, rule in sorted(read.items())]
        parts.append("\n".join(["| key | ours | how |", "|---|---|---|", *rows]) + "\n")
        reasons: dict[str, list[str]] = {}
        for key, rule in sorted(importer.table.items()):
            if rule.drops and key:
                reasons.setdefault(rule.how, []).append(f"`{key}`")
        parts.append("Dropped, each with its reason:\n")
        parts.append("\n".join(f"- {', '.join(keys)}: {why}" for why, keys in reasons.items()) + "\n")
    return "\n".join(parts)


def _code(keys: str) -> str:
    return ", ".join(f"`{key}`" for key in keys.split(", ") if key)


def _told(plugin: type) -> str:
    """The instruction of a template, and the prefix for encoder-decoders, as text."""
    template, record = plugin(), Record("example")
    told, brief = template.instruction(record).strip(), template.brief(record).strip()
    return f"`{told}`" + (f"; for encoder-decoders `{brief}`" if brief != told else "") if told else "none"


def pages() -> dict[Path, str]:
    return {
        HERE / "recipe.md": recipe_page(),
        HERE / "reference.md": reference_page(),
        HERE / "import_keys.md": import_page(),
    }


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
        print(path)
