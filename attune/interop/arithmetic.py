"""Sums of whole numbers as scripts write them, worked out without running anything."""

from __future__ import annotations

import ast

__all__ = ["calculate", "whole"]

LIMIT = 10**15


def calculate(left: object, operator: ast.operator, right: object) -> int | float | str | None:
    """`left operator right` for numbers (and texts put together); None where it is anything else."""
    if isinstance(left, str) and isinstance(right, str) and isinstance(operator, ast.Add):
        return left + right if len(left) + len(right) <= 1 << 16 else None
    if isinstance(left, bool) or isinstance(right, bool):
        return None
    if not isinstance(left, int | float) or not isinstance(right, int | float):
        return None
    try:
        if isinstance(operator, ast.Add):
            result: int | float = left + right
        elif isinstance(operator, ast.Sub):
            result = left - right
        elif isinstance(operator, ast.Mult):
            result = left * right
        elif isinstance(operator, ast.Div):
            result = left / right
        elif isinstance(operator, ast.FloorDiv):
            result = left // right
        elif isinstance(operator, ast.Mod):
            result = left % right
        elif isinstance(operator, ast.Pow) and abs(left) <= 1000 and abs(right) <= 30:
            result = left**right
        else:
            return None
    except (ZeroDivisionError, OverflowError):
        return None
    return result if isinstance(result, int | float) and abs(result) <= LIMIT else None


def whole(formula: str) -> int | None:
    """A sum in the shell's whole numbers, where `/` leaves no rest; None where it is no plain sum."""
    if len(formula) > 200:
        return None
    try:
        tree = ast.parse(formula.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None

    def value(node: ast.expr) -> int | None:
        if isinstance(node, ast.Constant) and type(node.value) is int:
            return node.value
        if isinstance(node, ast.BinOp):
            left, right = value(node.left), value(node.right)
            operator = ast.FloorDiv() if isinstance(node.op, ast.Div) else node.op
            result = calculate(left, operator, right)
            return result if isinstance(result, int) else None
        return None

    return value(tree)
