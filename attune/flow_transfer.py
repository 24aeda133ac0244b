"""Does learning together help or harm? Every task once more alone, as many passes over its data, on the same rows."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attune.durable import write_json, write_text
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

    Alone, a task is given as many passes over its own data as it was to have in the mix, in steps of the same size,
    from the same base with the same settings: fewer updates, since all of a step is its own. What is finished is not
    trained again. The table goes into the run's report.
    Raises: RecipeError if the recipe does not name at least two tasks.
    """
    from attune import flow
    from attune.evaluate.report import write_report

    show = show or Show()
    recipe = source if isinstance(source, Recipe) else Recipe.load(source, overrides)
    if recipe.stages:
        raise RecipeError(
            "stages cannot be held against each other", where=recipe.where("stages"),
            why="each starts from the model before it", fix="one stage with several tasks as a recipe of its own",
        )  # fmt: skip
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise RecipeError("transfer runs in one process", fix="train the tasks under torchrun, each by itself")
    if len([one for one in recipe.data.sources if one.weight > 0]) < 2:
        raise RecipeError(
            "there is nothing to hold against each other", why="data.path names fewer than two tasks",
            fix="data.path: [{path: a.csv}, {path: b.jsonl}]",
        )  # fmt: skip
    run = flow.train(recipe, out=out, show=show)
    frozen = Recipe.load(run.path / "recipe.yaml")
    manifest = json.loads((run.path / "data" / "manifest.json").read_text())
    mix = manifest["mix"]
    retain = frozen.retain  # suites are asked again only where they take part in training
    suites = retain.model_dump(mode="json")["suites"] if retain.limit is not None or retain.ewc else []
    facts = json.loads((run.path / "data" / "training.json").read_text())
    # Both sides may stop early, so both are given the whole schedule; time that ran out was the mix's alone.
    planned = facts["planned_steps"] if facts["stopped"] in ("early", "gap") else facts["steps"]
    epochs = facts["epochs_exact"] * planned / facts["steps"]
    _same_split(run)
    rows = []
    for one in frozen.data.sources:
        name = one.title
        if not mix["per_epoch"][name]:
            continue
        show.stage(f"{name} alone")
        passes = epochs * mix["per_epoch"][name] / (mix["sizes"][name] + _only_alone(manifest, name))
        lonely = one.model_copy(update={"weight": 1.0}).model_dump(mode="json")
        alone = frozen.replace(
            {"name": name, "data.path": [lonely], "train.max_steps": None, "train.epochs": passes,
             "train.budget": None, "evaluate.baselines": [], "evaluate.suites": [], "retain.suites": suites}
        )  # fmt: skip
        done = flow.train(alone, out=run.path / "alone", show=show)
        made = facts["epochs_exact"] * mix["per_epoch"][name] / mix["sizes"][name]
        rows.append(_compared(run, done, name, frozen) | _taught(facts, done, made))
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
    return {
        "task": task, "primary": told["primary"], "n": len(ids), "word": word, "figures": dict(sorted(figures.items())),
    }  # fmt: skip


def _taught(facts: dict[str, Any], alone: Run, passes: float) -> dict[str, Any]:
    """What each side had: passes over the task's own training rows, and updates."""
    made = json.loads((alone.path / "data" / "training.json").read_text())
    return {
        "passes": {"alone": made["epochs_exact"], "together": passes},
        "updates": {"alone": made["steps"], "together": facts["steps"]},
    }


def _only_alone(manifest: dict[str, Any], task: str) -> int:
    """Training rows that the mix left out, since they stand in held-out rows of another task."""
    from attune.data.tasks import ELSEWHERE

    return int(manifest["tasks"][task].get("excluded", {}).get(ELSEWHERE, 0))


def _same_split(run: Run) -> None:
    """Let the tasks alone be divided as they were together, also where rows came later."""
    ledgers = run.path / "alone" / ".splits"
    ledgers.mkdir(parents=True, exist_ok=True)
    for known in (run.path.parent / ".splits").glob("*.jsonl"):
        if not (ledgers / known.name).exists():
            write_text(ledgers / known.name, known.read_text(encoding="utf-8"))


def transfer_table(rows: list[dict[str, Any]]) -> Table:
    """Alone against together, a line for each task, for the terminal."""
    from rich.table import Table

    from attune.evaluate.transfer_view import COLUMNS, NOTE, transfer_view

    table = Table(title="each task alone against together", title_justify="left", caption=NOTE, caption_justify="left")
    for title, key in COLUMNS.items():
        table.add_column(title, justify="left" if key in ("task", "figure", "word") else "right")
    for row in transfer_view(rows):
        table.add_row(*(row[key] for key in COLUMNS.values()))
    return table
