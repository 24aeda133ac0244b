"""The head starts as a linear model on the base's features: it already predicts before the first step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import transformers

from attune import plugins
from attune.data.batch import Loader
from attune.data.examples import Example, ExampleStore
from attune.model.policy import Policy
from attune.train.head_start import start_head

VOCAB = 64


def policy_of(family: str, head: str, outputs: int, task: str, adapter: str) -> Policy:
    shared: dict[str, Any] = {"vocab_size": VOCAB, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    shared |= {"intermediate_size": 48, "num_labels": outputs, "pad_token_id": 0, "max_position_embeddings": 64}
    if head == "sequence":
        shared["problem_type"] = {"classification": "single_label_classification", "regression": "regression"}.get(
            task, "multi_label_classification"
        )
    configs = {
        "llama": transformers.LlamaConfig,
        "bert": transformers.BertConfig,
        "roberta": transformers.RobertaConfig,
    }
    torch.manual_seed(0)
    kind = "SequenceClassification" if head == "sequence" else "TokenClassification"
    auto: Any = getattr(transformers, f"AutoModelFor{kind}")
    plugin: Any = plugins.get("adapter", adapter)
    tuned = plugin(plugin.Config()).attach(auto.from_config(configs[family](**shared)), head=head)
    return Policy(tuned, head=head)


def objective_of(task: str, outputs: int) -> Any:
    plugin: Any = plugins.get("objective", "tag" if task == "tagging" else "classify")
    labels = [] if task == "regression" else [f"c{number}" for number in range(outputs)]
    return plugin(plugin.Config(), labels=labels, task=task)


def store_of(task: str, outputs: int, n: int = 96) -> ExampleStore:
    """Texts whose tokens come from the range of their class, so that even random features tell the classes apart."""
    rng = np.random.default_rng(1)
    rows = []
    for number in range(n):
        length, label = int(rng.integers(4, 12)), number % outputs
        ids = rng.integers(4 + label * 60 // outputs, 4 + (label + 1) * 60 // outputs, length).astype(np.int32)
        weight = np.zeros(length, dtype=np.float32)
        if task == "tagging":
            weight[:] = 1
            target: Any = np.full(length, label, dtype=np.int64)
        else:
            weight[-1] = 1
            vector = np.zeros(outputs, dtype=np.float32)
            vector[label] = 1
            target = {"classification": np.full(length, label), "multilabel": vector, "regression": np.float32(label)}[
                task
            ]
        rows.append(Example(ids, weight, target=target, record=number))
    return ExampleStore.of(rows, vocab_size=VOCAB)


def loss(policy: Policy, objective: Any, loader: Loader) -> float:
    policy.eval()
    total = count = 0.0
    with torch.no_grad():
        for batch in loader.all(512):
            total += float(objective.terms(policy(batch), batch)[objective.name])
            count += float(objective.counts(batch)[objective.name])
    return total / count


@pytest.mark.parametrize("adapter", ["full", "lora"])
@pytest.mark.parametrize("family", ["llama", "bert", "roberta"])
@pytest.mark.parametrize(
    "task, outputs",
    [("classification", 3), ("classification", 2), ("multilabel", 3), ("regression", 1), ("tagging", 3)],
)
def test_it_predicts_before_the_first_step(family: str, task: str, outputs: int, adapter: str) -> None:
    classes = 3 if task == "regression" else outputs
    head = "token" if task == "tagging" else "sequence"
    objective, policy = objective_of(task, outputs), policy_of(family, head, outputs, task, adapter)
    layout = policy.settle()
    loader = Loader(store_of(task, classes), seed=0, batch_size=8, layout=layout, scored="here")
    random = loss(policy, objective, loader)
    said = start_head(policy, objective, loader, batch_tokens=256, dtype=torch.float32)
    assert said.startswith("head: starts as a linear model"), said
    # untrained features of a tiny random model: not perfect, but far better than the prior of equal classes
    prior = {"classification": np.log(classes), "tagging": np.log(classes), "multilabel": 0.64, "regression": 0.67}
    now = loss(policy, objective, loader)
    assert now < 0.75 * prior[task] and now < random


def test_in_the_numbers_of_training_it_is_as_good() -> None:
    """The pass runs as training does, in bfloat16 where that is faster; the weights stay whole."""
    losses = []
    for dtype in (torch.float32, torch.bfloat16):
        objective, policy = (
            objective_of("classification", 3),
            policy_of("llama", "sequence", 3, "classification", "full"),
        )
        loader = Loader(store_of("classification", 3), seed=0, batch_size=8, layout=policy.settle(), scored="here")
        start_head(policy, objective, loader, batch_tokens=256, dtype=dtype)
        assert {weight.dtype for weight in policy.parameters()} == {torch.float32}
        losses.append(loss(policy, objective, loader))
    assert losses[0] != losses[1] and losses[1] == pytest.approx(losses[0], rel=0.05)


def test_the_head_is_the_linear_model_itself() -> None:
    """Scores of the policy = scikit-learn's own, on features taken independently."""
    from sklearn.linear_model import LogisticRegression

    objective, policy = objective_of("classification", 3), policy_of("bert", "sequence", 3, "classification", "full")
    policy.settle(layout="padded")
    store = store_of("classification", 3)
    loader = Loader(store, seed=0, batch_size=8, layout="padded", scored="here")
    start_head(policy, objective, loader, batch_tokens=256, dtype=torch.float32)
    policy.eval()
    with torch.no_grad():
        pooled = [
            policy.model.bert(input_ids=torch.tensor(store[number].ids[None].astype(np.int64))).pooler_output[0]
            for number in range(len(store))
        ]
        features = torch.stack(pooled).double().numpy()
        ours = policy.model.classifier(torch.stack(pooled)).softmax(-1).numpy()
    scaled = (features - features.mean(0)) / (features.std(0) + 1e-6)
    targets = np.arange(len(store)) % 3
    theirs = LogisticRegression(C=0.1, max_iter=100).fit(scaled, targets).predict_proba(scaled)
    assert np.abs(ours - theirs).max() < 2e-3


def test_a_class_without_examples_is_never_the_answer() -> None:
    objective, policy = objective_of("classification", 4), policy_of("bert", "sequence", 4, "classification", "full")
    policy.settle(layout="padded")
    loader = Loader(store_of("classification", 3), seed=0, batch_size=8, layout="padded", scored="here")
    start_head(policy, objective, loader, batch_tokens=256, dtype=torch.float32)
    with torch.no_grad():
        answers = torch.cat([policy(batch).out.argmax(-1) for batch in loader.all(512)])
    assert 3 not in answers


def test_one_class_alone_leaves_the_head_at_random() -> None:
    objective, policy = objective_of("classification", 2), policy_of("bert", "sequence", 2, "classification", "full")
    policy.settle(layout="padded")
    loader = Loader(store_of("classification", 1, n=8), seed=0, batch_size=8, layout="padded", scored="here")
    before = policy.model.classifier.weight.clone()
    assert "one class only" in start_head(policy, objective, loader, batch_tokens=256, dtype=torch.float32)
    assert torch.equal(before, policy.model.classifier.weight)
