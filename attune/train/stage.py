"""The training stage: a recipe and prepared data in, checkpoints and a saved model out."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from attune.data.batch import Loader
from attune.data.some import Some, spread
from attune.errors import RecipeError
from attune.evaluate.measure import quick_figures, watched
from attune.evaluate.predict import score_store
from attune.model import machine
from attune.model.build import build, trained_share
from attune.model.earlier import kept_head
from attune.model.load import torch_dtype
from attune.model.parallel import Parallel
from attune.train import checkpoint
from attune.train.head_start import start_head
from attune.train.loop import Progress, fit, train_step
from attune.train.optim import Masters
from attune.train.retention import Retention
from attune.train.teacher import live
from attune.train.trackers import track

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from attune.data.prepare import Prepared
    from attune.objectives.base import Objective
    from attune.recipe import Recipe
    from attune.runs import Run

__all__ = ["Trained", "train_stage"]

DEFAULT_MICRO_BATCH = {"cpu": 4096, "cuda": 16384}
"""Tokens of one forward where the recipe names none; halved by itself when memory runs out."""
SAMPLE = 128
"""Training examples whose loss is measured like validation's, to see the gap between the two."""
TRAINING_SHARE = 0.6
"""Part of a time budget that training may take: the rest is for baselines and the final evaluation."""


@dataclass
class Trained:
    """What training came to."""

    progress: Progress
    weights: dict[str, torch.Tensor]
    """The best (or last) trained weights in float32, by parameter name."""
    step: int
    facts: dict[str, Any] = field(default_factory=dict)


def train_stage(
    recipe: Recipe,
    run: Run,
    prepared: Prepared,
    objective: Objective,
    tokenizer: PreTrainedTokenizerBase,
    *,
    parallel: Parallel | None,
    freeze: Callable[[Recipe], None],
    fingerprint: Callable[[Recipe], str],
    watch: Callable[[Progress, int, dict[str, Any]], None] = lambda progress, total, row: None,
    say: Callable[[str], None] = lambda line: None,
) -> Trained:
    """Train, or go on from the newest whole checkpoint.

    What is decided before the first step (learning rate, steps from a time budget, forward size) is written into the
    recipe through `freeze`, so that a resumed run decides nothing again.
    """
    parallel = parallel or Parallel()
    threads = machine.prepare(recipe.train.threads)
    policy = build(recipe, objective, tokenizer)
    trained, total_weights = trained_share(policy)
    settings = recipe.train
    if settings.learning_rate is None:
        rate = policy.adapter.usual_rate(total_weights)
        recipe = recipe.replace({"train.learning_rate": rate})
        settings = recipe.train
    policy.to(parallel.device)
    policy.noise_alpha = settings.neftune_alpha
    wanted = "padded" if recipe.model.attention in ("eager", "sdpa") and settings.layout == "auto" else settings.layout
    layout = policy.settle(layout=wanted)
    if settings.layout == "packed" and layout != "packed":
        raise RecipeError(
            "train.layout=packed is not possible with this base", why="; ".join(policy.notes), fix="train.layout=auto"
        )
    for note in policy.notes:
        say(note)
    pad_id = tokenizer.pad_token_id or 0
    forward = settings.micro_batch_tokens or DEFAULT_MICRO_BATCH[parallel.device.type]
    retention = Retention(recipe, run, policy, objective, tokenizer, layout, say=say)
    trained_on, mix, near = retention.sources(prepared, objective, batch_tokens=forward, say=say)
    loader = Loader(
        trained_on,
        seed=recipe.seed,
        batch_size=settings.batch_size,
        batch_tokens=settings.batch_tokens,
        layout=layout,
        pad_id=pad_id,
        scored=objective.scored,
        rank=parallel.rank,
        world=parallel.world,
        mix=mix,
    )
    resume, damaged = checkpoint.latest(run.path / "checkpoints")
    for line in damaged:
        say(line)
    loader = live(recipe, loader, policy, prepared, tokenizer, parallel.world)
    kept = kept_head(recipe.model.base, objective.head, objective.labels)
    if kept is not None:
        say(f"head: goes on from {kept}, which has the same labels")
    elif resume is None and objective.head != "lm" and getattr(objective.options, "head_init", "random") == "probe":
        say(start_head(policy, objective, loader, batch_tokens=forward))
    masters = Masters(policy, settings, dtype=torch_dtype(recipe.model))
    start = retention.start(masters, fresh=resume is None)
    retention.begin(say)
    pull = retention.pull(start)
    steps = settings.max_steps or max(1, round(settings.epochs * loader.steps_per_epoch))
    measured: dict[str, Any] = {}
    if settings.budget_seconds and resume is None and settings.max_steps is None:
        measured = measure(policy, objective, loader, masters, parallel, forward)
        # every rank must come to the same number of steps
        mean = parallel.sum({"seconds": torch.tensor(measured["seconds_per_step"])})["seconds"] / parallel.world
        measured["seconds_per_step"] = float(mean)
        affordable = int(TRAINING_SHARE * settings.budget_seconds / measured["seconds_per_step"])
        say(
            f"measured {measured['seconds_per_step']:.2f} s a step: {affordable} steps fit into the budget, "
            f"{settings.epochs:g} epochs are {steps}"
        )
        steps = max(1, min(steps, affordable))
    if settings.max_steps is None:
        recipe = recipe.replace({"train.max_steps": steps})
    freeze(recipe)
    settings = recipe.train
    primary, higher = watched(recipe, prepared.task)
    per_epoch = loader.steps_per_epoch
    eval_every = settings.eval_every or max(1, min(per_epoch // 2 or 1, max(1, steps // 4)))
    evaluate = None
    if "validation" in prepared.stores:
        forwards: dict[str, Any] = {"layout": layout, "pad_id": pad_id, "batch_tokens": forward}
        sample = Some(prepared.stores["train"], spread(len(prepared.stores["train"]), SAMPLE))

        def evaluate() -> dict[str, float]:
            figures = quick_figures(policy, objective, prepared, "validation", **forwards)
            seen, _ = score_store(policy, objective, sample, **forwards)
            return {**figures, "train_sample/loss": sum(seen.values()), **retention.figures()}

    if resume is not None:
        say(f"resuming from step {resume.step}")
        run.rewind(resume.step)
    run.set_status("running", pid_step=resume.step if resume else 0)
    started = time.monotonic()
    progress = fit(
        policy,
        near or objective,
        loader,
        masters,
        settings,
        total_steps=steps,
        folder=run.path / "checkpoints",
        fingerprint=fingerprint(recipe),
        parallel=parallel,
        seed=recipe.seed,
        eval_every=eval_every,
        save_every=settings.save_every,
        evaluate=evaluate,
        primary=(f"validation/{primary}", higher),
        limit=recipe.retain.limit,
        pull=pull.add if pull is not None else None,
        strengthen=near.strengthen if near is not None else lambda strength: None,
        resume=resume,
        micro_batch_tokens=forward,
        deadline_seconds=settings.budget_seconds,
        log=track(recipe, run),
        watch=lambda progress, row: watch(progress, steps, row),
    )
    chosen = progress.best_step or progress.step

    def load(step: int) -> dict[str, torch.Tensor]:
        return checkpoint.load(checkpoint.verify(run.path / "checkpoints" / f"step-{step:06d}"), "weights")

    weights = load(chosen)
    choice: dict[str, Any] = {}
    if retention.chooses and parallel.main:
        chosen, weights, choice = retention.settle(
            masters,
            start,
            progress,
            load,
            prepared,
            objective,
            primary,
            higher,
            forwards={"layout": layout, "pad_id": pad_id, "batch_tokens": forward},
            say=say,
        )
    parallel.close()
    facts = {
        "layout": layout,
        "threads": threads,
        "dtype": str(torch_dtype(recipe.model)).removeprefix("torch."),
        "device": str(parallel.device),
        "world": parallel.world,
        "trained_weights": trained,
        "weights": total_weights,
        "steps": progress.step,
        "planned_steps": steps,
        "epochs": round(loader.epoch_of(progress.step), 2),
        "epochs_exact": loader.epoch_of(progress.step),
        "tokens": progress.tokens,
        "seconds": round(progress.seconds, 1),
        "session_seconds": round(time.monotonic() - started, 1),
        "stopped": progress.stopped,
        "best_step": chosen,
        "best": progress.best,
        "primary": primary,
        "peak_memory_gib": round(machine.peak_memory_gib(), 2),
        "measured": measured,
        "notes": [*policy.notes, *progress.notes],
        "learning_rate": settings.learning_rate,
        "retain": {**choice, "strength": progress.pull, "notes": retention.notes},
    }
    return Trained(progress, weights, chosen, facts)


def measure(
    policy: Any, objective: Objective, loader: Loader, masters: Masters, parallel: Parallel, forward: int, n: int = 5
) -> dict[str, Any]:
    """Time of a step, from real steps whose gradients are thrown away. The first warms up and does not count."""
    wrapped = parallel.wrap(policy)
    policy.train()
    times, tokens = [], []
    for step in range(n + 1):
        started = time.monotonic()
        _, seen = train_step(
            wrapped, objective, loader.batches(step % max(1, loader.steps_per_epoch), forward), masters, parallel
        )
        masters.clip(1.0)
        times.append(time.monotonic() - started)
        tokens.append(seen)
    masters.zero_grad()
    mean = sum(times[1:]) / n
    spread = (sum((value - mean) ** 2 for value in times[1:]) / max(1, n - 1)) ** 0.5
    # the optimiser's own update is not in it: a few per cent on small models
    return {
        "seconds_per_step": mean * 1.05,
        "spread": spread,
        "tokens_per_second": sum(tokens[1:]) / max(sum(times[1:]), 1e-9),
        "steps": n,
    }
