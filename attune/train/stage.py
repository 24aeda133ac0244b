"""The training stage: a recipe and prepared data in, checkpoints and a saved model out."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from attune.data.batch import Loader
from attune.data.some import train_sample
from attune.errors import RecipeError
from attune.evaluate.measure import quick_figures, watched
from attune.evaluate.predict import score_store
from attune.model import machine
from attune.model.build import build, trained_share
from attune.model.earlier import kept_head
from attune.model.load import torch_dtype
from attune.model.parallel import Parallel
from attune.train import checkpoint, loop
from attune.train.head_start import start_head
from attune.train.loop import Progress
from attune.train.measure import eval_interval, measure_forwards, measure_steps, most_steps, schedule_of
from attune.train.optim import Masters
from attune.train.retention import Retention
from attune.train.teacher import live
from attune.train.trackers import track

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from attune.data.prepared import Prepared
    from attune.objectives.base import Objective
    from attune.recipe import Recipe
    from attune.runs import Run

__all__ = ["Trained", "train_stage"]

DEFAULT_MICRO_BATCH = {"cpu": 4096, "cuda": 16384}
"""Tokens of one forward where the recipe names none; halved by itself when memory runs out."""
SAVED_BYTES_PER_SECOND = 200e6
"""What a checkpoint is reckoned at where none was written yet, hashing and syncing included."""


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
    fit: Callable[..., Progress] = loop.fit,
) -> Trained:
    """Train, or go on from the newest whole checkpoint. `fit` is the loop; a rehearsal puts a measuring one there.

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
        say(start_head(policy, objective, loader, batch_tokens=forward, dtype=torch_dtype(recipe.model)))
    masters = Masters(policy, settings, dtype=torch_dtype(recipe.model))
    start = retention.start(masters, fresh=resume is None)
    retention.begin(say)
    pull = retention.pull(start)
    steps = settings.max_steps or max(1, round(settings.epochs * loader.steps_per_epoch))
    per_epoch = loader.steps_per_epoch
    measured: dict[str, Any] = {}
    if settings.budget_seconds and resume is None and settings.max_steps is None:
        held = prepared.stores.get("validation")
        time_of = measure_steps(policy, objective, loader, masters, parallel, forward, total_steps=steps)
        once = 0.0
        if held is not None:
            both = [held, train_sample(prepared.stores["train"], held)]
            once = measure_forwards(policy, objective, both, forward, layout=layout, pad_id=pad_id)
        saved = 12 * trained / SAVED_BYTES_PER_SECOND
        # every rank must come to the same number of steps
        means = parallel.sum({"step": torch.tensor(time_of.seconds), "validation": torch.tensor(once)})
        each, once = (float(means[key]) / parallel.world for key in ("step", "validation"))

        def cost(n: int) -> float:
            evaluations, saves = schedule_of(settings, per_epoch, n, validates=held is not None)
            return each * n + once * evaluations + saved * saves

        affordable = most_steps(steps, settings.budget_seconds, cost)
        measured = {"seconds_per_step": each, "spread": time_of.spread, "seconds": cost(affordable)}
        say(
            f"measured {each:.2f} s a step, {once:.1f} s a validation pass: of {steps} steps "
            f"({settings.epochs:g} epochs) {affordable} fit into {settings.budget}"
        )
        steps = affordable
    if settings.max_steps is None:
        recipe = recipe.replace({"train.max_steps": steps})
    freeze(recipe)
    settings = recipe.train
    primary, higher = watched(recipe, prepared.task, objective.head)
    eval_every = eval_interval(settings, per_epoch, steps)
    evaluate = None
    if "validation" in prepared.stores:
        forwards: dict[str, Any] = {"layout": layout, "pad_id": pad_id, "batch_tokens": forward}
        sample = train_sample(prepared.stores["train"], prepared.stores["validation"])

        def evaluate() -> dict[str, float]:
            figures = quick_figures(policy, objective, prepared, "validation", **forwards)
            seen, _ = score_store(policy, objective, sample, **forwards)
            return {**figures, "train_sample/loss": sum(seen.values()), **retention.figures()}

    if resume is not None:
        say(f"resuming from step {resume.step}")
        run.rewind(resume.step)
    run.set_status("running", pid_step=resume.step if resume else 0)
    started, processor = time.monotonic(), time.process_time()
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
        "processor_seconds": round(time.process_time() - processor, 1),
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
