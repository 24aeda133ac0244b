"""L2-SP and elastic weight consolidation: gradients by autograd, importances by hand, and training with them on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from attune.data.batch import Loader, collate
from attune.model.parallel import Parallel
from attune.recipe import Train
from attune.train import checkpoint
from attune.train.fisher import cached_fisher, fisher
from attune.train.loop import train_step
from attune.train.optim import Masters
from attune.train.pull import Pull, low_rank_pairs


def moved(tiny: Any, adapter: str) -> tuple[Any, Masters, dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """A policy away from its start, its masters, the start, and random importances."""
    policy = tiny.model(adapter=adapter).double()
    masters = Masters(policy, Train(), dtype=torch.float64)
    start = {name: value.detach().clone() for name, value in masters.weights().items()}
    generator = torch.Generator().manual_seed(5)
    for value in masters.weights().values():
        value.add_(torch.randn(value.shape, generator=generator, dtype=value.dtype) * 0.1)
    importance = {
        name: torch.rand(value.shape, generator=generator, dtype=torch.float64) + 0.1
        for name, value in policy.named_parameters()
        if ".lora_" not in name
    }
    return policy, masters, start, importance


@pytest.mark.parametrize("terms", [{"l2_sp": 0.3}, {"ewc": 0.7}, {"l2_sp": 0.3, "ewc": 0.7}])
def test_the_gradient_of_full_tuning_is_autograds(tiny: Any, terms: dict[str, float]) -> None:
    _, masters, start, importance = moved(tiny, "full")
    named = {name: value.detach().clone().requires_grad_() for name, value in masters.weights().items()}
    loss = sum(
        0.5 * ((terms.get("l2_sp", 0) + terms.get("ewc", 0) * importance[name]) * (value - start[name]) ** 2).sum()
        for name, value in named.items()
    )
    wanted = dict(zip(named, torch.autograd.grad(loss, list(named.values()))))
    told = Pull(start, importance=importance, **terms).add(masters)
    assert sum(told.values()) == pytest.approx(float(loss.detach())) and told.keys() == terms.keys()
    for name, gradient in masters.gradients().items():
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("terms", [{"l2_sp": 0.3}, {"ewc": 0.7}])
def test_under_lora_the_merged_weights_are_pulled(tiny: Any, terms: dict[str, float]) -> None:
    policy, masters, start, importance = moved(tiny, "lora")
    pairs = low_rank_pairs(policy)
    assert len(pairs) == 14 and all(pair.scale == 2 for pair in pairs)
    assert {name for pair in pairs for name in (pair.a, pair.b)} == set(start)
    named = {name: value.detach().clone().requires_grad_() for name, value in masters.weights().items()}
    loss = torch.zeros((), dtype=torch.float64)
    for pair in pairs:
        change = pair.scale * (named[pair.b] @ named[pair.a])  # B starts at nothing
        factor = terms.get("l2_sp", 0) + terms.get("ewc", 0) * importance[pair.layer]
        loss = loss + 0.5 * (factor * change**2).sum()
    wanted = dict(zip(named, torch.autograd.grad(loss, list(named.values()))))
    told = Pull(start, importance=importance, pairs=pairs, **terms).add(masters)
    assert sum(told.values()) == pytest.approx(float(loss.detach()))
    for name, gradient in masters.gradients().items():
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-9, atol=1e-13)


def test_a_new_head_is_not_pulled_and_strength_scales(tiny: Any) -> None:
    _, masters, start, _ = moved(tiny, "full")
    head = next(name for name in start if "lm_head" in name or "embed" in name)
    Pull(start, l2_sp=1.0, free=frozenset([head])).add(masters)
    once = {name: value.clone() for name, value in masters.gradients().items()}
    assert not once[head].any() and all(value.any() for name, value in once.items() if name != head)
    masters.zero_grad()
    Pull(start, l2_sp=1.0, free=frozenset([head])).add(masters, strength=4.0)
    for name, value in masters.gradients().items():
        torch.testing.assert_close(value, 4 * once[name])


@pytest.mark.parametrize("adapter", ["full", "lora"])
def test_the_cut_into_micro_batches_changes_nothing(tiny: Any, adapter: str) -> None:
    policy, masters, start, importance = moved(tiny, adapter)
    pull = Pull(start, l2_sp=0.1, ewc=0.1, importance=importance, pairs=low_rank_pairs(policy))
    loader = Loader(tiny.store(), seed=0, batch_size=8, layout="padded")
    found = []
    for limit in (None, 40, 20):
        train_step(policy, tiny.objective(), loader.batches(0, limit), masters, Parallel())
        pull.add(masters)
        found.append({name: value.clone() for name, value in masters.gradients().items()})
    for other in found[1:]:
        for name, value in found[0].items():
            torch.testing.assert_close(value, other[name], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("adapter", ["full", "lora"])
def test_resume_is_bit_identical_with_the_pull_on(tiny: Any, tmp_path: Path, adapter: str) -> None:
    def train(folder: Path, **more: Any) -> Any:
        policy = tiny.model(adapter=adapter, dropout=0.1)
        start = {name: value.detach().clone() for name, value in policy.named_parameters() if value.requires_grad}
        importance = {name: torch.ones_like(value) for name, value in policy.named_parameters()}
        pull = Pull(start, l2_sp=0.5, ewc=0.5, importance=importance, pairs=low_rank_pairs(policy))
        return tiny.train(folder, steps=6, policy=policy, pull=pull.add, **more)

    rows: list[dict[str, Any]] = []
    _, whole = train(tmp_path / "whole", log=rows.append)
    assert rows[0]["l2_sp"] == 0 and rows[-1]["l2_sp"] > 0 and rows[-1]["ewc"] > 0
    for step in (1, 4):
        point = checkpoint.verify(tmp_path / "whole" / f"step-{step:06d}")
        _, again = train(tmp_path / f"from-{step}", resume=point)
        assert all(torch.equal(whole[name], again[name]) for name in whole)
    _, free = tiny.train(tmp_path / "free", steps=6, adapter=adapter, dropout=0.1)
    far = sum(float((free[name] - whole[name]).abs().sum()) for name in free)
    assert far > 0


def test_importances_are_mean_squared_gradients_with_mean_one(tiny: Any, tmp_path: Path) -> None:
    policy = tiny.model()
    store = tiny.store(5)
    batches = [collate([store[number]], layout="padded") for number in range(5)]
    names = [name for name, _ in policy.named_parameters() if "mlp" in name]
    found = fisher(policy, batches, names)
    parameters = dict(policy.named_parameters())
    by_hand = {name: torch.zeros_like(parameters[name]) for name in names}
    for batch in batches:
        policy.zero_grad()
        policy(batch).logp.sum().backward()
        for name in names:
            by_hand[name] += parameters[name].grad ** 2
    mean = sum(float(value.sum()) for value in by_hand.values()) / sum(value.numel() for value in by_hand.values())
    for name in names:
        torch.testing.assert_close(found[name], by_hand[name] / mean, rtol=1e-4, atol=1e-6)
    assert all(parameter.requires_grad for parameter in parameters.values())
    first = cached_fisher(policy, batches, names, base="x", cache=tmp_path)
    (file,) = tmp_path.glob("fisher-*.safetensors")
    before = file.stat().st_mtime_ns
    again = cached_fisher(policy, batches, names, base="x", cache=tmp_path)
    assert file.stat().st_mtime_ns == before and all(torch.equal(first[name], again[name]) for name in names)
    cached_fisher(policy, batches[:2], names, base="x", cache=tmp_path)  # other texts: another file
    cached_fisher(policy, batches, names, base="y", cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 3
