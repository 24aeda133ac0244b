"""Edits: applied, found by their result, and spans that move with them."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attune.data.steps import Context, Edit, TextStep, apply_edits, edits_between, move_spans
from attune.records import Completion, Message, Record, Span

TEXT = st.text(alphabet="ab c\né👩\u0301", max_size=40)


@st.composite
def edited(draw: st.DrawFn) -> tuple[str, list[Edit]]:
    """A text and edits of it, some of them touching."""
    text = draw(TEXT)
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=8)))
    edits = []
    for start, end in zip(cuts[::2], cuts[1::2]):
        new = draw(st.text(alphabet="xyz", max_size=3))
        if text[start:end] != new:
            edits.append(Edit(start, end, new, "r"))
    return text, edits


@given(TEXT, TEXT)
@settings(max_examples=500)
def test_edits_between_lead_from_one_to_the_other(before: str, after: str) -> None:
    edits = edits_between(before, after, "why")
    assert apply_edits(before, edits) == after
    assert all(edit.reason == "why" and before[edit.start : edit.end] != edit.new for edit in edits)
    assert all(one.end <= two.start for one, two in zip(edits, edits[1:]))


@given(st.lists(st.sampled_from(["alpha", "beta", "gamma", "a", "b", " ", "\n", "é"]), max_size=120), st.data())
@settings(max_examples=200)
def test_edits_between_long_texts(words: list[str], data: st.DataObject) -> None:
    """Beyond the size that is compared character by character."""
    words = [f"{word}{number}" for number, word in enumerate(words)] * 3 + [str(number) for number in range(80)]
    other = list(words)
    for at in data.draw(st.lists(st.integers(0, len(words) - 1), max_size=6)):
        other[at] = data.draw(st.sampled_from(["", "other", "x y"]))
    before, after = " ".join(words), " ".join(other)
    assert apply_edits(before, edits_between(before, after, "r")) == after


def test_a_long_text_with_few_changes_has_few_edits() -> None:
    words = [f"word{number}" for number in range(5000)]
    other = [word.upper() if number % 1000 == 7 else word for number, word in enumerate(words)]
    edits = edits_between(" ".join(words), " ".join(other), "r")
    assert 5 <= len(edits) <= 5 * 4 and all(edit.end - edit.start <= 8 for edit in edits)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("ab" * 50_000, "ba" * 50_000),
        ("x" * 100_000, "y" * 100_000),
        ("ab " * 30_000, "ba " * 30_000),
        (" ".join(map(str, range(20_000))), " ".join(map(str, range(20_000, 0, -1)))),
        (" ".join(f"{n} é" for n in range(10_000)), " ".join(f"{n} e" for n in range(10_000))),
    ],
)
def test_edits_between_take_no_longer_than_the_text_is(before: str, after: str) -> None:
    started = time.process_time()
    edits = edits_between(before, after, "r")
    assert time.process_time() - started < 3
    assert apply_edits(before, edits) == after


@given(edited(), st.data())
@settings(max_examples=500)
def test_spans_outside_the_edits_keep_their_words(made: tuple[str, list[Edit]], data: st.DataObject) -> None:
    text, edits = made
    start = data.draw(st.integers(0, len(text)))
    span = Span(start, data.draw(st.integers(start, len(text))), "L")
    new = apply_edits(text, edits)
    moved = move_spans((span,), edits)
    inside = [edit for edit in edits if edit.start < span.end and edit.end > span.start]
    if span.start == span.end:
        return
    if not inside:
        assert [new[one.start : one.end] for one in moved] == [text[span.start : span.end]]
    for one in moved:
        assert 0 <= one.start < one.end <= len(new) and one.label == "L"
    if not moved:  # only what was wholly taken out is gone
        assert all(edit.new == "" for edit in inside)


@given(edited(), st.data())
@settings(max_examples=300)
def test_spans_keep_their_order_and_nesting(made: tuple[str, list[Edit]], data: st.DataObject) -> None:
    text, edits = made
    borders = sorted(data.draw(st.lists(st.integers(0, len(text)), min_size=4, max_size=4)))
    outer, inner = Span(borders[0], borders[3], "O"), Span(borders[1], borders[2], "I")
    moved = {span.label: span for span in move_spans((outer, inner), edits)}
    if inner.start < inner.end and "I" in moved:
        assert moved["O"].start <= moved["I"].start and moved["I"].end <= moved["O"].end


@pytest.mark.parametrize(
    ("edits", "expected"),
    [
        ([Edit(0, 4, "Dr", "r")], (3, 7)),  # before it
        ([Edit(5, 9, "John", "r")], (5, 9)),  # all of it
        ([Edit(5, 7, "", "r")], (5, 7)),  # its beginning
        ([Edit(7, 9, "", "r")], (5, 7)),  # its end
        ([Edit(3, 7, "--", "r")], (3, 7)),  # over its beginning: what replaces it belongs to it
        ([Edit(7, 11, "--", "r")], (5, 9)),  # over its end
        ([Edit(4, 10, "", "r")], None),  # gone
        ([Edit(5, 5, "Mr ", "r")], (8, 12)),  # put in front of it
        ([Edit(9, 9, " Jr", "r")], (5, 9)),  # put behind it
        ([Edit(7, 7, "xx", "r")], (5, 11)),  # put into it
        ([Edit(4, 5, "", "r"), Edit(5, 6, "J", "r")], (4, 8)),  # two that touch
    ],
)
def test_borders_of_spans(edits: list[Edit], expected: tuple[int, int] | None) -> None:
    moved = move_spans((Span(5, 9, "L"),), edits)  # "here john there"
    assert moved == (() if expected is None else (Span(*expected, "L"),))


def test_many_spans_move_in_one_go() -> None:
    text = "word " * 20_000
    spans = tuple(Span(at * 5, at * 5 + 4, "L") for at in range(20_000))
    edits = [Edit(at * 5 + 4, at * 5 + 5, ", ", "r") for at in range(20_000)]
    started = time.process_time()
    moved = move_spans(spans, edits)
    assert time.process_time() - started < 2
    new = apply_edits(text, edits)
    assert {new[span.start : span.end] for span in moved} == {"word"}


def test_move_spans_does_not_need_spans_in_order() -> None:
    spans = (Span(10, 12, "B"), Span(0, 2, "A"), Span(0, 12, "C"))
    assert move_spans(spans, [Edit(4, 5, "", "r")]) == (Span(9, 11, "B"), Span(0, 2, "A"), Span(0, 11, "C"))


class Shout(TextStep):
    """Doubles every exclamation mark and takes out every x."""

    name = "shout"

    def edits(self, text: str) -> list[Edit]:
        new = {"!": "!!", "x": ""}
        return [Edit(at, at + 1, new[char], f"found {char}") for at, char in enumerate(text) if char in new]


def test_a_text_step_edits_every_message_and_moves_spans_across_them() -> None:
    record = Record(
        "1",
        (Message("system", "x be! loud"), Message("user", "xxgo! Mary!")),
        (Completion((Message("assistant", "yes!"),)),),
        label=(Span(2, 5, "A"), Span(17, 21, "B"), Span(0, 1, "X")),
    )
    assert record.text[17:21] == "Mary"
    change = Shout(None, Context("tagging")).apply(record)
    assert change is not None and change.record is not None
    assert [message.content for message in change.record.prompt] == [" be!! loud", "go!! Mary!!"]
    assert change.record.completions[0].text == "yes!!"
    words = [(change.record.text[span.start : span.end], span.label) for span in change.record.label]  # type: ignore[union-attr]
    assert words == [("be!!", "A"), ("Mary", "B")]
    assert [(entry["field"], entry["at"]) for entry in change.entries] == [
        ("prompt.0", 0), ("prompt.0", 4), ("prompt.1", 0), ("prompt.1", 1), ("prompt.1", 4), ("prompt.1", 10),
        ("completions.0.0", 3),
    ]  # fmt: skip


def test_a_text_step_says_nothing_where_nothing_changes() -> None:
    assert Shout().apply(Record("1", (Message("user", "calm"),), label="a")) is None
    assert Shout().apply(Record("2", (Message("assistant", ""),))) is None
