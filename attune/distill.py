"""A distillation from end to end: teacher, student, the student on the data's own answers alone, side by side."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attune import flow
from attune.durable import write_json
from attune.errors import RecipeError, UsageError
from attune.recipe import Recipe
from attune.runs import Run
from attune.show import Show

if TYPE_CHECKING:
    from attune.tuned import Tuned

__all__ = ["distill", "side_by_side"]

HARD = {"generation": "sft", "tagging": "tag"}
"""Task -> the objective that learns the data's own answers; `classify` for all other label tasks."""
ASKED, WARM_UP, ANSWER_TOKENS = 50, 3, 48
MORE_ROWS = "evaluate.samples=50, and for written answers evaluate.generate_rows of at least as many"


def distill(
    source: str | Path | Mapping[str, Any] | Recipe,
    overrides: Iterable[str] | Mapping[str, Any] = (),
    *,
    out: str | Path = "runs",
    show: Show | None = None,
) -> tuple[Run, list[dict[str, Any]]]:
    """Train the teacher (where `objective.teacher` is a recipe), the student, and the same student without a teacher.

    Finished runs are not made again. Returns the student's run and the rows of `side_by_side`, which also stand in
    its report. Raises: RecipeError if the recipe is no distillation.
    """
    show = show or Show()
    recipe = source if isinstance(source, Recipe) else Recipe.load(source, overrides)
    if recipe.objective.name != "distill":
        raise RecipeError(
            f"attune distill needs objective: {{name: distill, teacher: ...}}, not {recipe.objective.name}",
            where=recipe.where("objective.name"),
        )
    if recipe.stages:
        raise RecipeError(
            "attune distill trains one student, and this recipe has stages",
            where=recipe.where("stages"),
            fix="attune train runs its stages; or name the last stage alone, with model.base: runs/NAME",
        )
    if recipe.evaluate.samples <= WARM_UP:
        raise RecipeError(
            f"evaluate.samples is {recipe.evaluate.samples}, too few requests to measure speed with",
            where=recipe.where("evaluate.samples"),
            fix=MORE_ROWS,
        )
    options: Any = recipe.objective.options
    teacher = options.teacher
    if teacher.endswith((".yaml", ".yml")):
        show.say(f"the teacher: {teacher}")
        teacher = str(flow.train(teacher, out=out, show=show).path)
        recipe = recipe.replace({"objective.teacher": teacher})
    show.say("the student")
    student = flow.train(recipe, out=out, show=show)
    show.say("the same student on the data's own answers alone")
    task = json.loads((student.model_dir / "manifest.json").read_text())["task"]
    plain = recipe.replace({"objective": {"name": HARD.get(task, "classify")}, "name": f"{student.path.name}-hard"})
    hard = flow.train(plain, out=out, show=show)
    show.stage("compare")
    runs = {"student": student, "same, hard labels": hard}
    if (Path(teacher) / "status.json").exists():
        runs = {"teacher": Run(teacher), **runs}
    rows = side_by_side(runs, of="student")
    results: Any = student.results
    results["distilled"] = rows
    write_json(student.path / "evaluation" / "results.json", results)
    from attune.evaluate.report import write_report

    write_report(results, student.path)
    return student, rows


def side_by_side(runs: Mapping[str, Run], *, of: str) -> list[dict[str, Any]]:
    """Quality with its interval, size and speed of several runs; `versus` is run `of` minus the row, paired.

    Units: ms a request (one text at a time, from text to answer), requests or written tokens a second.
    """
    from attune.evaluate.compare import compare
    from attune.tuned import load

    texts = [sample["prompt"] for sample in runs[of].results["samples"]][: ASKED + WARM_UP]
    if len(texts) <= WARM_UP:
        raise UsageError(
            f"{runs[of].path} kept {len(texts)} test rows to ask, which are spent on warming up", fix=MORE_ROWS
        )
    tuned = {name: load(run) for name, run in runs.items()}
    took: dict[str, list[tuple[float, int]]] = {name: [] for name in runs}
    for text in texts:
        for name, model in tuned.items():  # in turn, so that what else the machine does meets all alike
            took[name].append(_asked(model, text))
    rows = []
    for name, run in runs.items():
        results: Any = run.results
        row: dict[str, Any] = {"system": name, "run": str(run.path), "metric": results["primary"]}
        row["quality"] = results["systems"][0]["metrics"][results["primary"]]
        row["versus"], row["why_not"] = None, None
        if name != of:
            try:
                found = compare(runs[of], run)
                row["versus"] = {key: found[key] for key in ("difference", "low", "high", "p")}
            except UsageError as error:
                row["why_not"] = error.what
        rows.append(row | _size(tuned[name]) | _speed(took[name][WARM_UP:], writes=tuned[name].writes))
    return rows


def _asked(model: Tuned, text: str) -> tuple[float, int]:
    """(seconds, tokens written) of one request."""
    from attune.records import Message

    started = time.perf_counter()
    if not model.writes:
        model.predict([text])
        return time.perf_counter() - started, 0
    ids = model.prompt_ids([Message("user", text)])
    (answer,) = model.engine.generate([ids], max_new_tokens=ANSWER_TOKENS)
    return time.perf_counter() - started, len(answer.ids) + answer.stopped


def _size(model: Tuned) -> dict[str, Any]:
    from attune.model.build import trained_share
    from attune.model.load import resolve

    folders = [model.run.model_dir]
    if model.manifest["kind"] == "adapter":  # of no use without its base
        folders.append(Path(resolve(model.manifest["base"])))
    bytes_ = sum(file.stat().st_size for folder in folders for file in folder.glob("*.safetensors"))
    return {"parameters": trained_share(model.policy)[1], "megabytes": bytes_ / 1e6}


def _speed(took: list[tuple[float, int]], *, writes: bool) -> dict[str, Any]:
    import numpy as np

    seconds = np.array([one for one, _ in took])
    done = sum(tokens for _, tokens in took) if writes else len(took)
    return {
        "ms_median": float(np.median(seconds) * 1e3),
        "ms_p95": float(np.quantile(seconds, 0.95) * 1e3),
        "per_second": done / float(seconds.sum()),
        "unit": "tokens" if writes else "requests",
        "n": len(took),
    }
