"""Weights between the base and the tuned model, and which of them is kept."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from attune.data.batch import collate
from attune.train.interpolate import GRID, Point, between, choose, sweep
from attune.train.pull import low_rank_pairs


def trained(policy: Any) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in policy.named_parameters() if value.requires_grad}


def put(policy: Any, weights: dict[str, torch.Tensor]) -> None:
    with torch.no_grad():
        for name, value in policy.named_parameters():
            if name in weights:
                value.copy_(weights[name])


def scores(policy: Any, tiny: Any) -> torch.Tensor:
    store = tiny.store(4)
    with torch.no_grad():
        return policy(collate([store[number] for number in range(4)], layout="padded")).logp


@pytest.mark.parametrize("adapter", ["full", "lora"])
def test_the_ends_are_exactly_base_and_tuned(tiny: Any, adapter: str) -> None:
    policy = tiny.model(adapter=adapter).eval()
    start, base = trained(policy), scores(policy, tiny)
    generator = torch.Generator().manual_seed(1)
    tuned = {name: value + 0.1 * torch.randn(value.shape, generator=generator) for name, value in start.items()}
    put(policy, tuned)
    end, pairs = scores(policy, tiny), low_rank_pairs(policy)
    assert not torch.equal(base, end)
    for share, wanted in ((0.0, base), (1.0, end)):
        put(policy, between(start, tuned, share, pairs))
        assert torch.equal(scores(policy, tiny), wanted)


def test_a_low_rank_update_goes_straight_in_the_merged_weights(tiny: Any) -> None:
    policy = tiny.model(adapter="lora").eval()
    start, pairs = trained(policy), low_rank_pairs(policy)
    generator = torch.Generator().manual_seed(1)
    tuned = {name: value + 0.1 * torch.randn(value.shape, generator=generator) for name, value in start.items()}
    half = between(start, tuned, 0.5, pairs)
    for pair in pairs:
        torch.testing.assert_close(half[pair.b] @ half[pair.a], 0.5 * (tuned[pair.b] @ tuned[pair.a]))


def test_full_weights_go_straight() -> None:
    found = between({"w": torch.tensor([0.0, 2.0])}, {"w": torch.tensor([1.0, 0.0])}, 0.25)
    torch.testing.assert_close(found["w"], torch.tensor([0.25, 1.5]))


def test_every_share_of_every_step_is_tried_and_the_base_once() -> None:
    start = {"w": torch.zeros(1)}
    seen: list[float] = []

    def measure(weights: Any) -> tuple[float, float]:
        seen.append(float(weights["w"]))
        return seen[-1], 2 * seen[-1]

    points = sweep({10: {"w": torch.ones(1)}, 20: {"w": torch.full((1,), 2.0)}}, start, [], measure)
    assert len(points) == 2 * len(GRID) - 1 == len(seen) and seen.count(0.0) == 1
    assert points[0] == Point(10, 1.0, 1.0, 2.0) and points[-1].step == 20


POINTS = [
    Point(10, 1.0, 0.80, 2.0),
    Point(10, 0.5, 0.75, 0.9),
    Point(20, 1.0, 0.90, 5.0),
    Point(20, 0.3, 0.78, 1.0),
    Point(20, 0.0, 0.50, 0.0),
]


def test_the_best_within_the_limit_is_chosen() -> None:
    kept, why = choose(POINTS, limit=1.0, higher=True)
    assert (kept.step, kept.share) == (20, 0.3)  # exactly the limit is within it
    assert "step 20 with 0.3 of its change" in why and "3 of 5 within 1 points" in why
    kept, _ = choose(POINTS, limit=10.0, higher=True)
    assert (kept.step, kept.share) == (20, 1.0)
    kept, _ = choose(POINTS, limit=None, higher=True)
    assert (kept.step, kept.share) == (20, 1.0)
    kept, why = choose(POINTS, limit=0.5, higher=True)
    assert kept.share == 0.0 and "nothing that was learned fits" in why
    kept, why = choose([Point(1, 0.5, 0.4, 0.1), Point(1, 0.0, 0.5, 0.0)], limit=1.0, higher=True)
    assert kept.share == 0.0 and "training made validation worse" in why


def test_where_lower_is_better_and_at_a_tie_the_one_that_forgot_least() -> None:
    points = [Point(1, 1.0, 0.3, 0.9), Point(1, 0.9, 0.2, 0.8), Point(2, 0.8, 0.2, 0.4)]
    assert choose(points, limit=1.0, higher=False)[0] == points[2]


def test_nothing_within_the_limit_is_said() -> None:
    kept, why = choose([Point(1, 1.0, 0.9, 3.0), Point(2, 1.0, 0.95, 4.0)], limit=1.0, higher=True)
    assert kept.step == 1 and "nothing that was tried stays within 1 points" in why


def test_without_validation_the_furthest_within_the_limit() -> None:
    points = [Point(5, share, None, 3 * share) for share in (1.0, 0.5, 0.3, 0.0)]
    assert choose(points, limit=1.0, higher=True)[0].share == 0.3
