"""A shallower model out of a deeper one: right blocks, a right cache, and a folder that loads anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from attune.errors import RecipeError
from attune.generate.engine import Engine
from attune.model.layers import keep_layers
from attune.model.load import load_model
from attune.recipe import Model


def llama() -> Any:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=5, num_attention_heads=2
    )
    return transformers.LlamaForCausalLM(config).eval()


def test_the_named_blocks_stay_in_their_order(tmp_path: Path) -> None:
    whole, cut = llama(), llama()
    keep_layers(cut, [0, 3, 4])
    assert cut.config.num_hidden_layers == 3 and len(cut.model.layers) == 3
    for here, there in enumerate((0, 3, 4)):
        ours, theirs = cut.model.layers[here].state_dict(), whole.model.layers[there].state_dict()
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    ids = torch.randint(40, (1, 9))
    cut.save_pretrained(tmp_path)
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(again(ids).logits, cut(ids).logits)


def test_writing_with_the_cache_equals_reading_without() -> None:
    cut = llama()
    keep_layers(cut, [1, 4])
    (answer,) = Engine(cut, None, stop_ids=[], device="cpu").generate([[5, 6, 7]], max_new_tokens=6)
    ids = [5, 6, 7]
    for token in answer.ids:
        assert int(cut(torch.tensor([ids])).logits[0, -1].argmax()) == token
        ids.append(token)


def test_kinds_of_attention_go_with_their_blocks() -> None:
    torch.manual_seed(0)
    config = transformers.Gemma3TextConfig(
        vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=6, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, sliding_window=4,
    )  # fmt: skip
    model = transformers.Gemma3ForCausalLM(config)
    kinds = list(config.layer_types)
    keep_layers(model, [2, 5])
    assert model.config.layer_types == [kinds[2], kinds[5]]
    assert torch.isfinite(model(torch.randint(40, (1, 9))).logits).all()


def test_the_starter_takes_them_from_the_recipe() -> None:
    model: Any = load_model(Model(base="starter", layers=[0, 2]), head="lm")
    assert len(model.model.layers) == 2


@pytest.mark.parametrize(("layers", "says"), [([0, 99], "names block 99"), ([2, 1], "must rise"), ([], "at least 1")])
def test_what_cannot_be_is_refused(layers: list[int], says: str) -> None:
    with pytest.raises((RecipeError, ValueError), match=says):
        load_model(Model(base="starter", layers=layers), head="lm")


def test_shared_blocks_cannot_be_told_apart() -> None:
    config = transformers.AlbertConfig(
        vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=4, num_attention_heads=2,
        embedding_size=8,
    )  # fmt: skip
    with pytest.raises(RecipeError, match="albert"):
        keep_layers(transformers.AlbertForSequenceClassification(config), [0, 1])
