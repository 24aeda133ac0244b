"""A recipe file as plain values with the place of each: YAML 1.2 by ruamel, hardened against what is not a recipe."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from attune.errors import RecipeError

__all__ = ["Key", "Layer", "Reader", "read", "compose", "shown"]

MAX_BYTES = 64 * 1024
MAX_VALUES = 10_000
MAX_DEPTH = 32

Key = tuple[str | int, ...]


@dataclass
class Layer:
    """Values and where each was written: one file, mapping or set of overrides."""

    values: dict[str, Any]
    places: dict[Key, str] = field(default_factory=dict)
    """Place of a value."""
    key_places: dict[Key, str] = field(default_factory=dict)
    """Place of the key in front of it."""


def read(path: Path) -> Layer:
    """A recipe file as values with places.

    Raises: RecipeError for anything that is not one small, plain YAML mapping.
    """
    try:
        if path.is_dir():
            found = sorted(item.name for item in path.glob("*.y*ml"))[:5]
            fix = f"name a file in it: {', '.join(found)}" if found else "name a recipe file"
            raise RecipeError(f"{path} is a folder", fix=fix)
        if not path.is_file():
            raise RecipeError(
                f"{path}: no such recipe file", fix="check the path; `attune explain` lists what a recipe may say"
            )
        with open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise RecipeError(f"cannot read {path}", why=str(error)) from error
    if len(content) > MAX_BYTES:
        raise RecipeError(
            f"{path} is larger than {MAX_BYTES // 1024} KB", why="a recipe is a page of YAML; is this the data?"
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise RecipeError("not UTF-8 text", where=f"{path}:{line}", fix="save the recipe as UTF-8") from error
    node = compose(text, str(path))
    if node is None:
        raise RecipeError(f"{path} is empty", fix="the least a recipe needs:\n    data: {path: your-data.csv}")
    layer = Layer({})
    values = Reader(str(path), layer).value(node, (), 0)
    if not isinstance(values, dict):
        raise RecipeError(
            f"a recipe is a mapping of keys to values, not {shown(values)}",
            where=place(path, node),
            fix="data: {path: your-data.csv}",
        )
    layer.values = values
    return layer


def compose(text: str, name: str) -> Node | None:
    """YAML 1.2 as a tree of nodes: nothing is built, so no tag does anything and an alias bomb stays small."""
    yaml = YAML(typ="safe", pure=True)
    try:
        return yaml.compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        problem = (error.problem or "cannot be read").strip()
        line = text.split("\n")[mark.line] if mark and mark.line <= text.count("\n") else ""
        if "'\\t'" in problem or line.lstrip(" ").startswith("\t"):
            raise RecipeError(
                "a tab where spaces must be", where=where, fix="indent with spaces; YAML allows no tabs"
            ) from error
        raise RecipeError(
            f"not YAML: {problem}", where=where, fix="check indentation, quotes and brackets near this place"
        ) from error
    except YAMLError as error:
        raise RecipeError(f"not YAML: {str(error).splitlines()[0]}", where=name) from error
    except RecursionError as error:
        raise RecipeError("nested too deeply", where=name) from error
    except ValueError as error:
        raise RecipeError(f"not YAML: {error}", where=name) from error


def place(path: str | Path, node: Node) -> str:
    return f"{path}:{node.start_mark.line + 1}:{node.start_mark.column + 1}"


class Reader:
    """Turns nodes into plain values, noting the place of each."""

    def __init__(self, name: str, layer: Layer):
        self.name, self.layer = name, layer
        self.n_values = 0
        self.yaml = YAML(typ="safe", pure=True)
        self.constructor: SafeConstructor = self.yaml.constructor

    def value(self, node: Node, key: Key, depth: int) -> Any:
        where = place(self.name, node)
        self.n_values += 1
        # Aliased nodes are visited once per use: this is what stops an alias bomb, and an alias to its own parent.
        if self.n_values > MAX_VALUES or depth > MAX_DEPTH:
            raise RecipeError(
                "too many values, or nested too deeply, for a recipe",
                where=where,
                why="an alias counts each time it is used",
            )
        tag = str(node.tag)
        if not tag.startswith("tag:yaml.org,2002:") or ":python/" in tag:
            raise RecipeError(f"tag {tag} is not allowed", where=where, why="a recipe holds plain values only")
        self.layer.places[key] = where
        if isinstance(node, SequenceNode):
            return [self.value(item, (*key, index), depth + 1) for index, item in enumerate(node.value)]
        if isinstance(node, MappingNode):
            return self.mapping(node, key, depth)
        assert isinstance(node, ScalarNode)
        if tag.endswith(":timestamp"):
            return node.value
        try:
            return self.constructor.construct_object(node)
        except (YAMLError, ValueError) as error:
            raise RecipeError(
                f"cannot read the value {node.value[:40]!r}", where=where, fix="put it in quotes if it is text"
            ) from error

    def mapping(self, node: MappingNode, key: Key, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name_node, value_node in node.value:
            where = place(self.name, name_node)
            if not isinstance(name_node, ScalarNode):
                raise RecipeError("a key must be a word", where=where)
            name = name_node.value
            if name == "<<" and str(name_node.tag).endswith(":merge"):
                raise RecipeError(
                    "merge keys (<<) are not part of YAML 1.2", where=where, fix="use `extends: other.yaml`"
                )
            if name in found:
                raise RecipeError(
                    f"key '{name}' is given twice",
                    where=where,
                    why=f"first at {self.layer.key_places[(*key, name)]}",
                    fix="keep one",
                )
            self.layer.key_places[(*key, name)] = where
            found[name] = self.value(value_node, (*key, name), depth + 1)
        return found


def shown(value: Any) -> str:
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
