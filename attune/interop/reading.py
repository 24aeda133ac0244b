"""A file of another tool as keys with places: YAML, JSON, shell, Python or a notebook. Nothing in it is ever run."""

from __future__ import annotations

from pathlib import Path

from attune.errors import RecipeError
from attune.interop import python_calls, shell, yaml_text
from attune.interop.document import Document

__all__ = ["read_document"]

MAX_BYTES = {".ipynb": 16 << 20}
USUAL_BYTES = 1 << 20


def read_document(path: Path) -> Document:
    """The file as keys with places.

    Raises: RecipeError with file:line for what is no recipe of any tool: not text, too large, not YAML, not Python.
    """
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
