"""Encoder-decoders: the same texts, losses and answers as transformers' own, and every command end to end."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from attune import flow, plugins
from attune.data.batch import Loader, collate
from attune.data.examples import Example, ExampleStore
from attune.data.seq2seq import Seq2SeqRenderer, renderer_for
from attune.errors import DataError, RecipeError
from attune.generate.chat import chat
from attune.generate.engine import Generated
from attune.generate.seq2seq import engine_of
from attune.generate.state import draw_numbers, sample
from attune.model.parallel import Parallel
from attune.model.policy import Policy
from attune.recipe import Recipe, Train
from attune.records import Completion, Message, Record
from attune.train.loop import train_step
from attune.train.optim import Masters
from attune.tuned import load

SMALL_T5: dict[str, Any] = dict(
    d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, pad_token_id=0, eos_token_id=1, decoder_start_token_id=0,
    dropout_rate=0.0,
)  # fmt: skip
SMALL_BART: dict[str, Any] = dict(
    d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4,
    encoder_ffn_dim=48, decoder_ffn_dim=48, max_position_embeddings=64, pad_token_id=0, bos_token_id=2, eos_token_id=1,
    decoder_start_token_id=1, forced_bos_token_id=2, forced_eos_token_id=None, dropout=0.0,
)  # fmt: skip
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "t5": ("T5Config", SMALL_T5),
    "t5-1.1": ("T5Config", {**SMALL_T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
    "bart": ("BartConfig", SMALL_BART),
    "pegasus": ("PegasusConfig", {**SMALL_BART, "decoder_start_token_id": 0, "forced_bos_token_id": None}),
}
SPECIAL = ["<pad>", "</s>", "<s>", "<unk>"]
WORDS = [
    "translate",
    "into",
    "numbers",
    ":",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "1",
    "2",
    "3",
    "4",
    "5",
    "6",
]
VOCAB = len(SPECIAL) + len(WORDS)


def tokenizer_of(family: str) -> Any:
    """Words; T5 ends every text, BART begins and ends it."""
    words = Tokenizer(models.WordLevel({word: at for at, word in enumerate(SPECIAL + WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    single = "<s> $A </s>" if family == "bart" else "$A </s>"
    words.post_processor = processors.TemplateProcessing(single=single, special_tokens=[("<s>", 2), ("</s>", 1)])
    names: dict[str, Any] = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    if family == "bart":
        names["bos_token"] = "<s>"
    return transformers.PreTrainedTokenizerFast(tokenizer_object=words, **names)


def model_of(family: str, dtype: torch.dtype = torch.float32) -> Any:
    kind, arguments = FAMILIES[family]
    torch.manual_seed(0)
    model = transformers.AutoModelForSeq2SeqLM.from_config(getattr(transformers, kind)(vocab_size=VOCAB, **arguments))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.to(dtype).eval()


def texts(n: int = 7) -> list[tuple[str, str]]:
    rng = np.random.default_rng(4)
    rows = []
    for _ in range(n):
        numbers = rng.integers(0, 6, int(rng.integers(1, 9)))
        said = " ".join(WORDS[4 + number] for number in numbers)
        rows.append((f"translate into numbers : {said}", " ".join(WORDS[10 + number] for number in numbers)))
    return rows


def record(prompt: str, answer: str) -> Record:
    return Record("x", (Message("user", prompt),), (Completion((Message("assistant", answer),)),))


def sft() -> Any:
    plugin: Any = plugins.get("objective", "sft")
    return plugin(None)


# text -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_texts_become_what_transformers_makes_of_them(family: str) -> None:
    tokenizer, model = tokenizer_of(family), model_of(family)
    renderer = renderer_for(tokenizer, model.config)
    for prompt, answer in texts():
        (example,) = renderer.sft(record(prompt, answer))
        assert example.source is not None and example.source.tolist() == tokenizer(prompt).input_ids
        assert renderer.prompt_ids(record(prompt, answer)) == tokenizer(prompt).input_ids
        labels = tokenizer(text_target=answer).input_ids
        assert example.ids.tolist() == [model.config.decoder_start_token_id, *labels]
        forced = family == "bart"  # its first label is forced when answers are written, so it is not learnt
        assert example.weight.tolist() == [0.0] * (2 if forced else 1) + [1.0] * (len(labels) - forced)
    assert renderer.stop_ids == (1,)


def test_conversations_carry_the_speakers() -> None:
    renderer = renderer_for(tokenizer_of("t5"), model_of("t5").config)
    turns = (Message("system", "one"), Message("user", "two"), Message("assistant", "2"), Message("user", "three"))
    whole = Record("x", turns, (Completion((Message("assistant", "3"),)),))
    text = "one User: two Assistant: 2 User: three Assistant:"
    assert renderer.prompt_ids(whole) == renderer.tokenizer(text).input_ids
    first, last = renderer.sft(whole)
    assert first.ids.tolist() == [0, SPECIAL.__len__() + WORDS.index("2"), 1] and (first.turn, last.turn) == (0, 1)
    assert last.source is not None and last.source.tolist() == renderer.tokenizer(text).input_ids


def test_control_tokens_in_texts_are_literal() -> None:
    renderer = renderer_for(tokenizer_of("t5"), model_of("t5").config)
    (example,) = renderer.sft(record("one </s> two", "1 </s> 2"))
    assert example.source is not None and (example.source == 1).sum() == 1 and (example.ids == 1).sum() == 1


def test_long_texts_are_cut_as_asked_and_counted() -> None:
    prompt, answer = " ".join(["one"] * 20), " ".join(["1"] * 12)
    for policy, sizes in (("left", (8, 8)), ("right", (8, 8)), ("drop", None)):
        renderer = renderer_for(tokenizer_of("t5"), model_of("t5").config, max_length=8, truncate=policy)
        found = renderer.sft(record("two " + prompt, answer))
        assert renderer.truncation.over == 1
        if sizes is None:
            assert not found and renderer.truncation.dropped == 1
            continue
        (example,) = found
        assert example.source is not None and (len(example.source), len(example.ids)) == sizes
        assert (example.source[0] == SPECIAL.__len__() + WORDS.index("two")) == (policy == "right")
        assert example.source[-1] == 1 and renderer.truncation.stops_lost == 1


@pytest.mark.parametrize(
    ("record_", "said"),
    [
        (
            Record("x", (Message("user", "one"),), (Completion((Message("assistant", "", tool_calls=({"a": 1},)),)),)),
            "tool",
        )
    ],
)
def test_tool_calls_are_refused(record_: Record, said: str) -> None:
    renderer = renderer_for(tokenizer_of("t5"), model_of("t5").config)
    with pytest.raises(DataError, match=said):
        renderer.sft(record_)


def test_bases_that_mark_languages_are_refused() -> None:
    tokenizer = tokenizer_of("bart")
    tokenizer.tgt_lang = "de_DE"
    with pytest.raises(RecipeError, match="marks the language"):
        Seq2SeqRenderer(tokenizer, start_id=1)


# loss -----------------------------------------------------------------------------------------------------------------


def rendered(family: str, model: Any) -> list[Example]:
    renderer = renderer_for(tokenizer_of(family), model.config)
    return [example for pair in texts() for example in renderer.sft(record(*pair))]


def stepped(policy: Policy, rows: list[Example], size: int) -> tuple[float, dict[str, torch.Tensor]]:
    masters = Masters(policy, Train(), dtype=next(policy.parameters()).dtype)
    batches = [collate(rows[at : at + size], layout="padded") for at in range(0, len(rows), size)]
    row, _ = train_step(policy, sft(), batches, masters, Parallel())
    return row["loss"], {name: value.grad.clone() for name, value in policy.named_parameters() if value.requires_grad}


@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_gradient_equal_transformers(family: str) -> None:
    """Padded to uneven lengths on both sides, labels -100 where the model's own loss should not look."""
    model = model_of(family, torch.float64)
    rows = rendered(family, model)
    batch = collate(rows, layout="padded")
    assert batch.source is not None
    labels = torch.full_like(batch.input_ids[:, 1:], -100)
    labels.flatten()[batch.src - torch.arange(len(rows)).repeat_interleave(batch.seq.bincount())] = batch.target
    starts = batch.input_ids[:, :-1]
    expected = model(
        input_ids=batch.source.input_ids, attention_mask=batch.source.mask, decoder_input_ids=starts, labels=labels
    ).loss
    if family != "bart":  # without decoder inputs transformers shifts the labels itself: the same again
        own = model(input_ids=batch.source.input_ids, attention_mask=batch.source.mask, labels=labels).loss
        assert own.item() == pytest.approx(expected.item(), rel=1e-12)
    expected.backward()
    theirs = {name: value.grad.clone() for name, value in model.named_parameters() if value.requires_grad}
    for fast in (False, True):
        policy = Policy(model_of(family, torch.float64), head="lm")
        assert policy.settle() == "padded" and policy.fast, policy.notes
        policy.fast = fast
        for size in (7, 3, 1):  # the gradient does not depend on how a step is cut
            loss, ours = stepped(policy, rows, size)
            assert loss == pytest.approx(expected.item(), rel=1e-10)
            for name, value in theirs.items():
                torch.testing.assert_close(ours[f"model.{name}"], value, rtol=1e-9, atol=1e-10)


def test_a_bias_after_the_head_is_not_forgotten() -> None:
    """Marian and other conversions have one; the fast path would leave it out."""
    model = model_of("bart")
    model.final_logits_bias.normal_()
    policy = Policy(model, head="lm").eval()
    policy.settle()
    assert not policy.fast and any("bias" in note for note in policy.notes)
    rows = rendered("bart", model)
    batch = collate(rows, layout="padded")
    assert batch.source is not None
    with torch.no_grad():
        logits = model(
            input_ids=batch.source.input_ids, attention_mask=batch.source.mask, decoder_input_ids=batch.input_ids
        ).logits.flatten(0, 1)[batch.src]
        torch.testing.assert_close(policy(batch).logp, logits.log_softmax(-1).gather(1, batch.target[:, None])[:, 0])


def test_a_store_keeps_sources(tmp_path: Path) -> None:
    rows = rendered("t5", model_of("t5"))
    store = ExampleStore.of(rows, vocab_size=VOCAB)
    assert store.lengths.tolist() == [len(row.ids) + len(row.source) for row in rows]  # type: ignore[arg-type]
    store.save(tmp_path / "store")
    again = ExampleStore.load(tmp_path / "store", verify=True)
    for row, other in zip(rows, again):
        assert np.array_equal(row.source, other.source) and np.array_equal(row.ids, other.ids)  # type: ignore[arg-type]
    assert again.content_hash == store.content_hash
    other = ExampleStore.of(
        [*rows[:-1], Example(rows[-1].ids, rows[-1].weight, source=rows[0].source)], vocab_size=VOCAB
    )
    assert other.content_hash != store.content_hash
    with pytest.raises(DataError, match="with and without"):
        ExampleStore.of([rows[0], Example(rows[0].ids, rows[0].weight)], vocab_size=VOCAB)
    with pytest.raises(DataError, match="no packed row"):
        collate(rows, layout="packed")
    batch = Loader(store, seed=0, batch_size=3, layout="padded").batches(0)[0]
    assert batch.n_tokens == sum(store.lengths[number] for number in batch.index.tolist())  # type: ignore[union-attr]


# writing --------------------------------------------------------------------------------------------------------------


def engine(family: str, **options: Any) -> Any:
    model, tokenizer = model_of(family), tokenizer_of(family)
    with torch.no_grad():  # untrained weights are nearly uniform: make the likeliest token clear
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(2)
    return engine_of(model, tokenizer, renderer_for(tokenizer, model.config), device="cpu", **options)


def prompts() -> list[list[int]]:
    tokenizer = tokenizer_of("t5")
    return [tokenizer(prompt).input_ids for prompt, _ in texts()]


@pytest.mark.parametrize("penalty", [1.0, 1.6])
@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_equals_transformers_and_does_not_depend_on_the_batch(family: str, penalty: float) -> None:
    asked = engine(family, repetition_penalty=penalty)
    together: list[Generated] = asked.generate(prompts(), max_new_tokens=12)
    asked.batch_tokens = 1
    assert [one.ids for one in asked.generate(prompts(), max_new_tokens=12)] == [one.ids for one in together]
    start = len(asked.decoder_prefix)
    for prompt, answer in zip(prompts(), together):
        theirs = asked.model.generate(
            torch.tensor([prompt]), do_sample=False, num_beams=1, max_new_tokens=12 + start - 1,
            repetition_penalty=penalty, eos_token_id=1, pad_token_id=0,
            forced_bos_token_id=2 if family == "bart" else None,
        )[0].tolist()  # fmt: skip
        assert theirs[:start] == asked.decoder_prefix
        assert [*answer.ids, *([1] if answer.stopped else [])] == theirs[start:]


@pytest.mark.parametrize("family", FAMILIES)
def test_sampling_draws_from_the_models_own_probabilities(family: str) -> None:
    """Token by token, full forward passes without a cache and the same random numbers give the same answers."""
    asked = engine(family)
    answers = asked.generate(prompts(), max_new_tokens=8, temperature=1.3, top_p=0.9, seed=5)
    asked.batch_tokens = 1
    again = asked.generate(prompts(), max_new_tokens=8, temperature=1.3, top_p=0.9, seed=5)
    assert [one.ids for one in again] == [one.ids for one in answers]
    for index, (prompt, answer) in enumerate(zip(prompts(), answers)):
        draws = draw_numbers([(5, index)], 8)
        written = list(asked.decoder_prefix)
        for step in range(8):
            with torch.no_grad():
                logits = asked.model(
                    input_ids=torch.tensor([prompt]), decoder_input_ids=torch.tensor([written])
                ).logits[:, -1]
            written.append(int(sample(logits.log_softmax(-1) / 1.3, 0.9, draws[:, step])))
            if written[-1] == 1:
                break
        assert written[len(asked.decoder_prefix) :] == [*answer.ids, *([1] if answer.stopped else [])]


@pytest.mark.parametrize("family", FAMILIES)
def test_logp_equals_a_full_forward_pass(family: str) -> None:
    asked = engine(family)
    sequences = [(prompt, prompt[3:]) for prompt in prompts()]
    found = asked.logp(sequences)
    for (source, answer), (total, count) in zip(sequences, found):
        ids = [*asked.decoder_prefix, *answer]
        with torch.no_grad():
            logits = asked.model(input_ids=torch.tensor([source]), decoder_input_ids=torch.tensor([ids])).logits[0]
        at = torch.arange(len(asked.decoder_prefix), len(ids))
        scores = logits.log_softmax(-1)[at - 1, torch.tensor(ids)[at]]
        assert count == len(answer) and total == pytest.approx(float(scores.sum()), abs=1e-4)
    written = asked.generate([source for source, _ in sequences], max_new_tokens=6)
    again = asked.logp(
        [(source, [*one.ids, *([1] if one.stopped else [])]) for (source, _), one in zip(sequences, written)]
    )
    assert [one.logp for one in written] == pytest.approx(again[:, 0].tolist(), abs=1e-4)


def test_labels_are_scored_after_a_source() -> None:
    from attune.generate.labels import score_labels

    asked = engine("t5")
    labels = [[10, 11], [12], [10, 13, 14]]
    found = score_labels(asked, prompts()[:3], labels)
    for row, prompt in zip(found, prompts()):
        direct = asked.logp([(prompt, [*label, 1]) for label in labels])
        assert row.tolist() == pytest.approx(direct[:, 0].tolist(), abs=1e-4)


def test_a_source_longer_than_the_encoder_is_refused() -> None:
    with pytest.raises(DataError, match="reads 64 tokens"):
        engine("bart").generate([[5] * 65])


# every command --------------------------------------------------------------------------------------------------------


def saved(family: str, folder: Path) -> str:
    model_of(family).save_pretrained(folder)
    tokenizer_of(family).save_pretrained(folder)
    return str(folder)


def data_file(path: Path) -> str:
    path.write_text("".join(json.dumps({"source": prompt, "target": answer}) + "\n" for prompt, answer in texts(60)))
    return str(path)


def recipe_of(tmp_path: Path, family: str, **changes: Any) -> Recipe:
    return Recipe.load(
        {
            "name": "pairs", "model": {"base": saved(family, tmp_path / "base"), "dtype": "float32"}, "adapter": "full",
            "data": {"path": data_file(tmp_path / "pairs.jsonl"), "split": {"validation": 0.1, "test": 0.2}},
            "objective": "sft",
            "train": {"max_steps": 6, "batch_size": 8, "learning_rate": 1e-2, "threads": 1},
            "evaluate": {"max_new_tokens": 10, "bootstrap": 100, "few_shot": 1},
        },
        changes,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("family", ["t5", "bart"])
@pytest.mark.parametrize("adapter", ["full", "lora"])
def test_train_evaluate_and_chat(family: str, adapter: str, tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, family, **{"adapter": {"type": adapter}})
    run = flow.train(recipe, out=tmp_path / "runs")
    losses = [row["loss"] for row in run.history() if isinstance(row.get("loss"), float)]
    assert losses[-1] < losses[0]
    systems = {row["system"]: row["metrics"] for row in run.results["systems"]}
    assert {"tuned", "zero_shot", "few_shot"} <= systems.keys()
    assert systems["tuned"]["loss"]["value"] < systems["zero_shot"]["loss"]["value"]
    tuned = load(run)
    test = run.results["samples"][0]
    (answer,) = tuned.engine.generate([tuned.prompt_ids([Message("user", test["prompt"])])], max_new_tokens=10)
    assert tuned.engine.text(answer.ids) == test["tuned"]  # what is evaluated is what chat answers
    out = io.StringIO()
    asked = f"{test['prompt']}\n/quit\n"
    chat(tuned.engine, tuned.prompt_ids, max_new_tokens=10, source=io.StringIO(asked), out=out)
    assert out.getvalue().strip() == test["tuned"].strip()
    folder = run.model_dir
    if adapter == "full":
        plain = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
        prompt = torch.tensor([tuned.prompt_ids([Message("user", test["prompt"])])])
        text = tuned.tokenizer.decode(plain.generate(prompt, max_new_tokens=11)[0], skip_special_tokens=True)
        assert text.split()[:9] == test["tuned"].split()[:9]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"objective": "pretrain"}, "pretrain does not fit"),
        ({"train.layout": "packed"}, "packed does not fit"),
        ({"data.truncate": "window"}, "window does not fit"),
    ],
)
def test_what_cannot_be_is_refused_before_weights_are_loaded(
    changes: dict[str, Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_of(tmp_path, "t5", **changes)
    for file in (tmp_path / "base").glob("*.safetensors"):
        file.unlink()
    with pytest.raises(RecipeError, match=said) as caught:
        flow.train(recipe, out=tmp_path / "runs")
    assert caught.value.fix


def test_a_head_that_the_family_lacks_is_refused(tmp_path: Path) -> None:
    (tmp_path / "words.jsonl").write_text(
        "".join(json.dumps({"tokens": [word, "two"], "tags": ["B-A", "O"]}) + "\n" for word in WORDS)
    )
    recipe = recipe_of(
        tmp_path, "bart", **{"objective": "tag", "data.path": str(tmp_path / "words.jsonl"), "data.split.near": False}
    )
    with pytest.raises(RecipeError, match="cannot tag words"):
        flow.train(recipe, out=tmp_path / "runs")
