"""What becomes of a trial's process: every way to end has a state and a reason. Real processes, no training."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from attune.durable import write_json, write_text
from attune.errors import AttuneError
from attune.recipe import Recipe
from attune.recipe.space import Range
from attune.runs import Run
from attune.search import study as studies
from attune.search.costs import Clock
from attune.search.jobs import Job, tidy
from attune.search.trials import Trials
from attune.search.worker import ERROR
from attune.show import Show

RECIPE = Recipe.load({"data": {"path": "x.csv"}, "train": {"max_steps": 40}})


@pytest.fixture
def job(tmp_path: Path) -> Job:
    study = studies.opened(tmp_path, RECIPE.search, higher=True)
    made = Job(tmp_path, studies.asked(study, RECIPE.search, 0), {}, RECIPE, 40.0)
    Run.create(made.path, RECIPE.dump())
    return made


def ended(job: Job, code: str) -> tuple[str, float | None, str]:
    job.process = subprocess.Popen([sys.executable, "-c", f"import os, signal, sys; {code}"])
    job.process.wait()
    return job.outcome()


def test_a_finished_trial_brings_its_best_value(job: Job) -> None:
    (job.path / "data").mkdir()
    for best, stopped, state in ((0.8, "", "finished"), (0.7, "early", "finished"), (None, "", "failed")):
        write_json(job.path / "data" / "training.json", {"best": best, "stopped": stopped})
        found, value, reason = ended(job, "sys.exit(0)")
        assert (found, value) == (state, best) and reason == (
            "stopped early" if stopped else "" if best else "its validation figure is undefined at every evaluation"
        )


def test_a_trial_is_worth_what_the_weights_it_kept_are_worth(job: Job) -> None:
    """`retain` may keep other weights than those of the best evaluation, and a limit may be exceeded by all."""
    (job.path / "data").mkdir()
    kept = {"step": 20, "share": 0.5, "value": 0.6, "drop": 0.4}
    write_json(job.path / "data" / "training.json", {"best": 0.8, "stopped": "", "retain": {"kept": kept}})
    assert ended(job, "sys.exit(0)") == ("finished", 0.6, "")
    job.recipe = RECIPE.replace({"retain.limit": 1})
    assert ended(job, "sys.exit(0)")[:2] == ("finished", 0.6)
    write_json(
        job.path / "data" / "training.json", {"best": 0.8, "stopped": "", "retain": {"kept": {**kept, "drop": 3}}}
    )
    state, value, reason = ended(job, "sys.exit(0)")
    assert (state, value) == ("outside", 0.6) and "forgets 3 points" in reason


def test_divergence_and_refusal_keep_their_words(job: Job) -> None:
    error = {"what": "the loss is not a finite number at step 7", "why": "too fast", "fix": None, "code": 6}
    write_json(job.path / ERROR, error)
    assert ended(job, "sys.exit(6)") == ("diverged", None, "the loss is not a finite number at step 7 (too fast)")
    write_json(job.path / ERROR, {**error, "what": "out of memory at step 1", "code": 5})
    assert ended(job, "sys.exit(5)")[::2] == ("failed", "out of memory at step 1 (too fast)")
    (job.path / ERROR).unlink()
    (job.path / "log.txt").write_text("some\nImportError: no module\n")
    assert ended(job, "sys.exit(1)") == ("failed", None, "ImportError: no module")


def test_a_killed_trial_goes_on_once(job: Job) -> None:
    kill = "os.kill(os.getpid(), signal.SIGKILL)"
    assert ended(job, kill)[0] == "again"
    job.retried = True
    state, _, reason = ended(job, kill)
    assert state == "failed" and "SIGKILL" in reason and "memory" in reason


def test_pruned_and_paused_trials_are_told_apart(job: Job) -> None:
    job.verdict, job.shown = "pruned", 25
    assert ended(job, "sys.exit(143)") == ("pruned", None, "not among the best at 25 % of its schedule")
    assert ended(job, "sys.exit(0)")[0] == "pruned"  # it ended before the signal came: judged all the same
    job.verdict = "paused"
    assert ended(job, "sys.exit(143)")[0] == "paused"


def test_evaluations_are_reported_once_as_the_best_so_far(job: Job) -> None:
    def log(*rows: dict[str, Any]) -> None:
        with open(job.path / "metrics.jsonl", "a") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)

    assert job.evaluations("f1_macro", True) == []
    log({"step": 9, "loss": 1.0}, {"step": 10, "validation/f1_macro": 0.5})
    assert job.evaluations("f1_macro", True) == [(25, 0.5)]
    assert job.evaluations("f1_macro", True) == []
    log({"step": 20, "validation/f1_macro": 0.4}, {"step": 30, "validation/f1_macro": "nan"})
    log({"step": 40, "validation/f1_macro": 0.6})
    assert job.evaluations("f1_macro", True) == [(50, 0.5), (100, 0.6)]
    assert job.best == 0.6


def test_only_the_best_and_the_recipe_keep_their_weights(tmp_path: Path) -> None:
    names = [f"trial-{number:04d}" for number in range(3)]
    for name in names:
        for part in ("checkpoints/step-000010", "model", "data"):
            (tmp_path / "trials" / name / part).mkdir(parents=True)
            write_text(tmp_path / "trials" / name / part / "f", "x")
    tidy(tmp_path, names, keep={names[0], names[2]})
    left = [{path.name for path in (tmp_path / "trials" / name).iterdir()} for name in names]
    assert left == [{"model", "data"}, {"data"}, {"model", "data"}]


FACTS = {
    "rows": {"train": 10, "validation": 5}, "tokens_per_row": 5.0, "learning_rate": 1e-3, "primary": "loss",
    "higher": False, "task": "generation",
}  # fmt: skip
SPACE: Any = {"train.learning_rate": Range(1e-4, 1e-2, True)}


def test_the_recipe_itself_goes_on_though_the_budget_is_used_up(tmp_path: Path) -> None:
    """Without it there is nothing to compare with."""
    (tmp_path / "trials").mkdir()
    write_json(tmp_path / "search.json", {"seconds": 1000.0, "state": "interrupted"})
    study = studies.opened(tmp_path, RECIPE.search, higher=False)
    trials = Trials(tmp_path, RECIPE, SPACE, study, FACTS, Clock(tmp_path, 60.0), Show())
    assert trials._ask() is not None  # trial 0, cut off before it ended
    again = Trials(tmp_path, RECIPE, SPACE, study, FACTS, Clock(tmp_path, 60.0), Show())
    with pytest.raises(AttuneError, match="the recipe itself does not train"):  # there is no such data
        again.run()


@pytest.mark.parametrize("saved", [True, False])
def test_any_other_unfinished_trial_stays_for_a_larger_budget(tmp_path: Path, saved: bool) -> None:
    (tmp_path / "trials").mkdir()
    write_json(tmp_path / "search.json", {"seconds": 1000.0, "state": "interrupted"})
    study = studies.opened(tmp_path, RECIPE.search, higher=False)
    before = Trials(tmp_path, RECIPE, SPACE, study, FACTS, Clock(tmp_path, None), Show())
    assert before._ask() is not None and before._ask() is not None
    if saved:
        (tmp_path / "trials" / "trial-0001" / "checkpoints").mkdir(parents=True)
    own, _ = studies.running(study, RECIPE.search, 0)
    studies.told(study, own, "finished", 0.5, seconds=1.0, share=1.0)
    after = Trials(tmp_path, RECIPE, SPACE, study, FACTS, Clock(tmp_path, 60.0), Show())
    after.run()
    assert [row["state"] for row in after.table()] == ["finished", "running"] and not after.jobs
