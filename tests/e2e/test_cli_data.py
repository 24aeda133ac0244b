"""The data commands as a user meets them: real processes, real files, a real server, no traceback."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ENV = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200", "NO_COLOR": "1", "HF_HUB_OFFLINE": "1"}
SAID = {
    "Refund": ["I want my money back", "refund please", "I was charged twice"],
    "login": ["I cannot sign in", "the password reset fails", "no two factor code"],
}


def attune(*words: str | Path, cwd: Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "attune.cli", *map(str, words)]
    done = subprocess.run(command, cwd=cwd, env=ENV, input=stdin, capture_output=True, text=True, timeout=600)
    assert "Traceback" not in done.stderr and "internal error" not in done.stderr, done.stderr
    return done


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tickets.csv: two kinds of tickets with stray blanks, copies, a label in two spellings, and two people."""
    folder = tmp_path_factory.mktemp("work")
    rng = random.Random(0)
    rows = []
    for number in range(120):
        kind = "Refund" if number % 2 else "login"
        words = " ".join(
            rng.sample("today yesterday again urgently since Monday after lunch in town by phone".split(), 5)
        )
        person = "mary.jones@example.com" if number == 7 else f"user{number}@example.com"
        label = "refund " if number % 10 == 1 else kind
        rows += [f"{rng.choice(SAID[kind])}   {words} case {number} from {person},{label}"] * (
            2 if number % 8 == 0 else 1
        )
    (folder / "tickets.csv").write_text("\n".join(["note,kind", *rows]) + "\n")
    return folder


@pytest.fixture(scope="module")
def prepared(folder: Path) -> dict[str, Any]:
    done = attune(
        "data", "prepare", "tickets.csv", "--target", "kind", "--steps",
        "pii: {action: mask},whitespace,labels,exact_duplicates", "--json", cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_prepare_writes_data_ledger_and_audit(folder: Path, prepared: dict[str, Any]) -> None:
    made = folder / prepared["folder"]
    text = (made / "train.jsonl").read_text() + (made / "test.jsonl").read_text()
    assert "[EMAIL]" in text and "@example.com" not in text and "   " not in text
    assert "@example.com" not in (made / "ledger.jsonl").read_text()
    assert "<html" in (made / "audit.html").read_text()
    counts = {row["step"]: row["counts"] for row in prepared["steps"]}
    assert counts["pii"]["edit"] > 100 and counts["exact_duplicates"]["drop"] >= 5


def test_a_question_is_answered_with_accept_and_diff_tells(folder: Path, prepared: dict[str, Any]) -> None:
    done = attune("data", "prepare", "tickets.csv", "--target", "kind", "--steps", "labels", cwd=folder)
    assert "labels asks" in done.stdout and "--accept labels" in done.stdout
    done = attune(
        "data", "prepare", "tickets.csv", "--target", "kind", "--steps", "labels", "--accept", "labels", "--json",
        cwd=folder,
    )  # fmt: skip
    accepted = json.loads(done.stdout.splitlines()[-1])
    labels = {json.loads(line)["label"] for line in (folder / accepted["folder"] / "train.jsonl").open()}
    assert labels == {"Refund", "login"}
    told = attune("data", "diff", prepared["folder"], accepted["folder"], cwd=folder)
    assert "edited" in told.stdout and "steps of the new version" in told.stdout
    done = attune(
        "data", "prepare", "tickets.csv", "--target", "kind", "--steps", "whitespace", "--accept", "dates", cwd=folder
    )
    assert done.returncode == 2 and "asked nothing" in done.stderr


def test_audit_changes_nothing(folder: Path) -> None:
    before = (folder / "tickets.csv").read_bytes()
    done = attune("data", "audit", "tickets.csv", "--target", "kind", "--out", "looked", cwd=folder)
    assert done.returncode == 0 and "looked/audit.html" in done.stdout
    assert (folder / "tickets.csv").read_bytes() == before
    assert json.loads((folder / "looked" / "audit.json").read_text())


def test_a_forgotten_person_stays_away(folder: Path) -> None:
    words = ["data", "prepare", "tickets.csv", "--target", "kind", "--steps", "whitespace", "--out", "kept", "--json"]
    first = json.loads(attune(*words, cwd=folder).stdout.splitlines()[-1])
    dry = attune("data", "forget", "--match", "mary.jones@example.com", "kept", cwd=folder)
    assert "would be removed" in dry.stdout and "--apply" in dry.stdout
    done = attune("data", "forget", "--match", "mary.jones@example.com", "kept", "--apply", cwd=folder)
    assert done.returncode == 0 and "removed" in done.stdout
    left = "".join(path.read_text() for path in (folder / "kept").rglob("*.jsonl"))
    assert "mary.jones" not in left and "mary" not in (folder / "kept" / "suppression.json").read_text()
    again = json.loads(attune(*words, cwd=folder).stdout.splitlines()[-1])
    assert sum(again["rows"].values()) == sum(first["rows"].values()) - 1


def test_requests_go_through_the_steps_of_training(folder: Path) -> None:
    recipe = {
        "name": "masked", "data": {"path": "tickets.csv", "target": "kind", "prepare": [
            {"pii": {"action": "mask"}}, "whitespace", {"labels": {"mode": "auto"}}]},
        "train": {"max_steps": 2, "eval_every": 2}, "evaluate": {"baselines": ["majority"]},
    }  # fmt: skip
    (folder / "recipe.yaml").write_text(json.dumps(recipe))
    done = attune("train", "recipe.yaml", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    code = (
        "import attune; from attune.records import Message; tuned = attune.load('runs/masked'); "
        "print(tuned.prepared([Message('user', 'write   to bob@example.com')]).text); print(tuned.labels)"
    )
    told = subprocess.run([sys.executable, "-c", code], cwd=folder, env=ENV, capture_output=True, text=True)
    assert told.stdout.splitlines() == ["write to [EMAIL]", "['Refund', 'login']"], told.stderr
    manifest = json.loads((folder / "runs" / "masked" / "data" / "manifest.json").read_text())
    assert manifest["prepared"]["steps"][0]["step"] == "pii"


# with a server ----------------------------------------------------------------------------------------------------


TEXT = """# Claims handbook

The insurer pays medical bills within 30 days of a claim. A worker who misses more than seven days receives weekly
benefits from Greenway Recycling. The judge hears every appeal within 90 days in Atlanta.
"""


def test_synthesize_review_and_distill(folder: Path, server: Any) -> None:
    (folder / "handbook.md").write_text(TEXT)
    words = ["data", "synthesize", "handbook.md", "--model", "m", "--base-url", server.url, "--out", "made",
             "--set", "least_chars=50", "--set", "review_all=true", "--set", "endpoint.concurrency=2"]  # fmt: skip
    done = attune(*words, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "Next: attune data review made" in done.stdout
    reviewed = attune("data", "review", "made", cwd=folder, stdin="a\nq\n")
    assert "1 accepted" in reviewed.stdout
    assert len((folder / "made" / "records.jsonl").read_text().splitlines()) == 1
    (folder / "texts.csv").write_text("text\nwhere is my card\nI lost my card\n")
    done = attune(
        "data", "distill", "texts.csv", "--classes", "card,other", "--model", "m", "--base-url", server.url, "--json",
        "--set", "samples=2", cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert sum(json.loads(done.stdout.splitlines()[-1])["counts"].values()) == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("data synthesize handbook.md", "say who writes"),
        ("data synthesize handbook.md --model m --set per_chnk=3", "did you mean 'per_chunk'"),
        ("data synthesize handbook.md --model m --set per_chunk", "is not key=value"),
        ("data synthesize handbook.md --model m", "OPENAI_BASE_URL"),
        ("data review nothing", "has no review.jsonl"),
        ("data diff tickets.csv tickets.csv", "is no prepared data"),
        ("data forget --match abcdef nothing", "is not there"),
        ("data forget --match ab nothing", "says too little"),
    ],
)
def test_wrong_use_is_explained(folder: Path, words: str, said: str) -> None:
    (folder / "handbook.md").write_text(TEXT)
    done = attune(*words.split(), cwd=folder)
    assert done.returncode in (2, 3, 5) and said in done.stderr, (done.returncode, done.stderr)
