"""Labels from a model, by agreement or by probability, against a real endpoint process and a local model."""

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from attune.cli import app
from attune.curate.labels import LabelOptions, distill_labels, unlabelled
from attune.curate.review import Review
from attune.data.sources import load_records
from attune.endpoint import Answer, Ask, Endpoint, EndpointOptions
from attune.errors import DataError, MachineError

CLASSES = ("refund", "card", "transfer")


@pytest.fixture
def texts(tmp_path):
    path = tmp_path / "texts.csv"
    path.write_text("id,text,source\n1,Where is my card?,web\n2,I am unsure what I want,app\n3,A refund please,web\n")
    return path


def label(server, texts, out, **more):
    with Endpoint(EndpointOptions(model="tiny", base_url=server.url)) as writer:
        return distill_labels(unlabelled(texts), out, writer, LabelOptions(classes=CLASSES, **more))


def test_agreement_above_the_threshold_is_taken_and_the_rest_waits(server, texts, tmp_path):
    account = label(server, texts, tmp_path / "out", samples=6)
    assert account == {"counts": {"accepted": 2, "pending": 1, "rejected": 0}, "classes": {"card": 1, "refund": 1}}
    assert len(server.seen) == 18
    records = load_records(tmp_path / "out" / "records.jsonl").records
    assert [(record.id, record.label, record.meta["confidence"]) for record in records] == [
        ("1", "card", 1.0),
        ("3", "refund", 1.0),
    ]
    assert records[0].meta["source"] == "web" and records[0].meta["made_by"] == "distill_labels"
    waiting = Review(tmp_path / "out").pending()[0]
    assert waiting.evidence["votes"] == {"card": 2, "refund": 2, "transfer": 2}
    assert waiting.record.label == "refund"  # equal votes: the class that is listed first
    assert waiting.reasons == ("confidence 0.33 is below 0.8",)


def test_probability_of_one_answer(server, texts, tmp_path):
    account = label(server, texts, tmp_path / "out", confidence="probability")
    assert account["counts"] == {"accepted": 2, "pending": 1, "rejected": 0} and len(server.seen) == 3
    assert [round(one.record.meta["confidence"], 2) for one in Review(tmp_path / "out")] == [0.99, 0.22, 0.99]
    assert server.seen[0]["body"]["temperature"] == 0


def test_a_server_without_log_probabilities_is_said(texts, tmp_path):
    def writer(asks: list[Ask]) -> list[Answer]:
        return [Answer("card", "stop") for _ in asks]

    with pytest.raises(MachineError, match="gives no log-probabilities"):
        distill_labels(unlabelled(texts), tmp_path, writer, LabelOptions(classes=CLASSES, confidence="probability"))


def test_an_answer_that_names_no_class_waits(texts, tmp_path):
    def writer(asks: list[Ask]) -> list[Answer]:
        return [Answer("I cannot tell", "stop") for _ in asks]

    account = distill_labels(unlabelled(texts), tmp_path, writer, LabelOptions(classes=CLASSES))
    assert account["counts"]["pending"] == 3
    assert {one.record.label for one in Review(tmp_path)} == {None}
    done = CliRunner().invoke(app, ["data", "review", str(tmp_path)], input="a\nr\ns\n")
    assert done.exit_code == 0 and "1 has no answer to accept" in done.stderr
    assert Review(tmp_path).export() == {"accepted": 0, "pending": 2, "rejected": 1}


def test_deciding_reads_what_was_made_once_and_a_full_disk_is_said(texts, tmp_path, monkeypatch):
    def writer(asks: list[Ask]) -> list[Answer]:
        return [Answer("card" if at % 2 else "refund", "stop") for at, _ in enumerate(asks)]

    distill_labels(unlabelled(texts), tmp_path / "out", writer, LabelOptions(classes=CLASSES))
    review = Review(tmp_path / "out")
    review.decide("1", "accepted")
    (tmp_path / "out" / "review.jsonl").rename(tmp_path / "kept.jsonl")
    review.decide("2", "accepted")
    (tmp_path / "kept.jsonl").rename(tmp_path / "out" / "review.jsonl")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    for write in (lambda: review.decide("3", "accepted"), review.export):
        with pytest.raises(MachineError, match="cannot write"):
            write()
    assert "3" not in review.decisions


def test_a_row_without_text_is_named(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"note": "a"}\n{"note": ""}\n')
    with pytest.raises(DataError, match=r"rows\.jsonl:2") as caught:
        unlabelled(path, "note")
    assert "no text in the column 'note'" in str(caught.value)
    path.write_text('{"note": "a"}\n{"note": "b"}\n')
    assert [record.text for record in unlabelled(path, "note")] == ["a", "b"]


def test_classes_must_differ():
    with pytest.raises(ValidationError, match="different names"):
        LabelOptions(classes=("Card", "card"))
