"""From another tool's file to a recipe of ours and an account of what became of every key."""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from attune import plugins
from attune.errors import AttuneError, RecipeError, UsageError
from attune.interop.base import Draft, Entry, Importer
from attune.interop.document import Document, Source
from attune.interop.reading import read_document
from attune.recipe import Recipe
from attune.recipe.yaml import shown

__all__ = ["Imported", "convert", "tool_of"]


@dataclass(frozen=True)
class Imported:
    """A recipe with its account. Every key of the file stands in exactly one of mapped, approximated and dropped."""

    tool: str
    """The tool's name as it writes it."""
    path: str
    where: str
    values: dict[str, Any]
    """The recipe as nested values: only what was decided, in the order of our sections."""
    mapped: list[Entry]
    approximated: list[Entry]
    dropped: list[Entry]
    defaults: list[Entry]
    """What the tool does where its file is silent, written out because ours differs."""
    fill_in: dict[str, str]
    others: list[str]
    """Further recipes in the file: `--which 2` and so on."""

    @property
    def recipe(self) -> Recipe:
        return Recipe.load(self.values)

    def yaml(self) -> str:
        """The recipe as a file, with what has to be filled in as comments at its head."""
        from ruamel.yaml import YAML

        yaml = YAML(typ="safe", pure=True)
        yaml.default_flow_style = False  # type: ignore[assignment]
        yaml.allow_unicode = True
        yaml.width = 110
        yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
        stream = io.StringIO()
        yaml.dump(self.values, stream)
        head = [f"# From {Path(self.path).name} ({self.tool}), by attune import."]
        head += [f"# Fill in {key}: {_line(what)}" for key, what in self.fill_in.items()]
        return "\n".join(head) + "\n" + stream.getvalue()

    def report(self) -> str:
        """The account in lines of text."""
        lines = [f"{self.path}: a recipe of {self.tool}" + (f" ({self.where})" if self.where != self.path else "")]
        for title, entries in (("mapped", self.mapped), ("approximated", self.approximated)):
            lines.append(f"\n{title} ({len(entries)})")
            for entry in entries:
                ours = f" -> {entry.to}: {shown(entry.value)}" if entry.to else ""
                lines.append(f"  {entry.key}: {shown(entry.given)}{ours}" + (f"   {entry.why}" if entry.why else ""))
        lines.append(f"\ndropped ({len(self.dropped)})")
        reasons: dict[str, list[str]] = {}
        for entry in self.dropped:
            reasons.setdefault(entry.why, []).append(entry.key)
        lines += [f"  {', '.join(keys)}: {why}" for why, keys in reasons.items()]
        if self.defaults:
            lines.append(f"\nsaid because {self.tool} does so without being told ({len(self.defaults)})")
            usual = f"what {self.tool} does where nothing is said"
            for entry in self.defaults:
                lines.append(f"  {entry.to}: {shown(entry.value)}" + (f"   {entry.why}" if entry.why != usual else ""))
        if self.fill_in:
            lines.append(f"\nfor you to fill in ({len(self.fill_in)})")
            lines += [f"  {key}: {what}" for key, what in self.fill_in.items()]
        for number, other in enumerate(self.others, 1):
            if not other:
                continue
            lines.append(f"\nanother recipe in this file: {other} (--which {number})")
        return "\n".join(lines)

    def json(self) -> dict[str, Any]:
        """The account as values."""
        return {
            "tool": self.tool,
            "file": self.path,
            "mapped": [asdict(entry) for entry in self.mapped],
            "approximated": [asdict(entry) for entry in self.approximated],
            "dropped": [asdict(entry) for entry in self.dropped],
            "defaults": [{"to": entry.to, "value": entry.value, "why": entry.why} for entry in self.defaults],
            "fill_in": self.fill_in,
            "others": self.others,
        }


def convert(path: str | Path, *, tool: str | None = None, which: int = 1, devices: int | None = None) -> Imported:
    """Read a file of another tool, as `tool` or as whichever it looks like, and turn it into a recipe.

    `which` chooses among several recipes in one file, counted from 1. `devices`: how many it ran on.

    Raises: RecipeError with file:line where it cannot be; nothing in the file is ever run.
    """
    if devices is not None and devices < 1:
        raise UsageError(f"--devices {devices}", fix="the number of GPUs the other tool ran on, 1 or more")
    document = read_document(Path(path))
    importer, sources = _recognised(document, tool)
    if not 1 <= which <= len(sources):
        raise UsageError(f"--which {which}, but {path} holds {len(sources)} recipe(s) of {importer.title}",
                         fix=f"1 to {len(sources)}")  # fmt: skip
    source = sources[which - 1]
    draft = Draft(importer.title, list(source.given), devices)
    importer.convert(draft, source)
    for number, other in enumerate(sources, 1):
        for given in other.given:
            if number != which and not any(given.where == one.where and given.key == one.key for one in source.given):
                draft.open.append(given)
                draft.drop(given, f"it belongs to another recipe in this file: --which {number}")
    values = _nested(draft)
    _check(values, draft, str(path))
    others = [f"{other.what} at {other.where}" if n != which else "" for n, other in enumerate(sources, 1)]
    return Imported(
        importer.title, str(path), source.where, values, draft.mapped, draft.approximated, draft.dropped,
        draft.defaults, draft.fill_in, others if len(sources) > 1 else [],
    )  # fmt: skip


def tool_of(path: str | Path) -> str | None:
    """The tool whose recipe a file is, by its own name for itself; None for any other file."""
    try:
        return _recognised(read_document(Path(path)), None)[0].title
    except AttuneError:
        return None


def _recognised(document: Document, tool: str | None) -> tuple[Importer, list[Source]]:
    """The importer and the recipes it sees; of several, the one that is surest."""
    known: dict[str, Any] = plugins.find("importer")
    if tool is not None:
        plugins.get("importer", tool)
        known = {tool: known[tool]}
    found = [(plugin(), list(plugin().sources(document))) for plugin in known.values()]
    found = [(importer, sources) for importer, sources in found if sources]
    found.sort(key=lambda pair: -max(source.score for source in pair[1]))
    best = max(source.score for source in found[0][1]) if found else 0
    tied = [importer.title for importer, sources in found if max(source.score for source in sources) == best]
    if tool is None and document.kind == "mapping" and document.names:
        if "data" in document.names and document.names <= set(Recipe.model_fields) | {"extends"}:
            raise UsageError(f"{document.path} is a recipe of attune already", fix=f"attune train {document.path}")
    if not found or (tool is None and document.kind == "mapping" and best < 2):
        titles = ", ".join(plugin.title for plugin in plugins.find("importer").values())  # type: ignore[attr-defined]
        what = f"no recipe of {known[tool].title}" if tool else f"no recipe of a tool that attune knows ({titles})"
        why = {
            "mapping": "it has none of the keys they all need, such as the base model and the data",
            "shell": "no command trains: swift sft, trl sft, python sft.py; a command put together in a variable and "
            "run by eval cannot be read",
            "python": "it builds no trainer and shows no training command in its first text",
        }[document.kind]
        raise RecipeError(f"{document.path}: {what}", why=why, fix="say whose it is: --from axolotl")
    if len(tied) > 1 and tool is None:
        raise RecipeError(f"{document.path} could be of {' or '.join(tied)}", fix=f"--from {found[0][0].name}")
    return found[0]


def _nested(draft: Draft) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key in sorted(draft.values, key=_place):
        *sections, last = key.split(".")
        block = values
        for section in sections:
            block = block.setdefault(section, {})
        block[last] = draft.values[key]
    adapter = values.get("adapter")
    if isinstance(adapter, dict):
        plugin: Any = plugins.get("adapter", adapter["type"])
        values["adapter"] = {key: item for key, item in adapter.items() if key in ("type", *plugin.Config.model_fields)}
        _without(draft, {f"adapter.{key}" for key in adapter if key not in values["adapter"]}, adapter["type"])
    return values


def _without(draft: Draft, keys: set[str], kind: str) -> None:
    """What was said about options that this kind of adapter does not have is dropped, and said to be."""
    for entries in (draft.mapped, draft.approximated):
        for entry in [entry for entry in entries if entry.to in keys]:
            entries.remove(entry)
            why = f"an option that adapter {kind} does not have"
            draft.dropped.append(replace(entry, to=None, value=None, why=why))
    draft.defaults = [entry for entry in draft.defaults if entry.to not in keys]


def _place(key: str) -> list[int]:
    """Where the schema puts a key, section by section."""
    fields: Any = Recipe.model_fields
    found = []
    for part in key.split("."):
        names = list(fields)
        found.append(names.index(part) if part in names else len(names) if part not in ("type", "name") else -1)
        inner = fields[part].annotation if part in fields else None
        fields = getattr(inner, "model_fields", {}) if not hasattr(inner, "kind") else {}
    return found


def _check(values: dict[str, Any], draft: Draft, path: str) -> None:
    """A recipe that does not hold is an error at the key of the other tool that is at fault."""
    try:
        Recipe.load(values)
    except RecipeError as error:
        for to, given in draft.places.items():
            alone: dict[str, Any] = {"data": {"path": "data.jsonl"}}
            block: dict[str, Any] = alone
            *sections, last = to.split(".")
            for section in sections:
                block = block.setdefault(section, {})
            block[last] = draft.values[to]
            if to.startswith("adapter."):
                alone["adapter"]["type"] = draft.values.get("adapter.type", "lora")
            try:
                Recipe.load(alone)
            except RecipeError as particular:
                raise RecipeError(f"{given.key}: {particular.what}", where=given.where, why=particular.why,
                                  fix=particular.fix) from error  # fmt: skip
        raise RecipeError(
            f"{path} asks for what cannot be together: {error.what}", why=error.why, fix=error.fix
        ) from error


def _line(text: str) -> str:
    return " ".join(text.split())
