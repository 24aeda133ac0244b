"""The stages strung together: plan -> prepare -> train -> evaluate -> report. Used by the command line and Python."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attune.errors import UsageError
from attune.flow_evaluate import evaluate_one
from attune.flow_run import work
from attune.flow_stages import measure_stages, train_stages
from attune.plan.score import Session
from attune.recipe import Recipe
from attune.runs import Run
from attune.show import Show

if TYPE_CHECKING:
    from attune.data.prepare import Read
    from attune.model.parallel import Parallel

__all__ = ["run", "train", "evaluate"]


def run(
    data: str | Path,
    *,
    goal: str | None = None,
    budget: str | None = None,
    test: str | Path | None = None,
    validation: str | Path | None = None,
    target: str | None = None,
    overrides: Iterable[str] | Mapping[str, Any] = (),
    out: str | Path = "runs",
    show: Show | None = None,
) -> Run:
    """From a data file to a tuned model and its report, without a recipe: attune chooses one and leaves it in the run.

    `goal` is the task in the user's words; `budget` the time for everything, such as `10m`. The run is rehearsed before
    it starts: what it will take is predicted, made to fit the budget, and held against what it took.
    Raises: AttuneError of every kind, each with its fix.
    """
    from attune.plan.choose import choose

    session = Session(budget)
    show = show or Show()
    show.stage("plan")
    chosen = choose(
        str(data),
        goal=goal,
        budget=budget,
        test=str(test) if test else None,
        validation=str(validation) if validation else None,
        target=target,
        overrides=overrides,
    )
    for line in chosen.lines():
        show.say(line)
    return _start(chosen.recipe, Path(out), session=session, plan=True, show=show)


def train(
    source: str | Path | Mapping[str, Any] | Recipe,
    overrides: Iterable[str] | Mapping[str, Any] = (),
    *,
    out: str | Path = "runs",
    fork: bool = False,
    assess: bool = True,
    plan: bool = False,
    budget: str | None = None,
    found: Read | None = None,
    show: Show | None = None,
) -> Run:
    """Run a recipe to the end: prepare, train, save, evaluate, report. An unfinished run of the same recipe goes on.

    `out` is the folder that holds runs; `fork` starts a new numbered run where the name is taken by another recipe;
    `assess=False` stops after saving the model; `found` is data that was read and divided before. `plan` rehearses the
    run first: what it will take is predicted, and the report holds it against what it took; `budget` (with `plan`) is
    the time for everything from now on.
    """
    show = show or Show()
    recipe = source if isinstance(source, Recipe) else Recipe.load(source, overrides)
    for notice in recipe.notices:
        show.say(notice)
    if recipe.stages:
        if budget is not None:
            raise UsageError(
                "a run in stages has no budget of its own",
                why="what one stage may take of it is not known before the others ran",
                fix="a train.budget for each stage",
            )
        return train_stages(recipe, Path(out), fork=fork, assess=assess, plan=plan, show=show)
    return _start(
        recipe, Path(out), session=Session(budget), fork=fork, assess=assess, found=found, plan=plan, show=show
    )


def evaluate(
    run: Run | str | Path, *, suites: Iterable[str] = (), found: Read | None = None, show: Show | None = None
) -> Run:
    """Measure a finished run again: the tuned model and every baseline on the same rows; rewrites the report.

    `suites` (names, or files of rows) are asked instead, nothing else is measured again, and they become part of the
    run's `evaluate.suites`. `found` is data that was read and divided before.
    """
    show = show or Show()
    run = run if isinstance(run, Run) else Run(run)
    suites = list(suites)
    if run.stages:
        if len(run.stages) < len(run.status["stages"]) or run.last.path != run.stages[-1].path:
            raise UsageError(
                f"{run.path} has stages that are not trained", why=f"its state is {run.status['state']}",
                fix="finish training first, or name the folder of one stage",
            )  # fmt: skip
        for stage in run.stages:
            if stage.path == run.last.path:
                evaluate_one(stage, suites=suites, found=None, show=show)
            elif not (stage.path / "evaluation" / "results.json").exists():  # trained with --no-evaluate
                evaluate_one(stage, suites=[], found=None, show=show)
        measure_stages(run, show=show)
        return run
    return evaluate_one(run, suites=suites, found=found, show=show)


def _start(
    recipe: Recipe,
    out: Path,
    *,
    session: Session,
    plan: bool,
    show: Show,
    fork: bool = False,
    assess: bool = True,
    found: Read | None = None,
) -> Run:
    """Open the recipe's run and do what is left of it."""
    parallel = _ranks()
    if parallel is not None and not parallel.main:
        show = Show()
        parallel.barrier()  # until the first rank has made the run and prepared its data
    run, recipe = _open(recipe, out, fork=fork)
    run.writes = parallel is None or parallel.main
    if run.status["state"] == "done":
        show.say(f"{run.path} is finished; nothing to do (another name, or --fork, makes a new run)")
        return run
    return work(run, recipe, assess=assess, show=show, parallel=parallel, found=found, session=session, plan=plan)


def _ranks() -> Parallel | None:
    """This process's place among the ranks that `torchrun` started; None where it runs alone."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return None
    from attune.model.parallel import Parallel

    return Parallel()


def _open(recipe: Recipe, out: Path, *, fork: bool) -> tuple[Run, Recipe]:
    """The run directory of a recipe: a new one, or the one that it left unfinished (with the recipe frozen there)."""
    asked = recipe.fingerprint()
    name, number = recipe.run_name, 1
    while (path := out / (name if number == 1 else f"{name}-{number}")).joinpath("status.json").exists():
        run = Run(path)
        if run.status.get("asked") == asked:
            return run, Recipe.load(path / "recipe.yaml")
        if recipe.name is not None and not fork:
            raise UsageError(
                f"{path} holds a run of a different recipe",
                fix=f"--fork makes {path}-2, or choose another name; to continue that one, use its own recipe",
            )
        number += 1
    return Run.create(path, recipe.dump(), asked=asked), recipe
