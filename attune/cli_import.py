"""`attune import`: a recipe of another tool becomes ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from attune.cli_options import Json

__all__ = ["import_"]


def import_(
    file: Annotated[
        Path, typer.Argument(help="A recipe of another tool: .yml, .json, .sh, .py or .ipynb.", show_default=False)
    ],
    tool: Annotated[
        str | None, typer.Option("--from", help="Whose it is: axolotl, llama_factory, trl, ms_swift, unsloth.")
    ] = None,
    recipe: Annotated[Path, typer.Option("--out", help="Where to write the recipe.")] = Path("recipe.yaml"),
    devices: Annotated[
        int | None, typer.Option(help="How many GPUs it ran on, where the file does not say: part of the batch size.")
    ] = None,
    which: Annotated[int, typer.Option(help="Which recipe, where the file holds several.")] = 1,
    as_json: Json = False,
) -> None:
    """Turn a recipe of Axolotl, LLaMA-Factory, TRL, ms-swift or Unsloth into ours, with an account of every key."""
    from attune.durable import write_text
    from attune.errors import UsageError
    from attune.interop.convert import convert

    if recipe.exists():
        raise UsageError(f"{recipe} exists", fix="give another --out")
    imported = convert(file, tool=tool, which=which, devices=devices)
    write_text(recipe, imported.yaml())
    if as_json:
        print(
            json.dumps({**imported.json(), "recipe": str(recipe), "next": f"attune train {recipe}"}, ensure_ascii=False)
        )
    else:
        print(imported.report())
        print(f"\nattune train {recipe}")
