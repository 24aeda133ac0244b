"""From what a rehearsal measured to what the whole run will take: seconds, GiB, error bars, and what fits a budget."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attune import errors
from attune.errors import AttuneError, MachineError

if TYPE_CHECKING:
    from attune.recipe import Recipe

__all__ = ["Figure", "measured", "predict", "within_time", "fit_budget", "by_system", "REPORT_SECONDS"]

REPORT_SECONDS = 2.0
"""Writing the report, its charts included (docs/plan.md)."""
CACHES = (".splits", ".prepared", ".cache")
LEAST_ROWS = 24
"""Written answers are measured on no fewer rows than this, whatever the budget."""
EVALUATION_SHARE = 0.4
"""Of a budget that is too short for everything, what evaluation may take before baselines are left out."""


@dataclass(frozen=True)
class Figure:
    """A prediction and where the truth is expected, about nine times in ten."""

    value: float
    low: float
    high: float

    @classmethod
    def within(cls, value: float, share: float) -> Figure:
        return cls(value, value * (1 - share), value * (1 + share))

    def to_dict(self) -> dict[str, float]:
        return {key: round(number, 3) for key, number in vars(self).items()}


def measured(
    recipe: Recipe, *, out: Path, seconds: float = 6.0, limit: float = 60.0, evaluate: bool = True
) -> dict[str, Any]:
    """What a rehearsal of the recipe in a child process found (`rehearse.rehearse`).

    A child of its own, so that its peak memory is the run's and not this process's. `seconds` is what each part may
    measure for; after `limit` in all, only what must be known is measured. `out` is the folder of runs whose caches it
    shares, so that what it prepared is found by the run.
    Raises: AttuneError of the child's kind; MachineError where it was killed, most likely for its memory.
    """
    out.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".plan-", dir=out))
    try:
        for name in CACHES:
            (out / name).mkdir(exist_ok=True)
            (scratch / name).symlink_to((out / name).resolve(), target_is_directory=True)
        order = {
            "recipe": str(scratch / "recipe.yaml"),
            "folder": str(scratch / "rehearsal"),
            "result": str(scratch / "result.json"),
            "failure": str(scratch / "failure.json"),
            "seconds": seconds,
            "limit": limit,
            "evaluate": evaluate,
            "began": time.time(),
        }
        (scratch / "recipe.yaml").write_text(recipe.dump(), encoding="utf-8")
        (scratch / "order.json").write_text(json.dumps(order), encoding="utf-8")
        command = [sys.executable, "-m", "attune.plan.rehearse", str(scratch / "order.json")]
        began = time.monotonic()
        with open(scratch / "log.txt", "w+", encoding="utf-8") as log:
            child = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | {"WORLD_SIZE": "1"})
            try:
                code = child.wait()
            finally:  # Ctrl-C or SIGTERM: never leave it working alone
                child.kill()
                child.wait()
            log.seek(0)
            said = log.read()
        found = scratch / "result.json"
        facts: dict[str, Any] = json.loads(found.read_text()) if found.exists() else {"stage": "start"}
        if code:
            raise _failure(code, scratch / "failure.json", facts, said)
        return facts | {"rehearsal_seconds": time.monotonic() - began}
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _failure(code: int, file: Path, facts: dict[str, Any], said: str) -> AttuneError:
    if file.exists():
        told = json.loads(file.read_text())
        return getattr(errors, told.pop("kind"))(told.pop("what"), **told)
    if code in (-9, 137):
        return MachineError(
            f"the rehearsal was killed in its stage '{facts['stage']}'",
            why="most likely it asked for more memory than the machine has",
            fix="lower train.micro_batch_tokens or data.max_length, use adapter: lora, or choose a smaller base",
        )
    last = next((line for line in reversed(said.splitlines()) if line.strip()), "")
    return MachineError(
        f"the rehearsal failed in its stage '{facts['stage']}' (exit {code})",
        why=last[:300],
        fix="run `attune train` on the recipe to see all of it; with --debug for the traceback",
    )


def predict(facts: dict[str, Any], recipe: Recipe, *, steps: int | None = None) -> dict[str, Any]:
    """The whole run from what was measured: `steps` in place of the recipe's own number.

    Returns seconds of every part, totals with error bars, memory, what each system's and each suite's answers cost, and
    what is not in it (`missing`).
    """
    from attune.train.measure import schedule_of

    training = facts["training"]
    steps = steps or training["steps"]
    each = training["step"]["seconds"]
    once = training["validation_seconds"]
    evaluations, saves = schedule_of(recipe.train, training["steps_per_epoch"], steps, validates=once is not None)
    choice = choice_seconds(facts, recipe)
    if once is not None and recipe.retain.limit is not None and not training["validation_measured"]:
        once += choice["point"]  # what is retained is asked at every evaluation too
    parts = {
        "prepare": facts["prepare_seconds"],
        "set up": facts["set_up_seconds"] + training["head_seconds"],
        "steps": each * steps,
        "validation": evaluations * (once or 0.0),
        "checkpoints": saves * training["checkpoint_seconds"],
        "choice": choice["whole"],
        "save": facts["save_seconds"],
    }
    train = Figure.within(
        parts["steps"] + parts["validation"] + parts["checkpoints"],
        0.1 + 2 * training["step"]["spread"] / max(each, 1e-9),
    )
    answers = facts.get("answers") or {}
    systems, suites = systems_asked(answers, recipe), answers.get("suites") or []
    evaluated = Figure(0.0, 0.0, 0.0)
    if answers:
        asking = [*systems, *suites]
        fixed = sum(row.get("figures", 0.0) for row in systems) + REPORT_SECONDS
        fixed += answers["base_seconds"] + (1 + answers["loads"]) * answers["load_seconds"]
        whole = sum(row["seconds"] for row in asking) + fixed
        doubt = sum(row["seconds"] * (0.1 + 0.3 * (1 - row["measured"])) for row in asking) + 0.3 * fixed
        evaluated = Figure(whole, max(0.0, whole - doubt), whole + doubt)
    rest = parts["prepare"] + parts["set up"] + parts["choice"] + parts["save"]
    memory = Figure.within(facts["memory_gib"], 0.12)
    return {
        "steps": steps,
        "evaluations": evaluations,
        "checkpoints": saves,
        "seconds_per_step": each,
        "tokens_per_second": training["step"]["tokens"] / max(each, 1e-9),
        "busy": training["step"]["busy"],
        "processor_seconds": steps * training["processor"]["step"]
        + evaluations * training["processor"]["validation"]
        + saves * training["processor"]["checkpoint"],
        "train_seconds": train.to_dict(),
        "evaluate_seconds": evaluated.to_dict(),
        "total_seconds": Figure(
            rest + train.value + evaluated.value,
            0.85 * rest + train.low + evaluated.low,
            1.2 * rest + train.high + evaluated.high,
        ).to_dict(),
        "memory_gib": memory.to_dict(),
        "whole_memory_gib": round(max(facts["whole_memory_gib"], memory.value), 3),
        "parts": {name: round(value, 2) for name, value in parts.items()},
        "systems": {name: round(seconds, 2) for name, seconds in by_system(systems).items()},
        "suites": {row["suite"]: round(row["seconds"], 2) for row in suites},
        "missing": missing(recipe),
    }


def missing(recipe: Recipe) -> list[str]:
    """What a prediction leaves out, in words."""
    found = []
    if getattr(recipe.objective.options, "mode", None) == "on_policy":
        found.append("what the student writes while it trains (objective.mode on_policy)")
    return found


def choice_seconds(facts: dict[str, Any], recipe: Recipe) -> dict[str, float]:
    """What choosing the weights after training takes (`retain`): one point between the base and the tuned model, and
    all of them. With a limit, the points of two checkpoints are usual: the best, and the best or last within it."""
    from attune.train.interpolate import GRID
    from attune.train.retention import SWEEP_TOKENS

    retain, training = recipe.retain, facts["training"]
    if not retain.chooses:
        return {"point": 0.0, "whole": 0.0}
    shares, checkpoints = len(GRID) if retain.interpolates else 1, 1 + (retain.limit is not None)
    points = shares * checkpoints - (checkpoints - 1) * (shares > 1)  # the base is measured once
    point = facts.get("choice_seconds")
    if point is None:  # no limit: a part of a validation pass
        tokens = max(1, training.get("validation_tokens") or 1)
        point = (training["validation_seconds"] or 0.0) * min(1.0, SWEEP_TOKENS / tokens)
    return {"point": point, "whole": points * point}


def systems_asked(answers: dict[str, Any], recipe: Recipe) -> list[dict[str, Any]]:
    """What was measured of each system that the recipe asks for, by task, at its number of written answers."""
    wanted = recipe.evaluate.baselines
    found = []
    for row in answers.get("systems") or []:
        if row["system"] in ("tuned", "base") or wanted == "auto" or row["system"] in wanted:
            share = min(1.0, recipe.evaluate.generate_rows / max(1, row["rows"])) if row["writes"] else 1.0
            found.append({**row, "seconds": row["seconds"] * share})
    return found


def by_system(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Seconds of each system over all tasks."""
    found: dict[str, float] = {}
    for row in rows:
        found[row["system"]] = found.get(row["system"], 0.0) + row["seconds"]
    return found


def within_time(facts: dict[str, Any], recipe: Recipe) -> tuple[Recipe, dict[str, Any]]:
    """The recipe with the steps that its own `train.budget` leaves it, frozen, and its prediction."""
    from attune.train.measure import most_steps

    allowed = recipe.train.budget_seconds
    if allowed is None or recipe.train.max_steps is not None:
        return recipe, predict(facts, recipe)
    steps = most_steps(
        facts["training"]["steps"], allowed, lambda n: predict(facts, recipe, steps=n)["train_seconds"]["value"]
    )
    return recipe.replace({"train.max_steps": steps}), predict(facts, recipe, steps=steps)


def fit_budget(facts: dict[str, Any], recipe: Recipe, seconds: float) -> tuple[Recipe, list[str], dict[str, Any]]:
    """The recipe made to end within `seconds` from now: steps, and where need be fewer baselines and written answers.

    Returns it with what was given up and why, and its prediction.
    Raises: MachineError where not even one step and the least evaluation fit.
    """
    from attune.plan.answers import ESSENTIAL
    from attune.train.measure import most_steps

    def whole(changed: Recipe, steps: int) -> float:
        found = predict(facts, changed, steps=steps)
        return found["total_seconds"]["value"]

    wanted = facts["training"]["steps"]
    notes: list[str] = []
    answers = facts.get("answers") or {}
    if skipped := answers.get("skipped"):
        kept = [name for name in by_system(systems_asked(answers, recipe)) if name not in ("tuned", "base", *skipped)]
        recipe = recipe.replace({"evaluate.baselines": kept})
        notes.append(f"left out, since the budget leaves no time to measure what they cost: {', '.join(skipped)}")
    available = 0.95 * seconds
    if whole(recipe, wanted) > available:
        allowed = EVALUATION_SHARE * available
        rows = max((row["rows"] for row in answers.get("systems") or [] if row["writes"]), default=0)
        if rows and predict(facts, recipe)["evaluate_seconds"]["value"] > allowed:
            cost = predict(facts, recipe)["evaluate_seconds"]["value"]
            fewer = max(LEAST_ROWS, int(rows * allowed / cost))
            if fewer < rows:
                recipe = recipe.replace({"evaluate.generate_rows": fewer})
                notes.append(f"written answers are measured on {fewer} of {rows} rows, to stay within the budget")
        while True:
            systems = by_system(systems_asked(answers, recipe))
            cost = predict(facts, recipe)["evaluate_seconds"]["value"]
            optional = {name: seconds for name, seconds in systems.items() if name not in ESSENTIAL}
            if cost <= allowed or not optional:
                break
            dearest = max(optional, key=lambda name: optional[name])
            kept = [name for name in systems if name not in (dearest, "tuned", "base")]
            recipe = recipe.replace({"evaluate.baselines": kept})
            notes.append(f"baseline {dearest} left out: about {optional[dearest]:.0f} s do not fit the budget")
    steps = most_steps(wanted, available, lambda n: whole(recipe, n))
    found = predict(facts, recipe, steps=steps)
    if found["total_seconds"]["value"] > 1.5 * max(available, 1.0):
        raise MachineError(
            f"nothing useful fits into {seconds:.0f} s on this machine"
            if seconds > 0
            else f"the rehearsal took {-seconds:.0f} s more than the whole budget",
            why=f"one step with the least evaluation takes about {found['total_seconds']['value']:.0f} s here "
            f"(preparing {found['parts']['prepare']:.0f} s, evaluating {found['evaluate_seconds']['value']:.0f} s)",
            fix="a larger --budget, fewer test rows, or a smaller base",
        )
    if steps < wanted:
        per_epoch = facts["training"]["steps_per_epoch"]
        notes.append(
            f"{steps} of {wanted} steps ({steps / per_epoch:.2f} of {wanted / per_epoch:.2f} epochs): "
            f"{found['seconds_per_step']:.2f} s a step, measured"
        )
    return recipe, notes, found
