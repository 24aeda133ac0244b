"""Variations, templates and balance: what is added, what never changes, and the same in every process."""

import json
import subprocess
import sys
import time
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from attune.data.augment.balance import Balance
from attune.data.augment.checks import fault, numbers
from attune.data.augment.templates import Templates
from attune.data.augment.variations import Variations
from attune.data.desk import Desk
from attune.data.steps import Context
from attune.records import Completion, Message, Record, Span

TEXTS = (
    "I do not know why my card was declined yesterday, please help me quickly.",
    "How do I verify my account? My number is 4000-1234 and my mail is jane.doe@example.com.",
    "The doctor remained at the large house, and nearly everybody was glad.",
)


def record(text, id="r1", label="card"):
    return Record(id, (Message("user", text),), label=label)


def added(step, one, number=0):
    change = step.apply(one, number)
    return list(change.added) if change else []


def test_copies_are_marked_keep_the_label_and_differ():
    step = Variations(Variations.Config(copies=8), Context())
    one = Record("r1", (Message("system", "Be kind."), Message("user", TEXTS[0])), label="card", meta={"source": "x"})
    copies = added(step, one)
    assert 5 <= len(copies) <= 8 and len({copy.text for copy in copies}) == len(copies)
    for copy in copies:
        assert copy.label == "card" and copy.prompt[0] == one.prompt[0] and copy.text != one.text
        assert copy.meta == {"source": "x", "made_by": "variations", "from": "r1"}
        assert copy.id.startswith("r1+variations-")
    assert added(step, copies[0]) == []  # nothing is made from what was made


@pytest.mark.parametrize(
    "only,expected",
    [
        ("contractions", "I don't know why my card was declined yesterday, please help me quickly."),
        ("casing", "i do not know why my card was declined yesterday, please help me quickly."),
        ("punctuation", "I do not know why my card was declined yesterday please help me quickly"),
        ("synonyms", ("I do not know why my card was declined yesterday, please help me fast.", "rapidly.")),
    ],
)
def test_each_kind_of_change_alone(only, expected):
    rates = {name: 0.0 for name in ("typos", "casing", "punctuation", "contractions", "synonyms")} | {only: 1.0}
    found = {
        copy.text for copy in added(Variations(Variations.Config(copies=20, **rates), Context()), record(TEXTS[0]))
    }
    wanted = expected if isinstance(expected, str) else expected[0]
    assert wanted in found


def test_masked_values_stay():
    text = "please write to [EMAIL] or call [PHONE] before monday"
    copies = added(Variations(Variations.Config(copies=20, typos=0.9, casing=0.9), Context()), record(text))
    assert len(copies) > 10 and all("[EMAIL]" in copy.text and "[PHONE]" in copy.text for copy in copies)


def test_typos_leave_numbers_addresses_negations_and_short_words():
    rates = {"typos": 1.0, "casing": 0, "punctuation": 0, "contractions": 0, "synonyms": 0}
    step = Variations(Variations.Config(copies=20, **rates), Context())
    for copy in added(step, record("I never paid 4000-1234 to jane.doe@example.com without my card")):
        words = copy.text.split()
        assert words[:2] == ["I", "never"] and words[3:6] == ["4000-1234", "to", "jane.doe@example.com"]
        assert words[6:8] == ["without", "my"] and words[2] != "paid" and words[8] != "card"
        assert all(word[0] == old for word, old in ((words[2], "p"), (words[8], "c")))


@given(
    st.lists(
        st.sampled_from([*"abc XYZ, .!?'’", "do not ", "large ", "it is ", "👩‍👩‍👧", "שלום ", "é", "İ", "7 "]),
        max_size=40,
    ),
    st.integers(0, 99),
    st.data(),
)
@settings(max_examples=1000, deadline=None)
def test_labelled_places_keep_their_text_and_their_place(parts, seed, data):
    text = "".join(parts)
    start = data.draw(st.integers(0, max(0, len(text) - 1)))
    end = data.draw(st.integers(start, len(text)))
    spans = (Span(start, end, "X"),) if end > start else ()
    one = Record("r", (Message("user", text),), label=spans)
    options = Variations.Config(typos=0.5, casing=0.7, punctuation=0.5, contractions=0.8, synonyms=0.8, copies=2)
    for step in (Variations(options, Context(seed=seed)), Templates(Templates.Config(copies=3), Context(seed=seed))):
        for copy in added(step, one):
            assert [copy.text[span.start : span.end] for span in copy.label] == [text[start:end]] * len(spans)
            for kept in ("👩‍👩‍👧", "שלום", "7"):
                assert copy.text.count(kept) == text.count(kept)


@pytest.mark.parametrize(
    "text", ["a" * 100_000, "don't " * 17_000, ", " * 50_000, "how do i " * 11_000, "!?." * 33_000, " " * 100_000]
)
def test_no_text_takes_long(text):
    begun = time.process_time()
    added(Variations(Variations.Config(), Context()), record(text))
    added(Templates(Templates.Config(), Context()), record(text))
    assert time.process_time() - begun < 2.0


SCRIPT = """
import json, sys
from attune.data.augment.counterfactual import Counterfactual
from attune.data.augment.templates import Templates
from attune.data.augment.variations import Variations
from attune.data.steps import Context
from attune.records import Message, Record
texts = json.loads(sys.argv[1])
for plugin in (Variations, Templates, Counterfactual):
    step = plugin(plugin.Config(), Context(seed=3))
    for at, text in enumerate(texts):
        change = step.apply(Record(str(at), (Message("user", text),)), at)
        print(json.dumps([one.to_dict() for one in change.added] if change else []))
"""


def test_every_process_makes_the_same():
    texts = json.dumps([*TEXTS, "He told Peter Smith that his sister, a Muslim woman, is 36 years old."])
    outputs = {
        subprocess.run(
            [sys.executable, "-c", SCRIPT, texts],
            capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed, "PATH": ""},
        ).stdout
        for seed in ("1", "2", "3")
    }  # fmt: skip
    assert len(outputs) == 1 and "variations" in outputs.pop()


# templates ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text,some",
    [
        ("How do I freeze my card?", "Can you tell me how to freeze my card?"),
        ("how can i freeze my card", "please tell me how to freeze my card"),
        ("I want to close my account.", "I would like to close my account."),
        ("Please cancel my order", "Could you cancel my order?"),
        ("Can I pay with two cards?", "Is it possible to pay with two cards?"),
        ("Why was it declined?", "Quick question: Why was it declined?"),
        ("Is it late?", "Hello, is it late?"),
    ],
)
def test_the_same_request_in_another_frame(text, some):
    found = [copy.text for copy in added(Templates(Templates.Config(copies=6), Context()), record(text))]
    assert some in found and text not in found


@pytest.mark.parametrize(
    "text",
    [
        "My card was declined.",
        "Is it late? I wait.",
        "Could you be nice",
        "Can you not wait",
        "",
        "word " * 40 + "?",
    ],
)
def test_what_no_template_fits_is_left_or_only_framed(text):
    for copy in added(Templates(Templates.Config(copies=6), Context()), record(text)):
        assert text.rstrip("?.")[1:] in copy.text


def test_own_frames_come_in_place_of_the_built_in_ones():
    step = Templates(
        Templates.Config(copies=6, frames=("Dear team, {text}", "{text} -- sent from my phone")), Context()
    )
    texts = {copy.text for copy in added(step, record("Wo ist meine Karte?"))}
    assert texts == {"Dear team, Wo ist meine Karte?", "Wo ist meine Karte? -- sent from my phone"}
    with pytest.raises(ValidationError, match="must hold {text} once"):
        Templates.Config(frames=("no place",))


# balance --------------------------------------------------------------------------------------------------------------


def rows(**sizes):
    return [
        record(f"{label} text number {n}, do not wait", f"{label}{n}", label)
        for label, size in sizes.items()
        for n in range(size)
    ]


def balanced(train, tmp_path, **options):
    desk = Desk([Balance(Balance.Config(**options), Context())], tmp_path)
    parts = desk.run({"train": train, "test": train[:3]})
    assert [one.id for one in parts["test"]] == [one.id for one in train[:3]]
    return list(parts["train"]), desk.facts[0]


def test_rare_classes_are_repeated_up_to_the_share(tmp_path):
    train, facts = balanced(rows(a=100, b=10, c=2), tmp_path, raise_to=0.5, most_copies=5)
    assert Counter(one.label for one in train) == {"a": 100, "b": 50, "c": 12}
    assert facts["before"] == {"a": 100, "b": 10, "c": 2} and facts["after"] == {"a": 100, "b": 50, "c": 12}
    assert facts["short"] == ["c"] and facts["counts"] == {"add": 50}
    assert len({one.id for one in train}) == len(train)
    copies = [one for one in train if one.meta.get("made_by") == "balance" and one.label == "b"]
    assert Counter(one.meta["from"] for one in copies) == {f"b{n}": 4 for n in range(10)}
    assert sum(one.text.startswith("b text number") and "do not wait" in one.text for one in copies) < 30  # varied


def test_common_classes_are_capped_and_the_ledger_says_which_rows_went(tmp_path):
    train, facts = balanced(rows(a=100, b=10), tmp_path, cap=20, raise_to=None)
    assert Counter(one.label for one in train) == {"a": 20, "b": 10} and facts["counts"] == {"drop": 80}
    ledger = [json.loads(line) for line in (tmp_path / "ledger.jsonl").read_text().splitlines()]
    assert len(ledger) == 80 and ledger[0]["reason"] == "class 'a' has more than 20 rows"


def test_which_rows_stay_does_not_depend_on_their_order(tmp_path):
    train = rows(a=50, b=5)
    first, _ = balanced(train, tmp_path / "1", cap=10, vary=False)
    second, _ = balanced(train[::-1], tmp_path / "2", cap=10, vary=False)
    assert {one.id for one in first} == {one.id for one in second}


def test_plain_copies_have_the_same_text(tmp_path):
    train, _ = balanced(rows(a=8, b=2), tmp_path, vary=False, raise_to=1.0)
    assert {one.text for one in train if "made_by" in one.meta} == {f"b text number {n}, do not wait" for n in range(2)}


# checks ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "before,after,why",
    [
        ("I paid 30 dollars for the card", "The card cost me 30 dollars", None),
        ("I paid 30 dollars for the card", "The card cost me 13 dollars", "numbers"),
        ("I paid 1,000 dollars for the card", "The card cost me 1000 dollars", None),
        ("I was not paid for the card", "I was paid for the card", "negation"),
        ("I was not paid for the card", "They didn't pay me for the card", None),
        ("Where is my card?", "where is  my card?", "unchanged"),
        ("Where is my card?", "  ", "empty"),
        ("Where is my card?", "Elephants enjoy watermelons", "too far"),
        ("Where is my card?", "Where is my card? " * 5, "length"),
    ],
)
def test_what_speaks_against_a_paraphrase(before, after, why):
    assert fault(before, after, least_shared=0.15, longest_ratio=2.5) == why


def test_numbers_are_compared_without_the_marks_of_thousands():
    assert numbers("1,000 and 2.50 at 12:30 on 1/2/2024") == numbers("1000, 2.50; 12:30 (1/2/2024)")
    assert numbers("１２ years") == numbers("12 years")


def test_a_message_of_an_assistant_is_never_varied():
    turns = (Message("user", TEXTS[0]), Message("assistant", TEXTS[0]), Message("user", TEXTS[0]))
    one = Record("r", turns, (Completion((Message("assistant", TEXTS[0]),)),))
    for copy in added(Variations(Variations.Config(typos=1, copies=3), Context()), one):
        assert copy.prompt[1] == turns[1] and copy.completions == one.completions
