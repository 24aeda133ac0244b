"""`stages:`: trainings one after another in one run folder, each a normal run that starts from the one before."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from attune.durable import write_json, write_text
from attune.errors import AttuneError, RecipeError, UsageError
from attune.flow_run import work
from attune.recipe import Recipe
from attune.recipe.stages import PREVIOUS
from attune.runs import Run
from attune.show import Show

__all__ = ["train_stages", "measure_stages"]

FINISHED = ("done", "budget")


def train_stages(recipe: Recipe, out: Path, *, fork: bool, assess: bool, show: Show, plan: bool = False) -> Run:
    """Every stage of a recipe in order, then the forgetting matrix. What is finished and unchanged is not done again.

    `plan` rehearses each stage before it starts. A stage is unchanged while its recipe, its data and all before it are
    the same; one that is not is set aside in `stages/.replaced`, from where it comes back if the change is undone.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise RecipeError(
            "stages run in one process", why="each stage starts from files that the one before wrote",
            fix="train each stage as a recipe of its own under torchrun, with model.base: runs/NAME of the one before",
        )  # fmt: skip
    stages = recipe.stage_recipes
    _check(stages)
    names = [f"{number}-{stage.name}" for number, stage in enumerate(stages, 1)]
    run = _open(recipe, out, fork=fork)
    run.lock()
    try:
        write_text(run.path / "recipe.yaml", recipe.dump())
        run.set_status("running", asked=recipe.fingerprint(), stages=names)
        key, previous = "", None
        for name, stage in zip(names, stages, strict=True):
            key = _key(stage, key)
            show.stage(f"stage {name}")
            own: dict[str, Any] = {"name": name}
            if previous is not None:
                own["model.base"] = str(previous.path.resolve())
            previous = _stage_run(run.path / "stages" / name, stage.replace(own), key, show)
            if previous.status["state"] in FINISHED:
                show.say("unchanged and finished; not trained again")
            else:
                frozen = Recipe.load(previous.path / "recipe.yaml")
                work(previous, frozen, assess=assess, show=show, parallel=None, plan=plan)
        if assess:
            measure_stages(run, show=show)
        run.set_status("done")
    except AttuneError as error:
        run.set_status("interrupted" if error.exit_code in (130, 143) else "failed", why=error.what)
        raise
    except (KeyboardInterrupt, Exception) as error:
        stopped = isinstance(error, KeyboardInterrupt)
        run.set_status("interrupted" if stopped else "failed", why=f"{type(error).__name__}: {error}")
        raise
    finally:
        run.unlock()
    return run


def _check(stages: list[Recipe]) -> None:
    """What can be said of every stage before the first is trained.

    Raises: RecipeError with the number of the stage.
    """
    from attune import plugins
    from attune.model.heads import check_recipe
    from attune.model.load import load_config, load_tokenizer
    from attune.train.retention import refuse
    from attune.train.teacher import check_teacher, teacher_of

    first = stages[0].model
    config, tokenizer = load_config(first), load_tokenizer(first)
    for number, stage in enumerate(stages, 1):
        stage = stage.replace({"model.base": first.base})
        plugin: Any = plugins.find("objective").get(stage.objective.name)
        try:
            check_recipe(stage, config)
            teacher = teacher_of(stage)
            if teacher is None or "stages" not in Path(teacher.where).parts:  # it may be a stage of this very run
                check_teacher(stage, tokenizer)
            if plugin is not None:
                task = stage.data.task if stage.data.task in plugin.tasks else plugin.tasks[0]
                refuse(stage, plugin(stage.objective.options, task=task))
        except RecipeError as error:
            error.what = f"stage {number}: {error.what}"
            raise


def _open(recipe: Recipe, out: Path, *, fork: bool) -> Run:
    """The folder of a run in stages: the one of that name, whose unchanged stages are kept, or a new one."""
    name, number = recipe.run_name, 1
    while (path := out / (name if number == 1 else f"{name}-{number}")).joinpath("status.json").exists():
        if "stages" in Run(path).status and not fork:
            return Run(path)
        if not fork and recipe.name is not None:
            raise UsageError(
                f"{path} holds a run without stages",
                fix=f"--fork makes {path}-2, or choose another name",
            )
        number += 1
    return Run.create(path, recipe.dump(), stages=[])


def _stage_run(folder: Path, stage: Recipe, key: str, show: Show) -> Run:
    """The run of a stage: the one that is there if it is the same, else a new one in its place."""
    aside = folder.parent / ".replaced"
    if (folder / "status.json").exists():
        if Run(folder).status.get("lineage") == key:
            return Run(folder)
        old = str(Run(folder).status.get("lineage"))[:12]
        aside.mkdir(exist_ok=True)
        show.say(f"changed, or something before it: the earlier one is kept in {aside / f'{folder.name}-{old}'}")
        os.rename(folder, _free(aside / f"{folder.name}-{old}"))
    known = aside / f"{folder.name}-{key[:12]}"
    if known.exists():
        show.say("as it was before the last change: brought back")
        os.rename(known, folder)
        return Run(folder)
    return Run.create(folder, stage.dump(), lineage=key)


def _free(path: Path) -> Path:
    number = 2
    while path.exists():
        path = path.with_name(f"{path.name}.{number}")
        number += 1
    return path


def _key(stage: Recipe, before: str) -> str:
    """SHA-256 of what decides a stage's result: its recipe, the bytes of what it reads, its teacher, and the stage (or
    base) before."""
    from attune.model.load import fingerprint
    from attune.train.teacher import teacher_of

    if not before and stage.model.from_config is None:
        before = json.dumps(fingerprint(stage.model.base), sort_keys=True)
    facts = [stage.replace({"name": None, "model.base": PREVIOUS}).fingerprint(), _bytes_of(stage), before]
    if stage.model.base != PREVIOUS:
        facts.append(stage.model.base)
    if (teacher := teacher_of(stage)) is not None:
        facts.append(teacher.fingerprint)
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _bytes_of(stage: Recipe) -> list[str]:
    """SHA-256 of every file that a stage learns from, is held against, or is read by."""
    from attune.data.files import files_of

    data, replay = stage.data, stage.retain.replay
    named = [
        data.test,
        data.validation,
        *(path for source in data.sources for path in (source.test, source.validation)),
    ]
    if replay is not None and replay.path is not None:
        named += [replay.path] if isinstance(replay.path, str) else replay.path
    schemas = [data.json_schema, *(source.json_schema for source in data.sources)]
    read_by = [data.suppression, stage.model.chat_template, stage.model.from_config, *schemas]
    named += [path for path in read_by if path and Path(path).is_file()]
    found = []
    for file in (file for path in [*data.paths, *filter(None, named)] for file in files_of(path)):
        with open(file, "rb") as handle:
            found.append(hashlib.file_digest(handle, "sha256").hexdigest())
    return found


def measure_stages(run: Run, *, show: Show) -> None:
    """The forgetting matrix of a run in stages, and its report: the last stage's, with the matrix before it."""
    from attune.evaluate.forgetting import forgetting
    from attune.evaluate.forgetting_view import matrix_tables
    from attune.evaluate.report import write_report

    show.stage("forgetting matrix")
    stages = run.stages
    results: dict[str, Any] = dict(stages[-1].results)
    matrix = forgetting(run, stages, say=show.say)
    results |= {
        "run": run.path.name,
        "base": stages[0].results["base"],
        "stages": [_told(stage) for stage in stages],
        "forgetting": matrix,
        "metrics": {**results["metrics"], **_named(matrix)},
        "recipe": (run.path / "recipe.yaml").read_text(encoding="utf-8"),
        "next": [f"attune chat {run.path}", f"attune show {run.path}"],
    }
    folder = run.path / "evaluation"
    folder.mkdir(exist_ok=True)
    (folder / "statistics.npz").write_bytes((stages[-1].path / "evaluation" / "statistics.npz").read_bytes())
    write_json(folder / "results.json", results)
    write_report(results, run.path)  # type: ignore[arg-type]
    show.results(run, results)
    for table in matrix_tables(matrix):
        show.table(table)


def _told(stage: Run) -> dict[str, Any]:
    """A stage in one line of the report."""
    results = stage.results
    facts = json.loads((stage.path / "data" / "training.json").read_text())
    figure = results["systems"][0]["metrics"].get(results["primary"])
    return {
        "name": stage.path.name,
        "task": results["task"],
        "objective": results["method"]["objective"],
        "adapter": results["method"]["adapter"],
        "steps": facts["steps"],
        "seconds": facts["seconds"],
        "primary": results["primary"],
        "figure": figure,
        "verdict": results["verdict"]["word"],
        "report": f"stages/{stage.path.name}/report.html",
    }


def _named(matrix: dict[str, Any]) -> dict[str, Any]:
    """The matrix's summary under the keys of `run.metrics`."""
    return {
        f"stages/{kind}/{name}": figure
        for kind, summary in matrix["summary"].items()
        for name, figure in summary.items()
        if figure is not None
    }
