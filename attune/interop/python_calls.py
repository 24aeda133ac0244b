"""The calls of a Python script or notebook that set up training, read from its syntax tree and never run."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attune.errors import RecipeError
from attune.interop import shell
from attune.interop.arithmetic import calculate
from attune.interop.document import Given, Unread

__all__ = ["Call", "Code", "calls", "notebook", "script", "usage"]

MAX_DEPTH = 60


@dataclass
class Code:
    """A parsed script, and the place of each of its lines."""

    tree: ast.Module
    place: Callable[[int], str]


@dataclass
class Call:
    """One call: the last part of what is called (`SFTConfig`, `from_pretrained`), what it is called on, its values."""

    name: str
    on: str
    given: list[Given] = field(default_factory=list)
    where: str = ""
    order: int = 0
    """Its line, so that calls of several kinds can be told apart by which stands first."""


def script(text: str, path: Path) -> Code:
    """Raises: RecipeError with file:line where it is not Python."""
    return Code(_parsed(text, lambda line: f"{path}:{line}"), lambda line: f"{path}:{line}")


def notebook(text: str, path: Path) -> Code:
    """The code cells one below the other, without lines for the notebook itself (`!pip`, `%env`)."""
    node = compose_json(text, path)
    cells = node.get("cells") if isinstance(node, dict) else None
    if not isinstance(cells, list):
        raise RecipeError("not a notebook: it has no cells", where=str(path))
    lines: list[str] = []
    places: list[str] = []
    for number, cell in enumerate(cells, 1):
        if not isinstance(cell, dict) or cell.get("cell_type") != "code":
            continue
        source = cell.get("source", "")
        content = "".join(map(str, source)) if isinstance(source, list) else str(source)
        if content.lstrip().startswith("%%"):
            continue
        for line, code in enumerate(content.replace("\r", "").split("\n"), 1):
            lines.append("pass" if re.match(r"\s*[!%?]", code) and not code[:1].isspace() else _blank(code))
            places.append(f"{path}: cell {number}, line {line}")

    def place(line: int) -> str:
        return places[min(line, len(places)) - 1] if places else str(path)

    return Code(_parsed("\n".join(lines), place), place)


def compose_json(text: str, path: Path) -> Any:
    import json

    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        line = getattr(error, "lineno", None)
        where = f"{path}:{line}" if line else str(path)
        raise RecipeError(f"not JSON: {str(error).split(':')[0]}", where=where) from error


def _blank(code: str) -> str:
    """An indented line for the notebook (`    !pip install x`) does nothing, at the same indent."""
    found = re.match(r"(\s+)[!%]", code)
    return f"{found[1]}pass" if found else code


def _parsed(text: str, place: Callable[[int], str]) -> ast.Module:
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text)
    except SyntaxError as error:
        raise RecipeError(f"not Python: {error.msg}", where=place(error.lineno or 1)) from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise RecipeError(f"not Python that can be read: {error}", where=place(1)) from error


def usage(code: Code) -> list[shell.Command]:
    """The commands in the text in front of a script (`python sft.py --packing ...`), which show how it is run."""
    first = code.tree.body[0] if code.tree.body else None
    if not isinstance(first, ast.Expr) or not isinstance(first.value, ast.Constant):
        return []
    text = first.value.value
    if not isinstance(text, str) or "--" not in text:
        return []
    path = code.place(1).rsplit(":", 1)[0]
    found: list[shell.Command] = []
    lines = text.split("\n")
    at = 0
    while at < len(lines):  # each paragraph alone: prose has quotes that never close
        end = at
        while end < len(lines) and lines[end].strip() and not lines[end].startswith("```"):
            end += 1
        block = "\n".join(lines[at:end])
        if "--" in block:
            try:
                found += shell.commands(block, path, first.lineno + at)
            except RecipeError:
                pass
        at = end + 1
    return found


def calls(code: Code) -> list[Call]:
    """Every call in the order of the file, but for those in branches that never run (`if False:`)."""
    reader = _Values(code)
    try:
        found = [reader.call(node, scope) for node, scope in _living(code.tree, None, 0)]
    except RecursionError as error:
        raise RecipeError("nested too deeply to be a recipe", where=code.place(1)) from error
    return sorted(found, key=lambda call: call.order)


def _living(node: ast.AST, scope: ast.AST | None, depth: int) -> Iterator[tuple[ast.Call, ast.AST | None]]:
    if isinstance(node, ast.If) and isinstance(node.test, ast.Constant) and not node.test.value:
        for inner in node.orelse:
            yield from _living(inner, scope, depth + 1)
        return
    if isinstance(node, ast.Call):
        yield node, scope
    inside = node if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else scope
    for child in ast.iter_child_nodes(node):
        yield from _living(child, inside, depth + 1)


class _Values:
    """Works out what a name or an expression is, as far as its text says."""

    def __init__(self, code: Code):
        self.code = code
        self.assigned: dict[tuple[ast.AST | None, str], list[tuple[int, ast.expr]]] = {}
        self.functions: dict[str, ast.FunctionDef | ast.AsyncFunctionDef] = {}
        self.uses: dict[str, tuple[ast.Call, ast.AST | None]] = {}
        for node, scope in _living(code.tree, None, 0):
            if isinstance(node.func, ast.Name):
                self.uses.setdefault(node.func.id, (node, scope))
        self._collect(code.tree, None)

    def _collect(self, node: ast.AST, scope: ast.AST | None) -> None:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            self.functions[node.name] = scope = node
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                if isinstance(target, ast.Name):
                    self.assigned.setdefault((scope, target.id), []).append((node.lineno, node.value))
        for child in ast.iter_child_nodes(node):
            self._collect(child, scope)

    def call(self, node: ast.Call, scope: ast.AST | None) -> Call:
        on, _, name = _dotted(node.func).rpartition(".")
        found = Call(name, on, where=self.code.place(node.lineno), order=node.lineno)
        for index, argument in enumerate(node.args):
            value = self.value(argument, scope, 0)
            found.given.append(Given(str(index), value, self.code.place(argument.lineno), str(index)))
        for keyword in node.keywords:
            value = self.value(keyword.value, scope, 0)
            where = self.code.place(keyword.value.lineno)
            if keyword.arg is not None:
                found.given.append(Given(keyword.arg, value, where, keyword.arg))
            elif isinstance(value, dict):
                found.given += [Given(str(key), item, where, str(key)) for key, item in value.items()]
            else:
                found.given.append(Given(f"**{ast.unparse(keyword.value)[:60]}", value, where, "**"))
        return found

    def value(self, node: ast.expr, scope: ast.AST | None, depth: int) -> Any:
        unread = Unread(ast.unparse(node)[:80])
        if depth > MAX_DEPTH:
            return unread
        again: Callable[[ast.expr], Any] = lambda inner: self.value(inner, scope, depth + 1)  # noqa: E731
        if isinstance(node, ast.Constant):
            return node.value if isinstance(node.value, str | int | float | bool | None) else unread
        if isinstance(node, ast.Name):
            return self._name(node.id, scope, node.lineno, depth, unread)
        if isinstance(node, ast.Attribute):
            dotted = _dotted(node)
            return dotted if dotted.startswith("torch.") else unread
        if isinstance(node, ast.List | ast.Tuple | ast.Set):
            items = [again(item) for item in node.elts]
            return unread if any(isinstance(item, Unread) for item in items) else items
        if isinstance(node, ast.Dict):
            if any(key is None or not isinstance(key, ast.Constant) for key in node.keys):
                return unread
            return {key.value: again(item) for key, item in zip(node.keys, node.values)}  # type: ignore[union-attr]
        if isinstance(node, ast.Call) and _dotted(node.func) == "dict" and not node.args:
            return {word.arg: again(word.value) for word in node.keywords if word.arg}
        if isinstance(node, ast.UnaryOp):
            inner = again(node.operand)
            if isinstance(node.op, ast.USub) and isinstance(inner, int | float):
                return -inner
            return (not inner) if isinstance(node.op, ast.Not) and isinstance(inner, bool) else unread
        if isinstance(node, ast.BinOp):
            result = calculate(again(node.left), node.op, again(node.right))
            return unread if result is None else result
        if isinstance(node, ast.Compare) and len(node.ops) == 1:
            left, right = again(node.left), again(node.comparators[0])
            if isinstance(left, Unread) or isinstance(right, Unread):
                return unread
            equal = isinstance(node.ops[0], ast.Eq)
            return (left == right) is equal if isinstance(node.ops[0], ast.Eq | ast.NotEq) else unread
        if isinstance(node, ast.JoinedStr):
            parts = [again(part.value) if isinstance(part, ast.FormattedValue) else again(part) for part in node.values]
            plain = not any(isinstance(part, Unread) for part in parts)
            text = "".join(map(str, parts)) if plain else ""
            return text if plain and len(text) <= 1 << 16 else unread
        return unread

    def _name(self, name: str, scope: ast.AST | None, line: int, depth: int, unread: Unread) -> Any:
        for place in dict.fromkeys((scope, None)):
            known = self.assigned.get((place, name), [])
            before = [value for at, value in known if at <= line or place is not scope]
            if before:
                return self.value(before[-1], place, depth + 1)
            if isinstance(place, ast.FunctionDef | ast.AsyncFunctionDef):
                found = self._argument(place, name)
                if found is not None:
                    return self.value(found[0], found[1], depth + 1)
        return unread

    def _argument(
        self, function: ast.FunctionDef | ast.AsyncFunctionDef, name: str
    ) -> tuple[ast.expr, ast.AST | None] | None:
        """What a parameter is at the first call of its function in the file, else its default."""
        names = [argument.arg for argument in function.args.posonlyargs + function.args.args]
        only = [argument.arg for argument in function.args.kwonlyargs]
        if name not in names + only:
            return None
        if function.name in self.uses:
            call, scope = self.uses[function.name]
            for keyword in call.keywords:
                if keyword.arg == name:
                    return keyword.value, scope
            if name in names and names.index(name) < len(call.args):
                return call.args[names.index(name)], scope
        if name in only:
            default = function.args.kw_defaults[only.index(name)]
            return (default, None) if default is not None else None
        at = names.index(name) - (len(names) - len(function.args.defaults))
        return (function.args.defaults[at], None) if at >= 0 else None


def _dotted(node: ast.expr) -> str:
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    parts.append(node.id if isinstance(node, ast.Name) else "()")
    return ".".join(reversed(parts))
