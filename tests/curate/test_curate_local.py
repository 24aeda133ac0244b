"""A model of this machine as a writer."""

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from attune.curate.writers import LocalWriter
from attune.endpoint import Ask
from attune.errors import UsageError
from attune.generate.engine import Engine


class Run:
    """What LocalWriter takes of a tuned model: an engine, a renderer, and whether it writes."""


def test_a_local_model_writes_the_same_in_any_company_and_goes_on_after_a_kill(tmp_path):
    words = {word: at for at, word in enumerate(["<s>", "</s>", *"abcdefghijklmnopqrstuvwxyz"])}
    core = Tokenizer(models.WordLevel(words, unk_token="<s>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="</s>", pad_token="</s>")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=28, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=32,
    )  # fmt: skip
    tuned = Run()
    tuned.writes, tuned.run = True, Run()
    tuned.run.path = "runs/one"
    tuned.engine = Engine(LlamaForCausalLM(config), tokenizer, stop_ids=[1], device="cpu")
    tuned.prompt_ids = lambda messages: tokenizer(messages[-1].content)["input_ids"]

    def ask(text: str, **more) -> Ask:
        return Ask(({"role": "user", "content": text},), **more)

    asks = [
        ask("a b", temperature=0.0),
        ask("c d e", seed=1),
        ask("c d e", seed=2),
        ask("f " * 40),
        ask("g", temperature=0.0),
    ]
    writer = LocalWriter(tuned, max_tokens=6, journal=tmp_path)
    found = writer(asks)
    assert found[3].text is None and "40 tokens, the model reads 32" in found[3].finish
    assert found[1].text != found[2].text and all(answer.text for answer in found if answer is not found[3])
    assert LocalWriter(tuned, max_tokens=6)(asks[::-1]) == found[::-1]
    writer.journal.close()
    tuned.engine = None  # all of it is in the journal
    again = LocalWriter(tuned, max_tokens=6, journal=tmp_path)
    assert again(asks) == found
    again.journal.close()
    tuned.writes = False
    with pytest.raises(UsageError, match="writes no text"):
        LocalWriter(tuned)
