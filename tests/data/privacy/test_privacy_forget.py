"""`forget`: every trace of a person goes, every other byte stays, and the list keeps them from coming back."""

import hashlib
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from attune.cli import app
from attune.data.forget import forget
from attune.data.suppress import KEY_VARIABLE, Suppression, digit_runs, words_of
from attune.errors import DataError, MachineError, UsageError
from attune.flow_data import SUPPRESSION
from attune.records import Message, Record

CSV = (
    "id,note,label\r\n"
    '1,"Karen Easton was hurt,\nand healed.",a\r\n'
    "2,Nobody here,b\r\n"
    '3,"call KAREN  EASTON, ""now""",a\r\n'
    "4,Karen Eastonville is a town,b\r\n"
)


def lines(*rows) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def prepared(folder: Path) -> Path:
    folder.mkdir(parents=True)

    def row(id: str, text: str) -> dict:
        return Record(id=id, prompt=(Message("user", text),), label="a", where="").to_dict()

    (folder / "train.jsonl").write_text(
        lines(row("a", "Karen Easton was hurt"), row("b", "Nobody"), row("c", "masked [NAME]"))
    )
    (folder / "test.jsonl").write_text(lines(row("t", "Karen\u00a0Easton again"), row("u", "fine")))
    (folder / "ledger.jsonl").write_text(
        lines(
            {"id": "a", "step": "whitespace", "action": "edit", "before": "  ", "after": " "},
            {"id": "b", "step": "whitespace", "action": "edit", "before": "  ", "after": " "},
            {"id": "c", "step": "dates", "action": "edit", "before": "Karen Easton, 3 May", "after": "x"},
        )
    )
    return folder


def test_dry_run_tells_and_changes_nothing(tmp_path: Path) -> None:
    folder = prepared(tmp_path / "prepared")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    report = forget("karen easton", folder)
    assert not report.applied and report.suppression is None
    assert {(Path(row.file).name, row.line) for row in report.removed} == {
        ("train.jsonl", 1),
        ("test.jsonl", 1),
        ("ledger.jsonl", 1),
        ("ledger.jsonl", 3),
        ("train.jsonl", 3),
    }
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    assert "aren" not in json.dumps(report.to_dict())


def test_apply_removes_the_rows_and_nothing_else(tmp_path: Path) -> None:
    folder = prepared(tmp_path / "prepared")
    kept = (folder / "train.jsonl").read_bytes().splitlines(keepends=True)[1]
    report = forget("karen easton", [folder], apply=True, suppression=tmp_path / "suppressed.jsonl")
    assert (folder / "train.jsonl").read_bytes() == kept
    assert [json.loads(line)["id"] for line in (folder / "ledger.jsonl").read_text().splitlines()] == ["b"]
    assert "aston" not in "".join(path.read_text() for path in tmp_path.rglob("*.jsonl"))
    assert report.files[str(folder / "train.jsonl")] == 2
    assert forget("karen easton", folder).removed == []
    assert not list(folder.glob(".tmp*"))


def test_source_files_are_rewritten_byte_for_byte_only_when_named(tmp_path: Path) -> None:
    folder, source = prepared(tmp_path / "prepared"), tmp_path / "claims.csv"
    source.write_bytes(CSV.encode())
    forget("Karen Easton", folder, apply=True)
    assert source.read_bytes() == CSV.encode()
    report = forget("Karen Easton", folder, sources=[source], apply=True)
    assert [str(row) for row in report.removed] == [f"{source}:2", f"{source}:5"]
    assert source.read_bytes().decode() == "id,note,label\r\n2,Nobody here,b\r\n4,Karen Eastonville is a town,b\r\n"


def test_a_quote_that_is_never_closed_takes_no_other_rows_with_it(tmp_path: Path) -> None:
    source = tmp_path / "claims.csv"
    source.write_bytes(b'\xef\xbb\xbfid,note\n1,fine\n2,"Karen Easton, cut\n3,other\n4,"last"\n')
    forget("Karen Easton", [], sources=[source], apply=True)
    assert source.read_bytes() == b'\xef\xbb\xbfid,note\n1,fine\n3,other\n4,"last"\n'
    source.write_bytes(b"\xef\xbb\xbfid,note\n7,Karen Easton\n")
    assert forget("Karen Easton", [], sources=[source]).removed[0].id == "7"
    source.write_bytes(b"id,note\r1,fine\r2,Karen Easton\r")
    with pytest.raises(DataError, match="claims.csv:1"):
        forget("Karen Easton", [], sources=[source], apply=True)
    assert source.read_bytes().count(b"\r") == 3


def test_a_full_disk_changes_no_file(tmp_path: Path, monkeypatch) -> None:
    folder = prepared(tmp_path / "prepared")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    synced: list[int] = []

    def fsync(descriptor: int) -> None:
        synced.append(descriptor)
        if len(synced) == 2:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fsync)
    with pytest.raises(MachineError, match="No space left"):
        forget("karen easton", folder, apply=True)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_a_masked_record_is_known_by_the_source_line_it_came_from(tmp_path: Path) -> None:
    source, folder = tmp_path / "claims.csv", tmp_path / "prepared"
    source.write_bytes(CSV.encode())
    folder.mkdir()
    (folder / "manifest.json").write_text(
        json.dumps({"sources": [{"path": str(source), "sha256": hashlib.sha256(source.read_bytes()).hexdigest()}]})
    )
    rows = [{"id": f"x{at}", "prompt": [], "where": f"{source}:{line}"} for at, line in enumerate((2, 4, 5, 6))]
    (folder / "train.jsonl").write_text(lines(*rows))
    forget("Karen Easton", folder, sources=[source], apply=True)
    assert [json.loads(line)["id"] for line in (folder / "train.jsonl").read_text().splitlines()] == ["x1", "x3"]


def test_escaped_and_damaged_lines_and_numbers_in_any_spacing(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(
        '{"text": "J\\u00fcrgen Wei\\u00df"}\n{"text": "J\u00fcrgen Wei\u00df, cut o\n'
        '{"phone": 7065550115}\n{"text": "(706) 555-01 15"}\n{"text": "5550115"}\n'
    )
    assert [row.line for row in forget("ju\u0308rgen WEISS", file).removed] == [1, 2]
    assert [row.line for row in forget("706-555-0115", file).removed] == [3, 4]
    assert [row.line for row in forget(r"555.?01", file, regex=True).removed] == [3, 4, 5]


def test_an_id_of_the_users_own_is_searched(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(lines({"id": "k.easton@example.com", "text": "x"}, {"id": "7065550115abcdef", "text": "y"}))
    assert [row.line for row in forget("K.Easton@example.com", file).removed] == [1]
    assert forget("7065550115", file).removed == []


def test_runs_that_used_the_data_are_named(tmp_path: Path) -> None:
    source = tmp_path / "claims.csv"
    source.write_bytes(CSV.encode())
    for name, sha256 in (("used", hashlib.sha256(CSV.encode()).hexdigest()), ("other", "0" * 64)):
        run = tmp_path / "runs" / name
        (run / "data").mkdir(parents=True)
        (run / "status.json").write_text("{}")
        path = str(source) if name == "used" else str(tmp_path / "else.csv")
        (run / "data" / "manifest.json").write_text(json.dumps({"sources": [{"path": path, "sha256": sha256}]}))
    (tmp_path / "runs" / "other" / "data" / "preview.txt").write_text("Karen Easton was hurt")
    report = forget("Karen Easton", [], sources=[source], runs=tmp_path / "runs")
    whys = {Path(use.run).name: use.why for use in report.runs}
    assert "same SHA-256" in whys["used"] and whys["other"] == "holds their text in data/preview.txt"
    assert [Path(path).name for path in report.by_hand] == ["preview.txt"]


def test_rejected_rows_and_what_was_prepared_for_runs_are_searched_too(tmp_path: Path) -> None:
    source = tmp_path / "checkpoints" / "claims.csv"  # a folder of the user's own may have this name
    source.parent.mkdir()
    source.write_bytes(CSV.encode())
    folder, runs = prepared(source.parent / "prepared"), source.parent / "runs"
    (folder / ".rejects.jsonl").write_text(lines({"raw": "Karen Easton,"}, {"raw": "Nobody"}))
    hidden = prepared(runs / ".prepared" / "0123456789ab")
    (hidden / "train.jsonl").write_text(lines({"id": "x", "where": f"{source}:2"}, {"id": "y", "where": f"{source}:4"}))
    sha256 = hashlib.sha256(source.read_bytes()).hexdigest()
    (hidden / "facts.json").write_text(json.dumps({"made_from": {"sources": [{"sha256": sha256}]}}))
    (runs / ".prepared" / ".tmp-read-99999999").mkdir()  # a process that was killed left it
    (runs / "one").mkdir()
    (runs / "one" / "status.json").write_text("{}")
    (runs / "one" / "report.html").write_text("<p>Karen Easton</p>")
    report = forget("Karen Easton", folder, sources=[source], runs=runs, apply=True)
    assert [Path(use.run).name for use in report.runs] == ["one"]
    assert (folder / ".rejects.jsonl").read_text() == lines({"raw": "Nobody"})
    assert [json.loads(line)["id"] for line in (hidden / "train.jsonl").read_text().splitlines()] == ["y"]
    assert "Karen" not in (hidden / "test.jsonl").read_text()
    assert not list((runs / ".prepared").glob(".tmp-*"))


def test_escaped_letters_are_read_and_what_cannot_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "audit.html").write_text("<b>Conor</b> O&#39;Brien")
    (tmp_path / "rows.json").write_text(json.dumps([{"text": "J\u00fcrgen Wei\u00df"}]))
    assert [Path(path).name for path in forget("Conor O'Brien", tmp_path).by_hand] == ["audit.html"]
    assert [Path(path).name for path in forget("J\u00fcrgen Wei\u00df", tmp_path).by_hand] == ["rows.json"]
    (tmp_path / "latin.csv").write_bytes("note\nJ\u00fcrgen Wei\u00df\n".encode("latin-1"))
    (tmp_path / "wide.csv").write_bytes("note\nKaren Easton\n".encode("utf-16-le"))
    report = forget("Karen Easton", tmp_path)
    assert [Path(path).name for path in report.unsearched] == ["latin.csv", "wide.csv"]


def test_the_list_knows_them_again_and_shows_nobody(tmp_path: Path) -> None:
    path = tmp_path / "suppressed.jsonl"
    listed = Suppression.open(path)
    assert listed.add(["Karen Easton", "(706) 555-0115", "k.e@example.com"]) == 3 and listed.add(["karen  EASTON"]) == 0
    text = path.read_text()
    assert not any(value in text.lower() for value in ("karen", "easton", "555-0115", "5550115", "example"))
    again = Suppression.load(path)
    for said in (
        "the claimant, Karen Easton, left",
        "706.555.0115",
        "Write to K.E@EXAMPLE.COM.",
        {"meta": {"tel": 7065550115}},
    ):
        assert again.holds(said), said
    for other in ("Karen Eastonville", "Karen met Easton", "706 555 0116", "e@example.com", {"a": [1, None, True]}):
        assert not again.holds(other), other


def test_a_key_from_outside_is_needed_again(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "one")
    Suppression.open(tmp_path / "list.jsonl").add(["Karen Easton"])
    assert Suppression.load(tmp_path / "list.jsonl").holds("Karen Easton")
    monkeypatch.setenv(KEY_VARIABLE, "two")
    with pytest.raises(MachineError, match="is not the key"):
        Suppression.load(tmp_path / "list.jsonl")
    monkeypatch.delenv(KEY_VARIABLE)
    with pytest.raises(MachineError, match="is not set"):
        Suppression.load(tmp_path / "list.jsonl")


def test_what_a_pattern_found_does_not_come_back(tmp_path: Path) -> None:
    rows, kept = tmp_path / "rows.jsonl", tmp_path / "list.jsonl"
    for pattern in ("Kar.n East", "Karen.*"):
        told = {"text": "Dr.Karen Easton was hurt at work and healed after a year of rest at home, she says"}
        rows.write_text(lines(told, {"text": "Nobody"}))
        forget(pattern, rows, regex=True, apply=True, suppression=kept)
        assert rows.read_text() == lines({"text": "Nobody"})
        assert Suppression.load(kept).holds(told) and not Suppression.load(kept).holds("East of Karenville")
        kept.unlink()


@pytest.mark.parametrize("named", [".", "0123456789ab", "0123456789ab/train.jsonl"])
def test_the_list_lies_where_prepare_looks_for_it(tmp_path: Path, named: str) -> None:
    folder = prepared(tmp_path / "prepared" / "0123456789ab")
    (folder / "facts.json").write_text("{}")
    words = ["data", "forget", "--match", "Karen Easton", str(tmp_path / "prepared" / named), "--apply"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0 and f"List: {tmp_path / 'prepared' / SUPPRESSION}" in done.stdout
    assert Suppression.load(tmp_path / "prepared" / SUPPRESSION).holds("Karen Easton")


def test_identifiers_in_the_removed_rows_go_on_the_list_when_asked(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    for identifiers in (False, True):
        rows.write_text(lines({"text": "Karen Easton, k.e@example.com"}))
        forget("Karen Easton", rows, apply=True, suppression=tmp_path / f"{identifiers}.jsonl", identifiers=identifiers)
        assert Suppression.load(tmp_path / f"{identifiers}.jsonl").holds("from K.E@example.com") is identifiers


def test_bad_asks_and_damaged_lists_are_named(tmp_path: Path) -> None:
    for match, regex in (("a", False), ("  ", False), ("(", True), ("x*", True)):
        with pytest.raises(UsageError):
            forget(match, tmp_path, regex=regex)
    with pytest.raises(UsageError, match="is not there"):
        forget("Karen Easton", tmp_path / "missing")
    (tmp_path / "list.jsonl").write_text('{"attune_suppression": 1}\n')
    with pytest.raises(DataError, match="damaged"):
        Suppression.load(tmp_path / "list.jsonl")


def test_words_and_numbers() -> None:
    assert words_of("Jürgen-O'Neil  ＡＢＣ") == ["jürgen", "o", "neil", "abc"]
    assert "7065550115" in list(digit_runs("call (706) 555-01 15, 3 times"))
    assert list(digit_runs("12 apples, 34 pears")) == []
