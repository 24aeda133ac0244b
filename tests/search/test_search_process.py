"""Two whole searches as a user runs them: one left in peace, one killed three times. They end alike, trial by trial."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

ENV = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200", "NO_COLOR": "1", "HF_HUB_OFFLINE": "1"}
KINDS = {
    "refund": ["I want my money back", "refund please", "return my payment", "I was charged twice"],
    "login": ["I cannot sign in", "the password reset fails", "locked out of my account", "no two factor code"],
    "delivery": ["the parcel is late", "where is my order", "the courier lost it", "my package is damaged"],
}
TAIL = "today yesterday again urgently since Monday after lunch without answer in town on weekends by phone".split()
RECIPE = """
name: tickets
data: {path: train.csv, test: test.csv, target: kind, split: {validation: 0.3}}
adapter: {type: freeze, layers: 4}
train: {epochs: 3, batch_size: 8, save_every: 4, threads: 1, learning_rate: 3e-4, early_stopping: null}
objective: {name: classify, head_init: random}
search:
  trials: 4
  pruner: none
  keep: all
  space:
    train.learning_rate: {low: 2e-5, high: 2e-3}
    train.warmup_ratio: {low: 0.0, high: 0.2}
"""


def rows(n: int, seed: int, *, noise: float = 0.2) -> str:
    rng = random.Random(seed)
    made = ["note,kind"]
    for number, kind in enumerate(list(KINDS) * (n // 3)):
        said = rng.choice(list(KINDS)) if rng.random() < noise else kind
        made.append(f"{rng.choice(KINDS[said])} {' '.join(rng.sample(TAIL, 5))} case {seed} {number},{kind}")
    return "\n".join(made) + "\n"


def place(folder: Path, *, test_seed: int) -> Path:
    folder.mkdir()
    (folder / "recipe.yaml").write_text(RECIPE)
    (folder / "train.csv").write_text(rows(90, 1))
    (folder / "test.csv").write_text(rows(30 if test_seed == 2 else 36, test_seed))
    return folder


def started(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "attune.cli", "search", "recipe.yaml", "--json"]
    return subprocess.Popen(
        command, cwd=folder, env=ENV, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def until(what: Any, *, seconds: float = 240) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := what():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not happen in time")


def under_way(search: Path, number: int) -> Any:
    """Whether a trial has a checkpoint and is not at its end."""
    trial = search / "trials" / f"trial-{number:04d}"
    saved = list(trial.glob("checkpoints/step-*/MANIFEST.json"))
    return saved and not (trial / "model" / "manifest.json").exists() and trial


def owner(trial: Path) -> int:
    """Process that holds the lock of a trial."""
    return int((trial / ".lock").read_text().split()[1])


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").exists() and Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], Path, dict[str, Any], list[str]]:
    """(folder, result) of the quiet search, then of the killed one, and what the killed one said in between."""
    root = tmp_path_factory.mktemp("searches")
    quiet, killed = place(root / "quiet", test_seed=2), place(root / "killed", test_seed=3)
    calm = started(quiet)
    said = []
    search = killed / "runs" / "tickets-search"
    # 1: the search itself dies in the middle of a trial
    process = started(killed)
    trial = until(lambda: under_way(search, 1))
    pid = owner(trial)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    until(lambda: gone(pid))
    # 2: it is asked to stop
    process = started(killed)
    until(lambda: under_way(search, 2))
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=240)
    said.append(f"{process.returncode}\n{error}")
    # 3: a trial dies under the search
    process = started(killed)
    trial = until(lambda: under_way(search, 3))
    os.kill(owner(trial), signal.SIGKILL)
    out, error = process.communicate(timeout=600)
    assert process.returncode == 0, error
    said.append(error)
    calm_out, calm_error = calm.communicate(timeout=600)
    assert calm.returncode == 0, calm_error
    last = [json.loads(text.strip().splitlines()[-1]) for text in (calm_out, out)]
    return quiet / "runs/tickets-search", last[0], search, last[1], said


def test_killed_and_continued_is_the_search_left_in_peace(both: Any) -> None:
    _, calm, _, killed, said = both
    keep = ("number", "state", "value", "values", "curve")
    told = [[{key: row[key] for key in keep} for row in result["trials"]] for result in (calm, killed)]
    assert told[0] == told[1] and len(told[0]) == 4
    assert {row["state"] for row in told[0]} == {"finished"}
    assert len({row["value"] for row in told[0]}) > 1  # or the comparison would say nothing
    assert said[0].startswith("143\n") and "run the same command again" in said[0] and "Traceback" not in said[0]
    assert "trial-0002 goes on" in said[1] and "trial-0003 was killed; it goes on" in said[1]


def test_losses_of_interrupted_trials_are_the_same_step_by_step(both: Any) -> None:
    quiet, _, search, _, _ = both
    for number in range(4):
        curves = []
        for folder in (quiet, search):
            lines = (folder / f"trials/trial-{number:04d}/metrics.jsonl").read_text().splitlines()
            curves.append([(row["step"], row["loss"]) for row in map(json.loads, lines) if "loss" in row])
        assert curves[0] == curves[1] and len(curves[0]) > 10, number


def test_no_trial_sees_the_test_rows(both: Any) -> None:
    quiet, calm, search, _, _ = both
    # the two searches had different test files, and found the same: see above
    judged = {*calm["result"]["trials"]}
    for folder in (quiet, search):
        for trial in sorted(folder.glob("trials/trial-*/")):
            assert (trial / "evaluation").exists() == (trial.name in judged)
            if trial.name not in judged:
                recipe = (trial / "recipe.yaml").read_text()
                assert "test.csv" not in recipe
                manifest = json.loads((trial / "data/manifest.json").read_text())
                assert "test" not in manifest["splits"]
            assert "test/" not in (trial / "metrics.jsonl").read_text()
        given = sorted((folder / "data").glob("*.jsonl"))
        assert [path.name for path in given] == ["train.jsonl", "validation.jsonl"]
        assert all("case 1 " in line for path in given for line in path.read_text().splitlines())


def test_the_winner_is_held_against_the_recipe_on_the_same_test_rows(both: Any) -> None:
    quiet, calm, _, killed, _ = both
    for result, n in ((calm, 30), (killed, 36)):
        found = result["result"]
        best = max(result["trials"], key=lambda row: (row["value"], -row["number"]))
        assert result["values"] == best["values"] and found["trials"][0] == best["name"]
        assert found["n"] == n
        if best["number"]:
            assert found["low"] <= found["difference"] <= found["high"] and 0 < found["p"] <= 1
            assert found["luck"] > 0 and "luck" in found["sentence"]
    recipe = (quiet / "best.yaml").read_text()
    assert recipe.startswith("# Found by `attune search`: trial") and "test: test.csv" in recipe


def test_the_study_is_whole_and_the_page_loads_nothing(both: Any) -> None:
    _, _, search, _, _ = both
    with sqlite3.connect(search / "study.db") as base:
        assert base.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert base.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    page = (search / "search.html").read_text()
    assert "<script" not in page and "http" not in page.split("</style>")[1].replace("http-equiv", "")
    assert page.count("<svg") > 5


def test_a_finished_search_has_nothing_to_do_and_a_changed_one_is_refused(both: Any) -> None:
    quiet, calm, _, _, _ = both
    folder = quiet.parent.parent
    again = started(folder)
    out, error = again.communicate(timeout=120)
    assert again.returncode == 0 and json.loads(out.splitlines()[-1])["trials"] == calm["trials"], error
    command = [sys.executable, "-m", "attune.cli", "search", "recipe.yaml", "train.weight_decay=0.3"]
    other = subprocess.run(command, cwd=folder, env=ENV, capture_output=True, text=True, timeout=120)
    assert other.returncode == 2 and "holds a search of a different recipe" in other.stderr
