"""The learning-rate range test: the rate rises from step to step, and the loss tells where learning lies.

Source: Smith 2017 (arXiv:1506.01186), section 3.3.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attune import page
from attune.durable import write_text
from attune.errors import RecipeError, UsageError
from attune.recipe import Recipe
from attune.runs import Run
from attune.search import plots
from attune.show import Show

__all__ = ["RangeTest", "lr_range", "read_off"]

REACH = 300.0
"""The rates run from the usual one divided by this to the usual one times this."""
DIVERGED = 1.5
"""The test ends where the smoothed loss is this many times its lowest: what follows is divergence."""


@dataclass
class RangeTest:
    """What a range test saw. The weights it trained are thrown away."""

    rates: list[float]
    losses: list[float]
    smoothed: list[float]
    steepest: float
    """Where the smoothed loss falls fastest for a relative change of the rate."""
    diverges: float | None
    """The rate at which the loss rose past its lowest by half; None if it never did."""
    suggestion: float
    """The steepest point, and at most a tenth of the rate that diverges."""
    usual: float
    """What the recipe would use: its own rate, or the usual one of the adapter."""
    sentence: str


def lr_range(
    source: str | Path | Mapping[str, Any] | Recipe,
    overrides: Iterable[str] | Mapping[str, Any] = (),
    *,
    steps: int = 100,
    low: float | None = None,
    high: float | None = None,
    out: str | Path | None = None,
    show: Show | None = None,
) -> RangeTest:
    """Train with an exponentially rising rate and read off a good one; `out` is a folder for `lr-range.html`.

    `low` and `high` are the ends of the rates; else 300 times below and above the usual rate. Trains on training rows
    only, and keeps no weights.
    Raises: UsageError for ends that are no range; AttuneError of the data and the recipe.
    """
    if steps < 20 or (low is not None and low <= 0) or (low and high and low >= high):
        raise UsageError("a range test needs 20 steps or more, and 0 < low < high")
    show = show or Show()
    recipe = source if isinstance(source, Recipe) else Recipe.load(source, overrides)
    if recipe.stages:
        raise RecipeError(
            "a recipe with stages has no one learning rate",
            where=recipe.where("stages"),
            why="each stage trains by itself, from the model before it",
            fix="sweep one stage as a recipe of its own",
        )
    with tempfile.TemporaryDirectory(prefix="attune-") as scratch:
        run = Run.create(Path(scratch) / "lr-range", recipe.dump())
        usual, rates, losses = _swept(recipe, run, steps=steps, low=low, high=high, show=show)
    tested = read_off(rates, losses, usual)
    if out is not None:
        folder = Path(out)
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "lr-range.html", _page(recipe, tested))
    return tested


class _Over(Exception):
    """The sweep came to its end: no weights are kept, so nothing of training that follows is wanted."""


class Sweep:
    """In place of the training loop: one step at each rate, each from the weights that the step before left."""

    def __init__(self, steps: int, low: float | None, high: float | None, show: Show):
        self.steps, self.low, self.high, self.show = steps, low, high, show
        self.usual = 0.0
        self.rates: list[float] = []
        self.losses: list[float] = []

    def fit(self, policy: Any, objective: Any, loader: Any, masters: Any, settings: Any, **how: Any) -> Any:
        import torch

        from attune.train.loop import train_step

        self.usual = settings.learning_rate
        low, high = self.low or self.usual / REACH, self.high or self.usual * REACH
        self.show.stage("range test")
        policy.train()
        torch.manual_seed(how["seed"])
        for step in range(self.steps):
            rate = low * (high / low) ** (step / (self.steps - 1))
            masters.thaw(step / self.steps)
            policy.noise_key = (how["seed"], step)
            how["strengthen"](1.0)
            batches = loader.batches(step, how["micro_batch_tokens"])
            row, _ = train_step(policy, objective, batches, masters, how["parallel"])
            policy.adapter.before_update(masters.leaves)
            if how["pull"] is not None:
                how["pull"](masters, 1.0)
            norm = float(masters.clip(settings.max_grad_norm))
            if not (math.isfinite(row["loss"]) and math.isfinite(norm)):
                break
            self.rates.append(rate)
            self.losses.append(row["loss"])
            if step % max(1, self.steps // 10) == 0:
                self.show.say(f"step {step + 1}/{self.steps}: rate {rate:.2g}, loss {row['loss']:.4f}")
            if len(self.losses) > 10 and _smooth(self.losses)[-1] > 4 * min(_smooth(self.losses)):
                break
            masters.step(rate)
            if policy.adapter.after_update(masters.leaves, step, self.steps):
                masters.publish()
        raise _Over


def _swept(
    recipe: Recipe, run: Run, *, steps: int, low: float | None, high: float | None, show: Show
) -> tuple[float, list[float], list[float]]:
    """(usual rate, rates, losses): the loss of each step's examples before the step is made."""
    from attune.flow_data import prepare_run
    from attune.model.load import load_tokenizer
    from attune.train.stage import train_stage
    from attune.train.teacher import taught

    show.stage("prepare")
    tokenizer = load_tokenizer(recipe.model)
    # how long, and which weights are kept, is nothing of a sweep's; what pulls the weights back is
    plain = {"train.max_steps": steps, "train.budget": None, "retain.limit": None, "retain.interpolate": False}
    recipe = recipe.replace({**plain, "track": []})
    prepared, objective, recipe = prepare_run(recipe, tokenizer, run=run, show=show)
    prepared = taught(recipe, prepared, objective, tokenizer, cache=run.path.parent / ".cache", say=show.say)
    sweep = Sweep(steps, low, high, show)
    try:
        train_stage(
            recipe,
            run,
            prepared,
            objective,
            tokenizer,
            parallel=None,
            freeze=lambda frozen: None,
            fingerprint=lambda frozen: "range test",
            say=show.say,
            fit=sweep.fit,
        )
    except _Over:
        pass
    return sweep.usual, sweep.rates, sweep.losses


def _smooth(losses: list[float], memory: float = 0.85) -> list[float]:
    """Exponential mean, corrected for its start."""
    found, mean = [], 0.0
    for number, loss in enumerate(losses, 1):
        mean = memory * mean + (1 - memory) * loss
        found.append(mean / (1 - memory**number))
    return found


def read_off(rates: list[float], losses: list[float], usual: float) -> RangeTest:
    """The suggestion of a sweep.

    Raises: UsageError if the loss was no number from the start.
    """
    if len(losses) < 10:
        raise UsageError("the loss was no finite number within ten steps", fix="begin lower, or model.dtype=float32")
    smoothed = _smooth(losses)
    lowest = min(range(len(smoothed)), key=smoothed.__getitem__)
    limit = next((n for n in range(lowest, len(smoothed)) if smoothed[n] > DIVERGED * smoothed[lowest]), None)
    diverges = None if limit is None else rates[limit]
    # the mean lags: slopes over a stretch, read between the start-up and the lowest point
    reach = max(2, len(smoothed) // 20)
    slopes = {
        n: (smoothed[n + reach] - smoothed[n - reach]) / math.log(rates[n + reach] / rates[n - reach])
        for n in range(max(reach, 5), min(lowest, len(smoothed) - reach - 1) + 1)
        if n + reach < len(smoothed)
    }
    steepest = rates[min(slopes, key=lambda n: slopes[n])] if slopes else rates[lowest]
    suggestion = float(f"{min(steepest, diverges / 10 if diverges else math.inf):.2g}")
    sentence = (
        f"Suggested learning rate {suggestion:g}: the loss falls fastest at {steepest:.2g}"
        + (f" and diverges at {diverges:.2g}" if diverges else " and never diverged")
        + f". The recipe uses {usual:g}. Try it: train.learning_rate={suggestion:g}"
    )
    return RangeTest(rates, losses, smoothed, steepest, diverges, suggestion, usual, sentence)


def _page(recipe: Recipe, tested: RangeTest) -> str:
    chart = plots.sweep(
        tested.rates, tested.losses, tested.smoothed, suggestion=tested.suggestion, limit=tested.diverges
    )
    facts = [
        ("suggested", f"{tested.suggestion:g}"),
        ("falls fastest at", f"{tested.steepest:.2g}"),
        ("diverges at", f"{tested.diverges:.2g}" if tested.diverges else "nowhere in the range"),
        ("the recipe's own", f"{tested.usual:g}"),
        ("steps", str(len(tested.rates))),
    ]
    shown = {"name": recipe.run_name, "sentence": tested.sentence, "facts": facts, "chart": page.safe(chart)}
    return page.render(Path(__file__).with_name("lr_range.html.jinja"), shown)
