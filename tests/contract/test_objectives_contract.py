"""Every objective that is found obeys the contract: the gradient of a step does not depend on how the step is cut.

A new objective file is picked up by being there. All in float64, where rounding leaves nothing to hide behind.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from attune import plugins
from attune.data.batch import Batch, Loader, collate
from attune.data.examples import Example, ExampleStore
from attune.model.parallel import Parallel
from attune.model.policy import Policy, Scores
from attune.objectives.base import Objective
from attune.recipe import Train
from attune.train.loop import train_step
from attune.train.optim import Masters

VOCAB, LABELS, ROWS = 64, ["a", "b", "c"], 8
LIMIT = 1e-10
CASES = [(name, task) for name, plugin in plugins.find("objective").items() for task in plugin.tasks]
LABELLED = ("classification", "multilabel", "tagging")
OPTIONS = {"sft smoothed": {"label_smoothing": 0.2}}
"""Options that make another loss of an objective, under a name of their own."""
LOSSES = [*CASES, *((name, "generation") for name in OPTIONS)]


def objective_of(name: str, task: str) -> Objective:
    plugin: Any = plugins.get("objective", name.split()[0])
    required = {key: "x" for key, field in plugin.Config.model_fields.items() if field.is_required()}
    return plugin(
        plugin.Config(**required, **OPTIONS.get(name, {})), labels=LABELS if task in LABELLED else [], task=task
    )


PAIRS = [(name, task) for name, task in CASES if objective_of(name, task).head == "lm" and task != "text"]
ENCODERS = [(name, task) for name, task in CASES if objective_of(name, task).head != "lm"]


def policy_of(objective: Objective, family: str = "llama") -> Policy:
    import transformers

    small = dict(
        vocab_size=VOCAB, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        pad_token_id=0, num_labels=max(1, len(objective.labels)),
    )  # fmt: skip
    if family == "t5":
        config = transformers.T5Config(
            vocab_size=VOCAB, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2, dropout_rate=0.0
        )
    elif family == "bert":
        config = transformers.BertConfig(**small, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    else:
        config = transformers.LlamaConfig(**small, num_key_value_heads=1, classifier_dropout=0.0)
    autos = {
        "lm": transformers.AutoModelForSeq2SeqLM if family == "t5" else transformers.AutoModelForCausalLM,
        "sequence": transformers.AutoModelForSequenceClassification,
        "token": transformers.AutoModelForTokenClassification,
    }
    torch.manual_seed(0)
    model = autos[objective.head].from_config(config, attn_implementation="sdpa")
    return Policy(model.double(), head=objective.head)


def examples_of(objective: Objective) -> list[Example]:
    """Lengths and numbers of scored tokens differ, which is what a mean of means gets wrong."""
    rng = np.random.default_rng(1)
    rows = []
    for number in range(ROWS):
        length = int(rng.integers(3, 24))
        weight = np.zeros(length, dtype=np.float32)
        target: Any = None
        if objective.head == "lm":
            weight[int(rng.integers(1, length)) :] = rng.choice([0.5, 1.0, 1.5])  # exact in float32, as their sums are
        elif objective.head == "token":
            weight[::2] = 1
            target = np.where(weight > 0, rng.integers(len(LABELS), size=length), -100).astype(np.int32)
        else:
            weight[-1] = rng.choice([0.5, 1.0, 1.5])
            target = {
                "regression": float(rng.normal()),
                "multilabel": rng.integers(0, 2, len(LABELS)).astype(np.float32),
            }.get(objective.task, int(rng.integers(len(LABELS))))
        columns = columns_of(objective, int((weight > 0).sum()), rng)
        ids = rng.integers(4, VOCAB, length).astype(np.int32)
        rows.append(Example(ids, weight, target, record=number, columns=columns))
    return rows


def columns_of(objective: Objective, scored: int, rng: np.random.Generator, k: int = 5) -> dict[str, np.ndarray]:
    """What frozen models would have said at the scored tokens."""
    found: dict[str, np.ndarray] = {}
    for name in objective.needs:
        if objective.head != "lm":
            found[f"{name}_out"] = rng.normal(size=(scored, max(1, len(objective.labels)))).astype(np.float32)
            continue
        logp = rng.normal(size=(scored, k + 1))
        found[f"{name}_ids"] = rng.permuted(np.tile(np.arange(VOCAB), (scored, 1)), axis=1)[:, :k].astype(np.uint16)
        found[f"{name}_logp"] = (logp - np.log(np.exp(logp).sum(1, keepdims=True))).astype(np.float32)
        found[f"{name}_temperature"] = np.full(scored, 1.0, dtype=np.float32)
    return found


def gradients(policy: Policy, objective: Objective, batches: list[Batch]) -> tuple[dict[str, torch.Tensor], float]:
    masters = Masters(policy, Train(), dtype=torch.float64)
    row, _ = train_step(policy, objective, batches, masters, Parallel())
    return {name: parameter.grad.clone() for name, parameter in policy.named_parameters()}, row["loss"]


def gradients_of_trained(
    policy: Policy, objective: Objective, batches: list[Batch]
) -> tuple[dict[str, torch.Tensor], float]:
    """The same where an adapter trains some weights only."""
    masters = Masters(policy, Train(), dtype=torch.float64)
    row, _ = train_step(policy, objective, batches, masters, Parallel())
    return {name: leaf.grad.clone() for name, leaf in masters.leaves.items() if leaf.grad is not None}, row["loss"]


def deviation(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Largest difference, relative to the largest gradient."""
    scale = max(float(value.abs().max()) for value in one.values())
    assert scale > 1e-4, "the gradient is zero: nothing is compared"
    return max(float((one[name] - other[name]).abs().max()) for name in one) / scale


def cut(rows: list[Example], size: int, objective: Objective, layout: str = "padded") -> list[Batch]:
    return [
        collate(rows[start : start + size], layout=layout, scored=objective.scored)
        for start in range(0, len(rows), size)
    ]


def settled(objective: Objective, family: str, layout: str) -> Policy:
    policy = policy_of(objective, family)
    assert policy.settle(layout=layout) == layout, policy.notes
    return policy


@pytest.mark.parametrize(("name", "task"), LOSSES)
def test_gradient_ignores_cut_layout_and_order(name: str, task: str, record_property: Any) -> None:
    objective = objective_of(name, task)
    rows = examples_of(objective)
    layouts = ["padded"] if objective.head == "token" else ["padded", "packed"]
    whole, loss = gradients(policy_of(objective), objective, cut(rows, ROWS, objective))
    worst = 0.0
    for layout in layouts:
        policy = settled(objective, "llama", layout)
        for size in (1, 2, 3, 8):
            if objective.coupled and size != ROWS:
                continue
            for order in (rows, rows[::-1]):
                again, other_loss = gradients(policy, objective, cut(order, size, objective, layout))
                worst = max(worst, deviation(whole, again), abs(loss - other_loss) / abs(loss))
    record_property("deviation", worst)
    print(f"{name} {task} llama {worst:.1e}")
    assert worst <= LIMIT


@pytest.mark.parametrize(("name", "task"), ENCODERS)
def test_encoder_gradient_ignores_the_cut(name: str, task: str) -> None:
    objective = objective_of(name, task)
    rows = examples_of(objective)
    policy = policy_of(objective, "bert")
    assert policy.settle() == "padded"
    whole, _ = gradients(policy, objective, cut(rows, ROWS, objective))
    worst = max(deviation(whole, gradients(policy, objective, cut(rows, size, objective))[0]) for size in (1, 2))
    print(f"{name} {task} bert {worst:.1e}")
    assert worst <= LIMIT


@pytest.mark.parametrize(("name", "task"), PAIRS)
def test_encoder_decoder_gradient_ignores_the_cut(name: str, task: str) -> None:
    objective = objective_of(name, task)
    rows = examples_of(objective)
    for row in rows:  # sources of lengths that have nothing to do with the answers'
        row.source = np.roll(row.ids, 1)[: 2 + len(row.ids) % 5]
    policy = policy_of(objective, "t5")
    assert policy.settle() == "padded" and policy.fast
    whole, _ = gradients(policy, objective, cut(rows, ROWS, objective))
    worst = max(deviation(whole, gradients(policy, objective, cut(rows, size, objective))[0]) for size in (1, 3))
    print(f"{name} {task} t5 {worst:.1e}")
    assert worst <= LIMIT


@pytest.mark.parametrize(("name", "task"), LOSSES)
def test_a_mean_of_means_would_be_caught(name: str, task: str) -> None:
    """The examples above are uneven enough that the usual habit fails this contract."""
    objective = objective_of(name, task)
    rows = examples_of(objective)
    policy = policy_of(objective)
    whole, _ = gradients(policy, objective, cut(rows, ROWS, objective))
    parts = [gradients(policy, objective, [batch])[0] for batch in cut(rows, 1, objective)]
    mean = {key: torch.stack([part[key] for part in parts]).mean(0) for key in whole}
    assert deviation(whole, mean) > 1e-3


@pytest.mark.parametrize(("name", "task"), LOSSES)
def test_a_batch_of_zero_weight_adds_nothing(name: str, task: str) -> None:
    objective = objective_of(name, task)
    rows = examples_of(objective)
    policy = policy_of(objective)
    batches = cut(rows, 4, objective)
    whole, loss = gradients(policy, objective, batches)
    weightless = collate(rows[:3], layout="padded", scored=objective.scored)
    weightless.weight.zero_()
    again, other = gradients(policy, objective, [batches[0], weightless, batches[1]])
    assert deviation(whole, again) <= LIMIT and other == pytest.approx(loss, rel=1e-12)
    alone, nothing = gradients(policy, objective, [weightless])
    assert nothing == 0 and all(float(value.abs().max()) == 0 for value in alone.values())


@pytest.mark.parametrize(("name", "task"), LOSSES)
def test_counts_need_no_forward_and_share_the_keys_of_terms(name: str, task: str) -> None:
    objective = objective_of(name, task)
    rows = examples_of(objective)
    batch = collate(rows, layout="padded", scored=objective.scored)
    counts = objective.counts(batch)
    policy = policy_of(objective)
    terms = objective.terms(policy(batch), batch)
    assert counts.keys() == terms.keys()
    for key, value in terms.items():
        assert value.ndim == 0 and value.requires_grad and not counts[key].requires_grad
    parts = [objective.counts(part) for part in cut(rows, 3, objective)]
    for key, value in counts.items():  # denominators add up
        assert float(sum(part[key] for part in parts)) == pytest.approx(float(value), rel=1e-6)


@pytest.mark.parametrize(("name", "task"), LOSSES)
def test_twice_the_weights_is_the_same_step(name: str, task: str) -> None:
    objective = objective_of(name, task)
    rows = examples_of(objective)
    policy = policy_of(objective)
    whole, _ = gradients(policy, objective, cut(rows, ROWS, objective))
    for row in rows:
        row.weight *= 2
    assert deviation(whole, gradients(policy, objective, cut(rows, ROWS, objective))[0]) <= LIMIT


@pytest.mark.parametrize(("name", "task"), CASES)
def test_metrics_are_sums_and_counts(name: str, task: str) -> None:
    objective = objective_of(name, task)
    rows = examples_of(objective)
    policy = policy_of(objective)

    def figures(batch: Batch) -> dict[str, tuple[float, float]]:
        scores: Scores = policy(batch)
        return {key: (float(a.detach()), float(b)) for key, (a, b) in objective.metrics(scores, batch).items()}

    whole = figures(collate(rows, layout="padded", scored=objective.scored))
    parts = [figures(part) for part in cut(rows, 3, objective)]
    for key, (value, count) in whole.items():
        assert sum(part[key][0] for part in parts) == pytest.approx(value, rel=1e-6)
        assert sum(part[key][1] for part in parts) == pytest.approx(count, rel=1e-6)


def rank_main(name: str, task: str, layout: str, out: str) -> None:
    """One rank of a distributed step; every rank writes its gradients."""
    objective = objective_of(name, task)
    policy = settled(objective, "llama", layout)
    parallel = Parallel()
    store = ExampleStore.of(examples_of(objective), vocab_size=VOCAB)
    loader = Loader(
        store, seed=0, batch_size=ROWS, layout=layout, scored=objective.scored, rank=parallel.rank, world=parallel.world
    )
    masters = Masters(policy, Train(), dtype=torch.float64)
    wrapped = parallel.wrap(policy)
    for limit in (None, 40, 25):  # 25: an odd number of forwards, so one rank gets a weightless one
        batches = loader.batches(0, limit)
        row, tokens = train_step(wrapped, objective, batches, masters, parallel)
        found = {key: parameter.grad.clone() for key, parameter in policy.named_parameters()}
        torch.save(
            {"gradients": found, "row": row, "tokens": tokens, "n": len(batches)}, f"{out}/{limit}-{parallel.rank}.pt"
        )
    del wrapped
    parallel.close()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "task"), LOSSES)
def test_two_ranks_equal_one(name: str, task: str, tmp_path: Path) -> None:
    import socket

    objective = objective_of(name, task)
    layout = "padded" if objective.head == "token" else "packed"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    for world in (1, 2):
        (tmp_path / str(world)).mkdir()
        processes = [
            subprocess.Popen(
                [sys.executable, __file__, name, task, layout, str(tmp_path / str(world))],
                env=os.environ
                | {"RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1"}
                | {"MASTER_PORT": port, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
            )
            for rank in range(world)
        ]
        try:
            assert [process.wait(120) for process in processes] == [0] * world
        finally:
            for process in processes:
                process.kill()
    worst = 0.0
    for limit in (None, 40, 25):
        alone = torch.load(tmp_path / "1" / f"{limit}-0.pt", weights_only=True)
        ranks = [torch.load(tmp_path / "2" / f"{limit}-{rank}.pt", weights_only=True) for rank in (0, 1)]
        assert ranks[0]["n"] == ranks[1]["n"], "ranks run different numbers of forwards"
        for rank in ranks:
            worst = max(worst, deviation(alone["gradients"], rank["gradients"]))
            assert rank["tokens"] == alone["tokens"]
            assert rank["row"] == pytest.approx(alone["row"], rel=1e-9)
    print(f"{name} {task} two ranks {worst:.1e}")
    assert worst <= LIMIT


if __name__ == "__main__":
    rank_main(*sys.argv[1:])
