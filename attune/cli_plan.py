"""`attune plan`: what to tune and how, and what it will take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from attune import stopping
from attune.cli_options import Budget, Goal, Json, Quiet, Set, Target, Test, Validation

__all__ = ["plan"]


def plan(
    source: Annotated[str, typer.Argument(help="A data file or folder, or a recipe.yaml.", show_default=False)],
    goal: Goal = None,
    budget: Budget = None,
    hardware: Annotated[
        str, typer.Option(help="here (measured), cpu, or a machine of the table: h200, a100-80g, rtx4090, ...")
    ] = "here",
    licence: Annotated[str | None, typer.Option(help="Only bases under this licence: a name, or permissive.")] = None,
    price: Annotated[float | None, typer.Option(min=0, help="What an hour of the machine costs.")] = None,
    test: Test = None,
    validation: Validation = None,
    target: Target = None,
    set_: Set = None,
    out: Annotated[Path | None, typer.Option("--out", help="Write the recipe here, with its reasons.")] = None,
    no_measure: Annotated[
        bool, typer.Option("--no-measure", help="Choose and advise only: no model is loaded.")
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """What to tune and how, whether to tune at all, and what it will take in time and memory."""
    from attune.durable import write_text
    from attune.errors import UsageError
    from attune.plan.plan import plan as make
    from attune.terminal import Terminal

    if out is not None and out.exists():
        raise UsageError(f"{out} exists", fix="give another --out")
    stopping.stop_in_order()
    made = make(
        source,
        goal=goal,
        budget=budget,
        hardware=hardware,
        licence=licence,
        price=price,
        test=test,
        validation=validation,
        target=target,
        overrides=set_ or [],
        measure=not no_measure,
        show=Terminal(quiet=quiet),
    )
    if out is not None:
        write_text(out, made.recipe_text())
    print(json.dumps(made.to_dict(), ensure_ascii=False) if as_json else made.text())
    if out is not None and not as_json:
        print(f"attune train {out}")
