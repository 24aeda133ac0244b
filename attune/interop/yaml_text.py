"""Another tool's YAML or JSON: as strict as a recipe of ours, but anchors may be merged (`<<`)."""

from __future__ import annotations

from typing import Any

from ruamel.yaml.nodes import MappingNode, SequenceNode

from attune.errors import RecipeError
from attune.interop.document import Given, flattened
from attune.recipe.yaml import Key, Layer, Reader, compose, place, shown

__all__ = ["settings"]


class MergingReader(Reader):
    """Lays the mappings that `<<` names below the keys that stand beside it, as YAML 1.1 does."""

    def mapping(self, node: MappingNode, key: Key, depth: int) -> dict[str, Any]:
        below: dict[str, Any] = {}
        plain = []
        for name_node, value_node in node.value:
            if not str(name_node.tag).endswith(":merge"):
                plain.append((name_node, value_node))
                continue
            merged = value_node.value if isinstance(value_node, SequenceNode) else [value_node]
            for item in reversed(merged):
                found = self.value(item, key, depth + 1)
                if not isinstance(found, dict):
                    raise RecipeError("<< must name a mapping", where=place(self.name, value_node))
                below.update(found)
        # Keys from the anchor may be given again here: that is what merging is for.
        for name in below:
            self.layer.key_places.pop((*key, name), None)
        own = MappingNode(node.tag, plain, node.start_mark, node.end_mark)
        return {**below, **super().mapping(own, key, depth)}


def settings(text: str, name: str) -> list[Given]:
    """Every key with its place.

    Raises: RecipeError with file:line:column for anything that is not one plain mapping, or is a bomb of aliases.
    """
    node = compose(text, name)
    if node is None:
        raise RecipeError(f"{name} is empty")
    layer = Layer({})
    values = MergingReader(name, layer).value(node, (), 0)
    if not isinstance(values, dict):
        raise RecipeError(f"a mapping of keys to values is needed, not {shown(values)}", where=place(name, node))
    return flattened(values, {**layer.places, **layer.key_places})
