"""Labels: variants proposed or merged, and only those that are allowed."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from attune.data.clean.labels import Labels, edit_distance, form_key
from attune.data.desk import Desk
from attune.data.steps import Context
from attune.records import Message, Record, Span

COUNTS = {
    "lost_time": 40,
    "Lost Time": 5,
    "lost-time ": 2,
    "medical_only": 30,
    "medcal_only": 2,
    "level_1": 20,
    "level_2": 1,
}


def records(counts: dict[str, int] = COUNTS) -> list[Record]:
    names = [name for name, count in counts.items() for _ in range(count)]
    return [Record(str(n), (Message("user", f"text {n}"),), label=name) for n, name in enumerate(names)]


def run(
    tmp_path: Any, rows: list[Record], task: str = "classification", **options: Any
) -> tuple[dict[str, Any], dict[str, Any]]:
    desk = Desk([Labels(Labels.Config(**options), Context(task))], tmp_path)
    parts = desk.run({"train": rows, "test": rows})
    return {name: [record.label for record in part] for name, part in parts.items()}, desk.facts[0]


def test_suggest_changes_nothing_and_asks(tmp_path: Any) -> None:
    parts, facts = run(tmp_path, records())
    assert parts["train"] == [record.label for record in records()]
    (question,) = facts["questions"]
    assert question["options"] == {
        "map": {"Lost Time": "lost_time", "lost-time ": "lost_time", "medcal_only": "medical_only"}
    }
    assert "'medcal_only' (2) is 'medical_only' (30)" in question["text"]


def test_the_answer_is_options_of_the_step(tmp_path: Any) -> None:
    _, facts = run(tmp_path / "a", records())
    parts, again = run(tmp_path / "b", records(), **facts["questions"][0]["options"])
    for part in ("train", "test"):  # one spelling in every part
        assert set(parts[part]) == {"lost_time", "medical_only", "level_1", "level_2"}
    assert "questions" not in again and again["counts"] == {"label": 18}


def test_auto_merges_what_is_safe_and_asks_for_the_rest(tmp_path: Any) -> None:
    parts, facts = run(tmp_path, records(), mode="auto")
    assert set(parts["test"]) == {"lost_time", "medical_only", "medcal_only", "level_1", "level_2"}
    assert facts["questions"][0]["options"] == {"mode": "auto", "map": {"medcal_only": "medical_only"}}


def test_allowed(tmp_path: Any) -> None:
    parts, facts = run(tmp_path, records(), mode="auto", allowed=["Lost Time", "medical_only", "level_1"])
    assert set(parts["train"]) == {"Lost Time", "medical_only", "level_1"}  # the allowed spelling, not the frequent one
    assert facts["not_allowed"] == {"level_2": 1, "medcal_only": 2}
    assert "medcal_only" in parts["test"]  # held-out rows stay
    assert facts["questions"][0]["options"]["map"] == {"medcal_only": "medical_only"}


@pytest.mark.parametrize(
    "counts",
    [
        {"level_1": 50, "level_2": 1}, {"happy": 50, "unhappy": 2}, {"1.0": 50, "10": 3, "-1": 2, "1": 40},
        {"C": 30, "C++": 3, "C#": 2}, {"yes": 40, "no": 2}, {"cat": 50, "car": 1}, {"granted": 50, "not granted": 2},
        {"refund": 50, "refunds": 40},
    ],
)  # fmt: skip
def test_different_labels_are_not_proposed(tmp_path: Any, counts: dict[str, int]) -> None:
    _, facts = run(tmp_path, records(counts))
    assert "questions" not in facts


def test_several_classes_and_spans(tmp_path: Any) -> None:
    one = Message("user", "Ann saw Bob")
    many = [Record(str(n), (one,), label=("Sport", "News")) for n in range(9)] + [
        Record("x", (one,), label=("sport", "Sport"))
    ]
    parts, _ = run(tmp_path / "m", many, "multilabel", mode="auto")
    assert parts["train"][-1] == ("Sport",)
    spans = [Record(str(n), (one,), label=(Span(0, 3, "PERSON"), Span(8, 11, "Person"))) for n in range(3)]
    spans.append(Record("y", (one,), label=(Span(0, 3, "PERSON"),)))
    parts, _ = run(tmp_path / "s", spans, "tagging", mode="auto")
    assert parts["test"][0] == (Span(0, 3, "PERSON"), Span(8, 11, "PERSON"))


def test_later_requests_and_state() -> None:
    step = Labels(Labels.Config(mode="auto"), Context())
    step.learn(records())
    again = Labels()
    again.restore(step.state())
    one = Record("1", (Message("user", "x"),), label="Lost Time")
    assert again.apply(one) == step.apply(one)
    assert again.apply(Record("1", (Message("user", "x"),))) is None


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"map": {"a": "b", "b": "c", "c": "a"}}, "circle: a -> b -> c -> a"),
        ({"map": {"a": "b"}, "allowed": ["a"]}, "'b', which is not in allowed"),
    ],
)
def test_a_map_that_makes_no_sense_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Labels.Config(**options)


@given(st.text(max_size=12))
def test_form_key_is_its_own(name: str) -> None:
    assert form_key(form_key(name)) == form_key(name)


@given(st.text("abc", max_size=6), st.text("abc", max_size=6))
def test_edit_distance_is_a_distance(a: str, b: str) -> None:
    assert edit_distance(a, b, 9) == edit_distance(b, a, 9)
    assert (edit_distance(a, b, 9) == 0) == (a == b)
    assert edit_distance(a, b, 1) == min(edit_distance(a, b, 9), 2)


@pytest.mark.parametrize(("a", "b", "distance"), [("ab", "ba", 1), ("kitten", "sitting", 3), ("", "abc", 3)])
def test_edit_distances(a: str, b: str, distance: int) -> None:
    assert edit_distance(a, b, 9) == distance
