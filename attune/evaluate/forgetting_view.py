"""The forgetting matrix as tables: for the terminal, and as a heat map for the report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attune import words

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["matrix_tables", "matrix_view"]

KINDS = {"primary": "Main figure of each stage", "loss": "Loss, nats per token"}
NAMES = {
    "final": "the last model over all stages",
    "backward_transfer": "backward transfer: the last model minus the one right after each stage",
    "forward_transfer": "forward transfer: the model before each stage minus the base",
    "forgetting": "forgetting: the best model before the last minus the last",
}


def matrix_tables(matrix: dict[str, Any]) -> list[Table]:
    """The matrices and their averages, for the terminal."""
    from rich.table import Table

    made = []
    for shown in matrix_view(matrix):
        table = Table(title=shown["title"], title_justify="left")
        table.add_column("model after")
        for name in shown["columns"]:
            table.add_column(name, justify="right")
        for row in shown["rows"]:
            table.add_row(row["name"], *(f"{cell['value']}\n{cell['interval']}" for cell in row["cells"]))
        made.append(table)
        if shown["summary"]:
            table = Table(box=None, show_header=False, pad_edge=False)
            for name, value, interval in shown["summary"]:
                table.add_row(name, value, interval)
            made.append(table)
    return made


def matrix_view(matrix: dict[str, Any]) -> list[dict[str, Any]]:
    """Each matrix in words, with the shade of each cell: how far the model is from the one right after the column's own
    stage, blue where better and red where worse."""
    found = []
    for kind, title in KINDS.items():
        columns = matrix["columns"]
        if not any(figure for row in matrix[kind] for figure in row):
            continue
        rows = []
        for number, (model, row) in enumerate(zip(matrix["models"], matrix[kind], strict=True)):
            cells = []
            for at, (figure, column) in enumerate(zip(row, columns, strict=True)):
                own = matrix[kind][column["stage"]][at]
                higher = column["higher_is_better"] if kind == "primary" else False
                cells.append(
                    {
                        "value": words.number(figure["value"] if figure else None),
                        "interval": words.interval(figure),
                        "kind": _shade(figure, own, higher),
                        "own": number == column["stage"],
                    }
                )
            rows.append({"name": model, "cells": cells})
        names = [column["name"] + (f" ({column['primary']})" if kind == "primary" else "") for column in columns]
        sizes = [next((row[at]["n"] for row in matrix[kind] if row[at]), 0) for at in range(len(columns))]
        found.append(
            {
                "title": title,
                "columns": [f"{name}, n {size:,}" for name, size in zip(names, sizes, strict=True)],
                "rows": rows,
                "summary": [
                    (NAMES[name], words.signed(figure["value"]) if name != "final" else words.number(figure["value"]),
                     words.interval(figure))
                    for name, figure in matrix["summary"].get(kind, {}).items()
                ],
                "note": _note(kind),
            }
        )  # fmt: skip
    return found


def _note(kind: str) -> str:
    told = (
        "Rows are models, columns the held-out rows of each stage; the framed cell is the model right after that stage."
    )
    if kind == "loss":
        told += " Less is better. The averages below are of the negative loss, so that more is better there."
    return told


def _shade(figure: Any, own: Any, higher: bool) -> str:
    """`e1` to `e9` for worse and `d1` to `d9` for better than right after the column's stage, in steps of 5 %."""
    if not figure or not own or not own["value"]:
        return "zero" if not figure else ""
    change = (figure["value"] - own["value"]) / abs(own["value"]) * (1 if higher else -1)
    step = min(9, round(abs(change) / 0.05))
    return f"{'d' if change > 0 else 'e'}{step}" if step else ""
