"""Optuna's side: what is told stays told, draws depend on the seed and the history alone, and the pruner's rungs."""

import math
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from attune.recipe import Recipe, Search
from attune.recipe.space import Range
from attune.search import study as studies
from attune.search.costs import Costs
from attune.search.judge import luck
from attune.search.space import draw

RECIPE = Recipe.load({"data": {"path": "x.csv"}})
SPACE: Any = {"train.learning_rate": Range(1e-5, 1e-2, True), "train.batch_size": [8, 16, 32]}


def value_of(values: dict[str, Any]) -> float:
    return -abs(values["train.learning_rate"] - 1e-3) * 1e3 - (values["train.batch_size"] != 16)


def search(folder: Path, n: int, *, settings: Search, sessions: int = 1) -> list[dict[str, Any]]:
    """n trials, the study opened anew for each session."""
    folder.mkdir(exist_ok=True)
    drawn = []
    for _ in range(sessions):
        study = studies.opened(folder, settings, higher=True)
        for _ in range(n // sessions):
            trial = studies.asked(study, settings, seed=7)
            _, values = draw(trial, RECIPE, SPACE)
            drawn.append(values)
            studies.told(study, trial, "finished", value_of(values), values=values)
    return drawn


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_draws_do_not_depend_on_sessions(tmp_path: Path, sampler: str) -> None:
    settings = Search(sampler=sampler)  # type: ignore[arg-type]
    once = search(tmp_path / "once", 9, settings=settings)
    often = search(tmp_path / "often", 9, settings=settings, sessions=3)
    assert once == often and len({str(values) for values in once}) == 9


def test_a_trial_cut_off_while_it_was_drawn_draws_the_same_again(tmp_path: Path) -> None:
    settings = Search()
    search(tmp_path, 6, settings=settings)
    study = studies.opened(tmp_path, settings, higher=True)
    trial = studies.asked(study, settings, seed=7)
    first, _ = draw(trial, RECIPE, {"train.learning_rate": SPACE["train.learning_rate"]})  # killed here
    (again,) = studies.running(studies.opened(tmp_path, settings, higher=True), settings, seed=7)
    _, values = draw(again, RECIPE, SPACE)
    assert again.number == trial.number == 6
    assert first.train.learning_rate == values["train.learning_rate"] and "train.batch_size" in values


def test_the_file_is_written_as_it_must_be(tmp_path: Path) -> None:
    study = studies.opened(tmp_path, Search(), higher=True)
    with study._storage._backend.engine.connect() as connection:  # type: ignore[attr-defined]
        raw = connection.connection
        assert raw.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        assert raw.execute("PRAGMA synchronous").fetchone() == (2,)
    search(tmp_path, 2, settings=Search())
    with sqlite3.connect(tmp_path / studies.FILE) as base:
        assert base.execute("SELECT COUNT(*) FROM trials WHERE state = 'COMPLETE'").fetchone() == (2,)


def test_poor_trials_are_pruned_past_the_first_rung_only(tmp_path: Path) -> None:
    settings = Search(pruner="asha", reduction=2)
    study = studies.opened(tmp_path, settings, higher=True)
    for value in (0.9, 0.8, 0.7, 0.6):
        trial = studies.asked(study, settings, seed=0)
        draw(trial, RECIPE, SPACE)
        trial.report(value, 10)
        assert not trial.should_prune()
        trial.report(value, 25)
        assert trial.should_prune() == (value < 0.9)
        studies.told(study, trial, "pruned" if value < 0.9 else "finished", value, best=value)
    never = studies.opened(tmp_path, Search(pruner="none"), higher=True)
    trial = studies.asked(never, settings, seed=0)
    trial.report(0.0, 50)
    assert not trial.should_prune()


def test_hyperband_prunes_in_its_brackets_across_sessions(tmp_path: Path) -> None:
    settings = Search(pruner="hyperband")
    pruned = 0
    for number in range(8):
        study = studies.opened(tmp_path, settings, higher=True)
        trial = studies.asked(study, settings, seed=0)
        draw(trial, RECIPE, SPACE)
        value = 1.0 - number / 10
        stopped = False
        for at in (25, 50, 75, 100):
            trial.report(value, at)
            stopped = stopped or (at < 100 and trial.should_prune())
        pruned += stopped
        studies.told(study, trial, "pruned" if stopped else "finished", value)
    assert 1 <= pruned < 8
    assert studies.table(study)[0]["state"] == "finished"


@pytest.mark.slow
def test_the_search_goes_on_past_diverged_trials_and_away_from_them(tmp_path: Path) -> None:
    settings = Search()
    study = studies.opened(tmp_path, settings, higher=False)
    drawn = []
    for _ in range(24):
        trial = studies.asked(study, settings, seed=3)
        _, values = draw(trial, RECIPE, SPACE)
        rate = values["train.learning_rate"]
        drawn.append(rate)
        if rate > 1e-3:
            studies.told(study, trial, "diverged", None, reason="the loss is not a finite number")
        else:
            studies.told(study, trial, "finished", abs(math.log(rate / 3e-4)))
    assert any(rate > 1e-3 for rate in drawn)
    near = sum(1.5e-4 < rate < 6e-4 for rate in drawn[8:])
    assert near >= 6, drawn  # of 16, evenly drawn ones would be 3
    rows = studies.table(study)
    assert {row["state"] for row in rows} == {"diverged", "finished"}
    assert all(row["reason"] for row in rows if row["state"] == "diverged")


@pytest.mark.slow
def test_importances_find_the_key_that_matters(tmp_path: Path) -> None:
    settings = Search(sampler="random")
    study = studies.opened(tmp_path, settings, higher=True)
    assert studies.importances(study) == {}
    for _ in range(24):
        trial = studies.asked(study, settings, seed=1)
        _, values = draw(trial, RECIPE, SPACE)
        studies.told(study, trial, "finished", float(values["train.batch_size"] == 16))
    found = studies.importances(study)
    assert found["train.batch_size"] > 0.8 and sum(found.values()) == pytest.approx(1)


def test_costs_are_learned_from_what_ended() -> None:
    costs = Costs(fixed=5.0, rows=100)
    short, long = RECIPE.replace({"train.epochs": 1.0}), RECIPE.replace({"train.epochs": 4.0})
    assert not costs.known and costs.of_trial(long) == 0
    costs.learn(short, 15.0, 1.0)  # 10 s for 100 examples
    assert costs.of_trial(long) == pytest.approx(45)
    costs.learn(long, 25.0, 0.25)  # 20 s for 100: pruned after a quarter
    assert costs.of_trial(short) == pytest.approx(20)
    other = short.replace({"adapter": "full"})
    costs.learn(other, 105.0, 1.0)
    assert costs.of_trial(other) == pytest.approx(105) and costs.of_trial(short) == pytest.approx(20)
    counted = Costs(fixed=5.0, rows=100, tokens=20.0)  # steps that count tokens: still seconds an example
    counted.learn(
        RECIPE.replace({"train.max_steps": 10, "train.batch_tokens": 200, "train.batch_size": None}), 25.0, 1.0
    )
    facts = {"rows": {"test": 300}, "task": "classification"}
    assert counted.of_test(RECIPE, facts) == pytest.approx(5 + 2 * 300 / 3 * 0.2)
    assert costs.of_test(RECIPE, facts) == pytest.approx(5 + 2 * 300 / 3 * 0.2)


def test_luck_is_the_expected_maximum() -> None:
    import numpy as np

    rng = np.random.default_rng(0)
    for trials in (2, 5, 20):
        drawn = rng.normal(size=(20_000, trials)).max(1).mean()
        assert luck(trials, 1.0) == pytest.approx(drawn, abs=0.03)
    assert luck(1, 1.0) == 0
