"""Training rows that stand in a suite: by a run of words, as a whole, or nearly."""

import csv
import json
import random
from pathlib import Path
from typing import Any

import pytest

from attune.data.desk import Desk
from attune.data.filters.contamination import Contamination
from attune.data.steps import Context
from attune.errors import DataError
from attune.records import Completion, Message, Record

WORDS = "card bank transfer fee limit refund branch order parcel invoice salary rent pension travel".split()


def sentence(seed: int, words: int = 40) -> str:
    draw = random.Random(seed)
    return " ".join(f"{draw.choice(WORDS)}{draw.randrange(300)}" for _ in range(words))


def row(name: str, text: str) -> Record:
    return Record(name, (Message("user", text),), label="a")


def suite(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")
    return str(path)


def run(folder: Path, rows: list[Record], **options: Any) -> tuple[list[str], dict[str, dict], dict[str, Any]]:
    desk = Desk([Contamination(Contamination.Config(**options), Context())], folder)
    parts = desk.run({"train": [*rows, row("clean", sentence(999))], "test": rows})
    assert len(parts["test"]) == len(rows)
    lines = [json.loads(line) for line in (folder / "ledger.jsonl").read_text().splitlines()]
    return [one.id for one in parts["train"]][:-1], {line["id"]: line for line in lines}, desk.facts[0]


def test_thirteen_words_in_a_row(tmp_path: Path) -> None:
    text = sentence(1)
    words = text.split()
    path = suite(tmp_path / "s.jsonl", [{"question": sentence(2), "id": 1}, {"question": text, "id": 2}])
    rows = [
        row("13", f"{sentence(3)} {' '.join(words[5:18]).upper()}, {sentence(4)}"),
        row("12", f"{sentence(5)} {' '.join(words[5:17])} {sentence(6)}"),
    ]
    stay, ledger, facts = run(tmp_path / "a", rows, against=[path])
    assert stay == ["12"]
    line = ledger["13"]
    assert line["reason"] == f"13 words in a row stand in {path}:2"
    assert line["shared"] == " ".join(words[5:18]) and line["runs"] == 1 and line["line"] == 2
    assert facts["suites"] == {path: {"texts": 2, "rows_left_out": 1, "items_touched": 1}}
    assert run(tmp_path / "b", rows, against=[path], words=12)[0] == []


def test_the_runs_of_a_block_are_told_of_the_right_row(tmp_path: Path) -> None:
    text = sentence(1)
    path = suite(tmp_path / "s.jsonl", [{"text": text}])
    rows = [row(str(i), f"{sentence(10 + i)} {text if i in (3, 7) else ''}") for i in range(10)]
    stay, ledger, _ = run(tmp_path / "a", rows, against=[path])
    assert stay == [str(i) for i in range(10) if i not in (3, 7)]
    assert ledger["7"]["shared"] == " ".join(text.split()[:13]) and ledger["7"]["runs"] == 28


def test_short_texts_exact_and_near(tmp_path: Path) -> None:
    path = suite(
        tmp_path / "s.jsonl", [{"text": "My card hasn't arrived yet.", "label": "card arrival"}, {"text": "Yes"}]
    )
    rows = [
        row("same", "my card hasn't arrived yet"),
        row("near", "My card hasn't arived yet"),
        row("label", "card arrival"),
        row("word", "yes"),
        row("other", "My parcel came yesterday"),
    ]
    stay, ledger, facts = run(tmp_path / "a", rows, against=[path])
    assert stay == ["label", "word", "other"], "two words are no test item"
    assert ledger["same"]["match"] == "same" and ledger["near"]["match"] == "near"
    assert 0.8 <= ledger["near"]["jaccard"] < 1
    assert facts["by_match"] == {"near": 1, "same": 1}


def test_a_template_of_the_suite_proves_nothing(tmp_path: Path) -> None:
    template = sentence(8, 20)
    path = suite(tmp_path / "s.jsonl", [{"text": f"{template} {sentence(20 + i, 5)}"} for i in range(8)])
    rows = [row("1", f"{template} {sentence(50)}")]
    assert run(tmp_path / "a", rows, against=[path])[0] == ["1"]
    assert run(tmp_path / "b", rows, against=[path], common=None)[0] == []


def test_any_format_and_several_suites(tmp_path: Path) -> None:
    chat, table, plain = tmp_path / "c.jsonl", tmp_path / "t.csv", tmp_path / "p.txt"
    suite(
        chat, [{"messages": [{"role": "user", "content": sentence(1)}, {"role": "assistant", "content": sentence(2)}]}]
    )
    with open(table, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["text", "label"], [sentence(3), "x"]])
    plain.write_text(f"{sentence(4)}\n{sentence(5)}\n", encoding="utf-8")
    answer = Record("answer", (Message("user", "Why?"),), (Completion((Message("assistant", sentence(2)),)),))
    rows = [answer, row("table", sentence(3)), row("plain", f"x {sentence(5)}"), row("free", sentence(6))]
    stay, _, facts = run(tmp_path / "a", rows, against=[str(chat), str(table), str(plain)])
    assert stay == ["free"]
    assert [one["rows_left_out"] for one in facts["suites"].values()] == [1, 1, 1]


def test_a_suite_without_text_or_without_a_file(tmp_path: Path) -> None:
    empty = suite(tmp_path / "s.jsonl", [{"label": "x"}])
    with pytest.raises(DataError, match="no text of 3 words"):
        run(tmp_path / "a", [row("1", "a b c")], against=[empty])
    with pytest.raises(DataError, match="none.jsonl"):
        run(tmp_path / "b", [row("1", "a b c")], against=[str(tmp_path / "none.jsonl")])
