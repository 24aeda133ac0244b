"""Does learning together help or harm? Every task once more alone, with as many of its examples, on the same rows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attune.durable import write_json
from attune.errors import RecipeError, UsageError
from attune.recipe import Recipe
from attune.runs import Run
from attune.show import Show

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["transfer", "transfer_table"]


def transfer(
    source: str | Path | Mapping[str, Any] | Recipe,
    overrides: Iterable[str] | Mapping[str, Any] = (),
    *,
    out: str | Path = "runs",
    show: Show | None = None,
) -> Run:
    """Train the tasks of a recipe together, then each alone, and compare the two on the same test rows.

    Alone, a task is given as many of its own examples as it had in the mix, in steps of the same size, from the same
    base with the same settings. What is finished is not trained again. The table goes into the run's report.
    Raises: RecipeError if the recipe does not name at least two tasks.
    """
    from attune import flow
    from attune.evaluate.report import write_report

    show = show or Show()
    recipe = source if isinstance(source, Recipe) else Recipe.load(source, overrides)
    if len([one for one in recipe.data.sources if one.weight > 0]) < 2:
        raise RecipeError(
            "there is nothing to hold against each other", why="data.path names fewer than two tasks",
            fix="data.path: [{path: a.csv}, {path: b.jsonl}]",
        )  # fmt: skip
    run = flow.train(recipe, out=out, show=show)
    frozen = Recipe.load(run.path / "recipe.yaml")
    mix = json.loads((run.path / "data" / "manifest.json").read_text())["mix"]
    facts = json.loads((run.path / "data" / "training.json").read_text())
    rows = []
    for one in frozen.data.sources:
        name = one.title
        if not mix["per_epoch"][name]:
            continue
        show.stage(f"{name} alone")
        epochs = facts["epochs_exact"] * mix["per_epoch"][name] / mix["sizes"][name]
        lonely = one.model_copy(update={"weight": 1.0}).model_dump(mode="json")
        alone = frozen.replace(
            {"name": name, "data.path": [lonely], "train.max_steps": None, "train.epochs": epochs,
             "train.budget": None, "evaluate.baselines": []}
        )  # fmt: skip
        done = flow.train(alone, out=run.path / "alone", show=show)
        rows.append(_compared(run, done, name, frozen))
    results: Any = {**run.results, "transfer": rows}
    write_json(run.path / "evaluation" / "results.json", results)
    write_report(results, run.path)
    show.table(transfer_table(rows))
    return run


def _compared(together: Run, alone: Run, task: str, recipe: Recipe) -> dict[str, Any]:
    """Together minus alone on every figure of one task, paired over its test rows.

    Raises: UsageError if they were not measured on the same rows.
    """
    import numpy as np

    from attune.evaluate.measure import metrics_for
    from attune.evaluate.stats import bootstrap, paired

    saved = []
    for run in (together, alone):
        with np.load(run.path / "evaluation" / "statistics.npz", allow_pickle=False) as file:
            chosen = [number for number, name in enumerate(file["ids"]) if str(name).startswith(f"{task}/")]
            groups = [str(file["groups"][number]) for number in chosen] if "groups" in file else None
            tables = {key: file[key] for key in file if key.startswith(f"{task}/")}
            saved.append(([str(file["ids"][number]) for number in chosen], groups, tables))
    (ids, groups, first), (others, _, second) = saved
    if ids != others:
        raise UsageError(
            f"{task} was not measured on the same rows alone and together",
            fix=f"name its test file in data.path, or delete {alone.path}",
        )
    (told,) = [row for row in together.results["tasks"] if row["name"] == task]
    figures: dict[str, dict[str, Any]] = {}
    for key in first.keys() & second.keys():
        (metric,) = metrics_for(told["kind"], [key.removeprefix(f"{task}/")])
        draws: dict[str, Any] = {"n": recipe.evaluate.bootstrap, "seed": recipe.seed, "groups": groups}
        if np.isfinite(first[key]).all() and np.isfinite(second[key]).all():
            figures[metric.name] = {
                "together": bootstrap(metric, first[key], **draws)._asdict(),
                "alone": bootstrap(metric, second[key], **draws)._asdict(),
                "difference": paired(metric, first[key], second[key], **draws)._asdict(),
                "higher_is_better": bool(metric.higher_is_better),
            }
    main = figures[told["primary"]]
    pair, sign = main["difference"], 1 if main["higher_is_better"] else -1
    sure = pair["p"] < 0.05 and not pair["low"] <= 0 <= pair["high"]
    word = "not told apart" if not sure else "helped" if sign * pair["difference"] > 0 else "harmed"
    examples = json.loads((alone.path / "data" / "training.json").read_text())
    return {
        "task": task, "primary": told["primary"], "n": len(ids), "word": word,
        "alone_steps": examples["steps"], "figures": dict(sorted(figures.items())),
    }  # fmt: skip


def transfer_table(rows: list[dict[str, Any]]) -> Table:
    """Alone against together, a line for each task, for the terminal."""
    from rich.table import Table

    from attune.evaluate.transfer_view import transfer_view

    table = Table(title="each task alone against together", title_justify="left")
    for name in ("task", "figure", "rows", "alone", "together", "together minus alone, p", "being together"):
        table.add_column(name, justify="left" if name in ("task", "figure", "being together") else "right")
    for row in transfer_view(rows):
        table.add_row(*(row[key] for key in ("task", "figure", "rows", "alone", "together", "change", "word")))
    return table
