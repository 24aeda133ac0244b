"""What a search refuses before anything is loaded, and the page's words, without a single trial."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

import attune
from attune.durable import take_lock
from attune.errors import MachineError, RecipeError, UsageError
from attune.recipe import Recipe
from attune.search.report import view
from attune.search.search import _open, search
from attune.search.space import usual

PLAIN: dict[str, Any] = {"data": {"path": "x.csv"}}


def test_stages_and_mixes_are_refused_with_the_reason(tmp_path: Path) -> None:
    staged = {**PLAIN, "stages": [{"name": "one", "objective": "pretrain"}, {"name": "two", "objective": "sft"}]}
    with pytest.raises(RecipeError, match="stages"):
        search(staged, out=tmp_path)
    mixed = {"data": {"path": [{"path": "a.csv", "weight": 1.0}, {"path": "b.csv", "weight": 2.0}]}}
    with pytest.raises(RecipeError, match="mix of tasks"):
        search(mixed, out=tmp_path)
    with pytest.raises(RecipeError, match="lucky seed"):
        search(PLAIN, space={"seed": [1, 2]}, out=tmp_path)
    assert not list(tmp_path.iterdir())  # nothing was begun


def test_one_search_at_a_time_and_one_recipe_to_a_name(tmp_path: Path) -> None:
    named = Recipe.load({**PLAIN, "name": "tickets"})
    folder = _open(named, tmp_path)
    assert folder == tmp_path / "tickets-search" == _open(named, tmp_path)
    lock = take_lock(folder)
    with pytest.raises(MachineError, match="is in use"):
        attune.search(named, out=tmp_path)
    os.close(lock)
    assert _open(named.replace({"search.budget": "5m", "search.workers": 2}), tmp_path) == folder
    with pytest.raises(UsageError, match="different recipe or space"):
        _open(named.replace({"train.weight_decay": 0.3}), tmp_path)
    with pytest.raises(UsageError, match="different recipe or space"):
        _open(named.replace({"search.space": {"train.weight_decay": [0.0, 0.1]}}), tmp_path)
    nameless = Recipe.load(PLAIN)
    first = _open(nameless, tmp_path)
    assert _open(nameless.replace({"train.weight_decay": 0.3}), tmp_path) == first.with_name(f"{first.name}-2")


def trial(number: int, state: str, value: float | None, rate: float, **facts: Any) -> dict[str, Any]:
    row = {"number": number, "name": f"trial-{number:04d}", "state": state, "value": value, "best": value}
    row |= {"seconds": 10.0, "share": 1.0, "reason": "", "curve": [(25, 0.4), (100, value or 0.0)]}
    return {**row, "values": {"train.learning_rate": rate, "train.epochs": 3.0}, **facts}


def shown(trials: list[dict[str, Any]], result: dict[str, Any], *, higher: bool = True) -> dict[str, Any]:
    recipe = Recipe.load(PLAIN)
    table = usual(recipe, learning_rate=1e-3, task="generation", layers=4)
    space = {key: one for key, (one, _) in table.items()}
    facts = {"task": "classification", "primary": "f1_macro", "higher": higher, "rows": {"train": 10, "validation": 5}}
    known = {"seconds": 100.0, "threads": 1, "result": result, "looks": 2}
    return view("s", recipe, facts, space, {key: why for key, (_, why) in table.items()}, known, trials)


def test_the_page_says_what_was_found() -> None:
    trials = [
        trial(0, "finished", 0.70, 1e-3),
        trial(1, "diverged", None, 8e-3, best=None, reason="the loss is not a finite number"),
        trial(2, "pruned", None, 2e-4, best=0.1, share=0.2, reason="not among the best at 20 % of its schedule"),
        trial(3, "finished", 0.81, 2e-3),
    ]
    figure = {"value": 0.8, "low": 0.75, "high": 0.85, "n": 300}
    result = {
        "trials": ["trial-0003", "trial-0000"], "metric": "f1_macro", "n": 300, "winner": figure, "default": figure,
        "difference": 0.1, "low": 0.05, "high": 0.15, "p": 0.001, "luck": 0.02, "trials_finished": 2,
        "validation": {"winner": 0.81, "default": 0.7, "n": 5, "metric": "f1_macro"},
        "word": "the gain is real", "sentence": "It is.",
    }  # fmt: skip
    page = shown(trials, result)
    assert page["headline"] == "A better setting: the gain is real" and page["tone"] == "tone-good"
    assert [row["best"] for row in page["trials"]] == [False, False, False, True]
    assert page["trials"][1]["reason"] == "the loss is not a finite number" and page["trials"][2]["share"] == "20 %"
    assert any("looked at 2 times" in line for line in page["evidence"])
    assert any("+0.1100" in line and "0.0200" in line for line in page["evidence"])
    assert dict(page["facts"])["trials"] == "2 finished, 1 pruned, 1 diverged"
    assert str(page["parallel"]).count("<polyline") == 3  # the diverged trial has no value to end at
    best = next(row for row in page["settings"] if row["key"] == "train.learning_rate")
    assert (best["recipe"], best["best"]) == ("0.001", "0.002")


def test_lower_is_better_turns_the_page_around() -> None:
    trials = [trial(0, "finished", 0.70, 1e-3), trial(1, "finished", 0.81, 2e-3)]
    page = shown(trials, {}, higher=False)
    assert [row["best"] for row in page["trials"]] == [True, False]
    assert page["headline"] == "Not finished"
    json.dumps([page["settings"], page["trials"], page["facts"]])  # words only
