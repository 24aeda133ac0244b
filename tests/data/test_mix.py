"""Several sources in one training: their shares, and that a step depends on nothing but (seed, step)."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from attune.data.batch import Loader, collate
from attune.data.examples import Example, ExampleStore
from attune.data.mix import Joined, Mix, allotted
from attune.errors import RecipeError

SIZES = (400, 90, 10)


@pytest.fixture(scope="module")
def tiny() -> Any:
    spec = importlib.util.spec_from_file_location("tiny_run", Path(__file__).parents[1] / "train" / "tiny_run.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    torch.set_num_threads(1)
    return module


def store(n: int, seed: int = 0) -> ExampleStore:
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(n):
        length = int(rng.integers(4, 30))
        weight = np.ones(length, dtype=np.float32)
        weight[0] = 0
        rows.append(Example(rng.integers(4, 60, length).astype(np.int32), weight, record=number))
    return ExampleStore.of(rows, vocab_size=64)


def mixed(counts: list[int], *, separate: bool = False, seed: int = 0, **size: int) -> tuple[Loader, np.ndarray]:
    """A loader over sources of SIZES, and the source of each example."""
    joined = Joined([store(n, seed=n) for n in SIZES])
    mix = Mix(joined.parts, counts, separate=separate)
    return Loader(joined, seed=seed, mix=mix, **(size or {"batch_size": 20})), np.repeat(range(3), SIZES)


def test_counts_follow_weight_and_temperature() -> None:
    assert allotted(SIZES, [1, 1, 1]) == list(SIZES), "proportional takes every example once"
    assert allotted(SIZES, [1, 1, 1], None) == [167, 167, 166], "no bound on the temperature: equal shares"
    assert allotted(SIZES, [2, 1, 1], None) == [250, 125, 125], "there the weights are the shares"
    assert allotted(SIZES, [1, 2, 1]) == [339, 153, 8]  # 400 : 180 : 10 of 500
    root = np.sqrt(SIZES) / np.sqrt(SIZES).sum() * 500
    assert np.abs(np.array(allotted(SIZES, [1, 1, 1], 2.0)) - root).max() < 1
    assert allotted(SIZES, [1, 0, 1])[1] == 0
    assert allotted((1_000_000, 1), [1, 1])[1] == 1, "a small source is not rounded away"
    with pytest.raises(RecipeError):
        allotted(SIZES, [0, 0, 0])


@pytest.mark.parametrize("counts", [[400, 90, 10], [200, 200, 100], [167, 167, 166]])
def test_every_step_holds_its_shares(counts: list[int]) -> None:
    loader, source = mixed(counts)
    for step in range(3 * loader.steps_per_epoch):
        chosen = loader.examples_of(step)
        found = np.bincount(source[chosen], minlength=3)
        assert len(chosen) == 20
        assert np.abs(found - 20 * np.array(counts) / sum(counts)).max() <= 2, (step, found)


def test_passes_of_a_source_end_before_the_next_begins() -> None:
    """Every example of a source is seen n or n + 1 times, wherever one stops; epochs go on where the last one ended."""
    loader, source = mixed([150, 100, 50])
    seen = np.zeros(sum(SIZES), dtype=int)
    for step in range(5 * loader.steps_per_epoch):
        for example in loader.examples_of(step):
            seen[example] += 1
    for number in range(3):
        times = seen[source == number]
        assert times.max() - times.min() <= 1 and times.sum() == 5 * [150, 100, 50][number]


@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("size", [{"batch_size": 16}, {"batch_tokens": 200}])
def test_a_step_depends_on_seed_and_number_alone(separate: bool, size: dict[str, int]) -> None:
    first, _ = mixed([100, 60, 40], separate=separate, **size)
    steps = [first.examples_of(step).tolist() for step in range(40)]
    for step in (39, 0, 17, 38):
        again, _ = mixed([100, 60, 40], separate=separate, **size)
        assert again.examples_of(step).tolist() == steps[step]
    other, _ = mixed([100, 60, 40], separate=separate, seed=1, **size)
    assert other.examples_of(0).tolist() != steps[0]


def test_separate_steps_are_of_one_source_and_spread_out() -> None:
    loader, source = mixed([200, 200, 100], separate=True)
    kinds = []
    for step in range(loader.steps_per_epoch):
        found = set(source[loader.examples_of(step)].tolist())
        assert len(found) == 1
        kinds.append(found.pop())
    assert [kinds.count(number) for number in range(3)] == [10, 10, 5]
    half = kinds[: len(kinds) // 2]
    assert all(abs(half.count(number) - kinds.count(number) / 2) <= 1 for number in range(3))


def test_joined_stores_keep_their_examples() -> None:
    parts = [store(7, seed=1), store(5, seed=2)]
    joined = Joined(parts)
    assert len(joined) == 12 and [len(part) for part in joined.parts] == [7, 5]
    for number in range(12):
        inner = parts[number >= 7][number - 7 * (number >= 7)]
        assert joined[number].ids.tolist() == inner.ids.tolist() and joined.lengths[number] == len(inner)
    assert Joined(parts[::-1]).content_hash != joined.content_hash
    labelled = ExampleStore.of([Example(np.arange(3), np.ones(3, np.float32), 1)], vocab_size=9)
    with pytest.raises(RecipeError, match="class and token"):
        Joined([*parts, labelled])


def test_gradient_of_a_mix_is_the_sum_over_its_sources(tiny: Any) -> None:
    """The gradient of a mixed step = that of each source's own examples, weighted by its share of the scored tokens."""
    from attune.model.parallel import Parallel
    from attune.recipe import Train
    from attune.train.loop import train_step
    from attune.train.optim import Masters

    loader, source = mixed([200, 200, 100])
    chosen = loader.examples_of(3)
    policy = tiny.model()
    policy.double()

    def gradient(indices: np.ndarray) -> tuple[torch.Tensor, float]:
        masters = Masters(policy, Train(), dtype=torch.float64)
        batch = collate([loader.store[int(number)] for number in indices], layout="padded")
        row, _ = train_step(policy, tiny.objective(), [batch], masters, Parallel())
        return torch.cat([parameter.grad.flatten() for parameter in policy.parameters()]), row["scored"]

    whole, scored = gradient(chosen)
    total = torch.zeros_like(whole)
    for number in range(3):
        part, weight = gradient(chosen[source[chosen] == number])
        total += part * weight / scored
    assert float((whole - total).abs().max() / whole.abs().max()) < 1e-6  # the rotary table is in float32
    assert float((whole - gradient(chosen[source[chosen] == 0])[0]).abs().max()) > 1e-4


@pytest.mark.parametrize("separate", [False, True])
def test_resume_across_a_mix_is_bit_identical(tiny: Any, tmp_path: Path, separate: bool) -> None:
    from attune.train import checkpoint

    mix = Mix([np.arange(18), np.arange(18, 24)], [12, 12], separate=separate)
    _, whole = tiny.train(tmp_path / "whole", steps=9, dropout=0.1, mix=mix)
    for at in (1, 5, 7):
        resume = checkpoint.verify(tmp_path / "whole" / f"step-{at:06d}")
        _, again = tiny.train(tmp_path / f"from-{at}", steps=9, dropout=0.1, mix=mix, resume=resume)
        assert tiny.digest(again) == tiny.digest(whole)
    _, plain = tiny.train(tmp_path / "plain", steps=9, dropout=0.1)
    assert tiny.digest(plain) != tiny.digest(whole)
