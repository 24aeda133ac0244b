"""A run that knows what it will take: rehearsed before it starts, held to its budget, and scored when it ends."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from attune.durable import write_json, write_text
from attune.recipe.base import budget_seconds
from attune.runs import Run

if TYPE_CHECKING:
    from attune.recipe import Recipe
    from attune.show import Show

__all__ = ["Session", "plan_run", "score", "FILE"]

FILE = "plan.json"
"""In the run's folder: what was measured and predicted before the first step."""
REHEARSAL_SHARE = 0.02
"""Of a budget, what each part of a rehearsal may measure for; there are about five."""
LONGEST = 6.0
"""Seconds that each part of a rehearsal measures for where the budget does not say less."""


class Session:
    """When this session began, when its work did, and when all must be over."""

    def __init__(self, budget: str | None = None):
        self.began = self.planned = time.monotonic()
        self.budget = budget_seconds(budget)

    @property
    def left(self) -> float | None:
        return None if self.budget is None else self.budget - (time.monotonic() - self.began)

    def guard(self, run: Run) -> Callable[[str], str | None]:
        """Asked before each baseline: why there is no time left for it, or None."""
        from attune.plan.answers import ESSENTIAL
        from attune.plan.estimate import REPORT_SECONDS

        if self.budget is None or not (run.path / FILE).exists():
            return lambda name: None
        found = json.loads((run.path / FILE).read_text())["estimate"]
        costs, suites = found["systems"], sum(found["suites"].values())

        def too_dear(name: str) -> str | None:
            cost = costs.get(name, 0.0)
            kept = sum(costs.get(other, 0.0) for other in ESSENTIAL if other not in (name, "tuned", "base"))
            left = self.left or 0.0
            if name in ESSENTIAL or cost + kept + suites + REPORT_SECONDS <= left:
                return None
            return f"about {cost:.0f} s, and {max(0.0, left):.0f} s of the budget are left"

        return too_dear


def plan_run(run: Run, recipe: Recipe, session: Session, *, show: Show) -> Recipe:
    """Rehearse a run that has not started; returns its recipe with the steps and baselines that fit, frozen.

    Raises: MachineError where it does not fit this machine or the budget.
    """
    from attune.plan.estimate import fit_budget, measured, within_time

    if (run.path / FILE).exists() or (run.model_dir / "manifest.json").exists() or any(run.path.glob("checkpoints/*")):
        session.planned = time.monotonic()
        return recipe
    show.say("rehearsing a few steps and answers to predict what the run will take")
    limit = min(LONGEST, REHEARSAL_SHARE * session.budget) if session.budget else LONGEST
    whole = max(10.0, 0.15 * session.budget) if session.budget else 10 * LONGEST
    facts = measured(recipe, out=run.path.parent, seconds=limit, limit=whole)
    notes: list[str] = []
    if session.budget is not None:
        recipe, notes, found = fit_budget(facts, recipe, session.left or 0.0)
        # what evaluation does not need, a slower machine than a minute ago may still have for training
        rest = found["total_seconds"]["value"] - found["train_seconds"]["value"]
        hard = max(1.05 * found["train_seconds"]["value"], 0.95 * (session.left or 0.0) - rest)
        recipe = recipe.replace({"train.budget": f"{max(1, round(hard))}s", "train.max_steps": found["steps"]})
    else:
        recipe, found = within_time(facts, recipe)
    notes += [f"not in the prediction: {what}" for what in found["missing"]]
    for note in notes:
        show.say(note)
    show.say(sentence(found))
    write_json(run.path / FILE, {"estimate": found, "notes": notes, "measured": facts})
    write_text(run.path / "recipe.yaml", recipe.dump())
    session.planned = time.monotonic()
    return recipe


def sentence(found: dict[str, Any]) -> str:
    """The prediction in a line."""
    total, train, evaluate = (found[f"{name}_seconds"] for name in ("total", "train", "evaluate"))
    memory = found["memory_gib"]
    return (
        f"predicted: {duration(total['value'])} ({duration(total['low'])} to {duration(total['high'])}): "
        f"training {duration(train['value'])} ({found['steps']} steps of {found['seconds_per_step']:.2f} s), "
        f"evaluation {duration(evaluate['value'])}; memory {memory['value']:.2f} GiB "
        f"({memory['low']:.2f} to {memory['high']:.2f})"
    )


def duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    if seconds < 5400:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"


def score(run: Run, results: dict[str, Any], session: Session | None) -> list[dict[str, Any]] | None:
    """Predicted against actual, for the report; None where nothing was predicted.

    Where training stopped early, the prediction is cut to the steps made.
    """
    from attune.model.machine import peak_memory_gib

    facts = json.loads((run.path / "data" / "training.json").read_text())
    if not facts["steps"]:
        return None
    if not (run.path / FILE).exists():
        measured = facts.get("measured") or {}
        if "seconds" not in measured:
            return None
        planned = measured["seconds"] * facts["steps"] / max(1, facts["planned_steps"])
        return [_row("training time", {"value": planned}, facts["seconds"], duration)]
    kept = json.loads((run.path / FILE).read_text())
    found = kept["estimate"]
    made = facts["steps"] / max(1, found["steps"])
    train = {key: value * made for key, value in found["train_seconds"].items()}
    actual = {
        "steps": facts["steps"],
        "train_seconds": facts["seconds"],
        "processor_seconds": facts.get("processor_seconds"),
        "evaluate_seconds": results["seconds"],
        "memory_gib": facts["peak_memory_gib"],
        # measured again later, this process did not train
        "whole_memory_gib": round(max(facts["peak_memory_gib"], peak_memory_gib()), 3),
    }
    early = f", for the {facts['steps']} steps made" if made < 1 else ""
    rows = [
        _row(f"training time{early}", train, facts["seconds"], duration),
        _row("evaluation time", found["evaluate_seconds"], results["seconds"], duration),
        _row("peak memory in training", found["memory_gib"], facts["peak_memory_gib"], _gib),
    ]
    if session is not None and facts["seconds"] <= facts["session_seconds"] + 1:  # all of it in this session
        cut = found["train_seconds"]["value"] - train["value"]
        total = {key: value - cut for key, value in found["total_seconds"].items()}
        actual["total_seconds"] = time.monotonic() - session.planned
        rows.append(_row("everything after the plan", total, actual["total_seconds"], duration))
        if session.budget is not None:
            used = time.monotonic() - session.began
            rows.append(
                {
                    "what": "budget",
                    "planned": duration(session.budget),
                    "actual": f"{duration(used)}, the plan included",
                }
            )
    whole = {"value": found["whole_memory_gib"]}
    rows.append(_row("peak memory, evaluation included", whole, actual["whole_memory_gib"], _gib))
    write_json(run.path / FILE, {**kept, "actual": actual})
    return rows


def _gib(value: float) -> str:
    return f"{value:.2f} GiB"


def _row(what: str, planned: dict[str, float], actual: float, shown: Callable[[float], str]) -> dict[str, Any]:
    bars = f" ({shown(planned['low'])} to {shown(planned['high'])})" if "low" in planned else ""
    error = planned["value"] / actual - 1 if actual else 0.0
    return {"what": what, "planned": f"{shown(planned['value'])}{bars}", "actual": f"{shown(actual)} ({error:+.0%})"}
