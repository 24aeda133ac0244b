"""Options that several commands have, each said once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "Budget",
    "Columns",
    "Goal",
    "Json",
    "Out",
    "Overrides",
    "Quiet",
    "RunDir",
    "Set",
    "Target",
    "Test",
    "Validation",
]

Overrides = Annotated[
    list[str] | None, typer.Argument(help="Recipe overrides: train.epochs=2 data.test=test.csv", show_default=False)
]
Set = Annotated[
    list[str] | None, typer.Option("--set", help="Override a recipe key: --set train.epochs=2. May be repeated.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors and the result.")]
Out = Annotated[Path, typer.Option("--out", help="Folder that holds the runs.")]
RunDir = Annotated[Path, typer.Argument(help="A run directory.", show_default=False)]
Columns = Annotated[list[str] | None, typer.Option("--column", help="Ours=yours: --column text=note. May be repeated.")]
Target = Annotated[str | None, typer.Option("--target", help="The column to predict.")]
Test = Annotated[str | None, typer.Option("--test", help="A file of held-out rows.")]
Validation = Annotated[str | None, typer.Option("--validation", help="A file of validation rows.")]
Goal = Annotated[
    str | None,
    typer.Option("--goal", help="What the model is for, in your words; held against what the data looks like."),
]
Budget = Annotated[str | None, typer.Option("--budget", help="Time for everything, such as 10m or 2h.")]
