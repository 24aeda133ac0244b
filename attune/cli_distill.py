"""`attune distill`: teacher, student, and the student without a teacher, side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from attune import stopping
from attune.cli_options import Json, Out, Overrides, Quiet, Set

__all__ = ["distill"]


def distill(
    recipe: Annotated[str, typer.Argument(help="A recipe with objective: {name: distill, ...}.", show_default=False)],
    overrides: Overrides = None,
    set_: Set = None,
    out: Out = Path("runs"),
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train teacher, student and the student without a teacher; print quality, size and speed side by side."""
    from attune.distill import distill as teach
    from attune.evaluate.report_distilled import distilled_head, distilled_rows
    from attune.terminal import Terminal
    from attune.terminal import out as console

    stopping.stop_in_order()
    run, rows = teach(recipe, [*(overrides or []), *(set_ or [])], out=out, show=Terminal(quiet=quiet))
    if as_json:
        print(json.dumps({"run": str(run.path), "rows": rows}, ensure_ascii=False))
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for number, name in enumerate(distilled_head(rows)):
        table.add_column(name, justify="right" if number else "left")
    for row in distilled_rows(rows):
        table.add_row(*row)
    console.print(table)
    print(f"Report: {run.path / 'report.html'}")
