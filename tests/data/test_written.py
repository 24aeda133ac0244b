"""Labels as text: what is taught, and that reading back accepts exactly that."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attune.data.written import answer_text, asked, instruction_for, read_back, refuse_unreadable, written
from attune.errors import DataError
from attune.records import Completion, Message, Record, Span

KINDS = ["card arrival", "card", "location", "person"]


def record(text: str, label: object) -> Record:
    return Record("1", (Message("user", text),), label=label)  # type: ignore[arg-type]


@given(st.sampled_from(KINDS))
def test_a_class_is_read_back_and_nothing_near_it(name: str) -> None:
    row = record("where is it?", name)
    assert read_back(f" {answer_text(row)}\n", row, "classification", KINDS) == name
    for wrong in (name.upper(), f"{name}.", f"It is {name}", f"{name}\n{name}", "", "cards", "none"):
        assert read_back(wrong, row, "classification", KINDS) is None


@given(st.sets(st.sampled_from(KINDS)))
def test_several_classes_are_read_back(names: set[str]) -> None:
    label = tuple(name for name in KINDS if name in names)
    row = record("text", label)
    assert read_back(answer_text(row), row, "multilabel", KINDS) == label
    assert read_back(answer_text(row) + ", unknown", row, "multilabel", KINDS) is None


@given(st.text(min_size=1, max_size=40), st.data())
def test_spans_are_read_back(text: str, draw: st.DataObject) -> None:
    """Any text, quotes and line breaks among it; the same words twice are the first and the second occurrence."""
    cuts = sorted(draw.draw(st.sets(st.integers(0, len(text)), min_size=2, max_size=6)))
    spans = []
    after: dict[str, int] = {}
    for start, end in zip(cuts[::2], cuts[1::2]):
        words = text[start:end]
        if text.find(words, after.get(words, 0)) == start:  # what the form can say: each next occurrence
            spans.append(Span(start, end, "person"))
            after[words] = end
    row = record(text, tuple(spans))
    assert read_back(answer_text(row) or "none", row, "tagging", KINDS) == tuple(spans)


@pytest.mark.parametrize(
    "said",
    [
        "Ann", '{"text": "Ann"}', '{"text": "Bob", "label": "person"}', '{"text": "Ann", "label": "god"}', "",
        '{"text": "Ann", "label": "person"} and more', '{"text": "", "label": "person"}', '["Ann", "person"]',
        '{"text": "Ann", "label": "person"}\n{"text": "Ann", "label": "person"}', '{"text": 1, "label": "person"}',
    ],
)  # fmt: skip
def test_what_is_not_of_the_form_is_no_answer(said: str) -> None:
    assert read_back(said, record("Ann lives here", ()), "tagging", KINDS) is None


def test_nothing_is_an_answer() -> None:
    for task in ("multilabel", "tagging"):
        row = record("text", ())
        assert written(row, "Do it.").completions[0].text == "none" and read_back("none", row, task, KINDS) == ()
    assert read_back("none", record("text", "none"), "classification", ["none", "some"]) == "none"


def test_a_written_record_asks_and_answers() -> None:
    made = written(record("Ann lives here", (Span(0, 3, "person"),)), "Find the people.")
    assert made.prompt[0].content == "Find the people.\n\nAnn lives here" and made.label is None
    assert made.completions[0].text == '{"text": "Ann", "label": "person"}'
    chat = Record(
        "2", (Message("system", "Be short."), Message("user", "Hi")), (Completion((Message("assistant", "Hi"),)),)
    )
    assert [message.content for message in asked(chat, "Greet.").prompt] == ["Be short.", "Greet.\n\nHi"]


def test_tasks_with_many_classes_are_told_apart() -> None:
    few, many = ["a", "b"], [str(number) for number in range(60)]
    assert "a, b" in instruction_for("classification", few, "mood") and "mood" not in instruction_for(
        "classification", few, "mood"
    )
    assert "59" not in instruction_for("classification", many, "mood") and "mood" in instruction_for(
        "classification", many, "mood"
    )


@pytest.mark.parametrize(("task", "label"), [("multilabel", "late, broken"), ("classification", " padded ")])
def test_labels_that_cannot_be_read_back_are_refused(task: str, label: str) -> None:
    """Else every answer that names them counts as unusable, after hours of training."""
    with pytest.raises(DataError, match="cannot be read back"):
        refuse_unreadable(task, ["refund", label])
    refuse_unreadable(task, ["refund", "none", "late - broken"])
