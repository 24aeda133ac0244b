"""`attune search`: better settings on validation rows, then an honest test; and the learning-rate range test."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from attune import stopping
from attune.cli_options import Json, Overrides, Quiet, Set

__all__ = ["search"]


def search(
    recipe: Annotated[str, typer.Argument(help="A recipe.yaml.", show_default=False)],
    overrides: Overrides = None,
    set_: Set = None,
    budget: Annotated[
        str | None, typer.Option(help="Time for everything, the final test counted, such as 20m or 2h.")
    ] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="Most trials, the recipe itself counted.")] = None,
    space: Annotated[
        list[str] | None,
        typer.Option("--space", help="A searched key: train.learning_rate=1e-5..1e-3, adapter.r=4,8,16. Repeatable."),
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, max=256, help="Trials side by side.")] = None,
    lr_range: Annotated[
        bool, typer.Option("--lr-range", help="No search: raise the learning rate step by step and suggest one.")
    ] = False,
    steps: Annotated[int, typer.Option(min=20, max=10_000, help="Steps of --lr-range.")] = 100,
    out: Annotated[Path, typer.Option("--out", help="Folder that holds the searches.")] = Path("runs"),
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Look for better settings on validation rows, and say on test rows whether the gain is real."""
    from attune.terminal import Terminal

    stopping.stop_in_order()
    show = Terminal(quiet=quiet)
    changes = [*(overrides or []), *(set_ or [])]
    if lr_range:
        from attune.search.lr_range import lr_range as sweep

        tested = sweep(recipe, changes, steps=steps, out=out, show=show)
        print(json.dumps(asdict(tested)) if as_json else tested.sentence)
        if not as_json:
            print(f"Curve: {out / 'lr-range.html'}", file=sys.stderr)
        return
    from attune.search.search import search as look

    found = look(recipe, changes, budget=budget, trials=trials, space=space or [], workers=workers, out=out, show=show)
    best = next((row for row in found.trials if found.run and row["name"] == found.run.path.name), None)
    following = [f"attune chat {found.run.path}", f"attune train {found.path / 'best.yaml'}"] if found.run else []
    if as_json:
        facts = {
            "search": str(found.path),
            "state": found.state,
            "best": str(found.path / "best.yaml"),
            "run": str(found.run.path) if found.run else None,
            "values": best["values"] if best else {},
            "trials": found.trials,
            "result": found.result,
            "next": following,
        }
        print(json.dumps(facts, ensure_ascii=False))
        return
    print(f"Report: {found.path / 'search.html'}", file=sys.stderr)
    for command in following:
        print(command)
