"""Every rule of reading rows: what is refused, where it is said to stand, and what is accepted and said."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attune.data import files, lines, strict_json
from attune.data.rows import iter_rows
from attune.errors import DataError, MachineError


def read(path: Path, **options) -> tuple[list[dict], list[str], Counter]:
    notices: Counter[str] = Counter()
    bad: list[str] = []
    rows = [row for _, row in iter_rows(path, on_bad=lambda item: bad.append(str(item)), notices=notices, **options)]
    return rows, bad, notices


GOOD = b'{"text": "a", "label": "b"}\n'

BAD_LINES = {
    "truncated": (
        b'{"text": "a", "label": "b',
        24,
        "unterminated string starting at (the text ends before the value does)",
    ),
    "cut after colon": (b'{"text":', 9, "(the text ends before the value does)"),
    "not JSON": (b"{'text': 1}", 2, "invalid JSON: '...' is not text"),
    "a comma too many": (b'{"text": "a",}', 14, "invalid JSON: a comma before }"),
    "a comma too many in a list": (b'{"text": ["a", ]}', 16, "invalid JSON: a comma before ]"),
    "Python": (b'{"text": None}', 10, "invalid JSON: None is Python's; JSON writes null"),
    "invalid UTF-8": (b'{"text": "caf\xe9"}', 14, "byte 0xe9 is not UTF-8"),
    "invalid UTF-8 after a wide character": ('{"é": "'.encode() + b'\xff"}', 8, "byte 0xff is not UTF-8"),
    "NUL": (b'{"text": "a\x00b"}', 12, "NUL byte in text"),
    "control character": (b'{"text": "a\x01b"}', 12, "invalid JSON: invalid control character"),
    "lone surrogate": (rb'{"text": "ab\ud800"}', 13, r"lone surrogate \ud800: half of a character"),
    "low surrogate alone": (rb'{"text": "\\ \uDC01"}', 14, r"lone surrogate \uDC01: half of a character"),
    "NaN": (b'{"text": "a", "x": NaN}', 20, "NaN is not JSON; write null or leave the field out"),
    "Infinity": (b'{"x": -Infinity}', 7, "-Infinity is not JSON; write null or leave the field out"),
    "1e400": (b'{"x": [1, 1e400]}', 11, "1e400 is too large for a number; quote it to make it text"),
    "int > 64 bit": (b'{"x": 18446744073709551616}', 7, "18446744073709551616 is wider than 64 bits"),
    "very long int": (b'{"x": ' + b"9" * 5000 + b"}", 7, "99999999999999999999... is wider than 64 bits"),
    "duplicate keys": (b'{"a": 1, "b": {"a": 2}, "a": 3}', 25, 'the key "a" stands twice'),
    "inner duplicate keys": (b'{"a": {"b": "}", "b": 2}}', 18, 'the key "b" stands twice'),
    "array row": (b'["a", "b"]', 1, "the row is an array, an object {...} is meant"),
    "scalar row": (b"3", 1, "the row is a number, an object {...} is meant"),
    "string row": (b'"a"', 1, "the row is a string, an object {...} is meant"),
    "null row": (b"null", 1, "the row is null, an object {...} is meant"),
    "more text": (b'{"a": 1} {"a": 2}', 10, "more text after the end of the JSON value"),
    "deep nesting": (b'{"a": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", 106, "nested deeper than 100 levels"),
    "rather deep nesting": (b'{"a": ' + b"[" * 150 + b"]" * 150 + b"}", 106, "nested deeper than 100 levels"),
}


@pytest.mark.parametrize("case", BAD_LINES)
def test_bad_line_is_named_by_line_column_and_reason_and_the_rest_is_read(tmp_path, case):
    line, column, reason = BAD_LINES[case]
    path = tmp_path / "file.jsonl"
    path.write_bytes(GOOD * 3 + line + b"\n" + GOOD)
    rows, bad, _ = read(path)
    assert len(rows) == 4
    assert len(bad) == 1 and bad[0].startswith(f"{path}:4:{column}: "), bad
    assert reason in bad[0]
    with pytest.raises(DataError) as error:
        list(iter_rows(path))
    assert error.value.where == f"{path}:4:{column}" and error.value.exit_code == 3


def test_line_number_is_counted_from_the_start_of_a_long_file(tmp_path):
    path = tmp_path / "file.jsonl"
    path.write_bytes(GOOD * 50_000 + b'{"text": "' + b"a" * 602 + b'\x00"}\n')
    assert read(path)[1] == [f"{path}:50001:613: NUL byte in text"]


def test_50_mb_line_is_refused_and_the_next_line_is_read(tmp_path):
    path = tmp_path / "file.jsonl"
    path.write_bytes(GOOD + b'{"text": "' + b"a" * (50 << 20) + b'"}\n' + GOOD)
    rows, bad, _ = read(path)
    assert len(rows) == 2 and bad == [f"{path}:2:1: the line is longer than 32 MiB"]


@pytest.mark.parametrize(
    "line",
    [
        rb'{"text": "\ud83d\ude00 and \\ud800"}',
        b'{"x": 18446744073709551615, "y": -9223372036854775808, "z": 1e300}',
        b'  {"x": 1}  ',
        json.dumps({"calls": [{"name": str(n)} for n in range(300)]}).encode(),
        b'{"a": "NaN [[[[ 1e400", "b": {"a": [{"a": 1}]}}',
    ],
)
def test_strict_but_unusual_lines_are_read(tmp_path, line):
    path = tmp_path / "file.jsonl"
    path.write_bytes(line + b"\n")
    assert read(path)[0] == [json.loads(line)] and read(path)[1] == []


def test_bom_crlf_and_blank_lines_are_accepted_and_said(tmp_path):
    path = tmp_path / "file.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD[:-1] + b"\r\n\n  \r\n" + GOOD)
    rows, bad, notices = read(path)
    assert len(rows) == 2 and not bad
    assert notices == {"byte order mark (BOM) skipped": 1, "line ends in CRLF": 2, "blank line skipped": 2}


def test_utf16_is_refused_with_the_way_to_convert(tmp_path):
    for name in ("a.jsonl", "a.csv", "a.json", "a.txt"):
        (tmp_path / name).write_bytes('{"a": 1}\n'.encode("utf-16"))
        with pytest.raises(DataError, match="UTF-16") as error:
            list(iter_rows(tmp_path / name))
        assert "iconv -f UTF-16" in str(error.value)


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=200, deadline=None)
@given(JSON_VALUES, st.booleans())
def test_whatever_json_writes_is_read_back(value, ascii_only):
    text = json.dumps(value, ensure_ascii=ascii_only)
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    assert strict_json.parse(text) == value


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.text(max_size=5), JSON_VALUES, min_size=1, max_size=4), st.data())
def test_a_cut_or_changed_text_never_raises_anything_but_a_fault(value, data):
    text = json.dumps(value)
    cut = data.draw(st.integers(0, len(text) - 1))
    with pytest.raises(strict_json.Fault) as fault:
        strict_json.parse(text[:cut])
    assert 0 <= fault.value.offset <= cut


# JSON documents


def test_json_array_is_read_element_by_element_with_lines(tmp_path, monkeypatch):
    rows = [{"n": number, "text": "x" * 5000} for number in range(1000)]
    path = tmp_path / "a.json"
    path.write_text(json.dumps(rows, indent=1))
    found = list(iter_rows(path))
    assert [row for _, row in found] == rows
    assert [where.line for where, _ in found] == [2 + 4 * number for number in range(1000)]


def test_json_array_names_bad_elements_and_goes_on(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('[\n{"a": 1},\n{"a": 1, "a": 2},\n7,\n{"a": NaN},\n{"a": "\\ud800"},\n{"a": 5}\n]\n')
    rows, bad, _ = read(path)
    assert rows == [{"a": 1}, {"a": 5}]
    assert [item.split(": ", 1)[0] for item in bad] == [f"{path}:3:10", f"{path}:4:1", f"{path}:5:7", f"{path}:6:8"]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('[\n{"a": 1},\n{"a": ', "3:"),
        ('[{"a": 1},', "1:"),
        ('[{"a": 1}', "1:10"),
        ('[{"a": 1} {"a": 2}]', "1:11"),
        ('[{"a": 1},]', "1:11"),
        ('[{"a": 1}] x', "1:12"),
        ('{"a": 1, "a": 2}', "1:10"),
        ('{"a": [1, 2', "1:"),
        ("12", "1:1"),
        ('{\n"a": 1e999}', "2:6"),
    ],
)
def test_broken_json_document_is_an_error_with_its_place(tmp_path, text, place):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(DataError) as error:
        list(iter_rows(path))
    assert error.value.where.startswith(f"{path}:{place}")


def test_json_object_is_one_row_and_json_lines_under_that_name_are_said(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"train":\n [["a", "b"]]}')
    assert read(path)[0] == [{"train": [["a", "b"]]}]
    path.write_text('{"a": 1}\n{"a": 2}\n')
    rows, _, notices = read(path)
    assert rows == [{"a": 1}, {"a": 2}] and notices["JSON lines in a file named .json"] == 1


def test_invalid_utf8_in_a_json_array_is_named(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b'[\n{"a": "caf\xe9"}]')
    with pytest.raises(DataError, match="0xe9") as error:
        list(iter_rows(path))
    assert error.value.where == f"{path}:2:11"


# tables


@pytest.mark.parametrize(("mark", "name"), [(",", None), (";", "semicolon"), ("\t", "tab"), ("|", "bar")])
def test_csv_separator_is_found_and_said(tmp_path, mark, name):
    path = tmp_path / "a.csv"
    path.write_text(f'text{mark}label\n"one, two; three | four"{mark}x\nfive{mark}y\n')
    rows, bad, notices = read(path)
    assert rows == [{"text": "one, two; three | four", "label": "x"}, {"text": "five", "label": "y"}] and not bad
    assert list(notices) == ([f"columns separated by {name}"] if name else [])


def test_csv_cells_run_over_lines_and_rows_keep_the_line_they_start_at(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('text,label\n"one\n\n""two""",x\n\nthree,y\n')
    found = list(iter_rows(path))
    assert [(where.line, row["text"]) for where, row in found] == [(2, 'one\n\n"two"'), (6, "three")]


@pytest.mark.parametrize(
    ("body", "place", "reason"),
    [
        ("a,b\nc\nd,e\n", "3", "1 columns, the header has 2"),
        ("a,b\nc,d,e\nf,g\n", "3", "3 columns, the header has 2"),
        ('a,b\n"c"d,e\nf,g\n', "3", "invalid CSV"),
        ('a,b\nf,g\n"c,d\n', "4", "a quote that opens in this row is never closed"),
    ],
)
def test_ragged_and_broken_csv_rows_are_bad_rows(tmp_path, body, place, reason):
    path = tmp_path / "a.csv"
    path.write_text("text,label\n" + body)
    rows, bad, _ = read(path)
    assert len(rows) == 2 and len(bad) == 1
    assert bad[0].startswith(f"{path}:{place}: ") and reason in bad[0]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("I like it,good\nIt is bad,poor\nVery nice,good\n", "'good' stands again below it"),
        ("1,a\n2,b\n", "'1' is a number"),
        ("The claim was denied on Monday.,denied\nx,y\n", "reads like a text"),
        ("text,\nx,y\n", "column 2 has no name"),
    ],
)
def test_csv_without_header_is_refused_and_said_why(tmp_path, text, why):
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(DataError, match="not a header") as error:
        list(iter_rows(path))
    assert why in str(error.value)


def test_csv_header_with_a_name_twice_is_refused_and_a_pandas_index_is_named(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,text\na,b\n")
    with pytest.raises(DataError, match="two columns are named 'text'"):
        list(iter_rows(path))
    path.write_text(",text\n0,b\n")
    assert read(path)[0] == [{"index": "0", "text": "b"}]


def test_latin1_csv_names_byte_line_column_and_how_to_convert(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes("text,label\nplain,x\nun café,y\n".encode("latin-1"))
    with pytest.raises(DataError) as error:
        list(iter_rows(path))
    assert error.value.where == f"{path}:3:7"
    assert "byte 0xe9" in str(error.value) and "iconv -f WINDOWS-1252 -t UTF-8" in str(error.value)


def test_long_csv_cells_are_read(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,label\n" + "a" * 500_000 + ",x\n")
    assert len(read(path)[0][0]["text"]) == 500_000


def test_conll_sentences_comments_and_broken_lines(tmp_path):
    path = tmp_path / "a.conll"
    path.write_text("-DOCSTART- -X- O O\n\n# a comment\nAnn NNP B-PER\nleft VBD O\n \nBob NNP\nsat VBD O\n\nEnd NN O\n")
    rows, bad, _ = read(path)
    assert [[cell[0] for cell in row["conll"]] for row in rows] == [["Ann", "left"], ["End"]]
    assert bad == [f"{path}:7: 2 columns, the lines above have 3"]


# files


def compress(path: Path, data: bytes) -> None:
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(data))
    else:
        import zstandard

        path.write_bytes(zstandard.compress(data[: len(data) // 2]) + zstandard.compress(data[len(data) // 2 :]))


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.json", "a.txt", "a.parquet"])
def test_packed_files_are_read_and_cut_ones_refused(tmp_path, name, suffix):
    if name == "a.parquet":
        data = parquet_bytes([{"text": f"row {number}", "label": "x"} for number in range(50)])
    else:
        plain = {"a.csv": "text,label\n" + "one,x\n" * 50, "a.json": json.dumps([{"a": n} for n in range(50)])}
        data = plain.get(name, '{"a": "some text"}\n' * 50).encode()
    path = tmp_path / (name + suffix)
    compress(path, data)
    rows, bad, _ = read(path)
    assert len(rows) == (1 if name == "a.txt" else 50) and not bad
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - 5])
    with pytest.raises(DataError, match="cut off"):
        list(iter_rows(path))
    path.write_bytes(b"not packed at all")
    with pytest.raises(DataError, match="cannot be unpacked"):
        list(iter_rows(path))


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_bomb_is_refused(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(files, "BOMB_BYTES", 1 << 20)
    path = tmp_path / f"a.jsonl{suffix}"
    compress(path, b" " * (8 << 20))
    with pytest.raises(DataError, match="200 times its size"):
        list(iter_rows(path))


def test_the_bomb_limits_are_the_documented_ones():
    assert (files.BOMB_RATIO, files.BOMB_BYTES, lines.LINE_LIMIT_BYTES) == (200, 1 << 30, 32 << 20)


def test_a_very_compressible_file_below_the_limit_is_read(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    compress(path, GOOD * 100_000)
    assert len(read(path)[0]) == 100_000


def parquet_bytes(rows: list[dict]) -> bytes:
    pyarrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    sink = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(rows), sink)
    return sink.getvalue()


def test_parquet_rows_and_a_damaged_file(tmp_path):
    import datetime

    path = tmp_path / "a.parquet"
    data = parquet_bytes([{"text": "a", "x": float("nan"), "day": datetime.date(2025, 1, 2), "tags": ["b"]}])
    path.write_bytes(data)
    assert read(path)[0] == [{"text": "a", "x": None, "day": "2025-01-02", "tags": ["b"]}]
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match="Parquet cannot be read"):
        list(iter_rows(path))


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    path = tmp_path / "a.parquet"
    path.write_bytes(parquet_bytes([{"a": 1}]))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MachineError, match=r'pip install "attune\[hub\]"'):
        list(iter_rows(path))


def test_a_folder_is_read_in_sorted_order_without_what_is_not_data(tmp_path):
    for name, text in {
        "b.jsonl": "2",
        "a/z.jsonl": "1",
        "README.md": "",
        "LICENSE": "",
        "notes.txt": "",
        "x.bin": "",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f'{{"n": {text}}}\n' if text else "words")
    (tmp_path / ".hidden.jsonl").write_text("{}")
    rows, _, notices = read(tmp_path)
    assert rows == [{"n": 1}, {"n": 2}]
    assert notices == {"file left out: unknown kind": 1, "text file left out beside data files": 1}


def test_a_folder_of_texts_gives_one_document_each(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"one\r\ntwo")
    (tmp_path / "b.md").write_text("# three")
    rows, _, notices = read(tmp_path)
    assert rows == [{"document": "one\ntwo"}, {"document": "# three"}] and notices["line ends in CRLF"] == 1


def test_a_pattern_is_read_in_sorted_order_and_must_match(tmp_path):
    for name in ("b", "a"):
        (tmp_path / f"{name}.jsonl").write_text(f'{{"n": "{name}"}}\n')
    assert read(tmp_path / "*.jsonl")[0] == [{"n": "a"}, {"n": "b"}]
    with pytest.raises(DataError, match="no file matches"):
        list(iter_rows(tmp_path / "*.csv"))


def test_links_stay_in_the_folder(tmp_path):
    outside = tmp_path / "outside.jsonl"
    outside.write_bytes(GOOD)
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "a.jsonl").write_bytes(GOOD)
    (folder / "same.jsonl").symlink_to(folder / "a.jsonl")
    assert len(read(folder)[0]) == 2
    assert len(read_link(tmp_path, outside)) == 1
    (folder / "b.jsonl").symlink_to(outside)
    with pytest.raises(DataError, match="link that leaves the folder"):
        list(iter_rows(folder))
    (folder / "b.jsonl").unlink()
    (folder / "up").symlink_to(tmp_path)
    with pytest.raises(DataError, match="link that leaves the folder"):
        list(iter_rows(folder))


def read_link(folder: Path, target: Path) -> list[dict]:
    """A link that the user names is the user's own."""
    (folder / "link.jsonl").symlink_to(target)
    return read(folder / "link.jsonl")[0]


def test_fifo_device_folder_empty_missing_and_unknown_files_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "claims.csv").write_text("a,b\n1,2\n")
    (tmp_path / "a.zip").write_bytes(b"PK")
    (tmp_path / "gone.jsonl").symlink_to(tmp_path / "nowhere")
    for path, reason in {
        tmp_path / "pipe.jsonl": "a pipe",
        Path("/dev/zero"): "a device",
        tmp_path / "folder.csv": "is a folder",
        tmp_path / "empty.jsonl": "empty \\(0 bytes\\)",
        tmp_path / "claim.csv": "did you mean 'claims.csv'",
        tmp_path / "a.zip": "unpack it",
        tmp_path / "gone.jsonl": "a broken link",
    }.items():
        with pytest.raises(DataError, match=reason):
            list(iter_rows(path))


def test_an_empty_folder_and_a_file_of_blank_lines(tmp_path):
    with pytest.raises(DataError, match="has no file that attune can read"):
        list(iter_rows(tmp_path))
    (tmp_path / "a.csv").write_text("\n\n")
    with pytest.raises(DataError, match="no line with data"):
        list(iter_rows(tmp_path))


def test_regexes_are_linear(tmp_path):
    """100 kB of what backtracks in a careless pattern is refused in a moment."""
    hostile = [
        '"' + "\\" * 100_000,
        '{"a": "' + '\\"' * 50_000,
        "[" + "1" * 100_000,
        '{"a": ' + "-1e" * 33_000,
        "{" * 100_000,
    ]
    done = threading.Event()

    def work() -> None:
        for text in hostile:
            with pytest.raises(strict_json.Fault):
                strict_json.parse(text)
            with pytest.raises(strict_json.Fault):
                strict_json.refuse(text)
                raise strict_json.Fault(0, "nothing found")
        done.set()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert done.wait(5)


def test_importing_the_readers_loads_nothing_heavy():
    code = (
        "import sys, attune.data.sources; from attune import plugins; plugins.find('format');"
        "print([name for name in ('torch', 'numpy', 'transformers', 'pyarrow') if name in sys.modules])"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )
