"""A file of another tool as keys with places: YAML, JSON, shell, Python or a notebook. Nothing in it is ever run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attune.errors import RecipeError

__all__ = ["Document", "Given", "Source", "Unread", "read_document"]

MAX_BYTES = {".ipynb": 16 << 20}
USUAL_BYTES = 1 << 20


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


def read_document(path: Path) -> Document:
    """The file as keys with places.

    Raises: RecipeError with file:line for what is no recipe of any tool: not text, too large, not YAML, not Python.
    """
    from attune.interop import python_calls, shell, yaml_text

    text = _text(path)
    suffix = path.suffix.lower()
    if suffix in (".yml", ".yaml", ".json"):
        return Document(path, "mapping", settings=yaml_text.settings(text, str(path)))
    if suffix in (".py", ".ipynb"):
        code = python_calls.notebook(text, path) if suffix == ".ipynb" else python_calls.script(text, path)
        return Document(path, "python", commands=python_calls.usage(code), calls=python_calls.calls(code))
    if suffix in (".sh", ".bash", ".slurm", ".sbatch") or text.startswith("#!"):
        return Document(path, "shell", commands=shell.commands(text, str(path)))
    raise RecipeError(
        f"{path}: cannot tell what kind of file this is",
        fix="YAML and JSON end in .yml, .yaml or .json, scripts in .sh, .py or .ipynb",
    )


def _text(path: Path) -> str:
    limit = MAX_BYTES.get(path.suffix.lower(), USUAL_BYTES)
    try:
        if path.is_dir():
            raise RecipeError(f"{path} is a folder", fix="name a file in it")
        if not path.is_file():
            raise RecipeError(f"{path}: no such file", fix="check the path")
        with open(path, "rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise RecipeError(f"cannot read {path}", why=str(error)) from error
    if len(content) > limit:
        raise RecipeError(f"{path} is larger than {limit >> 20} MB", why="no recipe is; is this the data, or a log?")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise RecipeError("not UTF-8 text", where=f"{path}:{line}", fix="save it as UTF-8") from error
    if "\0" in text:
        raise RecipeError("not text", where=f"{path}:{text.count(chr(10), 0, text.index(chr(0))) + 1}")
    return text.replace("\r\n", "\n").replace("\r", "\n")


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
