"""The engine against transformers' own forward pass and `generate`, on tiny random models."""

import io

import numpy as np
import pytest
import torch
import transformers
from peft import LoraConfig, PrefixTuningConfig, PromptTuningConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from attune.errors import DataError, DivergedError, RecipeError, UsageError
from attune.generate.chat import chat, classify_loop
from attune.generate.engine import Engine
from attune.records import Message

STOP = 7
SMALL = dict(vocab_size=300, hidden_size=32, num_hidden_layers=2, num_attention_heads=4)
LIKE_LLAMA = dict(**SMALL, intermediate_size=48, num_key_value_heads=2, head_dim=8, max_position_embeddings=256)
CONFIGS = {
    "llama": lambda: transformers.LlamaConfig(**LIKE_LLAMA),
    "qwen3": lambda: transformers.Qwen3Config(**LIKE_LLAMA),
    "gpt2": lambda: transformers.GPT2Config(vocab_size=300, n_embd=32, n_layer=2, n_head=4, n_positions=256),
    "gpt_neox": lambda: transformers.GPTNeoXConfig(**SMALL, intermediate_size=48, max_position_embeddings=256),
    "gemma3": lambda: transformers.Gemma3TextConfig(
        **LIKE_LLAMA, sliding_window=8, layer_types=["sliding_attention", "full_attention"]
    ),
}


def model_of(name: str):
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(CONFIGS[name]()).eval()
    with torch.no_grad():  # untrained weights are nearly uniform: make the likeliest token clear
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4)
    return model


def byte_tokenizer():
    """One token per byte, so that most characters beyond ASCII take several."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={char: at for at, char in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def prompts_of(count: int, low: int = 3, high: int = 20) -> list[list[int]]:
    rng = np.random.default_rng(1)
    return [rng.integers(10, 300, rng.integers(low, high)).tolist() for _ in range(count)]


def engine_of(name: str, **options) -> Engine:
    return Engine(model_of(name), byte_tokenizer(), stop_ids=[STOP], device="cpu", **options)


@pytest.mark.parametrize("name", CONFIGS)
def test_greedy_equals_transformers_one_by_one_and_does_not_depend_on_the_batch(name):
    engine = engine_of(name)
    prompts = prompts_of(8)
    together = engine.generate(prompts, max_new_tokens=12)
    engine.batch_tokens = 1
    alone = engine.generate(prompts, max_new_tokens=12)
    assert [answer.ids for answer in together] == [answer.ids for answer in alone]
    for prompt, answer in zip(prompts, together):
        ids = torch.tensor([prompt])
        options = dict(do_sample=False, max_new_tokens=12, eos_token_id=STOP, pad_token_id=0)
        theirs = engine.model.generate(ids, attention_mask=torch.ones_like(ids), **options)
        assert [*answer.ids, *([STOP] if answer.stopped else [])] == theirs[0, len(prompt) :].tolist()


@pytest.mark.parametrize("name", CONFIGS)
def test_the_repetition_penalty_equals_transformers(name):
    engine = engine_of(name, repetition_penalty=1.7)
    prompts = prompts_of(6)
    plain = engine_of(name).generate(prompts, max_new_tokens=16)
    answers = engine.generate(prompts, max_new_tokens=16)
    assert [answer.ids for answer in answers] != [answer.ids for answer in plain]
    for prompt, answer in zip(prompts, answers):
        ids = torch.tensor([prompt])
        options = dict(do_sample=False, max_new_tokens=16, eos_token_id=STOP, pad_token_id=0, repetition_penalty=1.7)
        theirs = engine.model.generate(ids, attention_mask=torch.ones_like(ids), **options)
        assert [*answer.ids, *([STOP] if answer.stopped else [])] == theirs[0, len(prompt) :].tolist()


def test_stopping_frees_the_row_and_the_others_go_on():
    engine = engine_of("llama")
    prompts = prompts_of(6)
    free = engine.generate(prompts, max_new_tokens=10)
    stop = free[2].ids[3]
    engine.stop_ids = [stop]
    answers = engine.generate(prompts, max_new_tokens=10)
    for before, after in zip(free, answers):
        cut = before.ids.index(stop) if stop in before.ids else 10
        assert after.ids == before.ids[:cut] and after.stopped == (cut < 10)
    seen: dict[int, list[int]] = {}
    engine.generate(prompts, max_new_tokens=10, on_token=lambda index, token: seen.setdefault(index, []).append(token))
    assert [seen[at] for at in range(6)] == [[*a.ids, *([stop] if a.stopped else [])] for a in answers]


@pytest.mark.parametrize("name", CONFIGS)
def test_logp_equals_a_full_forward_pass(name):
    engine = engine_of(name)
    sequences = [(prompt[: len(prompt) // 2], prompt[len(prompt) // 2 :]) for prompt in prompts_of(7)]
    sequences.append(([], [5, 6, 9]))
    found = engine.logp(sequences)
    for (prompt, completion), (total, count) in zip(sequences, found):
        ids = torch.tensor([[*prompt, *completion]])
        with torch.no_grad():
            scores = engine.model(ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
        expected = scores[max(0, len(prompt) - 1) :]
        assert count == len(expected)
        assert total == pytest.approx(float(expected.sum()), abs=2e-4)


def test_generated_logp_is_the_logp_of_what_was_written():
    engine = engine_of("qwen3")
    prompts = prompts_of(5)
    for temperature in (0.0, 0.8):
        answers = engine.generate(prompts, max_new_tokens=6, temperature=temperature, seed=3)
        again = engine.logp([(p, [*a.ids, *([STOP] if a.stopped else [])]) for p, a in zip(prompts, answers)])
        assert [a.logp for a in answers] == pytest.approx(again[:, 0].tolist(), abs=1e-3)


def test_sampling_depends_on_the_seed_and_not_on_the_batch():
    engine = engine_of("llama")
    prompts = prompts_of(6)
    options = dict(max_new_tokens=8, temperature=1.0, top_p=0.95)
    one = [answer.ids for answer in engine.generate(prompts, seed=1, **options)]
    engine.batch_tokens = 1
    assert [answer.ids for answer in engine.generate(prompts, seed=1, **options)] == one
    assert [answer.ids for answer in engine.generate(prompts, seed=2, **options)] != one
    narrow = engine.generate(prompts, max_new_tokens=8, temperature=1.0, top_p=1e-6, seed=1)
    assert [a.ids for a in narrow] == [a.ids for a in engine.generate(prompts, max_new_tokens=8)]


def test_sampling_follows_the_models_distribution():
    engine = engine_of("gpt2")
    prompt = prompts_of(1)[0]
    with torch.no_grad():
        chances = (engine.model(torch.tensor([prompt])).logits[0, -1] / 2.0).softmax(-1).numpy()
    drawn = engine.generate([prompt] * 3000, max_new_tokens=1, temperature=2.0)
    counts = np.bincount([(a.ids or [STOP])[0] for a in drawn], minlength=300) / 3000
    # Total variation of 3000 draws from at most 300 outcomes stays below 0.5 * sqrt(300 / 3000).
    assert 0.5 * np.abs(counts - chances).sum() < 0.16


@pytest.mark.parametrize("config", ["lora", "prompt", "prefix"])
def test_peft_wrapped_models_agree_with_their_own_forward_pass(config):
    torch.manual_seed(1)
    settings = {
        "lora": LoraConfig(task_type="CAUSAL_LM", init_lora_weights=False),
        "prompt": PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=5),
        "prefix": PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=5),
    }[config]
    model = get_peft_model(model_of("llama"), settings).eval()
    engine = Engine(model, None, stop_ids=[STOP], device="cpu")
    assert engine.virtual_tokens == (0 if config == "lora" else 5)
    prompts = prompts_of(4)
    answers = engine.generate(prompts, max_new_tokens=5)
    for prompt, answer in zip(prompts, answers):
        ids = list(prompt)
        for token in [*answer.ids, *([STOP] if answer.stopped else [])]:
            row = torch.tensor([ids])
            with torch.no_grad():
                logits = model(input_ids=row, attention_mask=torch.ones_like(row)).logits[0, -1]
            assert int(logits.argmax()) == token
            ids.append(token)
    total = engine.logp([(p, a.ids) for p, a in zip(prompts, answers)])
    assert total[:, 0] == pytest.approx([a.logp for a in answers if not a.stopped], abs=1e-3)


def test_streamed_pieces_join_to_the_text_and_never_split_a_character():
    tokenizer = byte_tokenizer()
    text = "a é 漢字 🙂 end"
    ids = tokenizer(text)["input_ids"]
    engine = Engine(_Reciter(model_of("llama"), ids), tokenizer, stop_ids=[STOP], device="cpu")
    engine.model.after = 4
    pieces = list(engine.stream([1, 2, 3, 4], max_new_tokens=len(ids)))
    assert "".join(pieces) == text
    assert not any("\ufffd" in piece for piece in pieces) and len(pieces) == len(text)
    # Bytes that are no character do not hold the stream back for ever.
    broken = [ids[2]] * 9
    engine.model.ids = broken
    assert "".join(engine.stream([1, 2, 3, 4], max_new_tokens=9)) == tokenizer.decode(broken)


class _Reciter(torch.nn.Module):
    """A model that says given tokens whatever it is asked."""

    def __init__(self, model, ids):
        super().__init__()
        self.inner, self.ids, self.after = model, ids, 0
        self.config, self.forward = model.config, self._forward

    def _forward(self, input_ids, attention_mask, position_ids, past_key_values=None, use_cache=True, logits_to_keep=0):
        output = self.inner(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            use_cache=use_cache,
            logits_to_keep=logits_to_keep,
        )
        at = int(position_ids[0, -1]) + 1 - self.after
        output.logits = torch.zeros_like(output.logits)
        output.logits[:, :, self.ids[at] if at < len(self.ids) else STOP] = 1.0
        return output


def test_bad_requests_are_named():
    engine = engine_of("gpt2")
    with pytest.raises(DataError, match="prompt 2 is empty"):
        engine.generate([[1], []])
    with pytest.raises(DataError, match="prompt 1 has 256 tokens"):
        engine.generate([[1] * 256])
    with pytest.raises(DataError, match="sequence 1 has 300 tokens, 256 fit"):
        engine.logp([([1] * 200, [1] * 100)])
    with pytest.raises(UsageError, match="top_p 0"):
        engine.generate([[1]], temperature=1.0, top_p=0.0)
    assert len(engine.generate([[1] * 250], max_new_tokens=50)[0].ids) <= 6
    with torch.no_grad():
        engine.model.transformer.ln_f.weight[0] = float("nan")
    with pytest.raises(DivergedError):
        engine.generate([[1, 2]])
    mamba = transformers.MambaForCausalLM(transformers.MambaConfig(vocab_size=30, hidden_size=8, num_hidden_layers=1))
    with pytest.raises(RecipeError, match="mamba"):
        Engine(mamba, None, stop_ids=[1], device="cpu")


def test_chat_keeps_the_turns_and_resets(capsys):
    tokenizer = byte_tokenizer()
    engine = Engine(model_of("llama"), tokenizer, stop_ids=[STOP], device="cpu")

    def prompt_ids(messages, tools):
        return tokenizer("".join(f"{message.role}: {message.content}\n" for message in messages))["input_ids"]

    out = io.StringIO()
    turns = chat(engine, prompt_ids, max_new_tokens=4, source=io.StringIO("hi\n\nagain\n"), out=out)
    assert [turn.role for turn in turns] == ["user", "assistant", "user", "assistant"]
    assert turns[0] == Message("user", "hi")
    assert out.getvalue() == f"{turns[1].content}\n{turns[3].content}\n"
    turns = chat(
        engine, prompt_ids, system="s", max_new_tokens=2, source=io.StringIO("a\n/reset\nb\n/quit\nc\n"), out=out
    )
    assert [turn.content for turn in turns[:2]] == ["s", "b"] and len(turns) == 3
    turns = chat(engine, prompt_ids, max_new_tokens=2, source=io.StringIO("x" * 400 + "\nok\n"), out=out)
    assert [turn.content for turn in turns[:1]] == ["ok"]
    assert "leaves no room" in capsys.readouterr().err


def test_classify_loop_prints_the_likeliest_first():
    out = io.StringIO()
    classify_loop(lambda text: [0.1, 0.7, 0.2], ["a", "bb", "c"], top=2, source=io.StringIO("x\n/quit\ny\n"), out=out)
    assert out.getvalue() == "bb  0.700\nc   0.200\n\n"
