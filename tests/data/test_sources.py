"""From files to records: detection and what it says, drops, skips, ids, limits, and the streaming check."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

import pytest

from attune.data.sources import check, load_records
from attune.errors import DataError, MachineError, UsageError
from attune.records import Record, Span


def jsonl(path: Path, rows: list) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def table(path: Path, rows: list[dict]) -> Path:
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def claims(count: int = 60) -> list[dict]:
    return [
        {
            "id": f"A{number}",
            "note": f"The worker number {number} hurt the left knee at the plant and stayed home.",
            "claim_type": ("medical_only", "lost_time", "death")[number % 3],
            "decision": ("granted", "denied")[number % 2],
            "entities": json.dumps([{"start": 4, "end": 10, "label": "PERSON"}]),
            "summary": f"Worker {number} hurt a knee and stayed at home.",
            "amount": f"{number * 1.5}",
            "level": str(number % 30),
        }
        for number in range(count)
    ]


def test_chat_lines_are_detected_and_said(tmp_path):
    path = jsonl(
        tmp_path / "a.jsonl",
        [{"messages": [{"role": "user", "content": f"{n}"}, {"role": "assistant", "content": "x"}]} for n in range(3)],
    )
    loaded = load_records(path)
    assert (loaded.format, loaded.task, len(loaded.records)) == ("chat", "generation", 3)
    assert loaded.why == "the first row has messages: format chat, task generation"
    assert loaded.counts == {"read": 3, "kept": 3, "bad": 0, "dropped": {}, "notices": {}}
    (source,) = loaded.sources
    assert (
        source.rows == 3
        and source.bytes == path.stat().st_size
        and source.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    )
    assert [record.where for record in loaded.records] == [f"{path}:{line}" for line in (1, 2, 3)]


def test_table_with_a_named_label(tmp_path):
    rows = [{"comment": f"some long text {n}", "category": f"c{n % 7}", "ref": f"r{n}"} for n in range(70)]
    loaded = load_records(table(tmp_path / "a.csv", rows))
    assert (
        loaded.task == "classification"
        and loaded.records[8].label == "c1"
        and loaded.records[8].text == "some long text 8"
    )
    assert loaded.records[8].meta == {"ref": "r8"}
    assert loaded.why == (
        "the rows have comment, category, ref; text is 'comment' (the longest texts, 17 characters on average), "
        "label is 'category' (by its name): 7 different values in the first 70 rows, so classification"
    )


def test_table_whose_only_short_column_is_the_label(tmp_path):
    rows = [{"comment": f"some long text {n}", "kind": f"c{n % 7}", "ref": f"r{n}"} for n in range(70)]
    loaded = load_records(table(tmp_path / "a.csv", rows))
    assert loaded.records[8].label == "c1" and "label is 'kind' (few different short values)" in loaded.why


def test_several_possible_labels_are_an_error_that_names_them_and_the_option(tmp_path):
    path = table(tmp_path / "claims.csv", claims())
    with pytest.raises(DataError) as error:
        load_records(path)
    assert "claim_type, decision, entities" in str(error.value) and "--target claim_type" in str(error.value)
    with pytest.raises(DataError, match="no column is named 'claimtype' .*did you mean 'claim_type'"):
        load_records(path, target="claimtype")


@pytest.mark.parametrize(
    ("options", "format", "task", "label"),
    [
        ({"target": "claim_type"}, "labelled", "classification", "lost_time"),
        ({"columns": {"text": "note", "label": "decision"}}, "labelled", "classification", "denied"),
        ({"target": "entities"}, "spans", "tagging", (Span(4, 10, "PERSON"),)),
        ({"target": "summary"}, "pairs", "generation", None),
        ({"target": "claim_type", "task": "generation"}, "pairs", "generation", None),
        ({"target": "amount", "task": "regression"}, "labelled", "regression", 1.5),
        ({"target": "level"}, "labelled", "classification", "1"),
        ({"task": "text"}, "text", "text", None),
        ({"task": "tagging"}, "spans", "tagging", (Span(4, 10, "PERSON"),)),
        ({"target": "claim_type", "task": "multilabel"}, "labelled", "multilabel", ("lost_time",)),
    ],
)
def test_one_table_serves_many_tasks_by_its_target(tmp_path, options, format, task, label):
    loaded = load_records(table(tmp_path / "claims.csv", claims()), **options)
    record = loaded.records[1]
    assert (loaded.format, loaded.task, record.label, record.id) == (format, task, label, "A1")
    assert record.full_text.startswith("The worker number 1")
    if task == "generation":
        assert record.completions[0].text in ("Worker 1 hurt a knee and stayed at home.", "lost_time")


def test_a_column_of_many_numbers_is_not_regression_unless_asked(tmp_path):
    path = table(tmp_path / "claims.csv", claims())
    assert "they are all numbers: say task: regression" in load_records(path, target="level").why
    with pytest.raises(DataError, match="40 different numbers.*\n.*--task regression"):
        load_records(table(tmp_path / "b.csv", claims(40)), target="amount")


def test_lists_of_labels_are_multilabel_and_semicolons_only_when_asked(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", [{"text": f"t {n}", "labels": ["a", "b"][: n % 3]} for n in range(9)])
    loaded = load_records(path)
    assert loaded.task == "multilabel" and [record.label for record in loaded.records[:3]] == [(), ("a",), ("a", "b")]
    path = table(tmp_path / "a.csv", [{"text": f"t {n}", "label": "a;b"} for n in range(9)])
    assert load_records(path).records[0].label == "a;b"
    assert load_records(path, task="multilabel").records[0].label == ("a", "b")


def test_text_with_facts_beside_it_is_plain_text_and_kto_is_not_a_table(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", [{"text": f"t {n}", "source": "ab"[n % 2], "title": "x"} for n in range(20)])
    assert load_records(path).task == "text"
    path = jsonl(tmp_path / "b.jsonl", [{"prompt": f"{n}", "completion": "x", "label": n % 2 == 0} for n in range(20)])
    loaded = load_records(path)
    assert loaded.task == "kto" and loaded.records[1].completions[0].good is False


def test_columns_rename_into_any_format_and_reasons_keep_the_users_words(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", [{"q": "a", "a": "b"}, {"q": "", "a": "b"}])
    with pytest.raises(DataError) as error:
        load_records(path, columns={"prompt": "q", "completion": "a"})
    assert str(error.value).startswith(f"{path}:2: q is empty")


def test_unknown_task_format_or_option_is_a_usage_error(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", [{"prompt": "a", "completion": "b"}])
    with pytest.raises(UsageError, match="did you mean 'tagging'"):
        load_records(path, task="taging")
    with pytest.raises(Exception, match="unknown format 'chatt'; did you mean 'chat'"):
        load_records(path, format="chatt")
    with pytest.raises(UsageError, match="error or skip"):
        load_records(path, on_bad_row="ignore")
    with pytest.raises(DataError, match="the data is for generation .* not for preference"):
        load_records(path, task="preference")
    with pytest.raises(DataError, match="no other shape that attune knows"):
        load_records(jsonl(tmp_path / "b.jsonl", [{"x": {"y": 1}}]))


def test_bad_rows_are_shown_together_up_to_twenty(tmp_path):
    good = {"prompt": "a", "completion": "b"}
    path = jsonl(tmp_path / "a.jsonl", [good, '{"prompt": "a', good, {"prompt": 5, "completion": "b"}, "[1]", good])
    with pytest.raises(DataError) as error:
        load_records(path)
    text = str(error.value)
    assert text.startswith("3 of 6 rows are bad\n") and error.value.exit_code == 3
    assert f"{path}:2:12: invalid JSON: unterminated string" in text
    assert f"{path}:4: prompt is a number" in text and f"{path}:5:1: the row is an array" in text
    path = jsonl(tmp_path / "b.jsonl", [good] * 5 + ["nope"] * 50)
    with pytest.raises(DataError) as error:
        load_records(path)
    assert str(error.value).count(f"{path}:") == 20 and "reading stopped there" in str(error.value)


def test_a_single_bad_row_reads_file_line_column_reason(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", [{"prompt": "a", "completion": "b"}, '{"prompt": "a", "completion": NaN}'])
    with pytest.raises(DataError) as error:
        load_records(path)
    assert str(error.value).splitlines()[0] == f"{path}:2:31: NaN is not JSON; write null or leave the field out"


def test_skip_leaves_out_one_percent_and_writes_the_rejects(tmp_path):
    good = [{"prompt": f"{n}", "completion": "b"} for n in range(198)]
    rejects = tmp_path / "out" / "rejects.jsonl"
    path = jsonl(tmp_path / "a.jsonl", [*good, "{" + "x" * 5000, {"prompt": None, "completion": "b"}])
    loaded = load_records(path, on_bad_row="skip", rejects=rejects)
    assert len(loaded.records) == 198 and loaded.counts["bad"] == 2 and len(loaded.rejects) == 2
    lines = [json.loads(line) for line in rejects.read_text().splitlines()]
    assert [line["where"] for line in lines] == [f"{path}:199:2", f"{path}:200"]
    assert lines[1]["reason"] == "prompt is null" and len(lines[0]["raw"]) == 2048
    path = jsonl(tmp_path / "b.jsonl", [*good, "{", "{", "{"])
    with pytest.raises(DataError, match="at most 1%"):
        load_records(path, on_bad_row="skip", rejects=rejects)
    assert len(rejects.read_text().splitlines()) == 3


def test_rows_without_an_answer_are_dropped_and_counted_up_to_max_drop(tmp_path):
    rows = [{"text": f"t {n}", "label": "" if n < 3 else "ab"[n % 2]} for n in range(60)]
    path = table(tmp_path / "a.csv", rows)
    loaded = load_records(path)
    assert loaded.counts["dropped"] == {"label is empty": 3} and loaded.counts["kept"] == 57
    with pytest.raises(DataError) as error:
        load_records(path, max_drop=0.04)
    assert f"3 x label is empty (first at {path}:2)" in str(error.value)


def test_ties_are_counted_but_say_nothing_against_the_data(tmp_path):
    rows = [{"instruction": f"{n}", "response1": "a", "response2": "b", "annotator1": n % 3} for n in range(9)]
    loaded = load_records(jsonl(tmp_path / "a.jsonl", rows))
    assert loaded.counts["kept"] == 6 and loaded.counts["dropped"] == {"tie between the two answers": 3}


def test_an_id_that_stands_twice_names_both_lines(tmp_path):
    first = jsonl(
        tmp_path / "a.jsonl", [{"id": 1, "prompt": "a", "completion": "b"}, {"id": 2, "prompt": "c", "completion": "d"}]
    )
    second = jsonl(tmp_path / "b.jsonl", [{"id": "2", "prompt": "e", "completion": "f"}])
    with pytest.raises(DataError) as error:
        load_records([first, second])
    assert str(error.value).startswith(f"{second}:1: id '2' stands already at {first}:2")


def test_rows_of_one_content_keep_ids_apart_and_are_counted(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", [{"prompt": "a", "completion": "b"}] * 3)
    loaded = load_records(path)
    ids = [record.id for record in loaded.records]
    assert len(set(ids)) == 3 and ids[1] == f"{ids[0]}-2"
    assert loaded.counts["notices"] == {"exact duplicate of an earlier row (kept)": 2}


def test_a_given_id_equal_to_another_text_is_not_its_duplicate(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", [{"id": n, "prompt": "a", "completion": "b"} for n in range(3)])
    assert [record.id for record in load_records(path).records] == ["0", "1", "2"]


def test_limit_paths_and_patterns(tmp_path):
    for name in "ab":
        jsonl(tmp_path / f"{name}.jsonl", [{"prompt": f"{name}{n}", "completion": "x"} for n in range(5)])
    assert [record.text for record in load_records(tmp_path, limit=6).records] == ["a0", "a1", "a2", "a3", "a4", "b0"]
    assert len(load_records(str(tmp_path / "*.jsonl")).records) == 10
    assert len(load_records([tmp_path / "a.jsonl", tmp_path / "a.jsonl"]).records) == 5
    with pytest.raises(UsageError, match="no data file is named"):
        load_records([])


def test_licence_comes_from_the_files_beside(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", [{"prompt": "a", "completion": "b"}])
    assert load_records(path).sources[0].licence is None
    (tmp_path / "LICENSE").write_text("Apache License\nVersion 2.0")
    assert load_records(path).sources[0].licence == "Apache-2.0"
    (tmp_path / "PROVENANCE.md").write_text("# x\n\nLicence: CC-BY-4.0 (README)\n")
    assert load_records(path).sources[0].licence == "CC-BY-4.0"


def test_nothing_left_is_an_error(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("\n\n")
    with pytest.raises(DataError, match="no row is left"):
        load_records(path)


def test_check_writes_what_load_records_reads_and_reading_it_again_changes_nothing(tmp_path):
    path = table(tmp_path / "claims.csv", claims())
    out = tmp_path / "out" / "clean.jsonl"
    report = check(path, out=out, target="entities")
    loaded = load_records(path, target="entities")
    assert report.out == out and report.counts == loaded.counts and report.why == loaded.why
    assert [Record.from_dict(json.loads(line)) for line in out.read_text().splitlines()] == loaded.records
    again = load_records(out)
    assert again.records == loaded.records and (again.format, again.task) == ("record", "tagging")
    first = out.read_bytes()
    check(path, out=out, target="entities")
    assert out.read_bytes() == first, "the same input gives the same bytes"


def test_check_leaves_no_half_output_and_spares_its_input(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", [{"prompt": "a", "completion": "b"}, "{"])
    out = tmp_path / "out.jsonl"
    out.write_text("before")
    with pytest.raises(DataError):
        check(path, out=out)
    assert out.read_text() == "before" and sorted(item.name for item in tmp_path.iterdir()) == ["a.jsonl", "out.jsonl"]
    good = jsonl(tmp_path / "b.jsonl", [{"prompt": "a", "completion": "b"}])
    with pytest.raises(UsageError, match="one of the files to read"):
        check(good, out=good)
    with pytest.raises(MachineError, match="cannot write"):
        check(good, out=good / "x.jsonl")
    assert check(good).counts["kept"] == 1


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from Linux's /proc")
def test_check_needs_little_memory(tmp_path):
    import subprocess
    import sys

    path = tmp_path / "a.jsonl"
    with open(path, "w") as file:
        for number in range(60_000):
            row = {
                "messages": [
                    {"role": "user", "content": f"{number} " + "ask " * 200},
                    {"role": "assistant", "content": "tell " * 200},
                ]
            }
            file.write(json.dumps(row) + "\n")
    code = (
        "import sys; from attune.data.sources import check; check(sys.argv[1], out=sys.argv[1] + '.out.jsonl');"
        "print(*[line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')])"
    )
    run = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    peak = int(run.stdout) >> 10
    assert path.stat().st_size > 100 << 20 and peak < 100, f"{peak} MiB for a file of 110 MiB"


def test_a_mapped_name_that_means_nothing_does_not_make_another_column_the_text(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(
        "".join(
            json.dumps({"note": f"a long note number {n} about a parcel", "short": f"n {n}", "kind": "ab"[n % 2]})
            + "\n"
            for n in range(12)
        )
    )
    with pytest.raises(DataError, match="the column 'note' is named txt") as refused:
        load_records(path, columns={"txt": "note"}, target="kind")
    assert "text: note" in refused.value.fix
    assert load_records(path, columns={"group": "short"}, target="kind").records[0].text.startswith("a long note")
