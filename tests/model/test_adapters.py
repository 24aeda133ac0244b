"""Adapters against PEFT's own forward and allocation, rates by depth, and the friendly names."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from attune import plugins
from attune.data.batch import collate
from attune.errors import RecipeError
from attune.generate.engine import Engine
from attune.model.policy import Policy
from attune.recipe import Recipe, Train
from attune.train.optim import Masters


def _load() -> ModuleType:
    path = Path(__file__).with_name("architectures.py")
    spec = importlib.util.spec_from_file_location("adapters_architectures", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


matrix = _load()
VIRTUAL: list[dict[str, Any]] = [
    {"type": "prompt_tuning", "tokens": 4},
    {"type": "prefix", "tokens": 3},
    {"type": "p_tuning", "tokens": 3, "hidden_size": 8},
]
BASES = {"lm": "Llama", "sequence": "Llama, classifier", "encoder": "BERT, classifier", "token": "BERT, tagger"}


def adapter_of(options: dict[str, Any]) -> Any:
    plugin: Any = plugins.get("adapter", options["type"])
    return plugin(plugin.Config(**{key: value for key, value in options.items() if key != "type"}))


def policy_of(base: str, head: str, options: dict[str, Any], **arguments: Any) -> Policy:
    import transformers

    kind, _, given = matrix.CONFIGS[base]
    config = getattr(transformers, kind)(**{**given, "num_labels": 3, **arguments})
    torch.manual_seed(0)
    model = getattr(transformers, matrix._HEAD_CLASSES[head]).from_config(config, attn_implementation="sdpa")
    adapter = adapter_of(options)
    policy = Policy(adapter.attach(model, head=head), head=head, adapter=adapter)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return policy.eval()


# virtual tokens -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", VIRTUAL, ids=lambda options: options["type"])
@pytest.mark.parametrize("where", list(BASES))
def test_virtual_tokens_equal_pefts_forward(where: str, options: dict[str, Any]) -> None:
    head = "sequence" if where == "encoder" else where
    policy = policy_of(BASES[where], head, options)
    assert policy.settle() == "padded" and policy.fast == (where in ("lm", "sequence"))
    pad_id = policy.config.pad_token_id
    rows = matrix.examples(head)
    batch = collate(rows, layout="padded", scored="next" if head == "lm" else "here", pad_id=pad_id)
    with torch.no_grad():
        scores = policy(batch)
        ours = scores.logp if head == "lm" else scores.out
        if where != "sequence":  # PEFT's forward of the padded batch, its virtual columns dropped
            logits = policy.model(input_ids=batch.input_ids, attention_mask=batch.mask).logits
            if head != "sequence":
                logits = logits[:, -batch.input_ids.shape[1] :].flatten(0, 1)[batch.src]
            theirs = logits if head != "lm" else logits.log_softmax(-1).gather(1, batch.target[:, None])[:, 0]
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
        # and each row alone, which no padding can disturb
        for number, row in enumerate(rows):
            ids = torch.tensor(row.ids[None].astype("int64"))
            logits = policy.model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
            mine = ours[batch.seq == number]
            if head != "sequence":
                at = torch.tensor(row.weight).nonzero()[:, 0]
                logits = logits[0, -ids.shape[1] :][at - 1 if head == "lm" else at]
            theirs = logits if head != "lm" else logits.log_softmax(-1).gather(1, ids[0, at][:, None])[:, 0]
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", VIRTUAL, ids=lambda options: options["type"])
def test_the_engine_reads_left_padded_prompts_behind_virtual_tokens(options: dict[str, Any]) -> None:
    policy = policy_of("Llama", "lm", options)
    policy.settle()
    prompts = [row.ids.tolist() for row in matrix.examples("lm")]
    engine = Engine(policy.model, None, stop_ids=[2], device="cpu")
    state = engine.prefill(prompts)
    answers = engine.generate(prompts, max_new_tokens=6)
    with torch.no_grad():
        for number, prompt in enumerate(prompts):
            ids = torch.tensor([prompt])
            theirs = policy.model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, -1]
            torch.testing.assert_close(state.logits[number], theirs, rtol=1e-4, atol=1e-5)
            longer = torch.tensor([[*prompt, *answers[number].ids]])
            logits = policy.model(input_ids=longer, attention_mask=torch.ones_like(longer)).logits[0]
            written = logits[-longer.shape[1] :][len(prompt) - 1 :].argmax(-1).tolist()
            assert written[: len(answers[number].ids)] == answers[number].ids


def test_padded_pooling_behind_virtual_tokens_is_not_left_to_the_library() -> None:
    """PEFT pools a padded row of a decoder in its padding; ours may not."""
    policy = policy_of("Llama, classifier", "sequence", VIRTUAL[0])
    policy.settle()
    rows = matrix.examples("sequence")
    batch = collate(rows, layout="padded", scored="here", pad_id=policy.config.pad_token_id)
    with torch.no_grad():
        theirs = policy.model(input_ids=batch.input_ids, attention_mask=batch.mask).logits
        assert float((policy(batch).out - theirs).abs().max()) > 1e-2


# AdaLoRA --------------------------------------------------------------------------------------------------------------


def test_adalora_allocates_as_peft_does() -> None:
    """The same gradients and weights through PEFT's own loop and through ours give the same weights and ranks."""
    options = {"type": "adalora", "r": 1, "init_r": 3, "every": 2, "warmup": 0.2, "settle": 0.3, "orthogonality": 0.0}
    total, found = 10, []
    for ours in (True, False):
        policy = policy_of("Llama", "lm", options)
        tuned, adapter = policy.model.base_model, policy.adapter
        config = tuned.peft_config["default"]
        for key, value in adapter._steps(total).items():
            setattr(config, key, value)
        named = {name: weight for name, weight in policy.named_parameters() if weight.requires_grad}
        for step in range(total):
            draw = torch.Generator().manual_seed(step)
            for weight in named.values():
                weight.grad = torch.randn(weight.shape, generator=draw)
                weight.data.sub_(0.1 * weight.grad)
            if ours:
                adapter.after_update(named, step, total)
            else:
                tuned.update_and_allocate(step)
        kept = {key.removeprefix("model.base_model.model."): value for key, value in config.rank_pattern.items()}
        found.append((kept, {name: weight.detach().clone() for name, weight in named.items()}))
    assert found[0][0] == found[1][0] and any(not all(ranks) for ranks in found[0][0].values())
    assert sum(sum(ranks) for ranks in found[0][0].values()) == options["r"] * len(found[0][0])
    assert all(torch.equal(value, found[1][1][name]) for name, value in found[0][1].items())


def test_adaloras_orthogonality_is_the_gradient_of_its_penalty() -> None:
    policy = policy_of("Llama", "lm", {"type": "adalora", "r": 1, "init_r": 3, "orthogonality": 0.5}).double()
    named = {name: weight for name, weight in policy.named_parameters() if weight.requires_grad}
    policy.adapter.before_update(named)

    def penalty() -> torch.Tensor:
        squares = [w @ w.T if "lora_A" in n else w.T @ w for n, w in named.items() if "lora_A" in n or "lora_B" in n]
        return 0.5 * torch.stack([(square - torch.eye(3)).norm() for square in squares]).mean()

    name, weight = next((name, weight) for name, weight in named.items() if "lora_B" in name)
    assert weight.grad is not None
    with torch.no_grad():
        before = penalty()
        weight[1, 2] += 1e-6
        assert float(penalty() - before) / 1e-6 == pytest.approx(float(weight.grad[1, 2]), rel=1e-4)


# how fast each weight learns ------------------------------------------------------------------------------------------


def test_blocks_thaw_from_the_top_and_learn_slower_further_down() -> None:
    options = {"type": "freeze", "unfreeze": 0.5, "layer_decay": 0.5, "embeddings": False}
    policy = policy_of("Llama", "lm", options, num_hidden_layers=3)
    rate = policy.adapter.rate
    name = "model.model.layers.{}.mlp.up_proj.weight"
    assert [rate(name.format(block)).start for block in (0, 1, 2)] == [0.5, 0.25, 0.0]
    assert [rate(name.format(block)).factor for block in (0, 1, 2)] == [0.125, 0.25, 0.5]
    assert (rate("model.lm_head.weight").factor, rate("model.lm_head.weight").start) == (1.0, 0.0)
    assert (rate("model.model.embed_tokens.weight").factor, rate("model.model.embed_tokens.weight").start) == (
        0.0625,
        0.5,
    )

    masters = Masters(policy, Train(weight_decay=0.1), dtype=torch.float32)
    for share, moving in ((0.0, {2}), (0.25, {1, 2}), (0.5, {0, 1, 2})):
        masters.zero_grad()
        masters.thaw(share)
        before = {key: value.clone() for key, value in masters.weights().items()}
        policy(collate(matrix.examples("lm"), layout="padded")).logp.sum().backward()
        masters.step(1e-2)
        moved = {key for key, value in masters.weights().items() if not torch.equal(value, before[key])}
        assert {
            block for block in range(3) if name.format(block).replace("model.model", "model.model") in moved
        } == moving
        assert ("model.model.embed_tokens.weight" in moved) == (share >= 0.5)


def test_lora_plus_moves_b_by_its_ratio() -> None:
    """Adam's first step has the size of the learning rate, whatever the gradient."""
    policy = policy_of("Llama", "lm", {"type": "lora", "r": 2, "lr_ratio": 8.0})
    masters = Masters(policy, Train(weight_decay=0.0, eps=1e-12), dtype=torch.float32)
    before = {key: value.clone() for key, value in masters.weights().items()}
    policy(collate(matrix.examples("lm"), layout="padded")).logp.sum().backward()
    masters.step(1e-3)
    for name, value in masters.weights().items():
        step = float((value - before[name]).abs().median())
        assert step == pytest.approx(8e-3 if ".lora_B." in name else 1e-3, rel=1e-2), name


# names ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "option", "value"),
    [
        ("rslora", "rslora", True),
        ("dora", "dora", True),
        ("pissa", "init", "pissa"),
        ("olora", "init", "olora"),
        ("lora_plus", "lr_ratio", 4.0),
        ("qlora", "quantize", "nf4"),
    ],
)
def test_friendly_names_of_the_lora_family_are_understood_and_said(written: str, option: str, value: Any) -> None:
    for adapter in (written, {"type": written, "r": 4}):
        recipe = Recipe.load({"data": {"path": "a.csv"}, "adapter": adapter})
        assert recipe.adapter.name == "lora" and getattr(recipe.adapter.options, option) == value
        assert any(written in notice for notice in recipe.notices)
    overridden = Recipe.load({"data": {"path": "a.csv"}}, [f"adapter={written}"])
    assert getattr(overridden.adapter.options, option) == value


@pytest.mark.parametrize(
    ("adapter", "said"),
    [
        ({"type": "freeze", "patterns": ["("]}, "no regular expression"),
        ({"type": "lora", "target_modules": "(("}, "no regular expression"),
        ({"type": "adalora", "target_modules": "(("}, "no regular expression"),
        ({"type": "vera", "target_modules": "(("}, "no regular expression"),
    ],
)
def test_a_pattern_that_cannot_be_read_is_named(adapter: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said) as caught:
        Recipe.load({"data": {"path": "a.csv"}, "adapter": adapter})
    assert "adapter." in caught.value.what


def test_modules_that_are_not_there_are_not_passed_over() -> None:
    model = torch.nn.ModuleDict({"embed_tokens": torch.nn.Embedding(4, 4)})
    with pytest.raises(RecipeError, match="names 'embedtokens', which this base does not have"):
        adapter_of({"type": "lora", "modules_to_save": ["embedtokens"]}).peft_config(model, "CAUSAL_LM")
    adapter_of({"type": "lora", "modules_to_save": ["embed_tokens"]}).peft_config(model, "CAUSAL_LM")


@pytest.mark.parametrize("kind", ["prompt_tuning", "p_tuning", "prefix"])
def test_virtual_tokens_leave_room_for_text(kind: str) -> None:
    from transformers import LlamaConfig

    recipe = Recipe.load({"data": {"path": "a.csv"}, "adapter": {"type": kind, "tokens": 120}})
    adapter = adapter_of({"type": kind, "tokens": 120})
    adapter.check(recipe, head="lm", config=LlamaConfig(max_position_embeddings=128))
    with pytest.raises(RecipeError, match="does not go with this recipe") as caught:
        adapter.check(recipe, head="lm", config=LlamaConfig(max_position_embeddings=127))
    assert "120 virtual tokens leave no room" in str(caught.value.why)


@pytest.mark.parametrize(
    ("options", "rate"),
    [({}, 2e-3), ({"r": 8}, 2e-3), ({"r": 64}, 1e-3), ({"r": 64, "alpha": 32}, 2e-3), ({"rslora": True}, 5e-4)],
)
def test_a_larger_update_of_lora_learns_more_slowly(options: dict[str, Any], rate: float) -> None:
    assert adapter_of({"type": "lora", **options}).usual_rate(22_000_000) == rate
