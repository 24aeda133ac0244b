"""Losses equal to those of the tools that people compare with: TRL, and transformers' own heads."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from attune import plugins
from attune.data.batch import collate
from attune.data.examples import Example
from attune.errors import RecipeError
from attune.model.parallel import Parallel
from attune.model.policy import Policy
from attune.recipe import Train
from attune.train.loop import train_step
from attune.train.optim import Masters

VOCAB, LABELS = 64, ["a", "b", "c"]
SMALL: dict[str, Any] = dict(
    vocab_size=VOCAB, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, pad_token_id=0
)


def ids_of(n: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(4, VOCAB, int(rng.integers(3, 20))).astype(np.int32) for _ in range(n)]


def model_of(family: str, auto: str, **arguments: Any) -> Any:
    import transformers

    if family == "bert":
        config = transformers.BertConfig(
            **SMALL, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, **arguments
        )
    else:
        config = transformers.LlamaConfig(**SMALL, classifier_dropout=0.0, **arguments)
    torch.manual_seed(0)
    model = getattr(transformers, auto).from_config(config, attn_implementation="sdpa")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def our_loss(policy: Policy, objective: Any, rows: list[Example], layout: str) -> float:
    assert policy.settle(layout=layout) == layout, policy.notes
    batch = collate(rows, layout=layout, scored=objective.scored)
    masters = Masters(policy, Train(), dtype=torch.float32)
    return train_step(policy, objective, [batch], masters, Parallel())[0]["loss"]


def padded_ids(rows: list[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(map(len, rows))
    ids = torch.tensor(np.stack([np.pad(row, (0, width - len(row))) for row in rows]).astype(np.int64))
    return ids, (torch.arange(width)[None] < torch.tensor([[len(row)] for row in rows])).long()


@pytest.mark.slow
def test_sft_equals_trl(tmp_path: Path) -> None:
    """SFTTrainer with completion-only loss: one step on all rows, the loss that it logs."""
    datasets, trl = pytest.importorskip("datasets"), pytest.importorskip("trl")
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    rows = ids_of(6)
    prompts = [max(1, len(row) // 3) for row in rows]
    data = datasets.Dataset.from_list(
        [
            {"input_ids": row.tolist(), "completion_mask": [0] * cut + [1] * (len(row) - cut)}
            for row, cut in zip(rows, prompts)
        ]
    )
    vocabulary = {"<pad>": 0, "<s>": 1, "</s>": 2} | {f"w{number}": number for number in range(3, VOCAB)}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(vocabulary, unk_token="w3")), pad_token="<pad>", eos_token="</s>"
    )
    model = model_of("llama", "AutoModelForCausalLM")
    start = {name: value.clone() for name, value in model.state_dict().items()}
    settings = trl.SFTConfig(
        output_dir=str(tmp_path), max_steps=1, per_device_train_batch_size=len(rows), logging_steps=1, report_to=[],
        completion_only_loss=True, use_cpu=True, bf16=False, fp16=False, gradient_checkpointing=False, max_length=None,
        save_strategy="no", disable_tqdm=True, learning_rate=1e-3, max_grad_norm=1e9, loss_type="nll",
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = trl.SFTTrainer(model=model, args=settings, train_dataset=data, processing_class=tokenizer)
        trainer.train()
    logged = next(entry for entry in trainer.state.log_history if "loss" in entry)

    weights = [np.where(np.arange(len(row)) < cut, 0, 1).astype(np.float32) for row, cut in zip(rows, prompts)]
    ours = [Example(row, weight) for row, weight in zip(rows, weights)]
    objective: Any = plugins.get("objective", "sft")
    for layout in ("padded", "packed"):
        again = model_of("llama", "AutoModelForCausalLM")
        again.load_state_dict(start)
        policy = Policy(again, head="lm")
        loss = our_loss(policy, objective(objective.Config()), ours, layout)
        norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in policy.parameters()])
        print(f"trl {logged['loss']} {logged['grad_norm']} ours ({layout}) {loss} {float(norm)}")
        assert loss == pytest.approx(logged["loss"], rel=1e-5)
        assert float(norm) == pytest.approx(float(logged["grad_norm"]), rel=1e-5)


@pytest.mark.parametrize("family", ["llama", "bert"])
@pytest.mark.parametrize("task", ["classification", "multilabel", "regression"])
def test_classify_equals_transformers(family: str, task: str) -> None:
    rng = np.random.default_rng(5)
    rows = ids_of(6)
    problem = {
        "classification": "single_label_classification",
        "multilabel": "multi_label_classification",
        "regression": "regression",
    }[task]
    targets: list[Any] = {
        "classification": [int(rng.integers(3)) for _ in rows],
        "multilabel": [rng.integers(0, 2, 3).astype(np.float32) for _ in rows],
        "regression": [float(rng.normal()) for _ in rows],
    }[task]
    n = 1 if task == "regression" else 3
    model = model_of(family, "AutoModelForSequenceClassification", num_labels=n, problem_type=problem)
    ids, mask = padded_ids(rows)
    labels = torch.tensor(np.array(targets), dtype=torch.long if task == "classification" else torch.float32)
    with torch.no_grad():
        expected = float(model.eval()(input_ids=ids, attention_mask=mask, labels=labels).loss)
    plugin: Any = plugins.get("objective", "classify")
    objective = plugin(plugin.Config(), labels=[] if task == "regression" else LABELS, task=task)
    ours = []
    for row, target in zip(rows, targets):
        weight = np.zeros(len(row), dtype=np.float32)
        weight[-1] = 1
        ours.append(Example(row, weight, target))
    for layout in ("padded", "packed") if family == "llama" else ("padded",):
        loss = our_loss(Policy(model, head="sequence"), objective, ours, layout)
        assert loss == pytest.approx(expected, rel=1e-5), layout


@pytest.mark.parametrize("family", ["llama", "bert"])
def test_tag_equals_transformers(family: str) -> None:
    rng = np.random.default_rng(6)
    rows = ids_of(6)
    model = model_of(family, "AutoModelForTokenClassification", num_labels=3)
    ids, mask = padded_ids(rows)
    labels = torch.full_like(ids, -100)
    ours = []
    for number, row in enumerate(rows):
        tags = np.where(rng.random(len(row)) < 0.6, rng.integers(0, 3, len(row)), -100).astype(np.int32)
        labels[number, : len(row)] = torch.tensor(tags.astype(np.int64))
        ours.append(Example(row, (tags >= 0).astype(np.float32), tags))
    with torch.no_grad():
        expected = float(model.eval()(input_ids=ids, attention_mask=mask, labels=labels).loss)
    plugin: Any = plugins.get("objective", "tag")
    loss = our_loss(Policy(model, head="token"), plugin(plugin.Config(), labels=LABELS, task="tagging"), ours, "padded")
    assert loss == pytest.approx(expected, rel=1e-5)


def test_pretrain_equals_transformers() -> None:
    rows = ids_of(5)
    model = model_of("llama", "AutoModelForCausalLM")
    ids, mask = padded_ids(rows)
    with torch.no_grad():
        expected = float(model.eval()(input_ids=ids, attention_mask=mask, labels=ids.masked_fill(mask == 0, -100)).loss)
    plugin: Any = plugins.get("objective", "pretrain")
    ours = [Example(row, np.r_[0, np.ones(len(row) - 1)].astype(np.float32)) for row in rows]
    for layout in ("padded", "packed"):
        assert our_loss(Policy(model, head="lm"), plugin(plugin.Config()), ours, layout) == pytest.approx(
            expected, rel=1e-5
        )


@pytest.mark.parametrize("at_once", [1, 10**9])
@pytest.mark.parametrize("layout", ["padded", "packed"])
def test_smoothed_answers_equal_torch(layout: str, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole loss and its gradients, in one piece and in chunks; without the step's mean it is the plain loss."""
    from attune.model import fused

    monkeypatch.setattr(fused, "_WHOLE", at_once)
    torch.manual_seed(0)
    rows = [torch.randint(4, 60, (length,)).numpy().astype(np.int32) for length in (130, 90, 120)]
    model = model_of("llama", "AutoModelForCausalLM").double()
    policy = Policy(model, head="lm")
    assert policy.settle(layout=layout) == layout and policy.fast, policy.notes
    plugin: Any = plugins.get("objective", "sft")
    objective = plugin(plugin.Config(label_smoothing=0.2))
    ours = [Example(row, np.r_[0, np.ones(len(row) - 1)].astype(np.float32)) for row in rows]
    batch = collate(ours, layout=layout)
    masters = Masters(policy, Train(), dtype=torch.float64)
    row, _ = train_step(policy, objective, [batch], masters, Parallel())
    found = {name: parameter.grad.clone() for name, parameter in policy.named_parameters()}
    policy.zero_grad()
    ids, mask = padded_ids(rows)
    labels = ids.masked_fill(mask == 0, -100)[:, 1:].flatten()
    logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1].flatten(0, 1)
    wanted = torch.nn.functional.cross_entropy(logits, labels, label_smoothing=0.2)
    wanted.backward()
    assert row["loss"] == pytest.approx(float(wanted), rel=1e-5)
    for name, parameter in policy.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-5, atol=1e-8)
    plain = float(torch.nn.functional.cross_entropy(logits, labels))
    told = objective.terms(policy(batch), batch)["sft"] / objective.counts(batch)["sft"]
    assert float(told.detach()) == pytest.approx(plain, rel=1e-5) and abs(plain - row["loss"]) > 1e-3


@pytest.mark.parametrize("task", ["multilabel", "regression"])
def test_label_smoothing_of_several_classes_is_refused(task: str) -> None:
    plugin: Any = plugins.get("objective", "classify")
    with pytest.raises(RecipeError, match="label_smoothing does not fit"):
        plugin(plugin.Config(label_smoothing=0.2), labels=LABELS, task=task)


def test_label_smoothing_equals_torch() -> None:
    plugin: Any = plugins.get("objective", "classify")
    rows = ids_of(4)
    ours = [Example(row, np.eye(len(row), dtype=np.float32)[-1], number % 3) for number, row in enumerate(rows)]
    model = model_of("llama", "AutoModelForSequenceClassification", num_labels=3)
    objective = plugin(plugin.Config(label_smoothing=0.2), labels=LABELS, task="classification")
    ids, mask = padded_ids(rows)
    with torch.no_grad():
        logits = model.eval()(input_ids=ids, attention_mask=mask).logits
    expected = float(torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2, 0]), label_smoothing=0.2))
    assert our_loss(Policy(model, head="sequence"), objective, ours, "packed") == pytest.approx(expected, rel=1e-5)
