"""NEFTune's noise: the paper's size, the same however a step is cut, and none at evaluation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

from attune.data.batch import collate
from attune.data.examples import Example
from attune.model.neftune import noise_of
from attune.model.policy import Policy

LENGTHS = (7, 12, 5)


def rows() -> list[Example]:
    import numpy as np

    rng = np.random.default_rng(0)
    made = []
    for length in LENGTHS:
        weight = np.ones(length, dtype=np.float32)
        weight[0] = 0
        made.append(Example(rng.integers(4, 60, length).astype(np.int32), weight))
    return made


def policy(**options: Any) -> Policy:
    config = transformers.LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, pad_token_id=0, **options,
    )  # fmt: skip
    torch.manual_seed(0)
    return Policy(transformers.LlamaForCausalLM(config), head="lm")


def per_row(batch: Any, noise: torch.Tensor) -> dict[int, torch.Tensor]:
    if batch.segments is None:
        return {int(name): noise[at, : LENGTHS[name]] for at, name in enumerate(batch.index)}
    bounds = batch.segments.bounds
    return {int(name): noise[0, a:b] for name, a, b in zip(batch.index, bounds[:-1], bounds[1:])}


def test_it_is_uniform_with_the_papers_size_and_nothing_on_padding() -> None:
    batch = collate(rows(), layout="padded", index=[0, 1, 2])
    noise = noise_of(batch, 4096, 5.0, (0, 3))
    for at, length in enumerate(LENGTHS):
        own = noise[at, :length]
        bound = 5.0 / (length * 4096) ** 0.5
        assert float(own.abs().max()) <= bound and float(own.abs().max()) > 0.99 * bound
        assert float(own.std()) == pytest.approx(bound / 3**0.5, rel=0.02)  # uniform in (-bound, bound)
        assert float(own.norm()) == pytest.approx(5.0 / 3**0.5, rel=0.02)
        assert not noise[at, length:].any()


def test_layout_cut_and_order_change_nothing_but_step_seed_and_example_do() -> None:
    made = rows()
    whole = per_row(one := collate(made, layout="padded", index=[0, 1, 2]), noise_of(one, 32, 5.0, (0, 3)))
    packed = per_row(one := collate(made, layout="packed", index=[0, 1, 2]), noise_of(one, 32, 5.0, (0, 3)))
    cut = per_row(one := collate([made[2], made[0]], layout="padded", index=[2, 0]), noise_of(one, 32, 5.0, (0, 3)))
    for name in (0, 1, 2):
        assert torch.equal(whole[name], packed[name])
        assert name not in cut or torch.equal(whole[name], cut[name])
    for key in ((0, 4), (1, 3)):
        one = collate(made, layout="padded", index=[0, 1, 2])
        assert not torch.equal(whole[0], per_row(one, noise_of(one, 32, 5.0, key))[0])
    assert not torch.equal(whole[0][:5], whole[2][:5])


def test_it_is_on_the_embeddings_in_training_only() -> None:
    model = policy()
    batch = collate(rows(), layout="padded", index=[0, 1, 2])
    seen: list[torch.Tensor] = []
    model.model.model.layers[0].register_forward_pre_hook(lambda module, args: seen.append(args[0].detach().clone()))
    model.eval()
    clean = model(batch).logp
    model.noise_alpha, model.noise_key = 10.0, (0, 1)
    assert torch.equal(model(batch).logp, clean)  # off at evaluation
    model.train()
    noisy = model(batch).logp
    assert not torch.allclose(noisy, clean)
    torch.testing.assert_close(seen[2] - seen[0], noise_of(batch, 32, 10.0, (0, 1)), rtol=0, atol=1e-6)
    assert torch.equal(model(batch).logp, noisy)
    model.noise_key = (0, 2)
    assert not torch.equal(model(batch).logp, noisy)
    assert not model.inner.get_input_embeddings()._forward_hooks  # nothing is left behind


def test_packed_and_padded_scores_agree_under_noise() -> None:
    model = policy()
    assert model.settle() == "packed"
    model.train()
    model.noise_alpha = 10.0
    padded, packed = (collate(rows(), layout=layout, index=[0, 1, 2]) for layout in ("padded", "packed"))
    sums = [{int(b.index[s]): float(model(b).logp[b.seq == s].sum()) for s in range(3)} for b in (padded, packed)]
    assert sums[0] == pytest.approx(sums[1], rel=1e-4)
