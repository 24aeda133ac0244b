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
from attune.errors import UsageError
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
    with tempfile.TemporaryDirectory(prefix="attune-") as scratch:
        run = Run.create(Path(scratch) / "lr-range", recipe.dump())
        usual, rates, losses = _swept(recipe, run, steps=steps, low=low, high=high, show=show)
    tested = read_off(rates, losses, usual)
    if out is not None:
        folder = Path(out)
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "lr-range.html", _page(recipe, tested))
    return tested


def _swept(
    recipe: Recipe, run: Run, *, steps: int, low: float | None, high: float | None, show: Show
) -> tuple[float, list[float], list[float]]:
    """(usual rate, rates, losses): the loss of each step's examples before the step is made."""
    import torch

    from attune.data.batch import Loader
    from attune.flow_data import prepare_run
    from attune.model import machine
    from attune.model.build import build, trained_share
    from attune.model.load import load_tokenizer, torch_dtype
    from attune.model.parallel import Parallel
    from attune.train.head_start import start_head
    from attune.train.loop import train_step
    from attune.train.optim import Masters
    from attune.train.stage import DEFAULT_MICRO_BATCH
    from attune.train.teacher import live

    show.stage("prepare")
    tokenizer = load_tokenizer(recipe.model)
    prepared, objective, recipe = prepare_run(recipe, tokenizer, run=run, show=show)
    parallel = Parallel()
    machine.prepare(recipe.train.threads)
    policy = build(recipe, objective, tokenizer)
    settings = recipe.train
    usual = settings.learning_rate or policy.adapter.usual_rate(trained_share(policy)[1])
    low, high = low or usual / REACH, high or usual * REACH
    policy.to(parallel.device)
    loader = Loader(
        prepared.stores["train"],
        seed=recipe.seed,
        batch_size=settings.batch_size,
        batch_tokens=settings.batch_tokens,
        layout=policy.settle(layout=settings.layout),
        pad_id=tokenizer.pad_token_id or 0,
        scored=objective.scored,
        mix=prepared.mix,
    )
    loader = live(recipe, loader, policy, prepared, tokenizer, parallel.world)
    forward = settings.micro_batch_tokens or DEFAULT_MICRO_BATCH[parallel.device.type]
    if objective.head != "lm" and getattr(objective.options, "head_init", "random") == "probe":
        show.say(start_head(policy, objective, loader, batch_tokens=forward))
    masters = Masters(policy, settings, dtype=torch_dtype(recipe.model))
    policy.train()
    torch.manual_seed(recipe.seed)
    show.stage("range test")
    rates: list[float] = []
    losses: list[float] = []
    for step in range(steps):
        rate = low * (high / low) ** (step / (steps - 1))
        row, _ = train_step(policy, objective, loader.batches(step, forward), masters, parallel)
        norm = float(masters.clip(settings.max_grad_norm))
        if not (math.isfinite(row["loss"]) and math.isfinite(norm)):
            break
        rates.append(rate)
        losses.append(row["loss"])
        if step % max(1, steps // 10) == 0:
            show.say(f"step {step + 1}/{steps}: rate {rate:.2g}, loss {row['loss']:.4f}")
        if len(losses) > 10 and _smooth(losses)[-1] > 4 * min(_smooth(losses)):
            break
        masters.step(rate)
    return usual, rates, losses


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
