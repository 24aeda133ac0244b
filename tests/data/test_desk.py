"""The desk applies what steps say, tells everything in the ledger, and gives the same files every time."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import attune
from attune.data.augment.variations import Variations
from attune.data.clean.dates import Dates
from attune.data.desk import Desk, restored, through
from attune.data.labelling import bio, words_of
from attune.data.privacy.pii import PersonalData
from attune.data.spool import Spool, SpoolWriter
from attune.data.steps import Change, Edit, Step, TextStep
from attune.data.tags import offsets_of
from attune.errors import DataError, UsageError
from attune.records import Completion, Message, Record, Span


class Shout(TextStep):
    name = "shout"

    def edits(self, text: str) -> list[Edit]:
        return [Edit(at, at + 1, char.upper(), "shout") for at, char in enumerate(text) if char in "aeiou"]


class Longest(Step):
    """Leaves out every record as long as the longest that it saw."""

    name = "longest"
    learns = True

    def learn(self, train: Sequence[Record]) -> None:
        self.seen = [record.id for record in train]
        self.most = max(len(record.text) for record in train)

    def apply(self, record: Record, number: int) -> Change | None:
        assert self.seen[number] == record.id
        return Change.drop(record, "too long", most=self.most) if len(record.text) == self.most else None

    def facts(self) -> dict[str, Any]:
        return {"most": self.most}


class Twice(Step):
    name = "twice"

    def apply(self, record: Record, number: int) -> Change | None:
        if number < 0:
            return None
        copy = Record(id=f"{record.id}+twice-1", prompt=record.prompt, label=record.label)
        return Change.add(record, [copy], "twice")


def records(*texts: str, start: int = 0) -> list[Record]:
    return [
        Record(id=f"r{number}", prompt=(Message("user", text),), label="x") for number, text in enumerate(texts, start)
    ]


def ledger(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "ledger.jsonl").read_text().splitlines()]


def test_every_change_stands_in_the_ledger(tmp_path: Path) -> None:
    parts = {"train": records("abc", "hello", "tiny"), "validation": [], "test": records("other thing", start=9)}
    made = Desk([Shout(), Longest(), Twice()], tmp_path).run(parts)
    assert [record.text for record in made["train"]] == ["Abc", "Abc", "tIny", "tIny"]
    assert [record.id for record in made["train"]] == ["r0", "r0+twice-1", "r2", "r2+twice-1"]
    # what decides about learning leaves held-out rows alone; what the model reads does not
    assert [record.text for record in made["test"]] == ["OthEr thIng"]
    rows = ledger(tmp_path)
    assert rows[0] == {"id": "r0", "step": "shout", "action": "edit", "field": "prompt.0", "at": 0,
                       "before": "a", "after": "A", "reason": "shout"}  # fmt: skip
    dropped = [row for row in rows if row["action"] == "drop"]
    assert dropped == [
        {"id": "r1", "step": "longest", "action": "drop", "reason": "too long", "before": "hEllO", "most": 5}
    ]
    assert [row["added"] for row in rows if row["action"] == "add"] == ["r0+twice-1", "r2+twice-1"]
    assert not list(tmp_path.glob(".*"))


def test_a_step_that_stands_twice_is_counted_apart(tmp_path: Path) -> None:
    desk = Desk([Shout(), Twice(), Shout()], tmp_path)
    desk.run({"train": records("abc")})
    assert [fact["counts"] for fact in desk.facts] == [{"edit": 1}, {"add": 1}, {}]


def test_a_step_that_leaves_nothing_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="longest"):
        Desk([Longest()], tmp_path).run({"train": records("abc", "xyz")})


def test_without_steps_the_records_stay(tmp_path: Path) -> None:
    parts = {"train": records("abc"), "test": records("z", start=5)}
    made = Desk([], tmp_path).run(parts)
    assert {name: list(part) for name, part in made.items()} == parts


def test_spans_move_with_the_text() -> None:
    class Expand(TextStep):
        name = "expand"

        def edits(self, text: str) -> list[Edit]:
            return [Edit(at, at + 1, "--", "x") for at, char in enumerate(text) if char == "-"]

    record = Record("r", (Message("user", "a-b Ann-Lee x"),), label=(Span(4, 11, "PER"), Span(12, 13, "X")))
    change = Expand().apply(record)
    assert change is not None and change.record is not None
    text = change.record.text
    assert [text[span.start : span.end] for span in change.record.label] == ["Ann--Lee", "x"]  # type: ignore[union-attr]


def test_words_of_a_tagged_text_move_with_it(tmp_path: Path) -> None:
    sentence = "Write to ann.lee@example.com or ask Karen Easton on 3 May 2020 ."
    places = offsets_of(sentence.split())
    name = Span(sentence.index("Karen"), sentence.index(" on"), "PER")
    given = Record("r", (Message("user", sentence),), label=(name,), meta={"tokens": places})
    empty = Record("s", (Message("user", sentence),), label=(), meta={"tokens": places})
    varied = Variations(Variations.Config(typos=1.0, casing=0, punctuation=0))
    steps = [PersonalData(PersonalData.Config(kinds=["email"])), Dates(), varied]
    made = Desk(steps, tmp_path).run({"train": [given, empty]})["train"]
    assert len(made) == 4  # with a copy of each
    for record in made:
        words = words_in(record)
        assert " ".join(words) == record.text and len(words) == 10
        tags = bio(words_of(record), record.label)  # type: ignore[arg-type]
        marked = ["Karen", "Easton"] if record.id.startswith("r") else []
        assert [word for word, tag in zip(words, tags) if tag != "O"] == marked
    assert "2020-05-03" in words_in(made[0])


def words_in(record: Record) -> list[str]:
    return [record.text[start:end] for start, end in words_of(record)]


def test_later_requests_go_through_what_all_parts_went_through() -> None:
    states = [{"step": "whitespace", "options": {}, "seed": 0, "state": {}}]
    record = through(restored(states, "classification"), records("too   many  blanks ")[0])
    assert record.text == "too many blanks"


@pytest.mark.parametrize("text", ["plain", "Zeile\nzwei", "\u2028 \x85", "\ud83d\ude00 ok", "é\u0301"])
def test_a_spool_gives_back_what_it_took(tmp_path: Path, text: str) -> None:
    given = [
        Record("a", (Message("user", text),), label=(Span(0, 1, "B"),), meta={"k": [1, None]}),
        Record("b", (), (Completion((Message("text", text),)),)),
    ]
    writer = SpoolWriter(tmp_path / "spool.jsonl")
    for record in given:
        writer.append(record)
    spool = writer.close()
    assert list(spool) == given == [spool[0], spool[-1]] == spool[:]
    assert list(Spool(tmp_path / "spool.jsonl")) == given
    with pytest.raises(IndexError):
        spool[2]


# the whole, on files ----------------------------------------------------------------------------------------------


STEPS = ["whitespace", "missing", "exact_duplicates", "near_duplicates", {"pii": {"action": "mask"}}]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rng = random.Random(0)
    words = "claim back injury warehouse fall ladder denied paid appeal wage doctor report".split()
    rows = ["text,label"]
    for number in range(400):
        text = " ".join(rng.choices(words, k=12)) + f"  call 555-0{number:03d}"
        rows += [f"{text},{rng.choice(['a', 'b'])}"] * (2 if number % 10 == 0 else 1)
    path = tmp_path / "claims.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_same_run_twice_is_byte_identical(tmp_path: Path, table: Path) -> None:
    recipe = {"data": {"path": str(table), "prepare": STEPS}}
    one = attune.prepare(recipe, out=tmp_path / "one")
    two = attune.prepare(recipe, out=tmp_path / "two")
    assert one.address == two.address
    assert files(one.folder) == files(two.folder)
    assert {"train.jsonl", "validation.jsonl", "test.jsonl", "ledger.jsonl", "facts.json", "audit.html"} <= set(
        files(one.folder)
    )
    other = attune.prepare(recipe, {"data.prepare": ["whitespace"]}, out=tmp_path / "one")
    assert other.address != one.address
    from attune.data.versions import diff

    counts = diff(one.folder, other.folder)["counts"]
    assert counts["added"] >= 20 and counts["removed"] == 0 and counts["moved"] == 0


def test_what_a_template_adds_and_what_steps_read_are_part_of_the_address(tmp_path: Path, table: Path) -> None:
    rows = [{"document": f"text {n} about {'abcdefgh'[n % 8]} and more", "summary": f"short {n}"} for n in range(40)]
    written = tmp_path / "written.jsonl"
    written.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for words in ("in one line", "in a rhyme"):
        recipe = {"data": {"path": str(written), "prepare": ["whitespace"], "instruction": words}}
        made = attune.prepare(recipe, out=tmp_path / "out")
        assert {record.meta["attune.instruction"] for record in made.parts["train"]} == {words}
    suite = tmp_path / "suite.jsonl"
    listed = Spool(attune.prepare({"data": {"path": str(table)}}, out=tmp_path / "out").folder / "train.jsonl")
    recipe = {"data": {"path": str(table), "prepare": [{"contamination": {"against": [str(suite)]}}]}}
    for asked in (listed[0].text, listed[1].text):
        suite.write_text(json.dumps({"question": asked}) + "\n")
        made = attune.prepare(recipe, out=tmp_path / "out")
        assert asked not in {record.text for record in made.parts["train"]}


def test_another_key_gives_other_pseudonyms(tmp_path: Path, table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    invented = {"pii": {"action": "pseudonymise", "secret_env": "PII_KEY"}}
    recipe = {"data": {"path": str(table), "prepare": [invented]}}
    made = []
    for key in ("first", "second", "first"):
        monkeypatch.setenv("PII_KEY", key)
        made.append(attune.prepare(recipe, out=tmp_path / "out"))
    assert made[0].folder == made[2].folder != made[1].folder
    assert {row.text for row in made[0].parts["train"]} != {row.text for row in made[1].parts["train"]}


def test_a_changed_file_is_seen(tmp_path: Path, table: Path) -> None:
    from attune.data.versions import facts_of

    made = attune.prepare({"data": {"path": str(table), "prepare": ["whitespace"]}}, out=tmp_path / "out")
    with open(made.folder / "train.jsonl", "a") as file:
        file.write("\n")
    with pytest.raises(DataError, match="not as it was prepared"):
        facts_of(made.folder)
    with pytest.raises(UsageError, match="no prepared data"):
        facts_of(tmp_path)


@pytest.mark.slow
def test_killed_anywhere_and_run_again_equals_a_clean_run(tmp_path: Path, table: Path) -> None:
    recipe = {"data": {"path": str(table), "prepare": STEPS}}
    clean = files(attune.prepare(recipe, out=tmp_path / "clean").folder)
    code = (
        "import sys, json, attune; print('go', flush=True); "
        "attune.prepare(json.loads(sys.argv[1]), out=sys.argv[2]); print('done', flush=True)"
    )
    rng = random.Random(1)
    killed = 0
    for trial in range(20):
        out = tmp_path / f"out{trial}"
        child = subprocess.Popen(
            [sys.executable, "-c", code, json.dumps(recipe), str(out)], stdout=subprocess.PIPE, env=os.environ
        )
        assert child.stdout is not None and child.stdout.readline() == b"go\n"
        time.sleep(rng.uniform(0.0, 1.5))
        child.send_signal(signal.SIGKILL)
        killed += child.wait() == -signal.SIGKILL
        made = attune.prepare(recipe, out=out)
        assert files(made.folder) == clean, f"trial {trial}"
        assert not list(out.glob(".tmp-*")), f"trial {trial}: a killed run left something behind"
    assert killed >= 10
