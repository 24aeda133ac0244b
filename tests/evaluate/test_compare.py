"""Two runs are only compared on one and the same test set."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import attune
from attune.errors import DataError, UsageError
from attune.evaluate.compare import compare

KINDS = {"refund": "money back please", "login": "cannot sign in", "delivery": "where is the parcel"}


def rows(start: int, n: int) -> str:
    made = []
    for number in range(start, start + n):
        kind = list(KINDS)[number % 3]
        made.append(json.dumps({"id": f"r{number}", "text": f"{KINDS[kind]} case  {number * 7919}", "label": kind}))
    return "\n".join(made) + "\n"


@pytest.mark.slow
def test_a_test_set_that_changed_after_the_baseline_is_refused(tmp_path: Path) -> None:
    train, test = tmp_path / "train.jsonl", tmp_path / "test.jsonl"
    train.write_text(rows(0, 48))
    test.write_text(rows(100, 12))
    recipe = {
        "data": {"path": str(train), "test": str(test), "split": {"validation": 0}},
        "adapter": "full",
        "train": {"max_steps": 1, "batch_size": 8},
        "evaluate": {"baselines": ["majority"], "bootstrap": 100},
    }
    before = attune.train({**recipe, "name": "before"}, out=tmp_path / "runs")
    same = attune.train({**recipe, "name": "same", "seed": 1}, out=tmp_path / "runs")
    assert compare(before, same)["n"] == 12
    # the ids stay, one answer is "corrected"
    test.write_text(rows(100, 12).replace('"label": "login"', '"label": "refund"', 1))
    after = attune.train({**recipe, "name": "after"}, out=tmp_path / "runs")
    measured = [run.results["data"]["measured_rows"]["sha256"] for run in (before, same, after)]
    assert measured[0] == measured[1] != measured[2]
    assert measured[2][:16] in (after.path / "report.html").read_text()
    assert measured[2][:16] in (after.path / "report.md").read_text()
    with pytest.raises(UsageError, match="not measured on the same rows") as refused:
        compare(before, after)
    assert "the test set changed" in refused.value.why and measured[0][:12] in refused.value.why
    # steps that change what the model reads of the test do not make it another one
    prepared = attune.train(
        {**recipe, "name": "read", "data": {**recipe["data"], "prepare": ["whitespace"]}}, out=tmp_path / "runs"
    )
    assert compare(after, prepared)["n"] == 12
    # nor is the older run measured again on other rows than those it was trained beside
    with pytest.raises(DataError, match="changed since this run began"):
        attune.evaluate(before.path)
