"""The policy: layouts, paths, what settle proves and refuses, adapters and saving."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from attune.data.batch import Segments, collate
from attune.data.examples import Example
from attune.errors import RecipeError
from attune.model import fused
from attune.model.build import build
from attune.model.load import load_model, load_tokenizer
from attune.model.policy import Policy
from attune.model.save import open_model, save_model
from attune.recipe import Train
from attune.train.optim import Masters


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("architectures", Path(__file__).with_name("architectures.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


matrix = _load()


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def llama(head: str = "lm", **arguments: Any) -> Policy:
    import transformers

    config = transformers.LlamaConfig(**{**matrix._GROUPED, "num_labels": 3, **arguments})
    torch.manual_seed(0)
    model = getattr(transformers, matrix._HEAD_CLASSES[head]).from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return Policy(model, head=head).eval()


# layouts and paths ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", ["lm", "sequence"])
@pytest.mark.parametrize("pad", [0, 3, 90])
def test_settle_takes_the_fast_packed_way_whatever_the_pad_token(head: str, pad: int) -> None:
    policy = llama(head, pad_token_id=pad)
    assert policy.settle() == "packed" and policy.fast and not policy.notes
    rows = matrix.examples(head)
    for row in rows:  # real text does not hold the pad token
        row.ids[row.ids == pad] = 5
    plain = matrix.library_forward(policy.model, head, rows)
    for layout in ("padded", "packed"):
        assert matrix.largest(plain, matrix.policy_forward(policy, rows, layout, pad)) <= 1e-5


def test_settle_keeps_the_training_mode_and_obeys_padded() -> None:
    for training in (True, False):
        policy = llama().train(training)
        assert policy.settle(layout="padded") == "padded" and policy.training is training


@pytest.mark.parametrize("scale", [1e-6, 1.0])
def test_a_soft_cap_is_found_even_on_an_untrained_head(scale: float) -> None:
    """Small logits pass a soft cap unbent; trained ones will not."""
    import transformers

    arguments = {**matrix.CONFIGS["Gemma 2"][2], "final_logit_softcapping": 30.0}
    torch.manual_seed(0)
    model = transformers.Gemma2ForCausalLM(transformers.Gemma2Config(**arguments))
    with torch.no_grad():
        model.lm_head.weight.mul_(scale).add_(0.02 * torch.randn_like(model.lm_head.weight))
    policy = Policy(model, head="lm")
    policy.settle()
    assert not policy.fast and "fast path not used" in policy.notes[0]


class Leaking(torch.nn.Module):
    """An attention output that mixes in the neighbour token's hidden state, across sequences too."""

    def __init__(self, inner: torch.nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        out = self.inner(hidden)
        return out + 0.1 * torch.roll(out, 1, dims=1)


def test_packing_is_refused_where_sequences_see_each_other() -> None:
    policy = llama()
    policy.model.model.layers[0].self_attn.o_proj = Leaking(policy.model.model.layers[0].self_attn.o_proj)
    assert policy.settle() == "padded"
    assert any("packed layout not used" in note or "packing refused" in note for note in policy.notes)


def test_a_scaled_head_is_packed_by_the_librarys_own(tmp_path: Path) -> None:
    import transformers

    base = matrix.save_base("Cohere", tmp_path / "base")
    policy = Policy(transformers.AutoModelForCausalLM.from_pretrained(base), head="lm").eval()
    assert policy.settle() == "packed" and not policy.fast
    rows = matrix.examples("lm")
    plain = matrix.library_forward(policy.model, "lm", rows)
    assert matrix.largest(plain, matrix.policy_forward(policy, rows, "packed", 0)) <= 1e-5


def test_eager_attention_is_not_packed() -> None:
    policy = llama()
    policy.inner.set_attn_implementation("eager")
    assert policy.settle() == "padded" and any("eager" in note for note in policy.notes)


@pytest.mark.parametrize("lengths", [[5], [4, 4, 4], [20, 19, 3], [30, 2, 1, 1], list(range(40, 1, -1))])
def test_segments_cover_each_token_once(lengths: list[int]) -> None:
    segments = Segments.of(lengths)
    assert segments.bounds == [0, *np.cumsum(lengths)]
    stream = torch.arange(sum(lengths))
    parts = [stream if index is None else stream[index] for index, _, _ in segments.groups]
    assert all(len(part) == n * width for part, (_, n, width) in zip(parts, segments.groups))
    joined = torch.cat(parts)
    assert torch.equal(joined if segments.inverse is None else joined[segments.inverse], stream)
    assert len(joined) <= 1.15 * sum(lengths) + 1


def test_packed_gradients_with_checkpointing_and_a_window(tmp_path: Path) -> None:
    """Recomputed layers still know the boundaries, and a window shorter than the texts is kept."""
    base = matrix.save_base("Mistral", tmp_path / "base")
    rows = matrix.examples("lm")
    found = []
    for layout, recompute in (("padded", False), ("packed", False), ("packed", True)):
        recipe = matrix.recipe_for(base, "lm", {"type": "lora", "r": 4}, gradient_checkpointing=recompute)
        policy = build(recipe, matrix.objective_for(recipe, "lm"), load_tokenizer(recipe.model)).train()
        assert policy.settle(layout=layout) == layout
        policy(collate(rows, layout=layout)).logp.sum().backward()
        found.append({name: value.grad for name, value in policy.named_parameters() if value.requires_grad})
    for other in found[1:]:
        for name, gradient in found[0].items():
            torch.testing.assert_close(gradient, other[name], rtol=1e-4, atol=1e-5)


def test_a_chunked_head_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    head = torch.nn.Linear(8, 50).double()
    hidden = torch.randn(700, 8, dtype=torch.float64, requires_grad=True)
    target = torch.randint(50, (700,))
    whole = fused.chunked_logp(head, hidden, target)
    whole.sum().backward()
    first = (hidden.grad.clone(), head.weight.grad.clone())
    hidden.grad = head.weight.grad = None
    monkeypatch.setattr(fused, "_WHOLE", 1)
    chunked = fused.chunked_logp(head, hidden, target)
    chunked.sum().backward()
    torch.testing.assert_close(whole, chunked, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(first, (hidden.grad, head.weight.grad), rtol=1e-12, atol=1e-12)
    with torch.no_grad():
        torch.testing.assert_close(whole, fused.chunked_logp(head, hidden, target), rtol=1e-12, atol=1e-12)


def test_bfloat16_equals_the_model_as_it_is_served(tmp_path: Path) -> None:
    """transformers keeps rotary frequencies in float32 when it loads bfloat16; so must training."""
    import transformers

    base = matrix.save_base("Llama", tmp_path / "base")
    policy = Policy(transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), head="lm").eval()
    Masters(policy, Train(), dtype=torch.bfloat16)
    served = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16).eval()
    ids = torch.randint(4, matrix.VOCAB, (1, 64))
    with torch.no_grad():
        assert torch.equal(policy.model(input_ids=ids).logits, served(input_ids=ids).logits)


# heads that do not fit ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "head", "said"),
    [
        ("BART, tagger", "token", "cannot tag words"),
        ("BERT, classifier", "lm", "cannot write text"),
        ("ModernBERT, classifier", "lm", "cannot write text"),
    ],
)
def test_bases_that_do_not_fit_are_refused(tmp_path: Path, name: str, head: str, said: str) -> None:
    base = matrix.save_base(name, tmp_path / "base")
    recipe = matrix.recipe_for(base, head, {"type": "full"})
    with pytest.raises(RecipeError, match=said) as caught:
        load_model(recipe.model, head=head, labels=["a", "b"], task="classification")
    assert caught.value.exit_code == 3 and caught.value.fix


# adapters and saving --------------------------------------------------------------------------------------------------

ADAPTERS: list[dict[str, Any]] = [
    {"type": "lora", "r": 4},
    {"type": "lora", "r": 4, "rslora": True, "alpha": 7.0, "dropout": 0.1},
    {"type": "lora", "r": 4, "dora": True},
    {"type": "lora", "r": 4, "init": "pissa"},
    {"type": "lora", "r": 4, "init": "olora"},
    {"type": "lora", "r": 4, "bias": "all"},
    {"type": "lora", "r": 4, "target_modules": ["q_proj", "v_proj", "lm_head"]},
    {"type": "lora", "r": 4, "target_modules": ["q_proj", "embed_tokens"]},
    {"type": "lora", "r": 4, "modules_to_save": ["lm_head"]},
    {"type": "lora", "r": 4, "modules_to_save": ["embed_tokens"]},
    {"type": "freeze", "layers": 1},
    {"type": "full"},
]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Llama", "Llama, tied"])
@pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda adapter: " ".join(map(str, adapter.values())))
def test_what_was_trained_is_what_is_saved(tmp_path: Path, name: str, adapter: dict[str, Any]) -> None:
    import transformers

    base = matrix.save_base(name, tmp_path / "base")
    recipe = matrix.recipe_for(base, "lm", adapter)
    objective = matrix.objective_for(recipe, "lm")
    policy, masters, logged = matrix.train(recipe, "lm", tmp_path / "checkpoints")
    assert all(row["grad_norm"] > 0 for row in logged)
    target = tmp_path / "model"
    tokenizer = load_tokenizer(recipe.model)
    save_model(target, recipe, objective, tokenizer, masters.weights(), stop_ids=[2], steps=[], card="---\n---\n")
    rows = matrix.examples("lm")
    ours = matrix.library_forward(policy.model, "lm", rows)
    plain = matrix.library_forward(transformers.AutoModelForCausalLM.from_pretrained(base).eval(), "lm", rows)
    assert matrix.largest(ours, plain) > 1e-3, "training changed nothing"
    opened, manifest = open_model(target, recipe)
    assert matrix.largest(ours, matrix.library_forward(opened.eval(), "lm", rows)) <= 1e-5
    if manifest["kind"] == "model":
        loaded = transformers.AutoModelForCausalLM.from_pretrained(target).eval()
        assert matrix.largest(ours, matrix.library_forward(loaded, "lm", rows)) <= 1e-5


def test_a_tuned_adapter_refuses_another_base(tmp_path: Path) -> None:
    base = matrix.save_base("Llama", tmp_path / "base")
    recipe = matrix.recipe_for(base, "lm", {"type": "lora", "r": 4})
    objective, tokenizer = matrix.objective_for(recipe, "lm"), load_tokenizer(recipe.model)
    weights = Masters(build(recipe, objective, tokenizer), recipe.train, dtype=torch.float32).weights()
    save_model(tmp_path / "model", recipe, objective, tokenizer, weights, stop_ids=[2], steps=[], card="")
    matrix.save_base("Llama, tied", base)
    with pytest.raises(RecipeError, match="other weights"):
        open_model(tmp_path / "model", recipe)


def test_building_twice_gives_the_same_weights(tmp_path: Path) -> None:
    base = matrix.save_base("Llama", tmp_path / "base")
    recipe = matrix.recipe_for(base, "sequence", {"type": "lora", "r": 4})
    objective, tokenizer = matrix.objective_for(recipe, "sequence"), load_tokenizer(recipe.model)
    torch.manual_seed(1)
    one = build(recipe, objective, tokenizer).state_dict()
    torch.manual_seed(2)
    two = build(recipe, objective, tokenizer).state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_examples_with_one_token_score_nothing_wrong() -> None:
    """The shortest texts: one scored token, packed first, last and alone."""
    policy = llama()
    assert policy.settle() == "packed"
    rows = [Example(np.array([7, number], np.int32), np.array([0, 1], np.float32)) for number in (5, 6, 9)]
    plain = matrix.library_forward(policy.model, "lm", rows)
    assert matrix.largest(plain, matrix.policy_forward(policy, rows, "packed", 0)) <= 1e-5
    assert matrix.largest(plain[:1], matrix.policy_forward(policy, rows[:1], "packed", 0)) <= 1e-5
