"""Label likelihoods equal to scoring each (prompt, label) alone."""

import numpy as np
import pytest
import torch
import transformers
from peft import PromptTuningConfig, get_peft_model

from attune.errors import DataError
from attune.generate.engine import Engine
from attune.generate.labels import score_labels, to_probabilities

STOP = 7
SMALL = dict(vocab_size=200, hidden_size=32, num_hidden_layers=2, num_attention_heads=4)
LIKE_LLAMA = dict(**SMALL, intermediate_size=48, num_key_value_heads=2, head_dim=8, max_position_embeddings=128)
CONFIGS = {
    "llama": lambda: transformers.LlamaConfig(**LIKE_LLAMA),
    "qwen3": lambda: transformers.Qwen3Config(**LIKE_LLAMA),
    "gpt2": lambda: transformers.GPT2Config(vocab_size=200, n_embd=32, n_layer=2, n_head=4, n_positions=128),
    "mistral with a window": lambda: transformers.MistralConfig(**LIKE_LLAMA, sliding_window=6),
    "bloom (no position ids)": lambda: transformers.BloomConfig(vocab_size=200, hidden_size=32, n_layer=2, n_head=4),
}
LABELS = [[20], [20, 21], [20, 21, 22], [30, 31, 32, 33], [20, 40], [STOP + 1] * 6, [30, 31]]


def engine_of(name: str, **options) -> Engine:
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(CONFIGS[name](), **options).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4)
    return Engine(model, None, stop_ids=[STOP], device="cpu")


def prompts_of(count: int, shared: int) -> list[list[int]]:
    rng = np.random.default_rng(2)
    start = rng.integers(10, 200, shared).tolist()
    return [start + rng.integers(10, 200, rng.integers(1, 15)).tolist() for _ in range(count)]


def alone(engine: Engine, prompts, labels, ending) -> np.ndarray:
    """Each pair by itself, by a plain forward pass of the model."""
    return np.array([[engine.logp([(prompt, [*label, *ending])])[0, 0] for label in labels] for prompt in prompts])


@pytest.mark.parametrize("shared", [0, 30])
@pytest.mark.parametrize("name", CONFIGS)
def test_equal_to_each_pair_alone(name, shared):
    engine = engine_of(name)
    prompts = prompts_of(5, shared)
    found = score_labels(engine, prompts, LABELS)
    assert found == pytest.approx(alone(engine, prompts, LABELS, [STOP]), abs=1e-4)
    found = score_labels(engine, prompts, LABELS, stop=False)
    assert found == pytest.approx(alone(engine, prompts, LABELS, []), abs=1e-4)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_one_row_and_repeated_cache_agree_in_any_chunking(attention, monkeypatch):
    engine = engine_of("llama", attn_implementation=attention)
    prompts = prompts_of(6, 20)
    assert engine.can_branch
    branched = score_labels(engine, prompts, LABELS)
    engine.can_branch = False
    assert score_labels(engine, prompts, LABELS) == pytest.approx(branched, abs=1e-4)
    monkeypatch.setattr("attune.generate.labels.SCORED_LOGITS", 200 * 9)
    engine.batch_tokens = 70
    assert score_labels(engine, prompts, LABELS) == pytest.approx(branched, abs=1e-4)
    engine.can_branch = True
    assert score_labels(engine, prompts, LABELS) == pytest.approx(branched, abs=1e-4)


def test_virtual_tokens_of_an_adapter_count():
    engine = engine_of("llama")
    prompts = prompts_of(4, 20)
    plain = score_labels(engine, prompts, LABELS)
    torch.manual_seed(3)
    model = get_peft_model(engine.model, PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)).eval()
    tuned = Engine(model, None, stop_ids=[STOP], device="cpu")
    found = score_labels(tuned, prompts, LABELS)
    assert found == pytest.approx(alone(tuned, prompts, LABELS, [STOP]), abs=1e-4)
    assert np.abs(found - plain).max() > 0.1


def test_all_labels_of_one_token_sum_to_at_most_one():
    engine = engine_of("gpt2")
    every = [[token] for token in range(200)]
    chances = np.exp(score_labels(engine, prompts_of(3, 0), every, stop=False))
    assert chances.sum(1) == pytest.approx(np.ones(3), abs=1e-5)


def test_normalising_divides_by_the_scored_tokens():
    engine = engine_of("qwen3")
    prompts = prompts_of(3, 0)
    total = score_labels(engine, prompts, LABELS)
    per_token = score_labels(engine, prompts, LABELS, normalise="tokens")
    assert per_token * np.array([len(label) + 1 for label in LABELS]) == pytest.approx(total)


def test_probabilities():
    assert to_probabilities(np.log([[0.2, 0.6]])) == pytest.approx(np.array([[0.25, 0.75]]))
    assert to_probabilities(np.array([[-1e4, -1e4 - 800.0]])) == pytest.approx(np.array([[1.0, 0.0]]))


def test_bad_requests_are_named():
    engine = engine_of("gpt2")
    with pytest.raises(DataError, match="label 2 has no tokens"):
        score_labels(engine, [[1]], [[1], []])
    with pytest.raises(DataError, match="prompt 1 is empty"):
        score_labels(engine, [[]], [[1]])
    with pytest.raises(DataError, match="prompt 2 has 127 tokens and its labels up to 7"):
        score_labels(engine, [[1], [1] * 127], LABELS)
    assert score_labels(engine, [], LABELS).shape == (0, len(LABELS))
