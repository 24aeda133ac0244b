"""The bundled base's tokenizer, template and configurations are what llama.cpp, transformers and attune need."""

import json
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "attune" / "model" / "starter"
CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Two and two?"},
    {"role": "assistant", "content": "Four."},
    {"role": "user", "content": "And one more?"},
    {"role": "assistant", "content": "Five."},
]
TOOLS = [{"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": {}}}]


@pytest.fixture(scope="module")
def tokenizer():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(FOLDER)


def test_vocabulary_and_control_tokens(tokenizer):
    assert len(tokenizer) == tokenizer.vocab_size == 8192
    named = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"]
    assert tokenizer.convert_tokens_to_ids(named) == [0, 1, 2, 3]
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id) == (0, 3)
    assert tokenizer("Hi")["input_ids"] == tokenizer("Hi", add_special_tokens=False)["input_ids"]
    assert tokenizer.decode([1, 2, 3, 0], skip_special_tokens=True) == ""


def test_the_pre_tokenizer_is_the_one_llama_cpp_calls_smollm():
    pre = json.loads((FOLDER / "tokenizer.json").read_text(encoding="utf-8"))["pre_tokenizer"]["pretokenizers"]
    assert pre == [
        {"type": "Digits", "individual_digits": True},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
    ]


@pytest.mark.parametrize(
    "text", ["", " a  b\n\n\tc ", "it's 12.5% of 1,024", "naïve Ωμέγα 😀\u200d\u0000", "\r\n  x\r\n"]
)
def test_every_text_comes_back_and_digits_stand_alone(tokenizer, text):
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids) == text
    pieces = [tokenizer.decode([i]) for i in ids]
    assert all(piece.isdigit() and len(piece) == 1 for piece in pieces if any(c.isdigit() for c in piece))


def test_template_is_chatml_and_each_turn_extends_the_one_before(tokenizer):
    def render(messages, **options):
        return tokenizer.apply_chat_template(messages, tokenize=False, **options)

    assert render(CHAT[:3]) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nTwo and two?<|im_end|>\n"
        "<|im_start|>assistant\nFour.<|im_end|>\n"
    )
    for end in range(2, len(CHAT) + 1):
        assert render(CHAT[:end]).startswith(render(CHAT[: end - 1]))
    assert render(CHAT[:2], add_generation_prompt=True) == render(CHAT[:2]) + "<|im_start|>assistant\n"
    assert render(CHAT[:3]).startswith(render(CHAT[:2], add_generation_prompt=True))
    assert render([{"role": "developer", "content": "x"}]) == render([{"role": "system", "content": "x"}])
    parts = [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]
    assert render(parts) == "<|im_start|>user\nab<|im_end|>\n"


def test_generation_markers_hold_the_answers_with_their_stop(tokenizer):
    row = tokenizer.apply_chat_template(CHAT, return_dict=True, return_assistant_tokens_mask=True)
    trained = [token for token, mask in zip(row["input_ids"], row["assistant_masks"], strict=True) if mask]
    assert tokenizer.decode(trained) == "Four.<|im_end|>Five.<|im_end|>"


@pytest.mark.parametrize("arguments", [{"a": 1, "b": [2]}, '{"a": 1, "b": [2]}'])
def test_tools_are_shown_and_calls_are_json(tokenizer, arguments):
    call = {"type": "function", "function": {"name": "add", "arguments": arguments}}
    messages = [*CHAT[:2], {"role": "assistant", "content": None, "tool_calls": [call, call]}]
    messages.append({"role": "tool", "content": "3"})
    text = tokenizer.apply_chat_template(messages, tools=TOOLS, tokenize=False)
    assert text.count("<|im_start|>system") == 1
    assert text.startswith("<|im_start|>system\nBe brief.\n\n")
    shown = text.split("<tools>\n")[1].split("\n</tools>")[0]
    assert json.loads(shown) == TOOLS[0]
    answer = text.split("<|im_start|>assistant\n")[1].split("<|im_end|>")[0]
    called = [part.split("\n</tool_call>")[0] for part in answer.split("<tool_call>\n")[1:]]
    assert [json.loads(part) for part in called] == [{"name": "add", "arguments": {"a": 1, "b": [2]}}] * 2
    assert text.endswith("<|im_start|>tool\n3<|im_end|>\n")
    without_system = tokenizer.apply_chat_template(messages[1:], tools=TOOLS, tokenize=False)
    assert "<|im_start|>user\nTwo and two?<|im_end|>" in without_system


@pytest.mark.parametrize(("preset", "least", "most"), [("cpu", 5e6, 8e6), ("gpu", 20e6, 28e6)])
def test_presets_build_llamas_of_the_stated_size(tokenizer, preset, least, most):
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    config = LlamaConfig.from_json_file(FOLDER / f"{preset}.json")
    assert config.vocab_size == len(tokenizer)
    assert config.hidden_size // config.num_attention_heads == config.head_dim == 64
    assert config.hidden_size % 256 == config.intermediate_size % 256 == 0  # GGUF's quantisation blocks
    assert config.max_position_embeddings == tokenizer.model_max_length
    assert (config.eos_token_id, config.pad_token_id) == (tokenizer.eos_token_id, tokenizer.pad_token_id)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    assert least <= model.num_parameters() <= most
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight


def test_the_bundled_configuration_is_one_of_the_presets():
    def shape(name):
        config = json.loads((FOLDER / name).read_text(encoding="utf-8"))
        return {key: config[key] for key in config if key not in ("transformers_version", "dtype")}

    assert shape("config.json") in (shape("cpu.json"), shape("gpu.json"))


def test_generation_stops_at_the_end_of_a_turn_and_of_a_document(tokenizer):
    from transformers import GenerationConfig

    generation = GenerationConfig.from_pretrained(FOLDER)
    assert generation.eos_token_id == tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    assert generation.pad_token_id == tokenizer.pad_token_id


def test_the_card_names_licence_and_share_alike_sources():
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    front = card.split("---")[1]
    assert "license:" in front and "language:" in front
    for name in ("wikipedia", "dialogues_sgd", "onestop_simple", "CC-BY-SA-3.0", "CC-BY-SA-4.0"):
        assert name in card
