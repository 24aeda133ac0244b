"""The forgetting matrix: the model after every stage, measured on the test rows of every stage, earlier and later.

R[i][j] is the model after stage i on column j; row 0 is the base before any stage. A stage of several tasks has a
column for each. Source: Lopez-Paz and Ranzato 2017 (arXiv:1706.08840) for the averages and for backward and forward
transfer, with the base in place of random weights; Chaudhry et al. 2018 (arXiv:1801.10112) for forgetting.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from attune import plugins
from attune.evaluate.measure import PRIMARY, judged_by, metrics_for
from attune.evaluate.stats import bootstrap, percentiles

if TYPE_CHECKING:
    from attune.data.prepared import Prepared
    from attune.objectives.base import Objective
    from attune.recipe import Recipe
    from attune.records import Record
    from attune.runs import Run

__all__ = ["forgetting", "summary", "BASE"]

BASE = "base"
SHARES = ("accuracy", "probability", "f1_macro", "f1_micro", "span_f1", "rougeL", "exact_match", "token_f1", "field_f1")
"""Main figures between 0 and 1 with more being better, which may be averaged over stages."""


class Column:
    """The test rows of one stage, or of one of its tasks."""

    def __init__(
        self, name: str, stage: int, recipe: Recipe, prepared: Prepared, objective: Objective, tokenizer: Any, key: str
    ):
        self.name, self.stage, self.recipe, self.prepared = name, stage, recipe, prepared
        self.objective, self.tokenizer, self.key = objective, tokenizer, key
        self.part = "test" if "test" in prepared.stores else "validation"
        self.records: list[Record] = list(getattr(prepared, self.part)) if self.part in prepared.stores else []
        task = prepared.task
        usual = "perplexity" if task == "text" else PRIMARY[task]
        if task == "generation":
            usual = judged_by(self.records)[1]
        wanted = recipe.evaluate.primary
        fits = wanted in [metric.name for metric in metrics_for(task, records=self.records)]
        self.primary: str = wanted if fits and wanted != "loss" else usual  # type: ignore[assignment]
        self.writes = objective.head == "lm"
        if self.writes:  # whatever it was trained to minimise, the loss is that of the reference text
            plain: Any = plugins.get("objective", "pretrain" if task == "text" else "sft")
            self.objective = plain(labels=objective.labels, task=objective.task)

    @property
    def figures(self) -> dict[str, Any]:
        """`loss` and the main figure, as metrics."""
        named = {"primary": metrics_for(self.prepared.task, [self.primary])[0]}
        return {"loss": metrics_for("text", ["loss"])[0], **named} if self.writes else named


def forgetting(run: Run, stages: Sequence[Run], *, say: Callable[[str], None]) -> dict[str, Any]:
    """The matrix as plain JSON, and its averages with their intervals. Cells that were measured already are kept."""
    columns = [column for number, stage in enumerate(stages, 1) for column in _columns(number, stage)]
    kept = run.path / "evaluation" / "matrix"
    kept.mkdir(parents=True, exist_ok=True)
    models: list[Run | None] = [None, *stages]
    cells: list[list[dict[str, np.ndarray] | None]] = []
    for model in models:
        cells.append(_row(model, stages[0], columns, kept))
        shown = [f"{column.name} {_said(cell, column)}" for column, cell in zip(columns, cells[-1])]
        say(f"{BASE if model is None else model.path.name}: {', '.join(shown)}")
    recipe = columns[-1].recipe
    draws, seed = recipe.evaluate.bootstrap, recipe.seed

    def figure(cell: dict[str, np.ndarray] | None, column: Column, kind: str) -> dict[str, Any] | None:
        if cell is None or kind not in cell or kind not in column.figures:
            return None
        found = bootstrap(column.figures[kind], cell[kind], n=draws, seed=seed)
        return found._asdict() if math.isfinite(found.value) else None

    return {
        "models": [BASE, *(stage.path.name for stage in stages)],
        "columns": [
            {
                "name": column.name,
                "stage": column.stage,
                "task": column.prepared.task,
                "part": column.part,
                "primary": column.primary,
                "higher_is_better": bool(column.figures["primary"].higher_is_better),
            }
            for column in columns
        ],
        "loss": [[figure(cell, column, "loss") for cell, column in zip(row, columns)] for row in cells],
        "primary": [[figure(cell, column, "primary") for cell, column in zip(row, columns)] for row in cells],
        "summary": {
            "loss": _summary(cells, columns, "loss", draws, seed),
            "primary": _summary(cells, columns, "primary", draws, seed),
        },
    }


def _columns(number: int, stage: Run) -> list[Column]:
    from attune.flow_data import prepare_run
    from attune.model.load import load_tokenizer
    from attune.recipe import Recipe

    recipe = Recipe.load(stage.path / "recipe.yaml")
    tokenizer = load_tokenizer(recipe.model)
    prepared, objective, recipe = prepare_run(recipe, tokenizer, run=stage)
    key = str(stage.status["lineage"])[:16]
    if not prepared.tasks:
        return [Column(stage.path.name, number, recipe, prepared, objective, tokenizer, key)]
    return [
        Column(f"{stage.path.name}/{name}", number, recipe, one, objective, tokenizer, f"{key}-{name}")
        for name, one in prepared.tasks.items()
    ]


def _row(model: Run | None, first: Run, columns: Sequence[Column], kept: Any) -> list[dict[str, np.ndarray] | None]:
    """The statistics of one model on every column; None where it has no head that could answer."""
    key = f"base-{str(first.status['lineage'])[:16]}" if model is None else str(model.status["lineage"])[:16]
    files = [kept / f"{key}--{column.key}.npz" for column in columns]
    placed: Any = None
    cells: list[dict[str, np.ndarray] | None] = []
    for file, column in zip(files, columns, strict=True):
        if not file.exists():
            policy, layout, head, labels = placed = placed or _open(model, first)
            cell = _cell(policy, layout, head, labels, column)
            np.savez_compressed(file.with_name(f".tmp-{file.name}"), **cell)  # type: ignore[arg-type]
            file.with_name(f".tmp-{file.name}").replace(file)
        with np.load(file, allow_pickle=False) as saved:
            found = dict(saved)
        cells.append(found or None)
    return cells


def _open(model: Run | None, first: Run) -> tuple[Any, str, str, list[str]]:
    """(policy, layout, head, labels) of a stage's model, or of the base."""
    from attune.evaluate.systems import placed, placed_base
    from attune.model.load import load_model
    from attune.model.save import open_model
    from attune.recipe import Recipe

    recipe = Recipe.load((first if model is None else model).path / "recipe.yaml")
    if model is not None:
        opened, manifest = open_model(model.model_dir, recipe)
        return *placed(opened, manifest["head"], recipe), manifest["head"], manifest["labels"]
    if recipe.model.from_config is not None:  # untrained weights, as the first stage drew them
        return *placed(load_model(recipe.model, head="lm", seed=recipe.seed), "lm", recipe), "lm", []
    policy, layout = placed_base(recipe, fast=False)
    return policy, layout, "none" if policy is None else "lm", []


def _cell(policy: Any, layout: str, head: str, labels: list[str], column: Column) -> dict[str, np.ndarray]:
    """Statistics of the loss and of the main figure; empty where this model cannot answer."""
    from attune.evaluate.systems import answers_of, asked_rows, reference_logp

    prepared, objective = column.prepared, column.objective
    if column.part not in prepared.stores or head != objective.head or (head != "lm" and labels != objective.labels):
        return {}
    asked = asked_rows(column.recipe, prepared, objective, column.records)
    found = answers_of(
        policy, layout, column.recipe, prepared, objective, column.tokenizer, column.part, column.records, asked
    )[0]
    if column.writes and found.logp is None:
        pad = column.tokenizer.pad_token_id or 0
        size = column.recipe.evaluate.batch_tokens
        found.logp = reference_logp(policy, objective, prepared, asked, layout=layout, pad_id=pad, batch_tokens=size)
    tables = {kind: metric.statistics(asked, found) for kind, metric in column.figures.items()}
    return {kind: table for kind, table in tables.items() if np.isfinite(table).all()}


def _said(cell: dict[str, np.ndarray] | None, column: Column) -> str:
    if cell is None or "primary" not in cell:
        return "not measurable"
    return f"{column.primary} {column.figures['primary'].value(cell['primary']):.4g}"


def _summary(cells: Any, columns: Sequence[Column], kind: str, draws: int, seed: int) -> dict[str, Any]:
    """The averages over the columns of one kind; intervals from resampling each column's rows, models together."""
    fitting = [
        number
        for number, column in enumerate(columns)
        if (kind == "loss" or column.primary in SHARES) and all(row[number] and kind in row[number] for row in cells)
    ]
    tables = [[row[number][kind] for number in fitting] for row in cells]
    metrics: list[Any] = [columns[number].figures.get(kind) for number in fitting]
    owners = [columns[number].stage for number in fitting]
    if len(set(owners)) < 2:
        return {}
    sign = -1.0 if kind == "loss" else 1.0

    def averages(rows: list[np.ndarray | slice]) -> dict[str, float]:
        values = [
            [sign * metric.value(table[chosen]) for metric, table, chosen in zip(metrics, row, rows)] for row in tables
        ]
        return summary(np.array(values), owners)

    value = averages([slice(None)] * len(fitting))
    random = np.random.default_rng(seed)
    sizes = [len(tables[0][number]) for number in range(len(fitting))]
    replicates = [averages([random.integers(size, size=size) for size in sizes]) for _ in range(draws)]
    found = {}
    for name, figure in value.items():
        low, high = percentiles([row[name] for row in replicates], 0.95)
        found[name] = {"value": figure, "low": low, "high": high, "n": sum(sizes)}
    return found


def summary(values: np.ndarray, owners: Sequence[int]) -> dict[str, float]:
    """Averages of a matrix in which more is better, row 0 the base; `owners` is the stage (from 1) of each column.

    final: the last model over all columns. backward_transfer: the last model minus the one right after the column's
    own stage, over all but the last stage's columns. forward_transfer: the model before the column's own stage minus
    the base, over all but the first stage's. forgetting: the best model before the last minus the last.
    Shapes: values [1 + stages, columns].
    """
    last = len(values) - 1
    earlier = [at for at, stage in enumerate(owners) if stage < last]
    later = [at for at, stage in enumerate(owners) if stage > 1]
    return {
        "final": float(np.mean(values[last])),
        "backward_transfer": float(np.mean([values[last, at] - values[owners[at], at] for at in earlier])),
        "forward_transfer": float(np.mean([values[owners[at] - 1, at] - values[0, at] for at in later])),
        "forgetting": float(np.mean([values[1:last, at].max() - values[last, at] for at in earlier])),
    }
