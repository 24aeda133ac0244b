"""THE loop: the only file that calls backward."""

from __future__ import annotations

import hashlib
import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from attune.data.batch import Batch, Loader
from attune.errors import DivergedError, Interrupted, MachineError
from attune.evaluate.curves import SMOOTH
from attune.model import machine
from attune.model.parallel import Parallel
from attune.model.policy import Policy
from attune.objectives.base import Objective
from attune.train import checkpoint
from attune.train.optim import Masters, schedule

if TYPE_CHECKING:
    from attune.recipe import Train

__all__ = ["Progress", "fit", "train_step"]


@dataclass
class Progress:
    """Where training is: everything a checkpoint needs beside tensors. All of it is JSON."""

    step: int = 0
    tokens: int = 0
    """Real tokens seen, padding not counted."""
    scored: float = 0.0
    """Tokens (or records) that counted in the loss."""
    seconds: float = 0.0
    """Time spent in steps, evaluations and saving, over all sessions."""
    best: float | None = None
    best_step: int | None = None
    stale: int = 0
    """Evaluations since the best one."""
    within: float | None = None
    """The best figure of an evaluation that stays within `retain.limit`."""
    within_step: int | None = None
    pull: float = 1.0
    """Times the strengths of `retain`: doubled at every evaluation outside the limit."""
    gaps: list[float] = field(default_factory=list)
    """Validation minus training loss of the last evaluations, for `train.early_stopping.max_gap`."""
    owed: bool = False
    """Whether a signal cut off the evaluation of this step: a resumed run makes it first."""
    micro_batch_tokens: int | None = None
    threads: int = 1
    stopped: str = ""
    """Why it ended before its last step: `early`, `gap`, `budget`, or empty."""
    notes: list[str] = field(default_factory=list)


def train_step(
    policy: torch.nn.Module, objective: Objective, batches: list[Batch], masters: Masters, parallel: Parallel
) -> tuple[dict[str, float], int]:
    """Gradients of one step, left in the masters; returns each term's mean and the real tokens seen.

    The counts of the whole step are known before the first forward, so every micro-batch's share is exact.
    """
    masters.zero_grad()
    totals: dict[str, torch.Tensor] = {}
    for batch in batches:
        for key, count in objective.counts(batch).items():
            totals[key] = totals.get(key, torch.zeros((), dtype=torch.float64)) + count.to("cpu", torch.float64)
    totals = parallel.sum(totals)
    sums: dict[str, torch.Tensor] = {}
    figures: dict[str, torch.Tensor] = {}
    tokens = 0
    for number, batch in enumerate(batches):
        batch = batch.to(parallel.device)
        tokens += batch.n_tokens if float(batch.weight.sum()) else 0
        with parallel.no_sync(number + 1 < len(batches)):
            scores = policy(batch, smooth=True) if objective.smoothing else policy(batch)
            terms = objective.terms(scores, batch)
            # an all-zero step (every answer truncated away) contributes nothing instead of NaN
            parts = [term / max(float(totals[key]), 1e-12) for key, term in terms.items()]
            parallel.backward(torch.stack(parts).sum())
        if parallel.world == 1:
            masters.collect()
        for key, term in terms.items():
            sums[key] = sums.get(key, 0) + term.detach().double()
        with torch.no_grad():
            for key, (value, count) in objective.metrics(scores, batch).items():
                figures[f"{key}/sum"] = figures.get(f"{key}/sum", 0) + value.double()
                figures[f"{key}/count"] = figures.get(f"{key}/count", 0) + count.double()
    if parallel.world > 1:
        masters.collect()
    sums = parallel.sum(sums)
    figures = parallel.sum(figures)
    means = {key: float(value) / max(float(totals[key]), 1e-12) for key, value in sums.items()}
    row = {"loss": sum(means.values()), **(means if len(means) > 1 else {}), "scored": float(sum(totals.values()))}
    for key in {name.split("/")[0] for name in figures}:
        row[key] = float(figures[f"{key}/sum"]) / max(float(figures[f"{key}/count"]), 1e-12)
    return row, int(parallel.sum({"tokens": torch.tensor(float(tokens))})["tokens"])


def fit(
    policy: Policy,
    objective: Objective,
    loader: Loader,
    masters: Masters,
    settings: Train,
    *,
    total_steps: int,
    folder: Path,
    fingerprint: str,
    parallel: Parallel,
    seed: int = 0,
    eval_every: int | None = None,
    save_every: int | None = None,
    evaluate: Callable[[], dict[str, float]] | None = None,
    primary: tuple[str, bool] | None = None,
    limit: float | None = None,
    pull: Callable[[Masters, float], dict[str, float]] | None = None,
    strengthen: Callable[[float], None] = lambda strength: None,
    resume: checkpoint.Checkpoint | None = None,
    micro_batch_tokens: int | None = None,
    deadline_seconds: float | None = None,
    log: Callable[[dict[str, Any]], None] = lambda row: None,
    watch: Callable[[Progress, dict[str, Any]], None] = lambda progress, row: None,
) -> Progress:
    """Train to `total_steps`; returns where it ended. Weights are left at the last step: the caller picks the best.

    `evaluate` returns validation figures, `primary` = (key, higher is better) chooses the best of them; `limit` is the
    most that `retain/drop` may be. `pull` adds to a step's gradients, `strengthen` is told the strength before each
    step. Checkpoints go to `folder`. A step depends only on (seed, step, weights, strength), so resuming from any
    checkpoint is bit-identical.
    Raises: DivergedError, Interrupted (after saving), MachineError.
    """
    adapter = policy.adapter
    progress = Progress(micro_batch_tokens=micro_batch_tokens, threads=torch.get_num_threads())
    if resume is not None:
        progress = Progress(**resume.state)
        masters.load_weights(checkpoint.load(resume, "weights"))
        masters.load_moments(checkpoint.load(resume, "optimizer"))
        if (resume.path / "adapter.safetensors").exists():
            remembered = checkpoint.load(resume, "adapter")
            adapter.load_state({name: value.to(parallel.device) for name, value in remembered.items()})
        torch.set_num_threads(progress.threads)
        if progress.stopped == "budget" and (deadline_seconds is None or progress.seconds < deadline_seconds):
            progress.stopped = ""
    wrapped = parallel.wrap(policy)
    policy.train()

    def save() -> None:
        if parallel.main:
            tensors = {"weights": masters.weights(), "optimizer": masters.moments()}
            if remembered := adapter.state():
                tensors["adapter"] = remembered
            progress.seconds = before + time.monotonic() - started
            checkpoint.save(folder, progress.step, tensors=tensors, state=asdict(progress), fingerprint=fingerprint)
            kept = [step for step in (progress.best_step, progress.within_step) if step is not None]
            checkpoint.prune(folder, keep=settings.keep_checkpoints, best=kept, newest=progress.step)
        parallel.barrier()

    def examine() -> dict[str, float]:
        assert evaluate is not None
        policy.eval()
        with torch.no_grad():
            figures = evaluate()
        policy.train()
        if not math.isfinite(figures.get("validation/loss", 0.0)):
            _diverged("the validation loss", progress.step - 1, loader, folder, settings)
        _judge(progress, figures, primary, settings, limit)
        return figures

    started, before = time.monotonic(), progress.seconds
    with _signals() as caught:
        if progress.owed and evaluate is not None:
            progress.owed = False
            row = {"step": progress.step, **examine()}
            if parallel.main:
                log(row)
            watch(progress, row)
        while progress.step < total_steps and not progress.stopped:
            step = progress.step
            clock = time.monotonic()
            masters.thaw(step / total_steps)
            policy.noise_key = (seed, step)
            strengthen(progress.pull)
            row, tokens = _step_with_memory(wrapped, objective, loader, masters, parallel, progress, seed)
            adapter.before_update(masters.leaves)
            if pull is not None:
                row |= pull(masters, progress.pull)
            norm = float(masters.clip(settings.max_grad_norm))
            if not (math.isfinite(norm) and math.isfinite(row["loss"])):
                what = "the loss" if not math.isfinite(row["loss"]) else "a gradient"
                _diverged(what, step, loader, folder, settings)
            rate = (settings.learning_rate or 0.0) * schedule(step, total_steps, settings)
            masters.step(rate)
            if adapter.after_update(masters.leaves, step, total_steps):
                masters.publish()
            progress.step += 1
            progress.tokens += tokens
            progress.scored += row["scored"]
            row |= {
                "step": progress.step,
                "epoch": round(loader.epoch_of(progress.step), 4),
                "learning_rate": rate,
                "grad_norm": norm,
                "tokens_per_second": tokens / max(time.monotonic() - clock, 1e-9),
                "memory_gib": round(machine.peak_memory_gib(), 3),
            }
            last = progress.step == total_steps
            out_of_time = deadline_seconds is not None and before + time.monotonic() - started > deadline_seconds
            if parallel.any(out_of_time):
                progress.stopped = "budget"
            stop = parallel.any(bool(caught))
            due = eval_every is not None and (progress.step % eval_every == 0 or last)
            saving = (
                stop or last or bool(progress.stopped) or (save_every is not None and progress.step % save_every == 0)
            )
            if evaluate is not None and due:
                progress.owed = stop  # a signal leaves no time for it
                if not stop:
                    row |= examine()
                saving = True
            if parallel.main:
                log(row)
            watch(progress, row)
            if saving:
                save()
            if stop:
                name = signal.Signals(caught[0]).name
                raise Interrupted(
                    f"stopped by {name} after step {progress.step}; a checkpoint is saved", signum=caught[0]
                )
    progress.seconds = before + time.monotonic() - started
    return progress


def _judge(
    progress: Progress, row: dict[str, Any], primary: tuple[str, bool] | None, settings: Train, limit: float | None
) -> None:
    """Note whether this evaluation is the best so far, also of those within the limit, and stop early when it has not
    been for long or the training rows are being learned by heart."""
    inside = limit is None or row.get("retain/drop", 0.0) <= limit
    if not inside:
        progress.pull = min(2 * progress.pull, 2.0**20)
    stopping = settings.early_stopping
    if "train_sample/loss" in row and "validation/loss" in row:
        gap = row["validation/loss"] - row["train_sample/loss"]
        progress.gaps = [*progress.gaps, *([gap] if math.isfinite(gap) else [])][-SMOOTH:]
        row["gap"] = sum(progress.gaps) / max(1, len(progress.gaps))
        if stopping is not None and stopping.max_gap is not None and row["gap"] > stopping.max_gap:
            progress.stopped = "gap"
    if primary is None or primary[0] not in row:
        return
    value, higher = row[primary[0]], primary[1]
    if inside and math.isfinite(value) and limit is not None:
        if progress.within is None or (value > progress.within if higher else value < progress.within):
            progress.within, progress.within_step = value, progress.step
    better = progress.best is None or (value > progress.best if higher else value < progress.best)
    better = better and math.isfinite(value)  # a correlation of constant predictions is no number: never the best
    if better:
        progress.best, progress.best_step, progress.stale = value, progress.step, 0
    else:
        progress.stale += 1
        if stopping is not None and progress.stale >= stopping.patience:
            progress.stopped = progress.stopped or "early"


def _step_with_memory(
    policy: torch.nn.Module,
    objective: Objective,
    loader: Loader,
    masters: Masters,
    parallel: Parallel,
    progress: Progress,
    seed: int,
) -> tuple[dict[str, float], int]:
    """`train_step`, cut finer when memory runs out. The same step goes on: counts and order do not change."""
    while True:
        # Dropout is drawn anew from (seed, step), so that a resumed or repeated step draws the same.
        torch.manual_seed(int.from_bytes(hashlib.sha256(f"{seed}/{progress.step}".encode()).digest()[:7], "big"))
        batches = loader.batches(progress.step, progress.micro_batch_tokens)
        failure: str | None = None
        try:
            return train_step(policy, objective, batches, masters, parallel)
        except (RuntimeError, MemoryError) as error:
            # Ranks may not disagree about the micro-batch, so only a single rank can go on by itself.
            if not machine.is_out_of_memory(error) or parallel.world > 1:
                raise
            failure = str(error).split("\n")[0]
        # Outside the except clause: the traceback no longer holds the step's tensors.
        masters.zero_grad()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        largest = max(batch.n_tokens for batch in batches)
        if len(batches) >= len(loader.examples_of(progress.step)):
            raise MachineError(
                f"out of memory at step {progress.step + 1} with a single example of {largest} tokens in the forward",
                why=failure,
                fix="lower data.max_length, set train.gradient_checkpointing=true, or use adapter.type=lora",
            )
        # Halved below the limit too: where one long example is what fails, the largest forward never shrinks.
        progress.micro_batch_tokens = max(1, min(progress.micro_batch_tokens or largest, largest) // 2)
        progress.notes.append(
            f"step {progress.step + 1}: out of memory, forward halved to {progress.micro_batch_tokens} tokens"
        )


def _diverged(what: str, step: int, loader: Loader, folder: Path, settings: Train) -> None:
    good = checkpoint.steps(folder)
    examples = ", ".join(str(number) for number in loader.examples_of(step)[:8])
    raise DivergedError(
        f"{what} is not a finite number at step {step + 1}",
        why=f"training examples of this step (by index): {examples}",
        fix=(f"the last good checkpoint is step {good[-1]}; " if good else "")
        + f"lower train.learning_rate (now {settings.learning_rate or 0:g}), or model.dtype=float32",
    )


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect SIGTERM and Ctrl-C instead of dying; the second one acts at once."""
    caught: list[int] = []
    previous: dict[int, Any] = {}

    def note(signum: int, frame: Any) -> None:
        if caught:
            signal.signal(signum, previous[signum] or signal.SIG_DFL)
            signal.raise_signal(signum)
        caught.append(signum)

    for signum in (signal.SIGTERM, signal.SIGINT):
        try:
            previous[signum] = signal.signal(signum, note)
        except ValueError:  # not in the main thread: the owner of the process handles signals
            break
    try:
        yield caught
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
