"""KL to the base beside an objective: its value, its gradient at the base, and how it is cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from attune.data.batch import Loader, collate
from attune.model.parallel import Parallel
from attune.recipe import Train
from attune.train.enrich import enrich
from attune.train.loop import train_step
from attune.train.near_base import COLUMN, NearBase
from attune.train.optim import Masters


def scored(tiny: Any, cache: Path, k: int = 64) -> tuple[Any, Any]:
    """A base in float64 and a store with its columns."""
    policy = tiny.model().double()
    store = enrich(tiny.store(8), policy, teacher="base", cache=cache, name=COLUMN, k=k, dtype="float64")
    return policy, store


def away(policy: Any) -> None:
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for value in policy.parameters():
            value.add_(torch.randn(value.shape, generator=generator, dtype=value.dtype) * 0.05)


def test_it_is_the_divergence_from_the_base(tiny: Any, tmp_path: Path) -> None:
    policy, store = scored(tiny, tmp_path)
    batch = collate([store[number] for number in range(8)], layout="padded", index=list(range(8)))
    near = NearBase(tiny.objective(), 0.5)
    assert float(near.terms(policy(batch), batch)["kl"].detach()) == pytest.approx(0, abs=1e-8)  # at the base itself

    def logp() -> torch.Tensor:
        logits = policy.model(input_ids=batch.input_ids, attention_mask=batch.mask).logits.flatten(0, 1)
        return logits[batch.src].log_softmax(-1)

    base = logp().detach()
    away(policy)
    wanted = (base.exp() * (base - logp())).sum(-1)
    terms = near.terms(policy(batch), batch)
    assert float(terms["kl"]) == pytest.approx(0.5 * float((wanted * batch.weight).sum()), rel=1e-5)
    assert float(wanted.detach().min()) > 0 and near.counts(batch)["kl"] == batch.weight.sum()
    near.strengthen(4.0)
    assert float(near.terms(policy(batch), batch)["kl"]) == pytest.approx(4 * float(terms["kl"]))


def test_few_tokens_and_the_rest_give_less_but_not_nothing(tiny: Any, tmp_path: Path) -> None:
    found = []
    for k in (4, 16, 64):
        policy, store = scored(tiny, tmp_path, k)
        batch = collate([store[number] for number in range(8)], layout="padded", index=list(range(8)))
        away(policy)
        found.append(float(NearBase(tiny.objective(), 1.0).terms(policy(batch), batch)["kl"].detach()))
    assert 0 < found[0] < found[1] < found[2]


def test_replayed_and_new_tokens_are_told_apart(tiny: Any, tmp_path: Path) -> None:
    policy, store = scored(tiny, tmp_path)
    away(policy)
    batch = collate([store[number] for number in range(8)], layout="packed", index=list(range(8)))
    policy.settle()
    parts = {on: NearBase(tiny.objective(), 1.0, on=on, replayed_from=5) for on in ("all", "training", "replay")}
    kl = {on: float(near.terms(policy(batch), batch)["kl"].detach()) for on, near in parts.items()}
    counts = {on: float(near.counts(batch)["kl"]) for on, near in parts.items()}
    assert kl["training"] + kl["replay"] == pytest.approx(kl["all"]) and min(kl.values()) > 0
    assert counts["training"] + counts["replay"] == counts["all"] and min(counts.values()) > 0


def test_the_cut_into_micro_batches_changes_nothing(tiny: Any, tmp_path: Path) -> None:
    policy, store = scored(tiny, tmp_path)
    away(policy)
    masters = Masters(policy, Train(), dtype=torch.float64)
    loader = Loader(store, seed=0, batch_size=8, layout="padded")
    near = NearBase(tiny.objective(), 0.5, on="training", replayed_from=6)
    found = []
    for limit in (None, 40, 20):
        row, _ = train_step(policy, near, loader.batches(0, limit), masters, Parallel())
        assert row["loss"] == pytest.approx(row["sft"] + row["kl"])
        found.append({name: value.clone() for name, value in masters.gradients().items()})
    for other in found[1:]:
        for name, value in found[0].items():
            torch.testing.assert_close(value, other[name], rtol=1e-9, atol=1e-12)
