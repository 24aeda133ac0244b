"""Missing values: asked about, left out or filled."""

from typing import Any

import pytest
from pydantic import ValidationError

from attune.data.clean.missing import Missing
from attune.data.desk import Desk
from attune.data.steps import Context
from attune.records import Completion, Message, Record


def rows() -> list[Record]:
    told = [("good day", "a"), ("N/A", "a"), ("fine", " unknown "), ("ok", "b"), (" - ", "b"), ("hm", None)]
    return [
        Record(str(n), (Message("user", text),), label=label, where=f"f.csv:{n}")
        for n, (text, label) in enumerate(told)
    ]


def run(
    tmp_path: Any, records: list[Record], task: str = "classification", **options: Any
) -> tuple[Any, dict[str, Any]]:
    desk = Desk([Missing(Missing.Config(**options), Context(task))], tmp_path)
    parts = desk.run({"train": records})
    return list(parts["train"]), desk.facts[0]


@pytest.mark.parametrize(
    ("options", "kept"),
    [({}, "012345"), ({"text": "drop", "label": "drop"}, "0134"), ({"label": "keep"}, "012345")],
)
def test_held_out_rows_go_only_where_there_is_no_label_to_measure_by(tmp_path: Any, options: Any, kept: str) -> None:
    desk = Desk([Missing(Missing.Config(**options), Context("classification"))], tmp_path)
    parts = desk.run({"train": rows(), "test": rows()})
    assert "".join(record.id for record in parts["test"]) == kept
    assert [record.text for record in parts["test"]] == [rows()[int(n)].text for n in kept]


def test_held_out_labels_are_filled_as_in_training(tmp_path: Any) -> None:
    desk = Desk([Missing(Missing.Config(label="fill", fill_label="other"), Context("classification"))], tmp_path)
    parts = desk.run({"train": rows(), "test": rows()})
    assert [record.label for record in parts["test"]] == ["a", "a", "other", "b", "b", "other"]


def test_it_asks_and_keeps(tmp_path: Any) -> None:
    train, facts = run(tmp_path, rows())
    assert train == rows()
    assert facts["missing"] == {"text": {"-": 1, "n/a": 1}, "label": {"": 1, "unknown": 1}}
    (question,) = facts["questions"]
    assert "2 training rows have no text" in question["text"] and "f.csv:1" in question["text"]
    assert question["options"] == {"text": "drop", "label": "drop"}


def test_the_answer_is_options_of_the_step(tmp_path: Any) -> None:
    _, facts = run(tmp_path / "a", rows(), placeholders=["n/a", "-"])
    train, again = run(tmp_path / "b", rows(), **facts["questions"][0]["options"])
    assert [record.id for record in train] == ["0", "2", "3"]  # "unknown" is a label here; row 5 has none at all
    assert "questions" not in again and again["counts"] == {"drop": 3}


def test_fill(tmp_path: Any) -> None:
    train, facts = run(tmp_path, rows(), text="fill", fill_text="(no text)", label="fill", fill_label="other")
    assert [record.text for record in train] == ["good day", "(no text)", "fine", "ok", "(no text)", "hm"]
    assert [record.label for record in train] == ["a", "a", "other", "b", "b", "other"]
    assert facts["counts"] == {"edit": 2, "label": 2}


def test_keep_is_counted_and_not_asked(tmp_path: Any) -> None:
    train, facts = run(tmp_path, rows(), text="keep", label="keep")
    assert train == rows() and "questions" not in facts and facts["missing"]["text"]


def test_no_class_and_no_span_are_labels(tmp_path: Any) -> None:
    records = [
        Record("1", (Message("user", "fine"),), label=()),
        Record("2", (Message("user", "ok"),), label=("a", "n/a")),
    ]
    train, facts = run(tmp_path, records, "multilabel", label="drop")
    assert train == records and facts["counts"] == {}


def test_answers_to_be_learned(tmp_path: Any) -> None:
    good, bad = (Completion((Message("assistant", text),)) for text in ("Paris", "null"))
    call = Completion((Message("assistant", "", tool_calls=({"name": "f"},)),))
    records = [Record(str(n), (Message("user", "Q?"),), (one,)) for n, one in enumerate((good, bad, call))]
    train, _ = run(tmp_path, records, "generation", text="drop")
    assert [record.id for record in train] == ["0", "2"]


@pytest.mark.parametrize("options", [{"text": "fill"}, {"label": "fill", "fill_label": "N/A"}])
def test_fill_needs_something_to_fill_in(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="fill_"):
        Missing.Config(**options)
