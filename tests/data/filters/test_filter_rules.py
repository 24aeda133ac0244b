"""Length, repetition and quality: each rule fires on what it is for, can be turned off, and is counted."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from attune import plugins
from attune.data.desk import Desk
from attune.data.steps import Context, Step
from attune.records import Completion, Message, Record

PROSE = (
    "The adjuster visited the site on Monday and wrote a short report about the water damage in the kitchen. She took "
    "photographs of the floor, measured the walls for moisture, and asked the owner when the pipe had burst. The owner "
    "said that it must have happened during the night, because everything was dry when he went to bed."
)


def row(name: str, text: str) -> Record:
    return Record(name, (Message("user", text),), label="a")


def step(name: str, **options: Any) -> Step:
    plugin: Any = plugins.get("step", name)
    return plugin(plugin.Config(**options), Context())


def rule(one: Step, text: str) -> str | None:
    change = one.apply(row("1", text), 0)
    return None if change is None else change.entries[0]["rule"]


@pytest.mark.parametrize(
    ("options", "text", "broken"),
    [
        ({}, " \n", "min_chars"),
        ({}, "x", None),
        ({"min_chars": 5}, "  abcd  ", "min_chars"),
        ({"max_chars": 5}, "abcdef", "max_chars"),
        ({"max_chars": 6}, "abcdef", None),
        ({"min_words": 3}, "one two", "min_words"),
        ({"max_words": 2}, "one two three", "max_words"),
    ],
)
def test_length(options: dict, text: str, broken: str | None) -> None:
    assert rule(step("length", **options), text) == broken


def test_length_options_must_be_in_order() -> None:
    with pytest.raises(ValidationError, match="max_words 2 is less than min_words 3"):
        step("length", min_words=3, max_words=2)


LINES = [part.strip() for part in PROSE.replace(",", ".").split(".") if part.strip()]


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        (PROSE, None),
        ("\n".join(LINES), None),
        ("\n".join([*LINES, *["the same line here"] * 6]), "duplicate_lines"),
        (" ".join(f"w{i} call now" for i in range(30)), "top_2_gram"),
        (" ".join(["buy cheap pills"] * 20), "top_2_gram"),
        (f"{PROSE} {PROSE}", "duplicate_5_grams"),
        ("too short too short too short", None),
    ],
)
def test_repetition(text: str, broken: str | None) -> None:
    assert rule(step("repetition"), text) == broken


def test_each_repetition_rule_can_be_turned_off() -> None:
    everything = type(step("repetition").options).model_fields
    off = {name: None for name in everything if name != "min_words"}
    text = "\n\n".join(["call now call now call now call now call now"] * 20)
    assert rule(step("repetition", **off), text) is None
    alone = [name for name in off if rule(step("repetition", **{**off, name: 0.05}), text) == name]
    assert alone == list(off), "each rule sees this text when it stands alone"


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        (PROSE, None),
        ("a b c d e f g h i j " * 3, "mean_word_chars"),
        ("incomprehensibilities " * 25, "mean_word_chars"),
        ("word#one more... " * 20, "symbols_per_word"),
        (" ".join(f"{i}12,45 total" if i % 3 == 0 else f"{i}2.345" for i in range(30)), "alphabetic_words"),
        ("ab12345 cd67890 " * 15, "letters"),
        ("\n".join("- one item of the long list of repairs" for _ in range(10)), "bullet_lines"),
        ("\n".join(["this sentence is not finished…"] * 3 + ["this one is finished."] * 4), "ellipsis_lines"),
        (PROSE.upper(), "capitals"),
        ("too short: # # #", None),
        (PROSE + " #### 42", None),
        ("यह एक लंबा वाक्य है जिसमें बहुत सारे शब्द हैं और यह हिंदी में लिखा गया है ताकि नियम इसे न हटाएं क्योंकि यह ठीक है", None),
    ],
)
def test_quality(text: str, broken: str | None) -> None:
    assert rule(step("quality"), text) == broken


def test_quality_rules_off_and_stop_words_on() -> None:
    assert rule(step("quality", capitals=None), PROSE.upper()) is None
    german = "Meine Karte ist noch nicht angekommen, " * 5
    assert rule(step("quality"), german) is None
    assert rule(step("quality", stop_words=2), german) == "stop_words"
    assert rule(step("quality", stop_words=2), PROSE) is None


def test_through_the_desk_with_reasons_and_counts(tmp_path: Path) -> None:
    rows = [row("1", PROSE), row("2", PROSE.upper()), row("3", "- a b\n" * 12), row("4", "fine")]
    desk = Desk([step("quality")], tmp_path)
    parts = desk.run({"train": rows, "test": rows})
    assert [one.id for one in parts["train"]] == ["1", "4"] and len(parts["test"]) == 4
    lines = [json.loads(line) for line in (tmp_path / "ledger.jsonl").read_text().splitlines()]
    assert lines[0]["reason"] == "100% of the letters are capitals, more than 0.7" and lines[0]["value"] == 1.0
    assert desk.facts[0]["by_rule"] == {"capitals": 1, "mean_word_chars": 1}
    assert desk.facts[0]["rows"] == 4 and desk.facts[0]["left_out"] == 2


def test_prompt_and_answers_are_judged_apart_but_for_length() -> None:
    def answered(prompt: str, *answers: str) -> Record:
        return Record(
            "1", (Message("user", prompt),), tuple(Completion((Message("assistant", one),)) for one in answers)
        )

    for name in ("repetition", "quality"):
        assert step(name).apply(answered(PROSE, PROSE, PROSE), 0) is None, "two answers may be alike"
    assert step("repetition").apply(answered("Why?", "Because " * 40), 0) is not None
    assert step("quality").apply(answered("Why?", PROSE, PROSE.upper()), 0) is not None
    assert step("length", max_words=100).apply(answered(PROSE, PROSE), 0) is not None


@settings(max_examples=200)
@given(st.text(max_size=300))
def test_any_text_is_judged(text: str) -> None:
    for name in ("length", "repetition", "quality"):
        step(name, **({} if name == "length" else {"min_words": 1})).apply(row("1", text), 0)


@pytest.mark.parametrize("text", ["a " * 50_000, "." * 100_000, "ab\n" * 33_000, "- " * 50_000, "\n" * 100_000])
@pytest.mark.parametrize("name", ["length", "repetition", "quality"])
def test_long_texts_take_linear_time(name: str, text: str) -> None:
    one = step(name)
    start = time.process_time()
    one.apply(row("1", text), 0)
    assert time.process_time() - start < 2
