"""Log-probabilities at given tokens: values and gradients of the plain log-softmax."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from attune.data.batch import Batch, collate
from attune.data.examples import Example
from attune.model import fused
from attune.model.policy import Policy

VOCAB = 50


def plain(logits: torch.Tensor, ids: torch.Tensor, temperature: torch.Tensor) -> torch.Tensor:
    logp = (logits / temperature[:, None]).log_softmax(-1)
    named = logp.gather(-1, ids)
    rest = torch.zeros_like(logp).scatter(-1, ids, 1) == 0
    return torch.cat([named, (logp.exp() * rest).sum(-1, keepdim=True).log()], -1)


@pytest.mark.parametrize("rows_at_once", [1, 10**9])
def test_values_and_gradients_equal_the_plain_log_softmax(rows_at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "_WHOLE", rows_at_once)
    torch.manual_seed(0)
    head = torch.nn.Linear(8, VOCAB).double()
    hidden = torch.randn(700, 8, dtype=torch.float64, requires_grad=True)
    ids = torch.rand(700, VOCAB).topk(5).indices
    temperature = torch.rand(700).double() + 0.5
    loss = torch.randn(700, 6, dtype=torch.float64)
    found = []
    for score in (fused.logp_at, plain):
        hidden.grad = head.weight.grad = None
        if score is plain:
            value = plain(head(hidden), ids, temperature)
        else:
            value = fused.chunked(lambda *rows: (fused.logp_at(*rows),), head, hidden, ids, temperature)[0]
        (value * loss).sum().backward()
        found.append((value.detach(), hidden.grad.clone(), head.weight.grad.clone()))
    torch.testing.assert_close(found[0], found[1], rtol=1e-11, atol=1e-11)


def test_a_tiny_rest_keeps_its_digits_and_its_gradient() -> None:
    logits = torch.zeros(1, 4)
    logits[0, 0] = 40.0
    logits.requires_grad_(True)
    value = fused.logp_at(logits, torch.tensor([[0]]), torch.ones(1))
    assert float(value[0, 1].detach()) == pytest.approx(np.log(3) - 40, rel=1e-6)  # 1 - exp(value[0, 0]) is 0 here
    value[0, 1].backward()
    assert logits.grad is not None and float(logits.grad[0, 1]) == pytest.approx(1 / 3, rel=1e-5)


def test_all_tokens_leave_nothing_over_and_no_nan() -> None:
    logits = torch.randn(3, 7, requires_grad=True)
    ids = torch.arange(7).expand(3, 7)
    value = fused.logp_at(logits, ids, torch.full((3,), 2.0))
    assert torch.isneginf(value[:, -1]).all()
    torch.testing.assert_close(value[:, :-1], (logits / 2).log_softmax(-1))
    value[:, :-1].sum().backward()
    assert logits.grad is not None and torch.isfinite(logits.grad).all()


def test_top_is_the_likeliest_over_the_tokens_that_count() -> None:
    logits = torch.randn(6, 20)
    logits[:, 15:] += 100  # rows that pad a teacher's embedding: the student has no such tokens
    ids, logp = fused.top_logp(logits, 4, 1.5, vocab=15)
    whole = (logits[:, :15] / 1.5).log_softmax(-1)
    torch.testing.assert_close(logp[:, :-1], whole.topk(4).values)
    assert int(ids.max()) < 15
    torch.testing.assert_close(logp.exp().sum(-1), torch.ones(6))


def batch_of(layout: str) -> Batch:
    rng = np.random.default_rng(0)
    rows = []
    for length in (6, 11, 4):
        weight = np.ones(length, dtype=np.float32)
        weight[: length // 2] = 0
        scored = int((weight > 0).sum())
        columns = {
            "teacher_ids": rng.permuted(np.tile(np.arange(VOCAB), (scored, 1)), axis=1)[:, :3].astype(np.uint16),
            "teacher_temperature": np.broadcast_to(np.float32(1.5), (scored,)),
        }
        rows.append(Example(rng.integers(4, VOCAB, length).astype(np.int32), weight, columns=columns))
    return collate(rows, layout=layout)


def test_every_path_and_layout_says_the_same() -> None:
    import transformers

    config = transformers.LlamaConfig(
        vocab_size=VOCAB, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    policy = Policy(transformers.LlamaForCausalLM._from_config(config, attn_implementation="sdpa").double(), head="lm")
    batch = batch_of("padded")
    library = policy(batch)
    assert not policy.fast and library.topk["teacher"].shape == (len(batch.src), 4)
    logits = policy.model(input_ids=batch.input_ids, attention_mask=batch.mask).logits.flatten(0, 1)[batch.src]
    wanted = plain(logits, batch.tokens["teacher_ids"], batch.tokens["teacher_temperature"].double())
    torch.testing.assert_close(library.topk["teacher"], wanted, rtol=1e-10, atol=1e-10)
    assert policy.settle() == "packed" and policy.fast
    torch.testing.assert_close(policy(batch).topk["teacher"], wanted, rtol=1e-10, atol=1e-10)
    packed = batch_of("packed")
    order = [row for length in (11, 6, 4) for row in np.flatnonzero(batch.seq.numpy() == [6, 11, 4].index(length))]
    torch.testing.assert_close(policy(packed).topk["teacher"], wanted[order], rtol=1e-10, atol=1e-10)
