"""The step `label_noise` reports, drops or relabels what confident learning is sure of, and nothing else."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from attune import plugins
from attune.data.desk import Desk
from attune.data.filters.label_noise import LabelNoise
from attune.data.steps import Context
from attune.records import Message, Record

WORDS = {"card": "card plastic chip pin blocked".split(), "transfer": "transfer iban sender pending sepa".split()}
FILLER = "please tell me about my the a it when how i can why is was not".split()


def made(rows: int = 200, wrong: int = 10) -> tuple[list[Record], set[str]]:
    dice, records = random.Random(3), []
    bad = {f"r{row}" for row in dice.sample(range(rows), wrong)}
    for row in range(rows):
        label = sorted(WORDS)[row % 2]
        text = " ".join(dice.sample(WORDS[label], 2) + dice.sample(FILLER, 4))
        other = sorted(WORDS)[1 - row % 2]
        records.append(Record(f"r{row}", (Message("user", text),), label=other if f"r{row}" in bad else label))
    return records, bad


def run(tmp_path: Path, **options: Any) -> tuple[list[Record], list[Record], list[dict[str, Any]], dict[str, Any]]:
    records, _ = made()
    test = records[:20]
    desk = Desk([LabelNoise(LabelNoise.Config(**options), Context())], tmp_path)
    parts = desk.run({"train": records, "test": test})
    ledger = [json.loads(line) for line in (tmp_path / "ledger.jsonl").read_text().splitlines()]
    assert list(parts["test"]) == test  # held-out rows stay as they are
    return records, list(parts["train"]), ledger, desk.facts[0]


def test_report_changes_nothing_and_names_the_rows(tmp_path: Path) -> None:
    records, train, ledger, facts = run(tmp_path)
    assert train == records
    flagged = {line["id"] for line in ledger}
    assert flagged <= made()[1] and len(flagged) >= 5
    assert all(line["action"] == "suspect" and line["suggested"] in WORDS for line in ledger)
    assert facts["counts"] == {"suspect": len(flagged)} and facts["above_threshold"] == len(flagged)
    assert facts["examined"] == 200


def test_drop_and_relabel(tmp_path: Path) -> None:
    flagged = {line["id"] for line in run(tmp_path / "report")[2]}
    records, train, ledger, _ = run(tmp_path / "drop", action="drop")
    assert [record.id for record in train] == [record.id for record in records if record.id not in flagged]
    records, train, ledger, _ = run(tmp_path / "relabel", action="relabel")
    right = {f"r{row}": sorted(WORDS)[row % 2] for row in range(200)}
    assert [record.label for record in train] == [
        right[record.id] if record.id in flagged else record.label for record in records
    ]
    assert all(line["before"] != line["after"] for line in ledger) and len(ledger) == len(flagged)


def test_share_takes_the_surest_and_says_how_many_were_left(tmp_path: Path) -> None:
    all_of_them = run(tmp_path / "report")[3]["above_threshold"]
    _, train, _, facts = run(tmp_path, action="drop", share=0.02)
    assert len(train) == 196 and facts["left_over_share"] == all_of_them - 4 > 0
    _, train, _, facts = run(tmp_path / "none", action="drop", threshold=1.0)
    assert len(train) == 200 and facts["above_threshold"] == 0


def test_unlabelled_rows_are_passed_over(tmp_path: Path) -> None:
    records, bad = made()
    blank = [Record(f"blank{row}", (Message("user", "card card card"),)) for row in range(3)]
    desk = Desk([LabelNoise(LabelNoise.Config(action="drop"), Context())], tmp_path)
    train = list(desk.run({"train": [*blank, *records]})["train"])
    gone = {record.id for record in [*blank, *records]} - {record.id for record in train}
    assert gone and gone <= bad


def test_it_is_a_plugin_with_strict_options() -> None:
    assert plugins.get("step", "label_noise") is LabelNoise
    with pytest.raises(ValidationError):
        LabelNoise.Config(action="delete")  # type: ignore[arg-type]
    with pytest.raises(ValidationError):
        LabelNoise.Config(share=0)
