"""What a file of another tool holds: keys, values, and where each stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Document", "Given", "Source", "Unread", "flattened"]


@dataclass(frozen=True)
class Unread:
    """A value that only running the file would tell, as it stands there."""

    text: str


@dataclass(frozen=True, eq=False)
class Given:
    """One key of the file. `name` is what rules know it by: without list indices, without the call it stands in."""

    key: str
    value: Any
    where: str
    name: str

    @property
    def said(self) -> bool:
        """Whether it says anything: null, empty text, an empty list are as if it were not there."""
        return self.value is not None and self.value not in ("", [], {})


@dataclass
class Source:
    """One recipe found in a document."""

    given: list[Given]
    where: str
    score: float
    """How sure it is that this tool wrote it; the highest of all tools wins."""
    what: str = ""
    """Words for a list of several: `swift sft`, `SFTTrainer`."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What the importer already knows: the stage, the number of processes."""


@dataclass
class Document:
    """What a file holds, by kind."""

    path: Path
    kind: str
    """`mapping` (YAML or JSON), `shell`, or `python`."""
    settings: list[Given] = field(default_factory=list)
    commands: list[Any] = field(default_factory=list)
    """`shell.Command`s of a script, or of the usage text in front of a Python script."""
    calls: list[Any] = field(default_factory=list)
    """`python_calls.Call`s."""

    @property
    def names(self) -> set[str]:
        """Top-level names of a mapping."""
        return {given.name.split(".")[0].split("[")[0] for given in self.settings}


def flattened(values: Mapping[str, Any], places: Mapping[tuple, str]) -> list[Given]:
    """Nested values as one key per leaf: `datasets[0].path`. A list of plain values is one leaf."""
    found: list[Given] = []

    def visit(value: Any, key: tuple, label: str, name: str) -> None:
        if isinstance(value, Mapping) and value:
            for inner, item in value.items():
                dot = "." if label else ""
                visit(item, (*key, inner), f"{label}{dot}{inner}", f"{name}{dot}{inner}")
        elif isinstance(value, list) and any(isinstance(item, Mapping) and item for item in value):
            for index, item in enumerate(value):
                visit(item, (*key, index), f"{label}[{index}]", f"{name}[]")
        else:
            found.append(Given(label, value, places.get(key, ""), name))

    visit(values, (), "", "")
    return found
