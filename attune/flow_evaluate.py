"""Measuring a trained run: once at its end, again on demand, and on further suites."""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING, Any

from attune.durable import write_json
from attune.errors import DataError, UsageError
from attune.flow_data import prepare_run
from attune.plan.score import Session, score
from attune.recipe import Recipe
from attune.runs import Run
from attune.show import Show

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from attune.data.prepare import Read
    from attune.data.prepared import Prepared
    from attune.objectives.base import Objective

__all__ = ["evaluate_one", "assess_run", "same_data"]

KEPT = ("distilled", "transfer")
"""Tables of the results that other commands added: comparisons of the same model with other runs."""


def evaluate_one(run: Run, *, suites: list[str], found: Read | None, show: Show) -> Run:
    """Measure one finished run again, as `flow.evaluate` says.

    Raises: UsageError if it has no model yet.
    """
    if not (run.model_dir / "manifest.json").exists():
        raise UsageError(
            f"{run.path} has no model yet", why=f"its state is {run.status['state']}", fix="finish training first"
        )
    from attune.model.load import load_tokenizer

    recipe = Recipe.load(run.path / "recipe.yaml")
    tokenizer = load_tokenizer(recipe.model)
    run.lock()
    try:
        if suites:
            recipe, asked = _with_suites(recipe, suites)
        prepared, objective, recipe = prepare_run(recipe, tokenizer, run=run, show=show, found=found)
        data_hash = same_data(run, prepared)
        if suites:
            _ask(run, recipe, asked, prepared, objective, tokenizer, show=show)
        else:
            assess_run(run, recipe, prepared, objective, tokenizer, show=show)
        state = run.status["state"]
        run.set_status(state if state == "budget" else "done", data_hash=data_hash)
    finally:
        run.unlock()
    return run


def assess_run(
    run: Run,
    recipe: Recipe,
    prepared: Prepared,
    objective: Objective,
    tokenizer: PreTrainedTokenizerBase,
    *,
    show: Show,
    session: Session | None = None,
) -> None:
    """Measure the saved model and every baseline, and write the report."""
    from attune.evaluate.evaluate import evaluate_run

    show.stage("evaluate")
    started = time.monotonic()
    guard = session.guard(run) if session else lambda name: None
    results: Any = evaluate_run(run, recipe, prepared, objective, tokenizer, say=show.say, too_dear=guard)
    results["seconds"] = round(time.monotonic() - started, 1)
    results["plan"] = score(run, results, session)
    if (run.path / "evaluation" / "results.json").exists():
        results |= {key: run.results[key] for key in KEPT if key in run.results}
    _write(run, results, show)


def _with_suites(recipe: Recipe, suites: list[str]) -> tuple[Recipe, Recipe]:
    """The recipe with these suites among its own, and with them alone."""
    from attune import plugins

    def label(choice: Any) -> str:
        plugin: Any = plugins.get("suite", choice.name)
        return plugin(choice.options).label

    alone = recipe.replace({"evaluate.suites": suites})
    asked = {label(choice) for choice in alone.evaluate.suites}
    others = [choice for choice in recipe.evaluate.suites if label(choice) not in asked]
    whole = [choice.model_dump(mode="json") for choice in [*others, *alone.evaluate.suites]]
    return recipe.replace({"evaluate.suites": whole}), alone


def _ask(
    run: Run,
    recipe: Recipe,
    asked: Recipe,
    prepared: Prepared,
    objective: Objective,
    tokenizer: PreTrainedTokenizerBase,
    *,
    show: Show,
) -> None:
    """Put the figures of further suites beside those that the run has."""
    from attune.evaluate.suites.compared import compare_suites, suite_figures

    show.stage("suites")
    results: Any = run.results
    rows = compare_suites(run, asked, objective, tokenizer, prepared.train, say=show.say)
    names = {row["suite"] for row in rows}
    results["suites"] = [*(row for row in results.get("suites") or [] if row["suite"] not in names), *rows]
    results["metrics"] |= suite_figures(rows)
    _write(run, {**results, "recipe": recipe.dump()}, show)


def _write(run: Run, results: Any, show: Show) -> None:
    from attune.evaluate.report import write_report

    folder = run.path / "evaluation"
    folder.mkdir(exist_ok=True)
    write_json(folder / "results.json", results)
    write_report(results, run.path)
    show.results(run, results)


def same_data(run: Run, prepared: Prepared) -> str:
    """SHA-256 over the tokens of every part, so that changed data slips into no resumed run and no second evaluation.

    Raises: DataError if they are not those that the run began with.
    """
    data_hash = hashlib.sha256("".join(store.content_hash for store in prepared.stores.values()).encode()).hexdigest()
    if run.status.get("data_hash", data_hash) != data_hash:
        raise DataError(
            "the data changed since this run began",
            why="its tokens have another SHA-256: figures before and after could not be compared",
            fix="restore the data, or start with --fork",
        )
    return data_hash
