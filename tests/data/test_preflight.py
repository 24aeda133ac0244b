import dataclasses
import json

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from attune.data.examples import Example, ExampleStore
from attune.data.preflight import preflight
from attune.data.render import Renderer
from attune.errors import DataError
from attune.records import Completion, Message, Record

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + CHATML
DROPS_SYSTEM = CHATML.replace("in messages %}", "in messages if m.role != 'system' %}")


def backend() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<pad>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(["hello world, what is it?"] * 20, trainer)
    return tokenizer


BACKEND = backend()


def renderer_of(template: str | None = CHATML, *, pad: str = "<pad>", eos: str = "<|im_end|>", **options) -> Renderer:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=BACKEND, bos_token="<s>", eos_token=eos, pad_token=pad)
    tokenizer.chat_template = template
    return Renderer(tokenizer, **options)


def chat(question: str, answer: str, number: int = 1, system: str | None = None) -> Record:
    prompt = (Message("user", question),)
    prompt = (Message("system", system), *prompt) if system else prompt
    return Record(f"r{number}", prompt, (Completion((Message("assistant", answer),)),), where=f"d.jsonl:{number}")


RECORDS = [chat("what?", f"hello {n} é日本", n) for n in range(1, 6)]


def made(renderer: Renderer, records=RECORDS) -> list[Example]:
    return [example for number, record in enumerate(records) for example in renderer.sft(record, number)]


def changed(examples: list[Example], **arrays) -> list[Example]:
    """The second example with other ids or weights."""
    return [examples[0], dataclasses.replace(examples[1], **arrays), *examples[2:]]


def test_facts_and_preview_of_good_data():
    renderer = renderer_of()
    examples = made(renderer)
    found = preflight(examples, renderer, RECORDS, objective="sft")
    split = found.facts["splits"]["train"]
    assert split["examples"] == 5
    assert split["tokens"] == sum(len(example.ids) for example in examples)
    assert split["supervised_tokens"] == sum(int((example.weight > 0).sum()) for example in examples)
    assert split["length_tokens"]["max"] == max(len(example.ids) for example in examples)
    assert found.facts["stop_tokens"] == ["<|im_end|>"] and found.facts["template"].startswith("chat template")
    json.dumps(found.facts)
    text = found.preview(2)
    assert "⟦hello 1 é日本<|im_end|>⟧" in text and "⟦hello 5 é日本<|im_end|>⟧" in text and "hello 3" not in text
    assert "<|im_start|>user\nwhat?<|im_end|>" in text and text.count("⟦") == 2


def test_markup_preview_escapes_markup_and_terminal_controls():
    renderer = renderer_of()
    record = chat("[red]x[/red] \x1b[2J", "a [b] c")
    found = preflight(made(renderer, [record]), renderer, [record], objective="sft")
    text = found.preview(1, markup=True)
    from rich.text import Text

    shown = Text.from_markup(text)
    assert "[red]x[/red] ␛[2J" in shown.plain and "\x1b" not in text
    [green] = [span for span in shown.spans if "green" in str(span.style)]
    assert shown.plain[green.start : green.end] == "a [b] c<|im_end|>"


def test_nothing_supervised():
    renderer = renderer_of()
    examples = made(renderer)
    silent = [dataclasses.replace(example, weight=np.zeros_like(example.weight)) for example in examples]
    with pytest.raises(DataError, match="no token is supervised"):
        preflight(silent, renderer, RECORDS, objective="sft")
    with pytest.raises(DataError, match="nothing to train on"):
        preflight([], renderer, RECORDS, objective="sft")
    one = changed(examples, weight=np.zeros_like(examples[1].weight))
    with pytest.raises(DataError, match="1 examples have no supervised token") as error:
        preflight(one, renderer, RECORDS, objective="sft")
    assert error.value.where == "d.jsonl:2"


@pytest.mark.parametrize("pad", ["<pad>", "<|im_end|>"])
def test_unsupervised_stop_and_padding_that_swallows_it(pad):
    renderer = renderer_of(pad=pad)
    examples = made(renderer)
    weight = examples[1].weight.copy()
    weight[np.flatnonzero(weight)[-1]] = 0
    with pytest.raises(DataError, match="stop token is not supervised in 1 of 5") as error:
        preflight(changed(examples, weight=weight), renderer, RECORDS, objective="sft")
    assert error.value.where == "d.jsonl:2"
    assert ("padding token is the stop token" in error.value.why) == (pad == "<|im_end|>")
    found = preflight(examples, renderer, RECORDS, objective="sft")
    assert any("padding token is also the stop" in notice for notice in found.notices) == (pad == "<|im_end|>")


def test_doubled_bos():
    renderer = renderer_of("{{ '<s>' }}" + CHATML)
    examples = made(renderer)
    preflight(examples, renderer, RECORDS, objective="sft")
    ids = np.concatenate([examples[1].ids[:1], examples[1].ids])
    doubled = changed(examples, ids=ids, weight=np.concatenate([[0], examples[1].weight]))
    with pytest.raises(DataError, match="two <s> tokens") as error:
        preflight(doubled, renderer, RECORDS, objective="sft")
    assert error.value.where == "d.jsonl:2"


@pytest.mark.parametrize(("template", "word"), [(NO_SYSTEM, "rejects"), (DROPS_SYSTEM, "silently drops")])
def test_system_role_that_does_not_reach_the_model(template, word):
    renderer = renderer_of(template)
    examples = made(renderer)
    preflight(examples, renderer, RECORDS, objective="sft")
    with pytest.raises(DataError, match=f"{word} the system message of 1 records") as error:
        preflight(examples, renderer, [*RECORDS, chat("q", "a", 9, system="s")], objective="sft")
    assert error.value.where == "d.jsonl:9"


def test_truncation_blocks_by_policy_and_above_the_limit():
    long = [*RECORDS, chat("what? " * 100, "a", 6)]
    strict = renderer_of(max_length=100)
    examples = made(strict, long)
    with pytest.raises(DataError, match="1 of 6 examples are longer than data.max_length 100"):
        preflight(examples, strict, long, objective="sft")
    drop = renderer_of(max_length=100, truncate="drop")
    kept = made(drop, long)
    found = preflight(kept, drop, long, objective="sft", truncation_limit=0.2)
    assert found.facts["truncation"]["dropped"] == 1
    with pytest.raises(DataError, match="1 of 6 examples do not fit"):
        preflight(kept, drop, long, objective="sft", truncation_limit=0.1)


def test_cut_answers_are_not_mistaken_for_missing_stops():
    shortest = min(len(example.ids) for example in made(renderer_of()))
    right = renderer_of(max_length=shortest - 2, truncate="right")  # without the stop and the newline after it
    examples = made(right)
    assert right.truncation.stops_lost == len(examples) == 5
    preflight(examples, right, RECORDS, objective="sft", truncation_limit=1.0)


def test_empty_answers_and_ids_outside_the_vocabulary():
    renderer = renderer_of()
    records = [*RECORDS, chat("what?", "  ", 6)]
    with pytest.raises(DataError, match="1 records have an empty answer") as error:
        preflight(made(renderer, records), renderer, records, objective="sft")
    assert error.value.where == "d.jsonl:6"
    with pytest.raises(DataError, match="outside the model's vocabulary of 50"):
        store = ExampleStore.of(made(renderer), vocab_size=400)
        preflight(store, renderer, RECORDS, objective="sft", vocab_size=50)


def test_every_problem_is_named():
    renderer = renderer_of()
    records = [*RECORDS, chat("what?", " ", 6)]
    examples = made(renderer)
    weight = examples[1].weight.copy()
    weight[np.flatnonzero(weight)[-1]] = 0
    with pytest.raises(DataError) as error:
        preflight(changed(examples, weight=weight), renderer, records, objective="sft")
    assert "empty answer" in error.value.what and "also: the stop token is not supervised" in error.value.why


def test_instruct_model_without_template_is_noticed():
    renderer = renderer_of(None)
    renderer.tokenizer.name_or_path = "acme/Thing-7B-Instruct"
    found = preflight(made(renderer), renderer, RECORDS, objective="sft")
    assert any("no chat template" in notice for notice in found.notices)


# The store -----------------------------------------------------------------------------------------------------------


def same(a: Example, b: Example) -> bool:
    target = a.target is b.target or np.array_equal(np.asarray(a.target), np.asarray(b.target))
    pair = np.array_equal(a.ids, b.ids) and np.array_equal(a.weight, b.weight)
    return bool(target and pair and (a.record, a.turn) == (b.record, b.turn))


def example(ids, target=None, record=0) -> Example:
    return Example(np.array(ids, np.int32), np.linspace(0, 1, len(ids), dtype=np.float32), target, record, record + 1)


@pytest.mark.parametrize(
    "targets",
    [
        [None, None, None],
        [2, 0, 1],
        [0.5, -1.0, 3.25],
        [np.array(row, np.float32) for row in ([0, 1], [1, 1], [0, 0])],
        [np.array(row, np.int32) for row in ([1, -100, 2], [-100], [3, 4])],
    ],
    ids=["token", "class", "number", "classes", "tags"],
)
def test_store_gives_back_what_it_was_given_in_memory_and_on_disk(tmp_path, targets):
    rows = [
        example(ids, target, n) for n, (ids, target) in enumerate(zip([[1, 2, 3], [4], [5, 6]], targets, strict=True))
    ]
    store = ExampleStore.of(rows, vocab_size=100)
    store.save(tmp_path / "store")
    loaded = ExampleStore.load(tmp_path / "store", verify=True)
    streamed = ExampleStore.write(iter(rows), tmp_path / "streamed", vocab_size=100)
    for kept in (store, loaded, streamed):
        assert len(kept) == 3 and kept.lengths.tolist() == [3, 1, 2]
        assert all(same(a, b) for a, b in zip(kept, rows, strict=True))
        assert same(kept[-1], rows[-1]) and type(kept[1].target) is type(rows[1].target)
        assert kept.content_hash == store.content_hash
    assert isinstance(loaded.ids, np.memmap) and loaded.ids.dtype == np.uint16
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_store_id_width_hash_and_replacement(tmp_path):
    wide = ExampleStore.of([example([70_000, 1])], vocab_size=100_000)
    assert wide.ids.dtype == np.int32 and wide[0].ids.tolist() == [70_000, 1]
    other = ExampleStore.of([example([70_000, 2])], vocab_size=100_000)
    assert wide.content_hash != other.content_hash
    wide.save(tmp_path / "s")
    other.save(tmp_path / "s")
    assert ExampleStore.load(tmp_path / "s", verify=True).content_hash == other.content_hash
    assert [path.name for path in tmp_path.iterdir()] == ["s"]
    with pytest.raises(IndexError):
        wide[1]


def test_empty_store_round_trips(tmp_path):
    ExampleStore.write([], tmp_path / "s", vocab_size=10)
    assert len(ExampleStore.load(tmp_path / "s")) == 0


def test_store_refuses_bad_ids_mixed_targets_and_damage(tmp_path):
    with pytest.raises(DataError, match="token id 10 is outside"):
        ExampleStore.of([example([1, 10])], vocab_size=10)
    with pytest.raises(DataError, match="cannot hold targets"):
        ExampleStore.of([example([1], 1), example([1], 0.5)], vocab_size=10)
    ExampleStore.of([example([1, 2, 3])], vocab_size=10).save(tmp_path / "s")
    path = tmp_path / "s" / "ids.npy"
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    with pytest.raises(DataError, match="changed or damaged"):
        ExampleStore.load(tmp_path / "s", verify=True)
    path.write_bytes(raw[:-2])
    with pytest.raises(DataError, match="not a readable|incomplete"):
        ExampleStore.load(tmp_path / "s")
    with pytest.raises(DataError, match="not a readable"):
        ExampleStore.load(tmp_path / "none")
