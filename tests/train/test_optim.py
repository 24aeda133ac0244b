"""The optimiser's side of a step: masters, groups, clipping, the schedule."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from attune.recipe import Train
from attune.train.optim import Masters, schedule


def shape(total: int = 100, **settings: Any) -> list[float]:
    return [schedule(step, total, Train(**settings)) for step in range(total)]


@pytest.mark.parametrize("kind", ["cosine", "linear", "constant", "wsd"])
def test_every_schedule_rises_once_peaks_at_one_and_stays_in_bounds(kind: str) -> None:
    rates = shape(schedule=kind, warmup_ratio=0.1)
    assert rates[:10] == pytest.approx([(step + 1) / 11 for step in range(10)])
    assert max(rates) == 1.0 == rates[10]
    assert all(0 < rate <= 1 for rate in rates)
    assert all(before >= after for before, after in zip(rates[10:], rates[11:]))


def test_schedule_endings() -> None:
    assert shape(schedule="cosine", warmup_steps=0)[50] == pytest.approx(0.5)
    assert shape(schedule="linear", warmup_steps=0)[75] == pytest.approx(0.25)
    assert set(shape(schedule="constant", warmup_steps=0)) == {1.0}
    stable = shape(schedule="wsd", warmup_ratio=0.1, decay_ratio=0.2)
    assert set(stable[10:81]) == {1.0} and stable[90] == pytest.approx(0.5) and stable[81] < 1
    for kind in ("cosine", "linear", "wsd"):
        assert shape(1000, schedule=kind, min_lr_ratio=0.1)[-1] == pytest.approx(0.1, abs=0.01)
        assert min(shape(1000, schedule=kind, min_lr_ratio=0.1, warmup_steps=0)) >= 0.1


def test_the_flat_part_of_wsd_does_not_depend_on_the_length() -> None:
    settings = dict(schedule="wsd", warmup_steps=5)
    assert shape(100, **settings)[:80] == shape(200, **settings)[:80]


def test_short_runs_have_a_schedule() -> None:
    for total in (1, 2, 3):
        assert all(math.isfinite(rate) and rate > 0 for rate in shape(total, warmup_ratio=1.0))
        assert all(math.isfinite(rate) and rate > 0 for rate in shape(total, schedule="wsd", decay_ratio=0.0))


class Mixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(11, 6)
        self.norm = nn.LayerNorm(6)
        self.linear = nn.Linear(6, 4)
        self.experts_bias = nn.Parameter(torch.randn(3, 4))  # GPT-OSS: one bias an expert
        self.frozen = nn.Parameter(torch.randn(4, 4), requires_grad=False)
        self.register_buffer("frequencies", torch.tensor([1.001, 0.1234567]), persistent=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return (self.linear(self.norm(self.embed(ids))) + self.experts_bias.sum(0)).float().pow(2).sum()


def test_decay_pulls_matrices_only() -> None:
    model = Mixed()
    before = {name: value.clone() for name, value in model.named_parameters()}
    masters = Masters(model, Train(learning_rate=0.1, weight_decay=0.5), dtype=torch.float32)
    masters.zero_grad()
    for parameter in masters.parameters:
        parameter.grad = torch.zeros_like(parameter)
    masters.step(0.1)  # with no gradient, decay is all that moves a weight
    moved = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    assert moved == {"embed.weight", "linear.weight"}
    assert torch.allclose(model.linear.weight, before["linear.weight"] * (1 - 0.1 * 0.5))


def test_masters_stay_in_float32_and_buffers_too() -> None:
    model = Mixed()
    exact = {name: value.detach().clone() for name, value in model.named_parameters()}
    masters = Masters(model, Train(learning_rate=1e-4), dtype=torch.bfloat16)
    assert all(parameter.dtype == torch.bfloat16 for parameter in model.parameters())
    assert model.frequencies.dtype == torch.float32 and model.frequencies[1] == torch.tensor(0.1234567)
    assert all(
        value.dtype == torch.float32 and torch.equal(value, exact[name]) for name, value in masters.weights().items()
    )
    assert "frozen" not in masters.weights()
    ids = torch.arange(11)
    for _ in range(20):  # steps too small for bfloat16 to see one by one
        masters.zero_grad()
        model(ids).backward()
        masters.collect()
        assert masters.parameters[0].grad is None
        masters.step(1e-5)
    for name, value in masters.weights().items():
        assert not torch.equal(value, exact[name])
        assert torch.equal(dict(model.named_parameters())[name], value.to(torch.bfloat16))


def test_gradients_of_micro_batches_add_up_in_float32() -> None:
    model = Mixed()
    masters = Masters(model, Train(), dtype=torch.bfloat16)
    masters.zero_grad()
    total = torch.zeros(4, 6)
    for number in range(200):
        part = torch.full((4, 6), 1.0 if number == 0 else 1 / 512)
        total += part
        model.linear.weight.grad = part.bfloat16()
        masters.collect()
    leaf = masters._leaves[masters.names.index("linear.weight")]
    assert leaf.grad.dtype == torch.float32 and torch.equal(leaf.grad, total)  # bfloat16 would have stayed at 1


@pytest.mark.parametrize("limit", [0.01, 1e6, 0.0])
def test_clip_equals_torch(limit: float) -> None:
    model, other = Mixed(), Mixed()
    masters = Masters(model, Train(), dtype=torch.float32)
    for one in (model, other):
        one(torch.arange(11)).backward()
    norm = masters.clip(limit)
    trained = [parameter for parameter in other.parameters() if parameter.requires_grad]
    if limit:
        assert norm == torch.nn.utils.clip_grad_norm_(trained, limit)
    for one, two in zip(masters.parameters, trained):
        assert torch.equal(one.grad, two.grad)


def test_a_step_equals_torch_adamw() -> None:
    model, other = Mixed(), Mixed()
    settings = Train(learning_rate=1e-2, weight_decay=0.1, beta1=0.8, beta2=0.9, eps=1e-6)
    masters = Masters(model, settings, dtype=torch.float32)
    decayed = [other.embed.weight, other.linear.weight]
    plain = [other.norm.weight, other.norm.bias, other.linear.bias, other.experts_bias]
    reference = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}],
        lr=1e-2, betas=(0.8, 0.9), eps=1e-6,
    )  # fmt: skip
    for _ in range(5):
        masters.zero_grad()
        model(torch.arange(11)).backward()
        masters.step(1e-2)
        reference.zero_grad()
        other(torch.arange(11)).backward()
        reference.step()
    for (name, one), two in zip(model.named_parameters(), other.parameters()):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_state_goes_out_and_in_bit_identically(dtype: torch.dtype) -> None:
    def steps(masters: Masters, model: nn.Module, n: int) -> None:
        for _ in range(n):
            masters.zero_grad()
            model(torch.arange(11)).backward()
            masters.collect()
            masters.step(1e-2)

    one = Mixed()
    first = Masters(one, Train(), dtype=dtype)
    assert first.moments() == {}
    steps(first, one, 2)
    weights = {name: value.clone() for name, value in first.weights().items()}
    moments = {name: value.clone() for name, value in first.moments().items()}
    steps(first, one, 2)
    two = Mixed()
    second = Masters(two, Train(), dtype=dtype)
    second.load_weights(weights)
    second.load_moments(moments)
    steps(second, two, 2)
    for name, value in first.weights().items():
        assert torch.equal(value, second.weights()[name]), name
