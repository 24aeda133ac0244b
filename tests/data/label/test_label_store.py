"""The labels file: what was answered is on the disk, a torn line is no answer, several people, undo, export."""

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from attune.data.label.agreement import agreement
from attune.data.label.decide import decide, export, units_of
from attune.data.label.items import load_texts
from attune.data.label.store import Row, Setup, Store
from attune.data.sources import load_records
from attune.errors import DataError, MachineError
from attune.records import Span


def label(store: Store, key: str, who: str, value: object, source: str = "human") -> None:
    store.add(Row(key, who, value, source=source))  # type: ignore[arg-type]


def held(path: Path) -> dict:
    store = Store(path, write=False)
    return {key: {who: row.label for who, row in rows.items()} for key, rows in store.labels.items()}


def test_answers_undo_and_relabel(tmp_path: Path) -> None:
    path = tmp_path / "new" / "labels.jsonl"
    store = Store(path)
    label(store, "1", "ann", "x")
    label(store, "1", "bo", "y")
    label(store, "1", "ann", "z")
    label(store, "2", "ann", ("p", "q"))
    label(store, "3", "ann", (Span(0, 3, "PER"),))
    store.add(Row("4", "ann", action="skip"))
    assert store.skipped["ann"] == {"4"}
    assert store.add(Row("", "ann", action="undo")).id == "4"
    store.add(Row("", "ann", action="undo"))
    assert held(path) == {"1": {"ann": "z", "bo": "y"}, "2": {"ann": ("p", "q")}}
    store.add(Row("", "ann", action="undo"))
    store.add(Row("", "ann", action="undo"))
    assert held(path) == {"1": {"ann": "x", "bo": "y"}} == {"1": {w: r.label for w, r in store.labels["1"].items()}}
    lines = path.read_text().splitlines()
    assert len(lines) == 10  # nothing is ever taken out of the file
    first = json.loads(lines[0])
    assert {"id", "annotator", "label", "at", "seconds", "source", "note"} == set(first)
    store.add(Row("", "bo", action="undo"))
    with pytest.raises(DataError, match="bo has nothing to undo"):
        store.add(Row("", "bo", action="undo"))


def test_every_cut_of_the_file_is_readable(tmp_path: Path) -> None:
    """Wherever a crash cuts the file, all whole lines count, the rest is reported, and work goes on."""
    path = tmp_path / "labels.jsonl"
    store = Store(path)
    store.define(Setup("classification", ("ä", "b")), "ann")
    for key in "123":
        label(store, key, "ann", "ä")
    whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        lines = whole[:cut].split(b"\n")
        tail = lines[-1]
        full = bool(tail) and tail.endswith(b"}") and _is_json(tail)
        answers = sum(b'"id"' in line for line in lines[:-1]) + (full and b'"id"' in tail)
        reader = Store(path, write=False)
        assert len(reader.labels) == answers
        assert bool(reader.torn) == (bool(tail) and not full)
        writer = Store(path)
        label(writer, "9", "ann", "b")
        writer.close()
        assert len(held(path)) == answers + 1
        assert all(_is_json(line) for line in path.read_bytes().splitlines())


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"id": "1", "annotator": "a", "label": }', "labels.jsonl:2:40: not JSON"),
        ('["x"]', "labels.jsonl:2:1: the line is not an object"),
        ('{"id": 1, "annotator": "a", "label": "x"}', "id is missing or not a text"),
        ('{"id": "1", "annotator": "a"}', "label is missing"),
        ('{"id": "1", "annotator": "a", "label": [[1, "x"]]}', "is not a text, a list of texts"),
        ('{"id": "1", "annotator": "a", "label": "x", "action": "burn"}', "'burn'"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "labels.jsonl"
    good = '{"id": "0", "annotator": "a", "label": "x"}'
    path.write_text(f"{good}\n{line}\n{good}\n")
    with pytest.raises(DataError) as caught:
        Store(path)
    assert said in str(caught.value) and "fix:" in str(caught.value)


@pytest.mark.parametrize("content", ["# notes", '{"text": "x"}', '{"id": "1", "text": "x"}', '{"id":"1","te'])
def test_a_file_that_is_no_labels_file_is_left_alone(tmp_path: Path, content: str) -> None:
    path = tmp_path / "notes.md"
    path.write_text(content)
    with pytest.raises(DataError):
        Store(path)
    assert path.read_text() == content


def test_missing_and_unwritable(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not there"):
        Store(tmp_path / "none.jsonl", write=False)
    with pytest.raises(MachineError):
        Store(tmp_path)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_full_disk_loses_nothing_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    store = Store(path)
    label(store, "1", "ann", "x")
    real, store._file = store._file, os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(MachineError, match="could not be written"):
        label(store, "2", "ann", "x")
    os.close(store._file)
    store._file = real
    assert held(path) == {"1": {"ann": "x"}}
    label(store, "2", "ann", "y")
    assert held(path) == {"1": {"ann": "x"}, "2": {"ann": "y"}}


def _write_forever(path: str, who: str, said: str) -> None:
    store = Store(path)
    with open(said, "a") as file:
        for number in range(100_000):
            store.add(Row(f"{who}-{number}", who, "x"))
            file.write(f"{who}-{number}\n")
            file.flush()


def test_killed_writers_lose_no_answer(tmp_path: Path) -> None:
    """Two people write to one file, and are killed in the middle, again and again."""
    path = tmp_path / "labels.jsonl"
    context = multiprocessing.get_context("fork")
    for turn in range(5):
        people = []
        for name in ("ann", "bo"):
            who = f"{name}{turn}"
            process = context.Process(target=_write_forever, args=(str(path), who, str(tmp_path / who)))
            process.start()
            people.append((process, tmp_path / who))
        while not all(said.exists() and said.stat().st_size > 200 for _, said in people):
            time.sleep(0.01)
        for process, _ in people:
            os.kill(process.pid, signal.SIGKILL)
            process.join()
        found = set(Store(path).labels)
        for _, said in people:
            answered = said.read_text().splitlines()
            assert len(answered) > 10 and found.issuperset(answered)


def test_decisions() -> None:
    def said(*labels: object, by: str | None = None) -> object:
        rows = {f"p{n}": Row("1", f"p{n}", one) for n, one in enumerate(labels)}  # type: ignore[arg-type]
        if by:
            rows["judge"] = Row("1", "judge", by, source="adjudicated")
        made = decide(rows)
        return made.label, made.how, round(made.agreement, 2)

    assert said("x") == ("x", "single", 1.0)
    assert said("x", "x", "y") == ("x", "majority", 0.67)
    assert said("x", "y") == (None, "undecided", 0.0)
    assert said("x", "y", by="y") == ("y", "adjudicated", 0.5)
    assert said("x", "x", "y", "z") == (None, "undecided", 0.0)
    assert said(("a", "b"), ("b",), ("b", "c")) == (("b",), "majority", 0.33)
    assert said((), ()) == ((), "majority", 1.0)
    assert said(("a",), ()) == (None, "undecided", 0.0)
    one, two = Span(0, 3, "PER"), Span(5, 8, "ORG")
    assert said((one, two), (two,), (two, one)) == ((one, two), "majority", 0.67)


def test_an_annotator_who_settles_keeps_the_vote(tmp_path: Path) -> None:
    store = Store(tmp_path / "l.jsonl")
    for number in range(10):
        label(store, str(number), "ann", "xy"[number % 2])
        label(store, str(number), "bo", "xy"[number % 2] if number else "y")
    before = agreement(units_of(store)).pairs
    label(store, "0", "ann", "y", source="adjudicated")
    assert agreement(units_of(store)).pairs == before and before["ann", "bo"].value < 1
    made = decide(store.labels["0"])
    assert (made.label, made.how, made.annotators, made.agreement) == ("y", "adjudicated", 2, 0.5)
    assert store.annotators == ["ann", "bo"]
    store.add(Row("", "ann", action="undo"))
    assert decide(store.labels["0"]).how == "undecided"


def test_export_reads_back_as_training_data(tmp_path: Path) -> None:
    data = tmp_path / "notes.csv"
    data.write_text("id,note,when,kind\n" + "".join(f"n{n},text number {n} is here,2024,\n" for n in range(6)))
    data.write_text(data.read_text() + 'n6,"a second\nline",2025,x\n')
    texts = load_texts(data, text="note", target="kind")
    store = Store(tmp_path / "labels.jsonl")
    store.define(Setup("classification", ("x", "y")), "ann")
    for key, ann, bo in (("n0", "x", "x"), ("n1", "x", "y"), ("n3", "y", "y")):
        label(store, key, "ann", ann)
        label(store, key, "bo", bo)
    label(store, "n2", "ann", "y")
    label(store, "gone", "ann", "y")
    made = export(texts, store, tmp_path / "out.jsonl")
    assert (made.written, made.undecided, made.strangers) == (4, ("n1",), 1)
    again = load_records(made.path)
    assert again.task == "classification" and again.format == "record"
    assert [(one.id, one.label) for one in again.records] == [("n0", "x"), ("n2", "y"), ("n3", "y"), ("n6", "x")]
    assert again.records[0].text == "text number 0 is here"
    assert again.records[0].meta == {"when": 2024, "annotators": 2, "agreement": 1.0, "label_by": "majority"} | (
        {"when": again.records[0].meta["when"]}
    )
    assert again.records[3].meta["label_by"] == "file"
    before = made.path.read_bytes()
    export(texts, store, made.path)
    assert made.path.read_bytes() == before
    label(store, "n1", "judge", "y", "adjudicated")
    assert export(texts, store, made.path).written == 5


def test_export_of_several_labels_and_of_spans(tmp_path: Path) -> None:
    data = tmp_path / "texts.jsonl"
    data.write_text("".join(json.dumps({"id": str(n), "text": f"Ann met Bo {n} times"}) + "\n" for n in range(3)))
    texts = load_texts(data)
    several = Store(tmp_path / "several.jsonl")
    several.define(Setup("multilabel", ("x", "y")), "ann")
    for key, value in (("0", ("x", "y")), ("1", ()), ("2", ("y",))):
        label(several, key, "ann", value)
    found = load_records(export(texts, several, tmp_path / "a.jsonl").path)
    assert found.task == "multilabel" and [one.label for one in found.records] == [("x", "y"), (), ("y",)]
    spans = Store(tmp_path / "spans.jsonl")
    spans.define(Setup("tagging", ("PER",)), "ann")
    label(spans, "0", "ann", (Span(0, 3, "PER"), Span(8, 10, "PER")))
    label(spans, "0", "bo", (Span(0, 3, "PER"),))
    label(spans, "1", "ann", (Span(0, 3, "PER"),))
    assert export(texts, spans, tmp_path / "b.jsonl").undecided == ("0",)
    found = load_records(tmp_path / "b.jsonl")
    assert found.task == "tagging" and found.records[0].label == (Span(0, 3, "PER"),)
    units = units_of(spans, texts)
    shared = [unit for unit in units.values if len(unit) == 2]
    assert [unit["ann"] == unit["bo"] for unit in shared] == [True, True, False, True, True]


@pytest.mark.parametrize(
    ("name", "content", "column", "expected"),
    [
        ("a.txt", "first line\n\nsecond line\r\n", "text", ["first line", "second line"]),
        ("a.txt", "one\u2028text\nanother\x0cone\n", "text", ["one\u2028text", "another\x0cone"]),
        ("a.csv", "note,code\nlong enough,a\nanother one,b\nlong enough,c\n", "note", ["long enough", "another one"]),
        ("a.jsonl", '{"body": "x y", "text": null}\n{"body": "z", "text": null}\n', "body", ["x y", "z"]),
        ("a.conll", "Ann B-PER\nsings O\n\nBo B-PER\n", "text", ["Ann sings", "Bo"]),
        ("a.csv", 'text,label\n" ",x\nhello,y\n', "text", ["hello"]),
    ],
)
def test_texts_of_many_files(tmp_path: Path, name: str, content: str, column: str, expected: list[str]) -> None:
    path = tmp_path / name
    path.write_text(content)
    found = load_texts(path)
    assert found.column == column
    assert [record.text for record in found.records.values()] == expected


def test_a_label_in_the_file_does_not_change_the_id(tmp_path: Path) -> None:
    for name, kind in (("a", ""), ("b", "x")):
        (tmp_path / f"{name}.csv").write_text(f"text,kind\nhello there,{kind}\n")
    one, other = (load_texts(tmp_path / f"{name}.csv", target="kind") for name in "ab")
    assert list(one.records) == list(other.records)
    assert one.known == {} and list(other.known.values()) == ["x"]


def test_wrong_columns_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("note,kind\nhello,x\n")
    with pytest.raises(DataError, match="did you mean 'note'"):
        load_texts(path, text="nte")
    with pytest.raises(DataError, match="did you mean 'kind'"):
        load_texts(path, target="kinds")
    path.write_text("id,note\n1,hello\n1,other\n")
    with pytest.raises(DataError, match="stands already"):
        load_texts(path)
