"""How long training takes on this machine: real forwards, backwards and updates that leave the weights as they are."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from attune.data.batch import Batch, Loader, collate, micro_batches
from attune.train.loop import train_step

if TYPE_CHECKING:
    from attune.model.parallel import Parallel
    from attune.model.policy import Policy
    from attune.objectives.base import Objective
    from attune.recipe import Train
    from attune.train.optim import Masters

__all__ = [
    "Work",
    "Rate",
    "StepTime",
    "step_works",
    "measure_steps",
    "measure_forwards",
    "eval_interval",
    "schedule_of",
    "most_steps",
]

SCANNED = 2000
"""Steps whose lengths are looked at; of longer trainings every n-th."""
LEAST = 3
"""Forwards measured at least, however slow they are."""
MOST = 24
FITTED = 6
"""Measurements from which on a fixed part and the cost of attention are told from the cost of a token."""


class Work(NamedTuple):
    """What one forward has to compute."""

    tokens: float
    """Positions, padding included."""
    pairs: float
    """Pairs of positions that attention compares: the sum of squared lengths."""


def work_of(lengths: np.ndarray, *, padded: bool) -> Work:
    lengths = np.asarray(lengths, dtype=float)
    if padded:
        width = float(lengths.max())
        return Work(len(lengths) * width, len(lengths) * width**2)
    return Work(float(lengths.sum()), float((lengths**2).sum()))


@dataclass(frozen=True)
class Rate:
    """Seconds of a forward as fixed + per_token x tokens + per_pair x pairs."""

    fixed: float
    per_token: float
    per_pair: float
    spread: float
    """Mean relative error of the fit on what was measured."""

    def seconds(self, works: Iterable[Work]) -> float:
        return sum(self.fixed + self.per_token * work.tokens + self.per_pair * work.pairs for work in works)

    @classmethod
    def fitted(cls, works: Sequence[Work], seconds: Sequence[float]) -> Rate:
        """Non-negative least squares on relative errors, so that short forwards count as much as long ones. A few
        measurements only tell the cost of a token.
        """
        if len(works) < FITTED:
            per_token = sum(seconds) / sum(work.tokens for work in works)
            errors = [abs(per_token * work.tokens / one - 1) for work, one in zip(works, seconds)]
            return cls(0.0, per_token, 0.0, float(np.mean(errors)))
        from scipy.optimize import nnls

        table = np.array([[1.0, work.tokens, work.pairs] for work in works])
        times = np.array(seconds)
        scale = np.maximum(table.max(0), 1e-12)  # columns of one size, or the solver stops at its tolerance
        found = nnls(table / scale / times[:, None], np.ones(len(times)))[0] / scale
        spread = float(np.abs(table @ found / times - 1).mean())
        fixed, per_token, per_pair = map(float, found)
        return cls(fixed, per_token, per_pair, spread)


@dataclass(frozen=True)
class StepTime:
    """What a training step costs here."""

    seconds: float
    """Mean of a step of this training: its forwards, backwards and update."""
    spread: float
    """How uncertain that is, in seconds: standard error of what was measured."""
    busy: float
    """Processor time over clock time: about the number of threads, and well below it on a crowded machine."""
    tokens: float
    """Tokens computed a step, padding included."""
    rate: Rate
    update: float
    measured: int
    """Forwards that were timed."""


def step_works(loader: Loader, forward: int, total_steps: int) -> list[tuple[int, list[Work]]]:
    """(step, its forwards) of a training, from the lengths alone; every n-th step of a long one."""
    padded = loader.layout == "padded"
    found = []
    for step in range(0, total_steps, max(1, -(-total_steps // SCANNED))):
        lengths = loader.store.lengths[loader.examples_of(step)]
        found.append(
            (step, [work_of(lengths[group], padded=padded) for group in micro_batches(lengths, forward, padded=padded)])
        )
    return found


def measure_steps(
    policy: Policy,
    objective: Objective,
    loader: Loader,
    masters: Masters,
    parallel: Parallel,
    forward: int,
    *,
    total_steps: int,
    seconds: float = 6.0,
) -> StepTime:
    """Time forwards, backwards and updates of this very training, the largest forward first.

    The updates have a learning rate of zero and AdamW's averages are dropped afterwards: the weights stay bit for bit
    what they were, and the memory that a step needs has been asked for.
    """
    works = step_works(loader, forward, total_steps)
    wrapped = parallel.wrap(policy)
    policy.train()
    largest = max(works, key=lambda item: max(work.tokens + work.pairs / 512 for work in item[1]))[0]
    chosen = [largest, largest, *(works[at][0] for at in _spread(len(works), MOST))]
    seen: list[Work] = []
    times: list[float] = []
    updates: list[float] = []
    clock = processor = 0.0
    # On a CPU processor time is fitted, which other programs disturb little, and turned into clock time by what
    # measuring itself met; a GPU works while the processor waits.
    now = time.perf_counter if policy_device(policy).type == "cuda" else time.process_time
    until = time.monotonic() + seconds
    for number, step in enumerate(chosen):
        batches = loader.batches(step, forward)
        batch = batches[0 if number < 2 else number % len(batches)]
        wall, cpu, before = time.perf_counter(), time.process_time(), now()
        train_step(wrapped, objective, [batch], masters, parallel)
        _wait()
        between = now()
        masters.clip(1.0)
        masters.step(0.0)
        _wait()
        if number:  # the first one warms up
            seen.append(_work(batch))
            times.append(between - before)
            updates.append(now() - between)
            clock += time.perf_counter() - wall
            processor += time.process_time() - cpu
        if parallel.any(time.monotonic() > until) and len(times) >= LEAST:
            break
    masters.zero_grad()
    masters.optimizer.state.clear()
    stretch = clock / max(sum(times) + sum(updates), 1e-9)
    rate = Rate.fitted(seen, [one * stretch for one in times])
    update = float(np.median(updates)) * stretch
    means = np.array([rate.seconds(forwards) for _, forwards in works])
    mean = float(means.mean()) + update
    return StepTime(
        seconds=mean,
        spread=mean * max(0.02, rate.spread / len(times) ** 0.5),
        busy=processor / max(clock, 1e-9),
        tokens=float(np.mean([sum(work.tokens for work in forwards) for _, forwards in works])),
        rate=rate,
        update=update,
        measured=len(times),
    )


@torch.no_grad()
def measure_forwards(
    policy: Policy,
    objective: Objective,
    stores: Sequence[Any],
    forward: int,
    *,
    layout: str,
    pad_id: int,
    seconds: float = 3.0,
) -> float:
    """Seconds of one pass over all stores in evaluation mode, from some forwards of the first."""
    padded = layout == "padded"
    store = stores[0]
    groups = micro_batches(store.lengths, forward, padded=padded)
    device = policy_device(policy)
    was_training = policy.training
    policy.eval()
    seen, clock = [], []
    until = time.monotonic() + seconds
    for number, at in enumerate([0, *_spread(len(groups), MOST)]):
        rows = [store[int(index)] for index in groups[at]]
        batch = collate(rows, layout=layout, pad_id=pad_id, scored=objective.scored).to(device)
        before = time.perf_counter()
        objective.terms(policy(batch), batch)
        _wait()
        if number:
            seen.append(work_of(store.lengths[groups[at]], padded=padded))
            clock.append(time.perf_counter() - before)
        if time.monotonic() > until and len(clock) >= 1:
            break
    policy.train(was_training)
    works = (
        work_of(one.lengths[group], padded=padded)
        for one in stores
        for group in micro_batches(one.lengths, forward, padded=padded)
    )
    return Rate.fitted(seen, clock).seconds(works)


def eval_interval(settings: Train, steps_per_epoch: int, steps: int) -> int:
    """Steps between evaluations: what the recipe says, else about four in a short training and two an epoch."""
    return settings.eval_every or max(1, min(steps_per_epoch // 2 or 1, max(1, steps // 4)))


def schedule_of(settings: Train, steps_per_epoch: int, steps: int, *, validates: bool) -> tuple[int, int]:
    """(evaluations, checkpoints) of a training of so many steps."""
    every = eval_interval(settings, steps_per_epoch, steps)
    evaluations = {*range(every, steps + 1, every), steps} if validates else set()
    saves = {*range(settings.save_every, steps + 1, settings.save_every)} if settings.save_every else set()
    return len(evaluations), len(evaluations | saves | {steps})


def most_steps(wanted: int, allowed: float, cost: Callable[[int], float]) -> int:
    """The most steps, at least one and at most `wanted`, whose `cost` stays within `allowed` seconds."""
    low, high = 1, max(1, wanted)
    while low < high:
        middle = (low + high + 1) // 2
        if cost(middle) <= allowed:
            low = middle
        else:
            high = middle - 1
    return low


def policy_device(policy: Policy) -> torch.device:
    return next(policy.parameters()).device


def _work(batch: Batch) -> Work:
    if batch.segments is None:
        rows, width = batch.input_ids.shape
        return Work(rows * width, rows * width**2)
    lengths = np.diff(batch.segments.bounds).astype(float)
    return Work(float(lengths.sum()), float((lengths**2).sum()))


def _spread(total: int, wanted: int) -> list[int]:
    """Up to `wanted` numbers below `total`, evenly spaced, in an order that covers the range early."""
    found = np.unique(np.linspace(0, total - 1, num=min(total, wanted)).round().astype(int)).tolist()
    return [found[at] for at in np.random.default_rng(0).permutation(len(found))]


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
