"""Plans of recipes with several tasks, with retained suites and with stages: real rehearsals of a tiny model."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attune import flow
from attune.errors import RecipeError, UsageError
from attune.plan.plan import plan
from attune.recipe import Recipe

WORDS = "red green blue amber violet grey white black olive pink".split()


@pytest.fixture(scope="module")
def recipe(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Two tasks, one of labels and one of written answers, and a suite of the user's own."""
    folder = tmp_path_factory.mktemp("parts")
    rng = np.random.default_rng(0)

    def some(n: int = 5) -> str:
        return " ".join(rng.choice(WORDS, n))

    moods = [f"{some()} {number},{WORDS[number % 3]}" for number in range(90)]
    (folder / "moods.csv").write_text("\n".join(["text,label", *moods]))
    says = [{"prompt": f"say {number} {some()}", "completion": some(3)} for number in range(60)]
    (folder / "say.jsonl").write_text("".join(json.dumps(row) + "\n" for row in says))
    return {
        "name": "parts",
        "model": {"base": tiny.base(folder / "base")},
        "adapter": "full",
        "data": {
            "path": [
                {"name": "moods", "path": str(folder / "moods.csv")},
                {"name": "say", "path": str(folder / "say.jsonl"), "weight": 2},
            ],
            "split": {"near": False},
        },
        "train": {"max_steps": 4, "batch_size": 8, "learning_rate": 1e-3, "early_stopping": None, "threads": 1},
        "evaluate": {
            "baselines": ["majority", "tfidf"], "bootstrap": 100, "generate_rows": 6, "max_new_tokens": 6,
            "suites": [{"rows": {"path": str(folder / "say.jsonl"), "title": "own", "limit": 8}}],
        },
    }  # fmt: skip


def staged(recipe: dict[str, Any]) -> dict[str, Any]:
    """First the labels, by a head, then the answers."""
    moods, say = recipe["data"]["path"]
    common = {key: value for key, value in recipe.items() if key != "data"}
    data = {"split": recipe["data"]["split"], "max_length": 64}
    first = {"name": "labels", "objective": "classify", "data": {**data, "path": moods["path"]}}
    second = {"name": "say", "objective": "sft", "data": {**data, "path": say["path"]}}
    return {**common, "stages": [first, second], "evaluate": {**recipe["evaluate"], "suites": []}}


def test_each_part_is_looked_at_by_itself_and_reckoned_for_another_machine(recipe: dict[str, Any]) -> None:
    made = plan(Recipe.load(recipe), hardware="h200")
    assert {name: one.task for name, one in made.looks.items()} == {"moods": "classification", "say": "generation"}
    assert made.estimate is not None and made.estimate["steps"] == 4 and "evaluation" in made.estimate["missing"]
    assert "moods: classification, 90 rows" in made.text() and "not in the prediction: evaluation" in made.text()
    whole = plan(Recipe.load(staged(recipe)), hardware="h200")
    assert list(whole.seen) == ["1-labels", "2-say"] and whole.estimate is not None
    assert whole.estimate["steps"] == 8 and list(whole.estimate["stages"]) == ["1-labels", "2-say"]
    assert "1-labels: predicted" in whole.text()
    json.dumps([made.to_dict(), whole.to_dict()], allow_nan=False)


def test_a_mix_is_reckoned_over_its_shares(recipe: dict[str, Any]) -> None:
    open_ended = {**recipe, "train": {**recipe["train"], "max_steps": None, "epochs": 1, "batch_size": 1}}
    made = plan(Recipe.load(open_ended), hardware="h200")
    assert made.estimate is not None and made.estimate["steps"] == pytest.approx(0.7 * 150, abs=2)


def test_what_a_plan_of_stages_cannot_do_is_refused(recipe: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="fits no budget"):
        plan(Recipe.load(staged(recipe)), budget="10m", hardware="h200")
    with pytest.raises(UsageError, match="no budget of its own"):
        flow.train(staged(recipe), budget="10m", plan=True, out=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_run_of_several_tasks_with_suites_is_predicted_and_scored(recipe: dict[str, Any], tmp_path: Path) -> None:
    done = flow.train(recipe, out=tmp_path, plan=True)
    kept = json.loads((done.path / "plan.json").read_text())
    found, rows = kept["estimate"], kept["measured"]["answers"]["systems"]
    assert {(row["system"], row["task"]) for row in rows} == {
        ("tuned", "moods"), ("majority", "moods"), ("tfidf", "moods"), ("tuned", "say")
    }  # fmt: skip
    assert set(found["suites"]) == {"retained texts", "retained completions", "suite own"}
    assert all(seconds > 0 for seconds in found["suites"].values()) and found["evaluate_seconds"]["value"] > 0
    assert {row["system"] for task in done.results["tasks"] for row in task["systems"]} >= set(found["systems"])
    assert {row["suite"] for row in done.results["suites"]} == {"own"}
    # on a machine that others use the clock says little: the right order of magnitude is all that holds
    assert 0.1 < found["evaluate_seconds"]["value"] / kept["actual"]["evaluate_seconds"] < 10


@pytest.mark.slow
def test_stages_are_rehearsed_one_by_one_and_together(recipe: dict[str, Any], tmp_path: Path) -> None:
    made = plan(Recipe.load(staged(recipe)))
    assert made.estimate is not None and list(made.measured) == ["1-labels", "2-say"]
    first, second = made.estimate["stages"].values()
    assert made.estimate["matrix_seconds"]["value"] > 0
    parts = first["total_seconds"]["value"] + second["total_seconds"]["value"]
    assert made.estimate["total_seconds"]["value"] == pytest.approx(
        parts + made.estimate["matrix_seconds"]["value"], 0.01
    )
    assert made.estimate["memory_gib"]["value"] == max(one["memory_gib"]["value"] for one in (first, second))
    assert "the forgetting matrix" in made.text() and "retained texts" in second["suites"]
    run = flow.train(staged(recipe), out=tmp_path, plan=True)
    for stage in run.stages:
        assert json.loads((stage.path / "plan.json").read_text())["actual"]["steps"] == 4
