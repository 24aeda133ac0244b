"""`model.dropout` sets what the base's family has, and says so where it has nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from attune.errors import RecipeError
from attune.model.load import dropouts, load_model
from attune.recipe import Model

SMALL: dict[str, Any] = dict(
    vocab_size=64, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2
)


def folder(path: Path, model: Any) -> str:
    model.save_pretrained(path)
    return str(path)


def test_each_family_has_its_own_names() -> None:
    asked = Model(dropout=0.2)
    assert dropouts(asked, transformers.LlamaConfig(**SMALL)) == {"attention_dropout": 0.2}
    assert dropouts(asked, transformers.BertConfig(**SMALL)) == {
        "hidden_dropout_prob": 0.2, "attention_probs_dropout_prob": 0.2, "classifier_dropout": 0.2,
    }  # fmt: skip
    gpt2 = dropouts(asked, transformers.GPT2Config())
    assert gpt2.keys() >= {"attn_pdrop", "embd_pdrop", "resid_pdrop"} and set(gpt2.values()) == {0.2}
    assert dropouts(Model(), transformers.BertConfig(**SMALL)) == {}


def test_a_family_without_any_is_refused() -> None:
    with pytest.raises(RecipeError, match="no place in this base"):
        dropouts(Model(dropout=0.1), transformers.MambaConfig())


def test_it_acts_in_training_and_not_at_evaluation(tmp_path: Path) -> None:
    base = folder(tmp_path / "bert", transformers.BertForSequenceClassification(transformers.BertConfig(**SMALL)))
    ids = torch.arange(4, 20)[None]
    plain, dropped = (
        load_model(Model(base=base, dropout=share), head="sequence", labels=["a", "b"], task="classification")
        for share in (0.0, 0.5)
    )
    with torch.no_grad():
        assert torch.equal(plain.eval()(ids).logits, dropped.eval()(ids).logits)
        dropped.train()
        assert not torch.equal(dropped(ids).logits, dropped(ids).logits)
        assert torch.equal(plain.train()(ids).logits, plain(ids).logits)
