"""Two trials side by side, both and the search itself killed in the middle: nothing is lost, nothing is done twice."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

ENV = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200", "NO_COLOR": "1", "HF_HUB_OFFLINE": "1"}
TRIALS = 4


@pytest.fixture(scope="module")
def recipe(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Three classes for a tiny Llama; draws depend on the seed and the trial's number alone."""
    folder = tmp_path_factory.mktemp("data")
    kinds = "red green blue".split()
    rows = [f"a {kinds[number % 3]} thing of number {number * 7},{kinds[number % 3]}" for number in range(90)]
    (folder / "rows.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    return {
        "name": "pair",
        "model": {"base": tiny.base(folder / "base", hidden=16)},
        "adapter": "full",
        "objective": {"name": "classify", "head_init": "random"},
        "data": {"path": str(folder / "rows.csv"), "split": {"near": False}},
        "train": {
            "max_steps": 200, "batch_size": 8, "save_every": 10, "eval_every": 50, "threads": 1, "learning_rate": 1e-3,
            "early_stopping": None,
        },
        "evaluate": {"bootstrap": 100},
        "retain": {"suites": []},
        "search": {
            "trials": TRIALS, "workers": 2, "sampler": "random", "pruner": "none", "keep": "all",
            "space": {
                "train.learning_rate": {"low": 1e-4, "high": 1e-2}, "train.weight_decay": {"low": 0.0, "high": 0.2},
            },
        },
    }  # fmt: skip


def started(folder: Path, recipe: dict[str, Any]) -> subprocess.Popen[str]:
    folder.mkdir(exist_ok=True)
    (folder / "recipe.yaml").write_text(json.dumps(recipe))
    command = [sys.executable, "-m", "attune.cli", "search", "recipe.yaml", "--json"]
    return subprocess.Popen(
        command, cwd=folder, env=ENV, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def ended(process: subprocess.Popen[str]) -> tuple[dict[str, Any], str]:
    out, error = process.communicate(timeout=1800)
    assert process.returncode == 0, error
    return json.loads(out.strip().splitlines()[-1]), error


def under_way(trial: Path) -> bool:
    saved = list(trial.glob("checkpoints/step-*/MANIFEST.json"))
    return bool(saved) and not (trial / "model" / "manifest.json").exists()


def steps_of(trial: Path) -> list[tuple[int, float]]:
    rows = map(json.loads, (trial / "metrics.jsonl").read_text().splitlines())
    return [(row["step"], row["loss"]) for row in rows if "loss" in row]


def test_two_workers_killed_together_lose_no_trial_and_run_none_twice(recipe: dict[str, Any], tmp_path: Path) -> None:
    calm = {**recipe, "search": {**recipe["search"], "workers": 1}}
    alone, _ = ended(started(tmp_path / "calm", calm))
    search = tmp_path / "killed" / "runs" / "pair-search"
    process = started(tmp_path / "killed", recipe)
    trials = [search / "trials" / f"trial-{number:04d}" for number in range(TRIALS)]
    deadline = time.monotonic() + 900
    while not all(map(under_way, trials[:2])):
        assert process.poll() is None and time.monotonic() < deadline, "the two were never under way together"
        time.sleep(0.02)
    pids = [int((trial / ".lock").read_text().split()[1]) for trial in trials[:2]]
    for pid in (process.pid, *pids):  # as a power cut would
        os.kill(pid, signal.SIGKILL)
    process.communicate()
    assert len(set(pids)) == 2 and all(map(under_way, trials[:2]))
    born = [json.loads((trial / "status.json").read_text())["created"] for trial in trials[:2]]
    found, said = ended(started(tmp_path / "killed", recipe))

    keep = ("number", "state", "value", "values", "curve")
    told = [[{key: row[key] for key in keep} for row in result["trials"]] for result in (alone, found)]
    assert told[0] == told[1] and [row["number"] for row in told[1]] == list(range(TRIALS))
    assert {row["state"] for row in told[1]} == {"finished"}
    assert re.findall(r"(trial-\d+) goes on", said) == ["trial-0000", "trial-0001"]
    assert sorted(map(int, re.findall(r"trial (\d+):", said))) == list(range(TRIALS)), "each ended once"
    assert born == [json.loads((trial / "status.json").read_text())["created"] for trial in trials[:2]]
    for trial in trials:
        steps = steps_of(trial)
        assert [step for step, _ in steps] == list(range(1, 201)), "every step once"
        assert steps == steps_of(tmp_path / "calm" / "runs" / "pair-search" / "trials" / trial.name)
    # what was paid before the kill is known to the estimate of later trials
    assert all(row["seconds"] > 0 for row in found["trials"])


def test_what_is_being_trained_is_not_begun_a_second_time(recipe: dict[str, Any], tmp_path: Path) -> None:
    """Of two choices, one is the recipe itself: whatever is drawn, each is trained once, side by side or not."""
    few = {**recipe["search"], "trials": 3, "space": {"train.learning_rate": [1e-3, 2e-3]}}
    quick = {**recipe["train"], "max_steps": 20}
    found, _ = ended(started(tmp_path / "few", {**recipe, "search": few, "train": quick}))
    trained = [row for row in found["trials"] if row["state"] == "finished"]
    assert sorted(row["values"]["train.learning_rate"] for row in trained) == [1e-3, 2e-3]
    assert all("the same settings as trial" in row["reason"] for row in found["trials"] if row["state"] == "skipped")
